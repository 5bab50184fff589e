"""The bookings that the auditor knows from the events so far, and the conditions of every event of a booking."""

from collections.abc import Callable
from typing import Final

from operators.audit.expected_rows import Booking, Event
from operators.audit.report import Check

LIVE: Final = frozenset({"RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"})


class KnownBookings:
    """The bookings by their ids.

    Attributes:
        now_ms: the log's time of the event that is applied, in milliseconds since 1970.
    """

    def __init__(self, wrong: Callable[[Check, str], None]) -> None:
        """Report what is wrong with an event to `wrong`, as a sentence about a check."""
        self.by_id: dict[str, Booking] = {}
        self.now_ms = 0
        self.wrong = wrong

    def mismatch(self, sentence: str) -> None:
        """Report that an event is none that the ledger can have made."""
        self.wrong(Check.LOG_MATCHES_LEDGER, sentence)

    def fault(self, event: Event, sentence: str) -> None:
        """Report, in words, what an event of a booking has otherwise than it should."""
        self.mismatch(f"{named(event)}: {sentence}")

    def changing(self, event: Event, legal_from: set[str] | frozenset[str], *, by_time: bool = False) -> Booking | None:
        """Return the event's booking if the event is a legal transition of it; report it if not."""
        booking = self.of_room(event)
        if booking is None:
            return None
        if booking.status not in legal_from:
            self.illegal(event, booking)
            return None
        if not by_time:
            self.in_time(event, booking)
        return booking

    def of_room(self, event: Event) -> Booking | None:
        """Return the event's booking if it is one of the event's room; report it if not."""
        booking = self.by_id.get(event["booking_id"])
        if booking is None:
            self.fault(event, "it was never reserved")
        elif booking.room_id != event["room_id"]:
            self.fault(event, f"of room {booking.room_id}, not {event['room_id']}")
            return None
        return booking

    def in_time(self, event: Event, booking: Booking) -> None:
        """Report an event that comes after the deadline of its booking's hold."""
        if booking.hold_until is not None and self.now_ms >= booking.hold_until:
            late_ms = self.now_ms - booking.hold_until
            self.wrong(Check.HOLDS_END_ON_TIME, f"{named(event)}: its hold had ended {late_ms} ms before")

    def not_early(self, event: Event, booking: Booking) -> None:
        """Report an event by which a hold ends before its deadline."""
        if booking.hold_until is None or self.now_ms < booking.hold_until:
            early = (
                "though it has no deadline"
                if booking.hold_until is None
                else f"{booking.hold_until - self.now_ms} ms early"
            )
            self.wrong(Check.HOLDS_END_ON_TIME, f"{named(event)}: its hold ended {early}")

    def illegal(self, event: Event, booking: Booking) -> None:
        """Report an event that cannot follow in the booking's status."""
        self.fault(event, f"it was {booking.status}: no legal transition")


def named(event: Event) -> str:
    """Return the name of the event's booking, for a sentence."""
    return f"booking {event['booking_id']}"
