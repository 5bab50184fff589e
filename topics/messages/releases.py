"""Messages that older releases can read: during a rollout the log gets no others.

A worker of an older release ends at an event of an unknown type or with an unknown word, and sends a command of an
unknown type to the dead-letter topic. `LOG_READABLE_BY` names the oldest release that still runs.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from topics.messages.commands import (
    BlockNights,
    ChangeGuests,
    ChangeInventory,
    ChangeStay,
    CheckIn,
    CheckOut,
    CloseRefund,
    CodeCommand,
    Command,
    ConfirmLeg,
    FailRefund,
    IssueDocument,
    MarkNoShow,
    RecordDispute,
    RecordLeg,
    RecordLegEnd,
    RecordRefund,
    ReleaseBlock,
    ReleaseLeg,
    ReserveStay,
    ReserveTrip,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.events import (
    BookingCancelled,
    BookingRejected,
    BookingReserved,
    CommandRefused,
    CommandRepeated,
    Event,
    GuestsAdded,
)
from topics.messages.values import BookingStatus, Refusal, Rejection


class Release(StrEnum):
    """A release whose workers may read the log."""

    V0_1_0 = "0.1.0"
    V0_2_0 = "0.2.0"


#: Commands that 0.1.0 does not know.
_NEW_COMMANDS: Final = (
    ChangeGuests,
    FailRefund,
    CloseRefund,
    RecordDispute,
    SetSaleTerms,
    BlockNights,
    ReleaseBlock,
    CheckIn,
    CheckOut,
    MarkNoShow,
    ChangeStay,
    WithdrawChange,
    CodeCommand,
    IssueDocument,
    ReserveTrip,
    RecordLeg,
    ConfirmLeg,
    ReleaseLeg,
    RecordLegEnd,
)
#: Fields of `ReserveStay` that 0.1.0 would ignore.
_NEW_FIELDS_OF_STAYS: Final = (
    "plan_id",
    "party",
    "quoted",
    "discount",
    "code_rejection",
    "at_desk",
    "guest_list_id",
    "accepted_terms",
    "trip_id",
    "moved",
)
#: Words that 0.1.0 does not know, and those that it reads in their place.
_OLDER_REFUSALS: Final = {
    Refusal.STAY_OVER: Refusal.WRONG_STATUS,
    Refusal.CHECK_IN_PASSED: Refusal.WRONG_STATUS,
    Refusal.BEFORE_ARRIVAL: Refusal.WRONG_STATUS,
    Refusal.NOTHING_DUE: Refusal.UNKNOWN_PAYMENT,
    Refusal.TOO_MANY_CHANGES: Refusal.WRONG_STATUS,
    Refusal.NO_SUCH_CHANGE: Refusal.WRONG_STATUS,
    Refusal.PART_OF_TRIP: Refusal.WRONG_STATUS,
    Refusal.HAS_LEGS: Refusal.WRONG_STATUS,
    Refusal.NO_SUCH_LEG: Refusal.WRONG_STATUS,
    Refusal.ANOTHER_REQUEST: Refusal.WRONG_STATUS,
}
_OLDER_STATUSES: Final = dict.fromkeys(
    (BookingStatus.CHECKED_IN, BookingStatus.CHECKED_OUT, BookingStatus.NO_SHOW), BookingStatus.CONFIRMED
) | {BookingStatus.RESERVING: BookingStatus.RESERVED}
_OLDER_REJECTIONS: Final = {
    Rejection.NO_SUCH_CODE: Rejection.NIGHT_NOT_OPEN,
    Rejection.CODE_NOT_VALID: Rejection.NIGHT_NOT_OPEN,
    Rejection.CODE_USED_UP: Rejection.SOLD_OUT,
    Rejection.CODE_USED_BY_ACCOUNT: Rejection.SOLD_OUT,
    Rejection.QUOTE_EXPIRED: Rejection.NIGHT_NOT_OPEN,
    Rejection.NO_SUCH_PLAN: Rejection.NIGHT_NOT_OPEN,
    Rejection.NO_ADULT: Rejection.NO_ROOMS,
    Rejection.PARTY_TOO_LARGE: Rejection.NO_ROOMS,
    Rejection.STOP_SELL: Rejection.NIGHT_CLOSED,
    Rejection.CLOSED_TO_ARRIVAL: Rejection.NIGHT_CLOSED,
    Rejection.CLOSED_TO_DEPARTURE: Rejection.NIGHT_CLOSED,
    Rejection.MIN_STAY: Rejection.NIGHT_CLOSED,
    Rejection.MAX_STAY: Rejection.NIGHT_CLOSED,
    Rejection.ADVANCE_PURCHASE: Rejection.NIGHT_CLOSED,
    Rejection.ACCOUNT_SHARE: Rejection.SOLD_OUT,
    Rejection.NOT_CHARGEABLE: Rejection.NIGHT_NOT_OPEN,
    Rejection.NOT_PREPAID: Rejection.NIGHT_NOT_OPEN,
}


def can_decide(release: Release, command: Command) -> bool:
    """Return whether every worker from `release` on can decide the command."""
    if release is not Release.V0_1_0:
        return True
    if isinstance(command, RecordRefund):
        return not command.by_hand
    if isinstance(command, ReserveStay):
        return not any(getattr(command, name) for name in _NEW_FIELDS_OF_STAYS)
    if isinstance(command, ChangeInventory):
        return command.allowance_count is None
    return not isinstance(command, _NEW_COMMANDS)


def readable_events(release: Release, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return the events in words that every reader from `release` on knows; the ledger applies them as well."""
    return tuple(readable_event(release, event) for event in events) if release is Release.V0_1_0 else events


def readable_event(release: Release, event: Event) -> Event:
    """Return the event in words that every reader from `release` on knows; it is what the ledger applies, too."""
    changes_of = _FOR_0_1_0.get(type(event)) if release is Release.V0_1_0 else None
    return event if changes_of is None else msgspec.structs.replace(event, **changes_of(event))


_FOR_0_1_0: Final[Mapping[type[Event], Callable[[Any], dict[str, Any]]]] = {
    CommandRefused: lambda event: {
        "reason": _OLDER_REFUSALS.get(event.reason, event.reason),
        "booking_status": _OLDER_STATUSES.get(event.booking_status, event.booking_status),
    },
    CommandRepeated: lambda event: {
        "booking_status": _OLDER_STATUSES.get(event.booking_status, event.booking_status),
    },
    BookingRejected: lambda event: {"reason": _OLDER_REJECTIONS.get(event.reason, event.reason)},
    # A report of 0.1.0 takes a cancelled stay away as it would have counted it: evenly by night.
    BookingReserved: lambda _: {"night_amounts_minor": ()},
    # A worker of 0.1.0 replaces the guests of a booking and leaves the list of those before in its row.
    GuestsAdded: lambda _: {"guest_list_id": None},
    # Readers of 0.1.0 count every night of the stay as free.
    BookingCancelled: lambda _: {"freed_from": None},
}
