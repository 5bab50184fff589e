"""The audit follows changes of stays, promo codes and documents, and names each that cannot be."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from operators.audit.comparison import unfinished
from operators.audit.expected_ledger import ExpectedLedger
from operators.audit.expected_trips import faults_of_trips
from operators.audit.money_kept import faults_of_documents
from operators.audit.report import Report
from tests.operators.all_money import all_money
from tests.operators.changed_stays import (
    AT_DESK,
    CANCELLED_CHANGE,
    CHANGED,
    CODE,
    CODE_BACK,
    CODE_TERMS,
    DISCOUNTED,
    GAVE_UP,
    TOO_LATE,
    WAITING,
    change_id,
    intent,
    session,
)
from tests.operators.decided_log import FIRST, PARTITIONS, DecidedLog, LoggedEvent, decided_log
from tests.operators.trips import CANCELLED_TRIP, REFUSED_TRIP, ROOMS, SOLD_TRIP, TRIP, UNPAID_TRIP, leg
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingRefunded,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    ChangeRejected,
    CheckoutOpened,
    CodeChanged,
    CodeClaimed,
    CodeReturned,
    DocumentIssued,
    Event,
    GuestsCheckedIn,
    GuestsDidNotArrive,
    LegEnded,
    LegHeld,
    PaymentRequested,
    RefundRequested,
    StayChanged,
    TripCancelRequested,
    TripOpened,
    TripRejected,
    TripReserved,
)
from topics.messages.sale import AppliedPolicy, CancellationStep, Discount, LineKind
from topics.messages.values import (
    CancelReason,
    ChangeEnd,
    DocumentKind,
    RefundReason,
)

DAY = timedelta(days=1)
EVERYTHING = dict.fromkeys(range(PARTITIONS), 1_000_000)
Forge = Callable[[Any], Event]


def problems(history: DecidedLog) -> list[str]:
    """Return all that the audit finds wrong with a log, if its ledger agrees with the log."""
    report = Report()
    expected = ExpectedLedger(report)
    for logged in history.events:
        value = msgspec.json.encode(logged.event)
        expected.apply(logged.partition, logged.sequence, logged.event.message_type, logged.time.isoformat(), value)
    left = (f"booking {id}: {fault}" for id, booking in expected.bookings.items() if (fault := unfinished(booking)))
    return [
        *report.problems(),
        *left,
        *expected.codes.faults_of_bookings(expected.bookings),
        *faults_of_documents(expected.bookings, expected.documents, EVERYTHING),
        *faults_of_trips(expected.bookings, EVERYTHING),
    ]


def found(history: DecidedLog, kind: type[Event], booking_id: UUID | None = None, number: int = 0) -> LoggedEvent:
    """Return an event of this kind and booking, by its number among them."""
    return [
        logged
        for logged in history.events
        if isinstance(logged.event, kind) and booking_id in {None, getattr(logged.event, "booking_id", None)}
    ][number]


def forged(kind: type[Event], booking_id: UUID | None, forge: Forge, number: int = 0) -> list[str]:
    """Return the problems of the log with one event changed."""
    history = decided_log()
    logged = found(history, kind, booking_id, number)
    logged.event = forge(logged.event)
    return problems(history)


def without(kind: type[Event], booking_id: UUID | None, number: int = 0) -> list[str]:
    """Return the problems of the log without one event."""
    history = decided_log()
    history.events.remove(found(history, kind, booking_id, number))
    return problems(history)


def after(*events: Event, at: timedelta = timedelta()) -> list[str]:
    """Return the problems of the log with events at its end, a time after its last one."""
    history = decided_log()
    for event in events:
        history.append(event, at=history.events[-1].time + at)
    return problems(history)


def but(**values: Any) -> Forge:
    """Return a function that changes fields of an event."""
    return lambda event: replace(event, **values)


def sale_but(**values: Any) -> Forge:
    """Return a function that changes fields of an event's sale."""
    return lambda event: replace(event, sale=replace(event.sale, **values))


def with_other_rooms_before(event: StayChanged) -> StayChanged:
    """Return a change of a stay of another number of rooms."""
    return replace(event, before=replace(event.before, rooms_count=2))


@pytest.mark.parametrize("history", [decided_log, all_money])
def test_nothing_is_wrong_with_what_was_decided(history: Callable[[], DecidedLog]) -> None:
    assert problems(history()) == []


# Changes of stays.


@pytest.mark.parametrize(
    ("kind", "booking", "number", "forge", "named"),
    [
        (ChangeHeld, CHANGED, 0, but(extra_minor=9_999), "prepaid, and 9999 is due for a stay of 30000 in"),
        (ChangeHeld, CHANGED, 0, but(held=()), "its change holds {}, and needs {'2027-03-01': 1}"),
        (ChangeHeld, CHANGED, 0, but(currency="USD"), "it costs USD, and did EUR"),
        (ChangeHeld, CHANGED, 0, but(rooms_count=0), "changed to 0 rooms without a night"),
        (ChangeHeld, CHANGED, 0, but(night_amounts_minor=(10_000, 10_000)), "its nights cost [10000, 10000]"),
        (ChangeHeld, CHANGED, 0, but(night_amounts_minor=(9_000, 11_000, 10_000)), "night_amounts is [9000, 11000"),
        (ChangeHeld, CHANGED, 0, sale_but(night_prices_minor=()), "night_prices is "),
        (ChangeHeld, CHANGED, 0, sale_but(plan_id="other"), "its plan other is none of version 1"),
        (ChangeHeld, CHANGED, 0, sale_but(terms_version=2), "sold by version 2 of the room's terms, which are at 1"),
        (ChangeHeld, CHANGED, 0, sale_but(steps=(CancellationStep(kept_minor=0),)), "its cancellation costs 0"),
        (ChangeHeld, CHANGED, 0, but(sale=None), "its sale is None, and was {"),
        (PaymentRequested, CHANGED, 1, but(amount_minor=30_000), "30000 EUR, and its change costs 10000 more"),
        (PaymentRequested, CHANGED, 1, but(attempt=3), "attempt 3 follows 1"),
        (CheckoutOpened, CHANGED, 1, but(attempt=1), "a session for attempt 1 of 2"),
        (StayChanged, CHANGED, 0, but(payment_intent=None), ", unpaid, and ("),
        (StayChanged, CHANGED, 0, but(extra_minor=1), "it becomes ("),
        (StayChanged, CHANGED, 0, but(held=()), "it becomes ("),
        (StayChanged, CHANGED, 0, but(change_id=UUID(int=1)), "it becomes ("),
        (StayChanged, CHANGED, 0, but(check_out=FIRST + 4 * DAY), "it becomes ("),
        (StayChanged, CHANGED, 0, with_other_rooms_before, "it was {"),
        (StayChanged, CHANGED, 1, but(change_id=change_id(CHANGED, 1)), "comes a second time"),
        (StayChanged, CHANGED, 1, but(payment_intent="pi_x"), "dearer, and nothing of change "),
        (StayChanged, CHANGED, 1, sale_but(change_costs_minor=6_666), "its changes cost 6666, and its lines have 6667"),
        (StayChanged, CHANGED, 1, sale_but(no_show_kept_minor=6_666), "its policy keeps [6666, "),
        (StayChanged, CHANGED, 1, sale_but(no_show_kept_minor=6_667), "no_show_kept_minor is 6667, by version 1"),
        (StayChanged, CHANGED, 1, sale_but(no_show_kept_minor=9_167), "is 9167, by version 1 of its terms 10000"),
        (RefundRequested, CHANGED, 0, but(amount_minor=10_001), "10001 of 10000 of pi_71_2 goes"),
        (RefundRequested, CHANGED, 1, but(amount_minor=4_000), "4000 of 20000 of pi_71_1 goes"),
        (RefundRequested, CHANGED, 1, but(total_minor=3_334), "3334 of pi_71_1 goes back in all"),
        (RefundRequested, CHANGED, 1, but(retained_minor=1), "goes back for a change, of which 3333 is due"),
        (RefundRequested, CANCELLED_CHANGE, 0, but(retained_minor=0), "0 is kept of pi_72_1, by its policy 10000"),
        (RefundRequested, CANCELLED_CHANGE, 1, but(retained_minor=10_000), "10000 is kept of pi_72_2, by its policy 0"),
        (ChangeEnded, GAVE_UP, 0, but(change_id=UUID(int=1)), "ends with ["),
        (ChangeEnded, GAVE_UP, 0, but(held=()), "ends with [], and "),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_is_named(
    kind: type[Event], booking: UUID, number: int, forge: Forge, named: str
) -> None:
    problems = forged(kind, booking, forge, number)

    assert any(named in line for line in problems), problems


def test_a_change_that_keeps_more_than_the_policy_would_is_named() -> None:
    def keep_all(event: StayChanged) -> StayChanged:
        assert event.sale is not None
        costs = 20_000
        lines = (*event.sale.lines[:-1], replace(event.sale.lines[-1], amount_minor=costs))
        assert lines[-1].kind is LineKind.CHANGE
        steps = tuple(replace(step, kept_minor=30_000) for step in event.sale.steps)
        sale = replace(event.sale, lines=lines, steps=steps, change_costs_minor=costs, no_show_kept_minor=22_500)
        return replace(event, amount_minor=30_000, night_amounts_minor=(30_000,), sale=sale)

    found = forged(StayChanged, CHANGED, keep_all, 1)

    named = ", 30000 until check-in after changes for 20000, by version 1 of its terms 10000 until "
    assert any(named in line and line.endswith(", 16667 until check-in") for line in found), found


@pytest.mark.parametrize(
    ("kind", "booking", "number", "named"),
    [
        (ChangeHeld, CHANGED, 0, "it was CONFIRMED: no legal transition"),
        (ChangeEnded, GAVE_UP, 0, "has not ended"),
        (ChangeEnded, TOO_LATE, 0, "its hold had ended"),
        (RefundRequested, CHANGED, 1, "CONFIRMED, and 18333 is kept of its price 16667"),
        (StayChanged, CHANGED, 0, "it was {"),
    ],
)
def test_a_change_of_which_an_event_is_missing_is_named(
    kind: type[Event], booking: UUID, number: int, named: str
) -> None:
    problems = without(kind, booking, number)

    assert any(named in line for line in problems), problems


def of(booking_id: UUID) -> dict[str, Any]:
    return {"room_id": 4, "booking_id": booking_id}


HELD = found(decided_log(), ChangeHeld, WAITING).event
assert isinstance(HELD, ChangeHeld)
ENDED = ChangeEnded(**of(WAITING), change_id=change_id(WAITING, 1), reason=ChangeEnd.EXPIRED, held=HELD.held)


@pytest.mark.parametrize(
    ("event", "named"),
    [
        (HELD, f"its change {change_id(WAITING, 1)} has not ended"),
        (ENDED, "its hold ended "),
        (GuestsCheckedIn(**of(WAITING)), "has not ended"),
        (BookingCancelled(**of(WAITING), reason=CancelReason.BY_HOTEL), "has not ended"),
        (GuestsDidNotArrive(**of(WAITING), freed_from=FIRST), "has not ended"),
        (replace(ENDED, booking_id=CHANGED), "ends with ["),
        (
            replace(found(decided_log(), ChangeRejected, CHANGED).event, booking_id=AT_DESK),
            "it was CHECKED_OUT: no legal transition",
        ),
        (
            PaymentRequested(**of(CHANGED), attempt=3, amount_minor=1, currency="EUR"),
            "it was CONFIRMED: no legal transition",
        ),
        (CheckoutOpened(**of(CHANGED), attempt=2, session_id="cs_x"), "it was CONFIRMED: no legal transition"),
        (
            RefundRequested(
                **of(GAVE_UP), session_id=session(GAVE_UP), payment_intent=intent(GAVE_UP), amount_minor=1,
                currency="EUR", reason=RefundReason.STAY_CHANGED,
            ),
            "1 of 20000 of pi_74_1 goes back for a change, of which 0 is due",
        ),
        (
            BookingRefunded(
                **of(GAVE_UP), payment_intent=intent(GAVE_UP), refund_id="re_x", amount_minor=1
            ),
            "1 went back for pi_74_1, which is kept",
        ),
    ],
)  # fmt: skip
def test_an_event_that_cannot_follow_is_named(event: Event, named: str) -> None:
    assert any(named in line for line in after(event)), after(event)


def test_a_change_holds_rooms_beside_those_of_the_stay() -> None:
    """A night is oversold with rooms that are held for a change, and the rooms are counted once only."""
    assert isinstance(HELD, ChangeHeld)
    ranges = HELD.held
    many = tuple(replace(each, rooms_count=each.rooms_count + 9) for each in ranges)
    oversold = forged(ChangeHeld, WAITING, but(held=many))
    assert any("no oversold night: " in line and "reserved" in line for line in oversold), oversold
    closed = tuple(replace(each, end_night=FIRST + 30 * DAY) for each in ranges)
    never_opened = forged(ChangeHeld, WAITING, but(held=closed))
    assert any(line.endswith("held but never opened") for line in never_opened), never_opened


def test_a_payment_that_is_refunded_ends_its_session() -> None:
    """Of a change that waits for its payment, as of a stay: the guest may open another session."""
    history = decided_log()
    wrong = RefundRequested(
        **of(WAITING), session_id=session(WAITING, 2), payment_intent="pi_wrong", amount_minor=1, currency="EUR",
        reason=RefundReason.WRONG_AMOUNT,
    )  # fmt: skip
    for events in (history.events, [*history.events, history.append(wrong)]):
        expected = ExpectedLedger(Report())
        for each in events:
            value = msgspec.json.encode(each.event)
            expected.apply(each.partition, each.sequence, each.event.message_type, each.time.isoformat(), value)
        booking = expected.bookings[str(WAITING)]
        assert booking.session_id == (None if "pi_wrong" in booking.payments else session(WAITING, 2))


# Promo codes.


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ({"max_uses": 1}, "codes within limits: "),
        ({"percent_milli": 20_000}, "its discount is {"),
        ({"active": False}, "the code is not active"),
        ({"end_night": FIRST + DAY}, "the code is for nights from ever until 2027-02-28"),
        ({"room_ids": (1,)}, "the code is for rooms [1]"),
        ({"amount_minor": 1}, "code 8: its discount is {"),
    ],
)
def test_a_use_of_a_code_that_its_terms_do_not_allow_is_named(terms: dict[str, Any], named: str) -> None:
    found = forged(CodeChanged, None, but(terms=replace(CODE_TERMS, **terms)))

    assert any(named in line for line in found), found


def test_uses_of_codes_are_counted_by_account_and_each_once() -> None:
    def of_account_7(event: CodeClaimed) -> CodeClaimed:
        assert event.reserve is not None
        return replace(event, user_id=7, reserve=replace(event.reserve, user_id=7))

    by_account = forged(CodeClaimed, CODE_BACK, of_account_7)
    assert any(f"booking {CODE_BACK} is use 2 of 1 by account 7" in line for line in by_account), by_account
    another = forged(CodeClaimed, CODE_BACK, but(user_id=9))
    assert any("asks for booking" in line for line in another), another

    claim, back = (found(decided_log(), kind, CODE_BACK).event for kind in (CodeClaimed, CodeReturned))
    for event, named in (
        (claim, "uses it a second time"),
        (back, "gives a use back that it has not"),
        (CodeChanged(code_id=CODE, hotel_id=1, terms=CODE_TERMS), "its terms 1 follow 1"),
        (CodeChanged(code_id=CODE, hotel_id=2, terms=replace(CODE_TERMS, version=2)), "of hotel 1, not 2"),
        (replace(claim, code_id=9), "uses it, and it was never made"),
    ):
        assert any(named in line for line in after(event)), (named, after(event))


def test_the_discount_of_a_booking_is_that_of_its_use() -> None:
    never_used = without(CodeClaimed, DISCOUNTED)
    assert f"booking {DISCOUNTED}: its discount is that of code 8, which it never used" in never_used
    other = Discount(code_id=CODE, code="OTHER", percent_milli=10_000)
    of_other = forged(BookingReserved, DISCOUNTED, sale_but(discount=other))
    assert any("and {'code_id': 8, 'code': 'SPRING', 'percent_milli': 10000} was granted" in line for line in of_other)
    returned = after(CodeReturned(code_id=CODE, booking_id=DISCOUNTED))
    assert f"booking {DISCOUNTED}: CONFIRMED, and its use of code 8 was given back" in returned
    more = forged(BookingReserved, DISCOUNTED, sale_but(discount_minor=1))
    assert any("discount_minor is 1, by version 1 of its terms 2000" in line for line in more), more
    none = forged(BookingReserved, DISCOUNTED, sale_but(discount=None))
    assert any("discount_minor is 2000, by version 1 of its terms 0" in line for line in none), none
    by_amount = Discount(code_id=CODE, code="SPRING", amount_minor=2_000, currency="EUR")
    same_price = forged(BookingReserved, DISCOUNTED, sale_but(discount=by_amount))
    assert not any("discount_minor" in line or "lines is" in line for line in same_price), same_price


# Documents.


@pytest.mark.parametrize(
    ("number", "forge", "named"),
    [
        (0, but(number=2), "number 2 follows 0"),
        (0, but(amount_minor=1), "it is of 1, and its lines sum to 20000"),
        (3, but(corrects_id=None), "a document of kind credit_note for None"),
        (3, but(corrects_id=UUID(int=1)), "it corrects 00000000-0000-0000-0000-000000000001, which is no invoice"),
        (3, but(booking_id=CHANGED), "its booking_id is "),
        (3, but(currency="USD"), "its currency is USD, that of its invoice EUR"),
    ],
)
def test_a_document_that_cannot_be_is_named(number: int, forge: Forge, named: str) -> None:
    found = forged(DocumentIssued, None, forge, number)

    assert any("documents add up: " in line and named in line for line in found), found


def test_an_invoice_is_not_credited_twice_and_numbers_have_no_gap() -> None:
    credit = found(decided_log(), DocumentIssued, CHANGED, 1)
    assert isinstance(credit.event, DocumentIssued)
    assert credit.event.kind is DocumentKind.CREDIT_NOTE
    last = max(
        logged.event.number
        for logged in decided_log().events
        if isinstance(logged.event, DocumentIssued) and logged.event.kind is DocumentKind.CREDIT_NOTE
    )
    again = after(replace(credit.event, document_id=UUID(int=1), number=last + 1))
    assert any("40000 of invoice " in line and "which is of 20000" in line for line in again), again
    assert any("follows " in line for line in without(DocumentIssued, CHANGED, 1))
    assert any("issued a second time" in line for line in after(credit.event))


def test_the_documents_of_a_booking_are_of_the_money_that_is_kept() -> None:
    def issued(booking_id: UUID, number: int) -> Iterator[str]:
        return (line for line in without(DocumentIssued, booking_id, number) if line.startswith("booking "))

    assert f"booking {CHANGED}: CONFIRMED, its documents are of -1667, and 15000 is kept of it" in issued(CHANGED, 4)
    assert f"booking {CANCELLED_CHANGE}: CANCELLED, its documents are of 0, and 10000 is kept of it" in issued(
        CANCELLED_CHANGE, 4
    )
    assert f"booking {AT_DESK}: CHECKED_OUT, its documents are of 0, and 10000 is kept of it" in issued(AT_DESK, 0)
    ended = leg(CANCELLED_TRIP, 1)
    assert f"booking {ended}: CANCELLED, its documents are of 0, and 10000 is kept of it" in issued(ended, 2)


def test_documents_that_may_follow_yet_and_those_from_before_are_no_problem() -> None:
    history, expected = decided_log(), ExpectedLedger(Report())
    history.events.remove(found(history, DocumentIssued, AT_DESK))
    for logged in history.events:
        value = msgspec.json.encode(logged.event)
        expected.apply(logged.partition, logged.sequence, logged.event.message_type, logged.time.isoformat(), value)
    last = expected.bookings[str(AT_DESK)].position[1]

    def faults(sequence: int) -> list[str]:
        return list(faults_of_documents(expected.bookings, expected.documents, {0: sequence}))

    assert (len(faults(last - 1)), len(faults(last))) == (0, 1)
    expected.bookings[str(AT_DESK)].charged_at = 0
    assert faults(last) == []


# Trips.


@pytest.mark.parametrize(
    ("kind", "booking", "forge", "named"),
    [
        (TripOpened, TRIP, but(legs=()), "a trip of the legs []"),
        (LegHeld, TRIP, but(amount_minor=1), f"leg {leg(TRIP, 1)} is held for 1, not 20000"),
        (LegHeld, TRIP, but(leg_id=UUID(int=1)), f"leg {UUID(int=1)} was none of the trip"),
        (TripReserved, TRIP, but(amount_minor=1), "it costs 1, and its legs 40000"),
        (TripReserved, TRIP, but(currency="USD"), "reserved in USD with the legs "),
        (LegEnded, TRIP, but(kept_minor=20_001), f"20001 is kept of leg {leg(TRIP, 2)}, which cost 20000"),
        (LegEnded, TRIP, but(leg_id=UUID(int=1)), f"leg {UUID(int=1)} was none of the trip"),
        (RefundRequested, TRIP, but(amount_minor=20_001), "20001 of 40000 of pi_91 goes back"),
        (BookingCancelled, CANCELLED_TRIP, but(policy=AppliedPolicy(kept_minor=1)), "is kept, of legs that keep 20000"),
        (BookingCancelled, leg(UNPAID_TRIP, 1), but(reason=CancelReason.BY_HOTEL), "RESERVED, cancelled by_hotel"),
        (BookingConfirmed, leg(TRIP, 1), but(payment_intent="pi_x", session_id="cs_x"), "paid: no legal transition"),
        (TripRejected, REFUSED_TRIP, but(booking_id=TRIP), "it was REJECTED: no legal transition"),
    ],
)  # fmt: skip
def test_a_trip_that_cannot_be_is_named(kind: type[Event], booking: UUID, forge: Forge, named: str) -> None:
    found = forged(kind, booking, forge)

    assert any(named in line for line in found), found


def test_a_trip_of_which_an_event_is_missing_is_named() -> None:
    for kind, booking, named in (
        (LegHeld, TRIP, "reserved in EUR with the legs "),
        (LegEnded, CANCELLED_TRIP, "goes back for a change, of which 0 is due"),
        (RefundRequested, TRIP, "CONFIRMED, and 30000 is kept of its price 15000"),
        (TripReserved, TRIP, "it was RESERVING: no legal transition"),
    ):
        found = without(kind, booking)
        assert any(named in line for line in found), (kind, found)


def test_a_trip_is_bought_as_a_whole_or_not_at_all() -> None:
    sold = leg(SOLD_TRIP, 2)
    for kind, booking, named in (
        (BookingConfirmed, sold, f"booking {SOLD_TRIP}: CONFIRMED, and its leg {sold} is GUESTS_ADDED"),
        (BookingReserved, sold, f"booking {SOLD_TRIP}: CONFIRMED, and its leg {sold} is unknown"),
        (BookingCancelled, leg(UNPAID_TRIP, 1), f"{UNPAID_TRIP}: EXPIRED, and its leg {leg(UNPAID_TRIP, 1)} is RESERV"),
        (BookingCancelled, leg(REFUSED_TRIP, 1), f"{REFUSED_TRIP}: REJECTED, and its leg {leg(REFUSED_TRIP, 1)} is RE"),
        (TripRejected, REFUSED_TRIP, f"booking {REFUSED_TRIP}: RESERVING, and the rooms have decided all its legs"),
        (LegEnded, TRIP, f"booking {TRIP}: None is kept of its leg {leg(TRIP, 2)}, and by the room 5000"),
    ):
        found = without(kind, booking)
        assert any(named in line for line in found), (kind, found)
    found = forged(LegEnded, TRIP, but(kept_minor=1))
    assert any(f"1 is kept of its leg {leg(TRIP, 2)}, and by the room 5000" in line for line in found), found


def test_a_trip_may_be_halfway_until_the_commands_of_its_events_are_decided() -> None:
    history, expected = decided_log(), ExpectedLedger(Report())
    history.events.remove(found(history, BookingConfirmed, leg(SOLD_TRIP, 2)))
    for logged in history.events:
        value = msgspec.json.encode(logged.event)
        expected.apply(logged.partition, logged.sequence, logged.event.message_type, logged.time.isoformat(), value)
    trip = expected.bookings[str(SOLD_TRIP)].position[1]

    assert list(faults_of_trips(expected.bookings, {0: trip - 1})) == []
    assert list(faults_of_trips(expected.bookings, {})) == []
    assert len(list(faults_of_trips(expected.bookings, {0: trip}))) == 1


def test_no_trip_is_paid_late_and_no_booking_without_trip_ends_with_one() -> None:
    paid = BookingConfirmed(
        room_id=ROOMS[0], booking_id=UNPAID_TRIP, amount_minor=40_000, currency="EUR", payment_intent="pi_late",
        session_id="cs_94", late=True,
    )  # fmt: skip
    assert any("confirmed from EXPIRED, paid and late: no legal transition" in line for line in after(paid))
    asked = TripCancelRequested(**of(GAVE_UP), reason=CancelReason.BY_GUEST)
    assert any("it has no legs" in line for line in after(asked))
    ended = BookingCancelled(**of(GAVE_UP), reason=CancelReason.TRIP_ENDED)
    assert any("CONFIRMED, cancelled trip_ended, of trip None" in line for line in after(ended))
