"""A stay that Ada pays in advance, and all that can happen to its money: decided by the core, with Stripe played here.

Stripe never sends back more of a payment than is left of it. The log gets its reports late and in any order.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.scenario import NOON, Scenario
from tests.workers.decisions.words import (
    ADA,
    ADAS,
    ADD_GUESTS,
    CANCEL,
    CHECK_IN,
    CLOSE_REFUND,
    DISPUTE_LOST,
    FAIL_REFUND,
    LAST_DAY,
    OPEN,
    PAY,
    RECORD_REFUND,
    REQUEST_PAYMENT,
    RESERVE,
    ROOM,
    SECOND_DAY,
    but,
    march,
)
from tests.workers.decisions.words_at_hotel import ARRIVE, LEAVE, NO_SHOW
from tests.workers.decisions.words_of_sale import FREE_UNTIL, POLICY, SET_TERMS, STANDARD, TERMS
from topics.envelope import Envelope
from topics.messages.commands import BookingCommand, ChangeInventory, ChangeStay, Command, RecordRefund
from topics.messages.events import BookingEvent, DocumentIssued, Event, PaymentRequested
from topics.messages.sale import Kept, Party, PolicyStep
from topics.messages.values import CancelReason, DocumentKind
from workers.coordination.documents import commands_for
from workers.decisions import Booking
from workers.decisions.state import PaymentState

Step = tuple[str, int, int]
_KINDS: Final = ("by hand", "by hand", "ours", "fail", "fail", "arrive", "arrive", "change", "change", "close")
_NUMBERS: Final = st.integers(0, 11)
#: A step and two numbers, which choose what it is about.
STEPS: Final = st.lists(st.tuples(st.sampled_from(_KINDS), _NUMBERS, _NUMBERS), max_size=10)
ENDS: Final = st.sampled_from(("none", "cancel", "hotel", "no-show", "early", "departure"))


class Logged(NamedTuple):
    """An event, and the number of its command."""

    event: BookingEvent
    command: int


class PaidStay:
    """The events of one stay, and its booking in the ledger after each command."""

    def __init__(self, kept_minor: int = 0) -> None:
        """Sell two nights; a cancellation, or guests who do not arrive, cost `kept_minor`."""
        self.log: list[Logged] = []
        self.ledger: list[Booking] = []
        self._rooms = Scenario()
        self._left: dict[str, int] = {}
        self._made: list[tuple[str, str, int, bool]] = []
        self._reports: list[BookingCommand] = []
        self._count = 0
        kept = Kept(amount_minor=kept_minor)
        policy = replace(POLICY, steps=(PolicyStep(hours_before=720, kept=kept),), no_show=kept)
        terms = replace(TERMS, plans=(replace(STANDARD, policy=policy),))
        for command in (OPEN, but(SET_TERMS, terms=terms), but(RESERVE, plan_id="standard", party=Party(adults=2))):
            self._send(command)
        self._send(ADD_GUESTS)
        self._pay()

    @property
    def booking(self) -> Booking:
        """The booking as it is."""
        return self._rooms.bookings[ADAS]

    def kept_minor(self, command: int = -1) -> int:
        """Return what the hotel keeps, after a command."""
        return sum(
            paid.kept_minor if paid.state is PaymentState.KEPT else paid.retained_minor
            for paid in self.ledger[command].payments
        )

    def play(self, steps: Sequence[Step]) -> None:
        """Let these steps happen, as far as they are possible."""
        for what, some, other in steps:
            _STEPS[what](self, some, other)

    def end(self, how: str) -> None:
        """End the stay."""
        if how == "cancel":
            self._send(CANCEL, FREE_UNTIL)
        elif how == "hotel":
            self._send(but(CANCEL, user_id=None, reason=CancelReason.BY_HOTEL))
        elif how == "no-show":
            self._send(NO_SHOW, CHECK_IN)
        elif how in ("early", "departure"):
            self._send(ARRIVE, CHECK_IN)
            self._send(LEAVE, SECOND_DAY if how == "early" else LAST_DAY)

    def settle(self) -> None:
        """Let all reports arrive."""
        while self._reports:
            self._arrive(0, 0)

    def refund_all_that_is_due(self) -> None:
        """Let the product send all that is due back."""
        while any(paid.due_minor for paid in self.booking.payments):
            self._refund_of_ours(0, 0)
            self.settle()

    def lose_dispute(self) -> None:
        """Let a bank take the first payment."""
        self._send(but(DISPUTE_LOST, payment_intent="pi_1", amount_minor=200_00))

    def _refund_by_hand(self, some: int, other: int) -> None:
        intents = [intent for intent, left_minor in self._left.items() if left_minor]
        if intents:
            intent = intents[some % len(intents)]
            amount_minor = max(1, self._left[intent] * (1 + other % 6) // 6)
            self._refund(intent, amount_minor, by_hand=True, cancel_if_full=some > 8)

    def _refund_of_ours(self, some: int, _: int) -> None:
        rests = {paid.payment_intent: paid.due_minor for paid in self.booking.payments}
        for report in self._reports:
            if isinstance(report, RecordRefund) and not report.by_hand:
                # It is on its way.
                rests[report.payment_intent] -= report.amount_minor
        due = [
            (intent, rest) for intent, rest_minor in rests.items() if (rest := min(rest_minor, self._left[intent])) > 0
        ]
        if due:
            self._refund(*due[some % len(due)], by_hand=False)

    def _refund(self, intent: str, amount_minor: int, *, by_hand: bool, cancel_if_full: bool = False) -> None:
        self._count += 1
        self._left[intent] -= amount_minor
        refund_id = f"re_{self._count}"
        self._made.append((intent, refund_id, amount_minor, by_hand))
        self._reports.append(
            but(
                RECORD_REFUND,
                payment_intent=intent,
                refund_id=refund_id,
                amount_minor=amount_minor,
                by_hand=by_hand,
                cancel_if_full=cancel_if_full,
            )
        )

    def _fail(self, some: int, _: int) -> None:
        if self._made:
            intent, refund_id, amount_minor, by_hand = self._made.pop(some % len(self._made))
            self._left[intent] += amount_minor
            self._reports.append(
                but(FAIL_REFUND, payment_intent=intent, refund_id=refund_id, amount_minor=amount_minor, by_hand=by_hand)
            )

    def _arrive(self, some: int, _: int) -> None:
        if self._reports:
            self._send(self._reports.pop(some % len(self._reports)))

    def _close(self, some: int, _: int) -> None:
        due = [paid for paid in self.booking.payments if paid.due_minor]
        if due:
            self._send(but(CLOSE_REFUND, payment_intent=due[some % len(due)].payment_intent))

    def _change(self, some: int, other: int) -> None:
        """Change the stay; nights that it does not have yet have another price. The difference is paid at once."""
        price = ChangeInventory(
            room_id=ROOM, first_night=march(10), end_night=march(15), price_minor=(1 + some * 7 % 12) * 20_00
        )
        self._send(price)
        self._count += 1
        first = 10 + some % 3
        self._send(
            ChangeStay(
                room_id=ROOM,
                booking_id=ADAS,
                change_id=UUID(int=1_000 + self._count),
                user_id=ADA if other % 2 else None,
                check_in=march(first),
                check_out=march(first + 1 + other % 3),
                rooms_count=1,
            )
        )
        if self.booking.pending_change is not None:
            self._pay()

    def _pay(self) -> None:
        asked = [event for event in self._send(REQUEST_PAYMENT) if isinstance(event, PaymentRequested)]
        asked = asked or [each.event for each in self.log if isinstance(each.event, PaymentRequested)]
        intent = f"pi_{len(self._left) + 1}"
        self._left[intent] = asked[-1].amount_minor
        self._send(
            but(
                PAY,
                session_id=f"cs_{intent}",
                payment_intent=intent,
                amount_minor=asked[-1].amount_minor,
                attempt=asked[-1].attempt,
            )
        )

    def _send(self, command: Command, at: Any = None) -> Sequence[Event]:
        events = self._rooms.when(command, at=max(self._rooms.now, at or NOON)).answer
        if ADAS in self._rooms.bookings:
            self.ledger.append(self.booking)
            number = len(self.ledger) - 1
            self.log += [Logged(event, number) for event in events if isinstance(event, BookingEvent)]
        return events


_STEPS: Final[dict[str, Callable[[PaidStay, int, int], None]]] = {
    "by hand": PaidStay._refund_by_hand,
    "ours": PaidStay._refund_of_ours,
    "fail": PaidStay._fail,
    "arrive": PaidStay._arrive,
    "change": PaidStay._change,
    "close": PaidStay._close,
}


class Reader:
    """Coordination and the hotel's partition: the documents of a stay, while its log is read."""

    def __init__(self, stay: PaidStay) -> None:
        self.issued: list[DocumentIssued] = []
        self.sent: list[Command] = []
        self._stay = stay
        self._hotel = Scenario()

    @property
    def net_minor(self) -> int:
        """The sum of the invoices less that of the credit notes."""
        return sum(
            each.amount_minor if each.kind is DocumentKind.INVOICE else -each.amount_minor for each in self.issued
        )

    def read(self, number: int, ledger: int) -> None:
        """Read an event of the log, with the ledger as it was after a command."""
        event = self._stay.log[number].event
        envelope = Envelope(id=f"{number}:0", type=event.message_type, source="a test", subject="", time=NOON)
        for _, command in commands_for(event, envelope, self._stay.ledger[ledger]):
            self.sent.append(command)
            self.decide(command)

    def decide(self, command: Command) -> None:
        """Decide a command about documents."""
        answer = self._hotel.when(command).answer
        self.issued += [event for event in answer if isinstance(event, DocumentIssued)]

    def assert_numbered(self) -> None:
        """The numbers of each kind are 1, 2, 3 ... in the order of issue, and no id comes twice."""
        for kind in DocumentKind:
            numbers = [each.number for each in self.issued if each.kind is kind]
            assert numbers == list(range(1, len(numbers) + 1))
        assert len({each.document_id for each in self.issued}) == len(self.issued)
