"""Versions of events that a newer one has replaced: they stay on the log for ever, and are read as the newer one.

A version is replaced in two releases, because a reader that meets an unknown version stops: the first release reads
both and writes the older, so that old and new processes can run side by side; the second writes the newer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, ClassVar, Final

import msgspec

from topics.messages.events import (
    BookingEvent,
    Event,
    InventoryChanged,
    RefundRequested,
    RefusedNight,
    RoomEvent,
    night_ranges,
)
from topics.messages.values import RefundReason


class InventoryChangedV1(RoomEvent, frozen=True, kw_only=True):
    """A manager's change took effect on `nights`; those in `refused` keep their values. None means unchanged."""

    message_type: ClassVar[str] = "inventory.changed.v1"
    nights: tuple[date, ...]
    price_minor: int | None = None
    surge_milli: int | None = None
    closed: bool | None = None
    total_count: int | None = None
    refused: tuple[RefusedNight, ...] = ()


class RefundRequestedV1(BookingEvent, frozen=True, kw_only=True):
    """All of this payment that has not gone back yet goes back now."""

    message_type: ClassVar[str] = "booking.refund_requested.v1"
    session_id: str
    payment_intent: str
    amount_minor: int
    currency: str
    reason: RefundReason
    total_minor: Annotated[
        int | None,
        msgspec.Meta(
            description="The sum that refunds, lost disputes and refunds that an operator ended reach with this "
            "refund; left out, `amount_minor`."
        ),
    ] = None


#: Reasons of refunds that version 1 has no word for.
_NEW_REASONS: Final = frozenset(
    {RefundReason.EARLY_DEPARTURE, RefundReason.NO_SHOW, RefundReason.STAY_CHANGED, RefundReason.CHANGE_ENDED}
)


def _with_ranges(old: InventoryChangedV1) -> InventoryChanged:
    return InventoryChanged(
        room_id=old.room_id,
        ranges=night_ranges(old.nights),
        price_minor=old.price_minor,
        surge_milli=old.surge_milli,
        closed=old.closed,
        total_count=old.total_count,
        refused=old.refused,
    )


def _with_every_night(new: InventoryChanged) -> InventoryChangedV1:
    return InventoryChangedV1(
        room_id=new.room_id,
        nights=new.nights,
        price_minor=new.price_minor,
        surge_milli=new.surge_milli,
        closed=new.closed,
        total_count=new.total_count,
        refused=new.refused,
    )


def _with_nothing_retained(old: RefundRequestedV1) -> RefundRequested:
    return RefundRequested(**msgspec.structs.asdict(old))


def _in_full(new: RefundRequested) -> RefundRequestedV1:
    return RefundRequestedV1(**{name: getattr(new, name) for name in RefundRequestedV1.__struct_fields__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Older:
    """A replaced version (`kind`), the version that replaced it (`now`), and the conversions between them.

    `difference` explains it to readers of the log without our code.
    """

    kind: type[Event]
    now: type[Event]
    upcast: Callable[[Any], Event]
    downcast: Callable[[Any], Event]
    difference: str


OLDER: Final = (
    Older(
        kind=InventoryChangedV1,
        now=InventoryChanged,
        upcast=_with_ranges,
        downcast=_with_every_night,
        difference="it names every night where the newer version names ranges [first_night, end_night)",
    ),
    Older(
        kind=RefundRequestedV1,
        now=RefundRequested,
        upcast=_with_nothing_retained,
        downcast=_in_full,
        difference="the hotel keeps nothing of the payment",
    ),
)


def _in_full_if_so(new: RefundRequested) -> Event:
    """Return the older version, whose meaning is the same, of a refund in full for a reason that it has a word for."""
    return new if new.retained_minor or new.reason in _NEW_REASONS else _in_full(new)


def _with_every_night_if_known(new: InventoryChanged) -> Event:
    """Return the older version of a change, which has no word for an allowance."""
    return new if new.allowance_count is not None else _with_every_night(new)


def written_as_older(inventory_changed_version: int) -> Mapping[type[Event], Callable[[Any], Event]]:
    """Return for each event that can be written as an older version the function that gives the version to write.

    A refund in full is written as `booking.refund_requested.v1`, so that subscribers meet version 2 only once a hotel
    keeps a part of a payment, or guests leave early or do not arrive.
    """
    written: dict[type[Event], Callable[[Any], Event]] = {RefundRequested: _in_full_if_so}
    if inventory_changed_version == 1:
        written[InventoryChanged] = _with_every_night_if_known
    return written
