"""The audit follows stays to another room type, and names each change that cannot be, on either side."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from operators.audit.expected_ledger import ExpectedLedger
from operators.audit.expected_trips import faults_of_trips
from operators.audit.report import Report
from tests.operators.audit.test_changes import Forge, after, but, forged, found, sale_but, without
from tests.operators.changed_stays import CODE, DISCOUNTED
from tests.operators.decided_log import FIRST, DecidedLog, decided_log
from tests.operators.moves import (
    CHANGED_FIRST,
    CHEAPER_ROOM,
    DEARER_ROOM,
    DOWN,
    ENDED,
    REFUSED,
    ROOM,
    SMALL_ROOM,
    UP,
    WAITING,
    WITHDRAWN,
    leg,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    ChangeOpened,
    ChangeRejected,
    CheckoutOpened,
    CodeReturned,
    CommandRefused,
    DocumentIssued,
    Event,
    PaymentRequested,
    StayChanged,
)
from topics.messages.sale import CancellationStep
from topics.messages.values import CancelReason, ChangeEnd, Refusal

DAY = timedelta(days=1)


def moved_but(**values: Any) -> Forge:
    """Return a function that changes the stay that moves, in an event."""
    return lambda event: replace(event, moved=replace(event.moved, **values))


def with_another_policy(event: BookingReserved) -> BookingReserved:
    """Return the leg, with a policy whose steps are below those of the stay before."""
    assert event.sale is not None
    return replace(event, sale=replace(event.sale, steps=(CancellationStep(kept_minor=2_000),)))


@pytest.mark.parametrize(
    ("kind", "booking", "forge", "named"),
    [
        (ChangeOpened, UP, but(to_room_id=ROOM), "prepaid, and moves from room 16 to room 16"),
        (ChangeOpened, UP, but(rooms_count=0), "changed to 0 rooms from "),
        (ChangeOpened, UP, but(user_id=8), "it asks for (8, 1, "),
        (ChangeOpened, UP, moved_but(amount_minor=1), "1 with costs of 0 move, of 20000 with 0"),
        (ChangeOpened, DOWN, moved_but(kept_now_minor=1), "its change keeps (1, 10000), by its policy [(0, 0), "),
        (ChangeOpened, DOWN, moved_but(floor_minor=1), "its change keeps (10000, 1), by its policy [(0, 0), "),
        (ChangeOpened, DOWN, but(change_id=UUID(int=1)), f"it moves to ('{leg(DOWN)}', 17, "),
        (ChangeOpened, DOWN, but(booking_id=leg(UP)), "it was never reserved"),
        (ChangeHeld, UP, but(to_room_id=CHEAPER_ROOM), f"it moves to ('{leg(UP)}', 17, "),
        (ChangeHeld, UP, but(check_out=FIRST), "was opened"),
        (ChangeHeld, UP, but(extra_minor=9_999), "prepaid, and 9999 is due for a stay of 30000 in place of 20000"),
        (ChangeHeld, UP, but(amount_minor=29_999, extra_minor=9_999), "after its change, and its leg 30000 EUR"),
        (ChangeHeld, UP, but(currency="USD"), "its leg costs USD"),
        (ChangeHeld, UP, but(night_amounts_minor=(1, 2)), "its nights cost [1, 2]"),
        (PaymentRequested, UP, but(booking_id=WITHDRAWN), "no legal transition"),
        (StayChanged, UP, but(to_room_id=None), "it becomes ("),
        (StayChanged, UP, but(payment_intent=None), ", unpaid, and ("),
        (StayChanged, UP, but(extra_minor=1), "it becomes ("),
        (StayChanged, DOWN, but(to_room_id=None), "it moves to None, and ("),
        (StayChanged, DOWN, but(to_room_id=DEARER_ROOM), f"it moves to ('{leg(DOWN)}', 18, "),
        (StayChanged, DOWN, but(amount_minor=17_999), "it costs 17999 after its change, and its leg 18000 EUR"),
        (StayChanged, DOWN, but(payment_intent="pi_x", session_id="cs_x"), "nothing of change "),
        (StayChanged, DOWN, but(amount_minor=20_001), "1 dearer, and nothing of change "),
        (ChangeEnded, WITHDRAWN, but(to_room_id=None), "ends with [], and "),
        (ChangeEnded, WITHDRAWN, but(reason=ChangeEnd.EXPIRED), "its hold ended "),
        (BookingReserved, leg(DOWN), but(amount_minor=16_000), "its lines sum to 18000"),
        (BookingReserved, leg(DOWN), sale_but(no_show_kept_minor=6_000), "is 6000, by version 1 of its terms 10000"),
        (BookingReserved, leg(DOWN), with_another_policy, "its cancellation costs 2000 until check-in after changes"),
        (BookingReserved, leg(DOWN), moved_but(kept_now_minor=5_000), "its cancellation costs "),
        (BookingReserved, leg(DOWN), moved_but(kept_now_minor=5_000), "for the move {'amount_minor': 20000, "),
        (BookingReserved, leg(DOWN), but(moved=None), "its cancellation costs "),
        (BookingReserved, leg(DOWN), but(trip_id=UUID(int=1)), f"a leg of trip {UUID(int=1)}, which has none of this"),
        (BookingReserved, leg(DOWN), but(trip_id=UP), f"a leg of trip {UP}, which has none of this id"),
        (BookingConfirmed, leg(DOWN), but(payment_intent="pi_x", session_id="cs_x"), "paid: no legal transition"),
        (BookingCancelled, leg(WITHDRAWN), but(reason=CancelReason.BY_HOTEL), "RESERVED, cancelled by_hotel"),
    ],
)  # fmt: skip
def test_a_move_that_cannot_be_is_named(kind: type[Event], booking: UUID, forge: Forge, named: str) -> None:
    problems = forged(kind, booking, forge)

    assert any(named in line for line in problems), problems


def test_the_costs_of_a_move_come_with_a_policy() -> None:
    def of_small_room(event: BookingReserved) -> BookingReserved:
        return replace(event, sale=None)

    problems = forged(BookingReserved, leg(DOWN), of_small_room)

    assert any("sold without a policy, and its change costs {" in line for line in problems), problems


@pytest.mark.parametrize(
    ("kind", "booking", "number", "named"),
    [
        (ChangeOpened, UP, 0, f"it moves to ('{leg(UP)}', 18, "),
        (ChangeHeld, UP, 0, f"booking {UP}: it was CONFIRMED: no legal transition"),
        (StayChanged, DOWN, 0, f"booking {DOWN}: its change {leg(DOWN)} is open, and the room has decided"),
        (StayChanged, UP, 0, f"booking {UP}: its change {leg(UP)} is held, and its leg is CHECKED_IN"),
        (ChangeEnded, WITHDRAWN, 0, f"its change {leg(WITHDRAWN)} is held, and its leg is CANCELLED (trip_ended)"),
        (ChangeEnded, REFUSED, 0, f"booking {REFUSED}: its change {leg(REFUSED)} is open, and the room has decided"),
        (BookingConfirmed, leg(DOWN), 0, f"booking {DOWN}: CONFIRMED, and its leg {leg(DOWN)} is GUESTS_ADDED"),
        (BookingReserved, leg(UP), 0, f"booking {UP}: CONFIRMED, and its leg {leg(UP)} is unknown"),
        (BookingReserved, leg(WAITING), 0, f"its change {leg(WAITING)} is held, and its leg is unknown"),
        (BookingRejected, leg(REFUSED), 0, f"its change {leg(REFUSED)} ended, and its leg is unknown"),
        (BookingCancelled, leg(WITHDRAWN), 0, f"its change {leg(WITHDRAWN)} ended, and its leg is RESERVED"),
        (DocumentIssued, DOWN, 1, f"booking {DOWN}: CONFIRMED, its documents are of 20000, and 0 is kept of it"),
        (DocumentIssued, leg(DOWN), 0, f"booking {leg(DOWN)}: CONFIRMED, its documents are of 0, and 18000 is kept"),
    ],
)  # fmt: skip
def test_a_move_of_which_an_event_is_missing_is_named(
    kind: type[Event], booking: UUID, number: int, named: str
) -> None:
    problems = without(kind, booking, number)

    assert any(named in line for line in problems), problems


OPENED = found(decided_log(), ChangeOpened, DOWN).event
assert isinstance(OPENED, ChangeOpened)
OF_WAITING: dict[str, Any] = {"room_id": ROOM, "booking_id": WAITING}


@pytest.mark.parametrize(
    ("event", "named"),
    [
        (replace(OPENED, change_id=UUID(int=1)), f"of trip None with the legs ['{leg(DOWN)}']"),
        (replace(OPENED, booking_id=WAITING, change_id=UUID(int=1)), f"its change {leg(WAITING)} has not ended"),
        (replace(OPENED, booking_id=WITHDRAWN, change_id=leg(WITHDRAWN)), "comes a second time"),
        (
            ChangeEnded(
                **OF_WAITING, change_id=leg(WAITING), reason=ChangeEnd.WITHDRAWN, to_room_id=SMALL_ROOM
            ),
            "ends with [] in room 19, and ",
        ),
        (
            replace(found(decided_log(), BookingReserved, leg(DOWN)).event, booking_id=UUID(int=999)),
            f"a leg of trip {DOWN}, which has none of this id",
        ),
    ],
)  # fmt: skip
def test_an_event_that_cannot_follow_a_move_is_named(event: Event, named: str) -> None:
    assert any(named in line for line in after(event)), after(event)


def test_nobody_pays_for_a_move_that_the_other_room_has_not_decided() -> None:
    held = found(decided_log(), ChangeHeld, UP).event
    assert isinstance(held, ChangeHeld)
    for kind in (PaymentRequested, CheckoutOpened):
        history = decided_log()
        history.events.remove(found(history, ChangeHeld, UP))
        if kind is CheckoutOpened:
            history.events.remove(found(history, PaymentRequested, UP, 1))
        report = applied(history)[1].problems()
        assert any(f"booking {UP}: it was CONFIRMED: no legal transition" in line for line in report), report


def applied(history: DecidedLog) -> tuple[ExpectedLedger, Report]:
    report = Report()
    expected = ExpectedLedger(report)
    for logged in history.events:
        value = msgspec.json.encode(logged.event)
        expected.apply(logged.partition, logged.sequence, logged.event.message_type, logged.time.isoformat(), value)
    return expected, report


def test_a_move_may_be_halfway_until_the_commands_of_its_events_are_decided() -> None:
    history = decided_log()
    history.events.remove(found(history, BookingCancelled, leg(WITHDRAWN)))
    expected, _ = applied(history)
    partition, sequence = expected.bookings[str(WITHDRAWN)].position

    assert list(faults_of_trips(expected.bookings, {partition: sequence - 1})) == []
    assert len(list(faults_of_trips(expected.bookings, {partition: sequence}))) == 1


def test_a_moved_booking_is_a_trip_in_the_ledger() -> None:
    bookings = applied(decided_log())[0].bookings
    for id, room, amount in ((DOWN, CHEAPER_ROOM, 18_000), (UP, DEARER_ROOM, 30_000)):
        row = bookings[str(id)].as_row()
        assert (row.rooms_count, row.sale, row.amount_minor, row.pending_change) == (0, None, amount, None)
        [in_trip] = row.legs
        assert (in_trip["booking_id"], in_trip["room_id"], in_trip["state"]) == (str(leg(id)), room, "held")
        assert [change for change, _ in row.earlier_stays] == [str(leg(id))]
    refused = bookings[str(REFUSED)].as_row()
    assert (refused.legs, refused.ended_changes, refused.rooms_count) == ((), (str(leg(REFUSED)),), 1)
    waiting = bookings[str(WAITING)].as_row().pending_change
    assert waiting is not None
    assert (waiting.to_room_id, waiting.is_open, waiting.extra_minor) == (DEARER_ROOM, False, 10_000)
    assert [each.kept for each in bookings[str(CHANGED_FIRST)].payments.values()] == [19_300, 10_000, 30_000]
    assert bookings[str(ENDED)].status == "CANCELLED"


def test_a_change_that_another_room_decides_has_no_price_yet() -> None:
    history = decided_log()
    last = history.events.index(found(history, ChangeOpened, UP))
    del history.events[last + 1 :]

    row = applied(history)[0].bookings[str(UP)].as_row()

    assert row.pending_change is not None
    assert row.pending_change.is_open
    assert (row.pending_change.stay["amount_minor"], row.pending_change.stay["sale"]) == (0, None)
    assert row.hold_expires_at is not None
    assert found(decided_log(), ChangeRejected, REFUSED).event.message_type == "booking.change_rejected.v1"


def test_a_stay_with_a_promo_code_that_moved_has_given_its_use_back() -> None:
    history = decided_log()
    opened, moved = (found(history, kind, DOWN).event for kind in (ChangeOpened, StayChanged))
    before = found(history, BookingReserved, DISCOUNTED).event
    assert isinstance(before, BookingReserved)
    here: dict[str, Any] = {"room_id": before.room_id, "booking_id": DISCOUNTED, "change_id": leg(DISCOUNTED)}
    returned = CodeReturned(code_id=CODE, booking_id=DISCOUNTED)

    fault = f"booking {DISCOUNTED}: CONFIRMED, and its use of code {CODE} was given back"
    assert fault in after(returned)
    assert fault not in after(replace(opened, **here), replace(moved, **here), returned)


def test_a_request_that_another_room_refused_is_not_the_last_event_of_its_booking() -> None:
    history = decided_log()
    expected, _ = applied(history)
    before = expected.bookings[str(UP)].position
    refused = CommandRefused(
        room_id=ROOM + 1_000, booking_id=UP, command="booking.reserve.v1", reason=Refusal.ANOTHER_REQUEST
    )

    expected.apply(99, 1, refused.message_type, history.events[-1].time.isoformat(), msgspec.json.encode(refused))

    assert expected.bookings[str(UP)].position == before
