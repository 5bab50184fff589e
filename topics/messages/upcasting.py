"""Versions of events that a newer one has replaced: they stay on the log for ever, and are read as the newer one.

A version is replaced in two releases, because a reader that meets an unknown version stops: the first release reads
both and writes the older, so that old and new processes can run side by side; the second writes the newer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Final

from topics.messages.events import Event, InventoryChanged, RefusedNight, night_ranges


class InventoryChangedV1(Event, frozen=True, kw_only=True):
    """A manager's change took effect on `nights`; those in `refused` keep their values. None means unchanged."""

    message_type: ClassVar[str] = "inventory.changed.v1"
    nights: tuple[date, ...]
    price_minor: int | None = None
    surge_milli: int | None = None
    closed: bool | None = None
    total_count: int | None = None
    refused: tuple[RefusedNight, ...] = ()


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
)


def written_as_older(inventory_changed_version: int) -> Mapping[type[Event], Callable[[Any], Event]]:
    """Return the conversion of each event that is still written as an older version."""
    written = {f"inventory.changed.v{inventory_changed_version}"}
    return {older.now: older.downcast for older in OLDER if older.kind.message_type in written}
