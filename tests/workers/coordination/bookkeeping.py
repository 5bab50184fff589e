"""A booking of Ada's, and the documents that coordination has its hotel issue: in events, with the pure core alone."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario
from tests.workers.decisions.words import ADAS, ROOM, SENT_BACK, but, march
from topics.envelope import Envelope
from topics.messages.commands import BookingCommand, RecordRefund
from topics.messages.events import (
    BookingConfirmed,
    BookingEvent,
    BookingRefunded,
    DocumentIssued,
    Event,
    RefundFailed,
    RefundRequested,
    StayChanged,
)
from topics.messages.values import DocumentKind, DocumentReason, RefundReason
from workers.coordination.documents import commands_for
from workers.decisions import Booking

INVOICE, CREDIT_NOTE = DocumentKind.INVOICE, DocumentKind.CREDIT_NOTE


class Logged(NamedTuple):
    """An event, and the ledger's booking after the command that it answers."""

    event: Event
    booking: Booking


class OneBooking:
    """The events of one booking."""

    def __init__(self, *events: Event) -> None:
        self._rooms = Scenario()
        self._changes = 0
        self.log: list[Logged] = []
        self.happened(*events)

    @property
    def booking(self) -> Booking:
        """The booking as it is."""
        return self._rooms.bookings[ADAS]

    def happened(self, *events: Event) -> None:
        """Apply events of one command."""
        for event in events:
            self._rooms.happen(event)
        self._note(events)

    def when(self, command: BookingCommand, at: datetime = NOON) -> None:
        """Decide a command; Stripe carries out at once the refunds that it leads to."""
        answer = self._rooms.when(command, at=at).answer
        self._note(answer)
        self._refund_at_once(answer)

    def _note(self, events: Sequence[Event]) -> None:
        if ADAS in self._rooms.bookings:
            self.log += [Logged(event, self.booking) for event in events if isinstance(event, BookingEvent)]

    def _refund_at_once(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, RefundRequested):
                made = RecordRefund(
                    room_id=ROOM,
                    booking_id=ADAS,
                    payment_intent=event.payment_intent,
                    refund_id=f"re_{len(self.log)}",
                    amount_minor=event.amount_minor,
                )
                self.when(made)

    def changes(self, amount_minor: int, days: int = 1) -> None:
        """Change the stay to another price and so many nights; the difference is paid or sent back."""
        before = self.booking.present_stay()
        sale = None
        if before.sale is not None:
            stay_line, *others = before.sale.lines
            more_minor = amount_minor - before.amount_minor
            line = replace(stay_line, amount_minor=stay_line.amount_minor + more_minor)
            sale = replace(before.sale, lines=(line, *others))
        self._changes += 1
        extra_minor = max(0, amount_minor - before.amount_minor)
        changed = StayChanged(
            room_id=ROOM,
            booking_id=ADAS,
            change_id=UUID(int=1_000 + self._changes),
            check_in=before.check_in,
            check_out=march(before.check_in.day + days),
            rooms_count=before.rooms_count,
            amount_minor=amount_minor,
            currency="EUR",
            night_amounts_minor=(amount_minor,) + (0,) * (days - 1),
            before=before,
            sale=sale,
            extra_minor=extra_minor,
            session_id=f"cs_change_{self._changes}" if extra_minor else None,
            payment_intent=f"pi_change_{self._changes}" if extra_minor else None,
        )
        back = list(self._back(max(0, before.amount_minor - amount_minor)))
        self.happened(changed, *back)
        self._refund_at_once(back)

    def _back(self, amount_minor: int) -> Sequence[RefundRequested]:
        requested = []
        for payment in reversed(self.booking.paying_payments()):
            part_minor = min(payment.kept_minor, amount_minor)
            amount_minor -= part_minor
            if part_minor:
                requested.append(
                    but(
                        SENT_BACK,
                        session_id=payment.session_id,
                        payment_intent=payment.payment_intent,
                        amount_minor=part_minor,
                        reason=RefundReason.STAY_CHANGED,
                    )
                )
        return requested

    def documents(self, newer: Sequence[int] = (), times: int = 1) -> list[DocumentIssued]:
        """Return the documents of all events; `newer[i]`: the ledger is so many events ahead of event i.

        `times`: how often the log is read from its start; the ledger has everything from the second time on. It is
        never older than for an earlier event.
        """
        hotel, issued, last, newest = Scenario(), [], len(self.log) - 1, 0
        for number, logged in enumerate(times * self.log):
            ahead = newer[number] if number < len(newer) else 0
            newest = min(max(newest, number + ahead), last)
            booking = self.log[newest].booking
            envelope = Envelope(
                id=f"command-{number}:0", type=logged.event.message_type, source="a test", subject="", time=NOON
            )
            # An event that is read again has the same commands, with the same effect once.
            for _, command in 2 * commands_for(logged.event, envelope, booking):
                issued += [event for event in hotel.when(command).answer if isinstance(event, DocumentIssued)]
        return issued

    def paid_minor(self) -> int:
        """Return the money of the guest that did not go back, by the events of the payments alone."""
        paid_minor = 0
        for event, _ in self.log:
            match event:
                case StayChanged():
                    paid_minor += event.extra_minor
                case BookingRefunded():
                    paid_minor -= event.amount_minor
                case RefundFailed():
                    paid_minor += event.amount_minor
                case BookingConfirmed(payment_intent=str()):
                    paid_minor += event.amount_minor
        return paid_minor


def net_minor(issued: Sequence[DocumentIssued]) -> int:
    """Return the sum of the invoices less that of the credit notes."""
    return sum(event.amount_minor if event.kind is INVOICE else -event.amount_minor for event in issued)


def shown(issued: Sequence[DocumentIssued]) -> list[tuple[DocumentKind, int, DocumentReason, int]]:
    """Return each document's kind, number, reason and amount."""
    return [(event.kind, event.number, event.reason, event.amount_minor) for event in issued]
