"""Every transition of a booking's status, in one table; asserted by `evolve` and drawn in the docs."""

from typing import Final

from topics.messages.events import (
    EVENTS,
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRefunded,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    ChangeOpened,
    ChangeRejected,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    DisputeClosed,
    DisputeOpened,
    Event,
    GuestsAdded,
    GuestsChanged,
    GuestsCheckedIn,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    LegEnded,
    LegHeld,
    PaymentDeclined,
    PaymentRequested,
    RefundClosed,
    RefundFailed,
    RefundRequested,
    StayChanged,
    TripCancelRequested,
    TripOpened,
    TripRejected,
    TripReserved,
)
from topics.messages.values import BookingStatus

S = BookingStatus

#: Event -> {status before: status after}. An event that is not here under a status cannot happen to it.
TRANSITIONS: Final[dict[type[BookingEvent], dict[BookingStatus, BookingStatus]]] = {
    BookingReserved: {S.PENDING: S.RESERVED},
    BookingRejected: {S.PENDING: S.REJECTED},
    TripOpened: {S.PENDING: S.RESERVING},
    LegHeld: {S.RESERVING: S.RESERVING},
    TripReserved: {S.RESERVING: S.RESERVED},
    TripRejected: {S.PENDING: S.REJECTED, S.RESERVING: S.REJECTED},
    TripCancelRequested: {S.CONFIRMED: S.CONFIRMED},
    LegEnded: {S.CONFIRMED: S.CONFIRMED},
    GuestsAdded: {S.RESERVED: S.GUESTS_ADDED, S.GUESTS_ADDED: S.GUESTS_ADDED},
    GuestsChanged: {S.CONFIRMED: S.CONFIRMED},
    PaymentRequested: {
        S.GUESTS_ADDED: S.PAYMENTS_PENDING,
        S.PAYMENTS_PENDING: S.PAYMENTS_PENDING,
        S.CONFIRMED: S.CONFIRMED,
    },
    BookingConfirmed: {
        S.RESERVED: S.CONFIRMED,
        S.GUESTS_ADDED: S.CONFIRMED,
        S.PAYMENTS_PENDING: S.CONFIRMED,
        S.EXPIRED: S.CONFIRMED,
    },
    BookingCancelled: {
        S.RESERVING: S.CANCELLED,
        S.RESERVED: S.CANCELLED,
        S.GUESTS_ADDED: S.CANCELLED,
        S.PAYMENTS_PENDING: S.CANCELLED,
        S.CONFIRMED: S.CANCELLED,
        S.CHECKED_IN: S.CANCELLED,
    },
    BookingExpired: {
        S.RESERVING: S.EXPIRED,
        S.RESERVED: S.EXPIRED,
        S.GUESTS_ADDED: S.EXPIRED,
        S.PAYMENTS_PENDING: S.EXPIRED,
    },
    ChangeOpened: {S.CONFIRMED: S.CONFIRMED},
    ChangeHeld: {S.CONFIRMED: S.CONFIRMED},
    ChangeEnded: {S.CONFIRMED: S.CONFIRMED},
    StayChanged: {S.CONFIRMED: S.CONFIRMED},
    GuestsCheckedIn: {S.CONFIRMED: S.CHECKED_IN},
    GuestsCheckedOut: {S.CHECKED_IN: S.CHECKED_OUT},
    GuestsDidNotArrive: {S.CONFIRMED: S.NO_SHOW},
}

#: Events that can happen to a booking in any status and change no status.
NO_TRANSITION: Final[frozenset[type[BookingEvent]]] = frozenset(
    {
        CheckoutOpened,
        PaymentDeclined,
        RefundRequested,
        BookingRefunded,
        RefundFailed,
        RefundClosed,
        DisputeOpened,
        DisputeClosed,
        ChangeRejected,
        CommandRefused,
        CommandRepeated,
    }
)


class IllegalTransition(Exception):
    """An event that cannot happen to a booking in this status: a bug, or a log that is not ours."""


def next_status(status: BookingStatus, event: BookingEvent) -> BookingStatus:
    """Return the status after the event.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    kind = type(event)
    if kind in NO_TRANSITION:
        return status
    after = TRANSITIONS[kind].get(status)
    if after is None:
        raise IllegalTransition(f"{event.message_type} in status {status}")
    return after


def drawing() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> PENDING: accepted"]
    for kind, transitions in TRANSITIONS.items():
        lines += [
            f"    {before} --> {after}: {kind.message_type.rpartition('.')[0]}" for before, after in transitions.items()
        ]
    lines += [f"    {end} --> [*]" for end in (S.REJECTED, S.CANCELLED, S.EXPIRED, S.CHECKED_OUT, S.NO_SHOW)]
    return "\n".join(lines)


def states_page() -> str:
    """Return `docs/states.md`: the drawing, every transition, and the events that change no status."""
    transitions = [
        f"| `{event.message_type}` | {before} | {after} | {_sentence(event)} |"
        for event, row in TRANSITIONS.items()
        for before, after in row.items()
    ]
    without = [f"- `{event.message_type}`: {_sentence(event)}" for event in EVENTS if event in NO_TRANSITION]
    return "\n".join(
        [
            "# The states of a booking",
            "",
            "Written by `make docs` from the table in `workers/decisions/states.py`; not by hand.",
            "",
            "```mermaid",
            drawing(),
            "```",
            "",
            "PENDING is never stored: it is an accepted request that is not decided yet.",
            "",
            "| event | before | after | what happened |",
            "|---|---|---|---|",
            *transitions,
            "",
            "An event without a row for a status cannot happen in it: a reader of the log stops there.",
            "",
            "## Events that change no status",
            "",
            *without,
            "",
        ]
    )


def _sentence(event: type[Event]) -> str:
    """Return the first paragraph of the event's docstring, on one line."""
    return " ".join((event.__doc__ or "").split("\n\n", maxsplit=1)[0].split())
