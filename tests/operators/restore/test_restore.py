"""A database that is lost costs no booking: ledger, read models and cursors come back out of `booking.events`."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from operators.audit import audit
from operators.restore import NotRestored, Restored, restore
from operators.restore.target import FROM_THE_LOG
from storage.models import Table
from storage.settings import DatabaseSettings
from tests.operators import moves
from tests.operators.changed_stays import CANCELLED_CHANGE, CHANGED, CODE, CODE_BACK, DISCOUNTED, WAITING, changes
from tests.operators.changed_stays import intent as intent_of
from tests.operators.changed_stays import session as session_of
from tests.operators.decided_ledger import until_all_have_left
from tests.operators.decided_log import (
    AT_HOTEL,
    CANCELLED,
    CLOSED,
    DIVIDED,
    EXPIRED,
    FIRST,
    GIVEN_BACK,
    HELD,
    LAST,
    LEFT,
    MISSED,
    PAID,
    PRICE,
    REFUNDED,
    REJECTED,
    WALKED,
    asked,
    at_the_desk,
    divided,
    intent,
    paid,
    session,
    stay,
)
from tests.operators.trips import CANCELLED_TRIP, SOLD_TRIP, TRIP, UNPAID_TRIP, trips_of
from tests.support.log import Log, open_processor, process_all
from tests.support.stack import Server, fresh_database
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Outgoing
from topics.kafka.log_reader import LogReader
from topics.messages.commands import (
    AddGuests,
    BookingCommand,
    CancelBooking,
    ChangeInventory,
    ClaimCode,
    ClosePayment,
    Command,
    ConfirmPayment,
    ExpireHold,
    FailRefund,
    OpenInventory,
    RecordRefund,
    RecordSession,
    RequestPayment,
    ReserveTrip,
    SetSaleTerms,
    WithdrawChange,
)
from topics.messages.events import RefundRequested
from topics.messages.values import Terms
from workers import coordination, payments, projections
from workers.payments.settings import PaymentSettings
from workers.reservations import handler
from workers.runtime.batch_processor import BatchProcessor
from workers.runtime.empty_ledger import check_ledger
from workers.runtime.role import Role, Stopped

pytestmark = pytest.mark.system

PAYMENTS = PaymentSettings(_env_file=None, stripe_api_key=SecretStr("sk_test_nobody"))

#: The tables whose rows are compared by `CURSORS`, or by the tests of pending Stripe calls.
_COMPARED_APART = {
    *("log_cursor", "topic_generation", "outbox", "dead_letter"),
    *("checkout_session", "refund", "payment_refund", "payment_dispute"),
}
#: Every other table that the log makes, by its key.
TABLES = {
    name: ", ".join(column.name for column in Table.metadata.tables[name].primary_key)
    for name in FROM_THE_LOG
    if name not in _COMPARED_APART
}
#: The columns that the log makes, by table.
COLUMNS = {
    name: ", ".join(
        f'"{column.name}"'
        for column in Table.metadata.tables[name].columns
        # The time at which the database wrote them.
        if (name, column.name) != ("room_sale_terms", "updated_at")
    )
    for name in TABLES
}
CURSORS = (
    "select consumer, topic, partition, applied, published, sequence, last_time, last_hash from log_cursor"
    " where topic not like '%stripe%' and consumer <> 'coordination' order by consumer, topic, partition"
)


@pytest.fixture
def new_database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """The database that replaces the lost one."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


def nights_on_sale(room_id: int) -> OpenInventory:
    return OpenInventory(
        room_id=room_id,
        hotel_id=1,
        first_night=FIRST,
        end_night=LAST,
        total_count=10,
        price_minor=PRICE,
        currency="EUR",
    )


def everything() -> Sequence[Command]:
    """Every kind of thing that can happen to a booking; HELD still waits for its guest."""
    return (
        nights_on_sale(1),
        nights_on_sale(2),
        ChangeInventory(room_id=2, first_night=FIRST, end_night=LAST, surge_milli=1500, total_count=9),
        *paid(PAID),
        *divided(DIVIDED),
        *paid(REFUNDED),
        CancelBooking(room_id=1, booking_id=REFUNDED, user_id=7),
        RecordRefund(
            room_id=1, booking_id=REFUNDED, payment_intent=intent(REFUNDED), refund_id="re_1", amount_minor=2 * PRICE
        ),
        stay(AT_HOTEL, terms=Terms.AT_HOTEL),
        stay(REJECTED, rooms_count=11),
        stay(CANCELLED),
        CancelBooking(room_id=1, booking_id=CANCELLED, user_id=7),
        stay(EXPIRED, hold_seconds=0),
        ExpireHold(room_id=1, booking_id=EXPIRED),
        *asked(CLOSED, room_id=2),
        ClosePayment(room_id=2, booking_id=CLOSED, session_id=session(CLOSED)),
        stay(HELD, room_id=2, rooms_count=2),
    )


def roles(log: Log, database: DatabaseSettings) -> Sequence[Role]:
    return (
        handler.build(log.settings, database),
        projections.build(log.settings, database),
        payments.build(log.settings, database, PAYMENTS),
    )


async def work(log: Log, database: DatabaseSettings) -> None:
    """Let a worker of each role process the whole log."""
    for role in roles(log, database):
        async with open_processor(role, log, database) as processor:
            await process_all(processor, role, log)


async def rows(database: DatabaseSettings, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def tables(database: DatabaseSettings) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: await rows(database, f"select {COLUMNS[table]} from {table} order by {key}")
        for table, key in TABLES.items()
    }


async def restored(log: Log, database: DatabaseSettings) -> Restored:
    await until_all_have_left(database)
    return await restore(log.settings, database, PAYMENTS, operator="a test", without_backup=True)


async def holds(log: Log, database: DatabaseSettings) -> None:
    # The lists of guests come from the backup.
    async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(
            "insert into guest_list (id, booking_id, user_id, guests)"
            " select guest_list_id, id, coalesce(user_id, 9), '[]' from booking"
            " where guest_list_id is not null and trip_id is null"
        )
    report = await audit(log.settings, database)
    assert report.ok, list(report.problems())


async def test_a_lost_database_comes_back_as_it_was(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    for command in everything():
        # One by one, each at a time of its own.
        await log.send(command)
    await work(log, database)
    before = await tables(database)

    outcome = await restored(log, new_database)

    after = await tables(new_database)
    for table in TABLES:
        assert after[table] == before[table], table
    assert await rows(new_database, CURSORS) == await rows(database, CURSORS)
    assert (outcome.bookings, outcome.undecided, outcome.unpublished, outcome.notes) == (9, 0, 0, ())
    await holds(log, new_database)


async def test_stays_that_ended_at_the_hotel_blocks_and_terms_come_back(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    for command in at_the_desk(datetime.now(UTC).date()):
        await log.send(command)
    await work(log, database)
    before = await tables(database)

    outcome = await restored(log, new_database)

    after = await tables(new_database)
    for table in TABLES:
        assert after[table] == before[table], table
    assert (outcome.bookings, outcome.undecided, outcome.unpublished, outcome.notes) == (5, 0, 0, ())
    statuses = "select status, policy ->> 'kept_minor' from booking order by id"
    assert await rows(new_database, statuses) == [
        ("CHECKED_IN", None),
        ("CHECKED_OUT", str(PRICE)),
        ("NO_SHOW", str(PRICE // 2)),
        ("CANCELLED", str(PRICE)),
        ("CANCELLED", None),
    ]
    counts = "select booked_count, allowance_count, blocked_count from inventory order by date"
    assert (await rows(new_database, counts))[1:3] == [(1, 2, 1), (1, 2, 1)]
    assert await rows(new_database, "select room_id, version from room_sale_terms") == [(3, 3)]
    targets = "select booking_id, amount_minor, status, reason from refund order by booking_id"
    assert await rows(new_database, targets) == [
        (LEFT, PRICE, "succeeded", "early_departure"),
        (MISSED, 2 * PRICE - PRICE // 2, "creating", "no_show"),
        (GIVEN_BACK, PRICE, "creating", "booking_cancelled"),
        (WALKED, 2 * PRICE, "creating", "booking_cancelled"),
    ]
    await holds(log, new_database)


async def coordinate(log: Log, database: DatabaseSettings) -> None:
    """Let the commands be decided, and those that follow from them to other keys."""
    decides, follows = (build(log.settings, database) for build in (handler.build, coordination.build))
    for role in (decides, follows, decides, follows, decides):
        async with open_processor(role, log, database) as processor:
            await process_all(processor, role, log)


async def trips_and_their_legs(log: Log, database: DatabaseSettings, first: date) -> None:
    """Let trips be reserved, paid, and ended by the policies of their legs; each step waits for the one before."""
    steps = (OpenInventory, SetSaleTerms, ReserveTrip), (AddGuests, RequestPayment, RecordSession, ConfirmPayment)
    commands = [command for command, _ in trips_of(first, PRICE, 86_400)]
    for step in (*steps, (CancelBooking,), (RecordRefund,)):
        await log.send(*(command for command in commands if isinstance(command, step)))
        await coordinate(log, database)


async def stays_that_move(log: Log, database: DatabaseSettings, first: date) -> None:
    """Let stays move to another room type, as far as a change is held, paid or given up."""
    chosen = {moves.DOWN, moves.UP, moves.WITHDRAWN, moves.WAITING}
    commands = [
        command
        for command, _ in moves.moves(first, PRICE, 86_400)
        if not isinstance(command, BookingCommand) or command.booking_id in chosen
    ]
    later = [
        command
        for command in commands
        if isinstance(command, WithdrawChange | RecordRefund) or getattr(command, "attempt", 1) == 2
    ]
    await log.send(*(command for command in commands if command not in later))
    await coordinate(log, database)
    await log.send(*later)
    await coordinate(log, database)


async def test_changed_stays_codes_documents_and_trips_come_back(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    first = datetime.now(UTC).date() + timedelta(days=2)
    for command, _ in changes(first, PRICE, 86_400):
        await log.send(command)
        if isinstance(command, ClaimCode):
            await coordinate(log, database)
    await trips_and_their_legs(log, database, first)
    await stays_that_move(log, database, first)
    await work(log, database)
    before = await tables(database)
    documents = "select count(*), sum(amount_minor), sum(credited_minor) from hotel_document"
    documented = await rows(database, documents)

    outcome = await restored(log, new_database)

    after = await tables(new_database)
    for table in TABLES:
        assert after[table] == before[table], table
    assert (outcome.bookings, outcome.undecided, outcome.unpublished, outcome.notes) == (32, 0, 0, ())
    keyed = "select id, request_hash from booking where request_hash is not null"
    assert (CHANGED, "0f" * 16) in await rows(new_database, keyed)
    changed = "select id, amount_minor, jsonb_array_length(earlier_stays), pending_change ->> 'extra_minor'"
    assert await rows(new_database, f"{changed} from booking where earlier_stays <> 'null' or hold_expires_at > now()")
    uses = "select code_id, booking_id, returned from promo_code_use order by booking_id"
    assert await rows(new_database, uses) == [(CODE, DISCOUNTED, False), (CODE, CODE_BACK, True)]
    sessions = "select booking_id, attempt, status, session_id from checkout_session where attempt = 2 order by 1"
    assert (CHANGED, 2, "complete", session_of(CHANGED, 2)) in await rows(new_database, sessions)
    assert (WAITING, 2, "creating", session_of(WAITING, 2)) in await rows(new_database, sessions)
    targets = "select booking_id, payment_intent, amount_minor, status from refund order by 1, 2"
    assert (await rows(new_database, targets))[:4] == [
        (CHANGED, intent_of(CHANGED), 5_000, "succeeded"),
        (CHANGED, intent_of(CHANGED, 2), PRICE, "succeeded"),
        (CANCELLED_CHANGE, intent_of(CANCELLED_CHANGE), PRICE, "creating"),
        (CANCELLED_CHANGE, intent_of(CANCELLED_CHANGE, 2), PRICE, "creating"),
    ]
    trips = "select id, status, jsonb_path_query_array(legs, '$.state') from booking"
    trips += " where legs is not null and status <> 'REJECTED' order by id"
    assert await rows(new_database, trips) == [
        (TRIP, "CONFIRMED", ["cancelled", "held"]),
        (CANCELLED_TRIP, "CANCELLED", ["cancelled", "cancelled"]),
        (UNPAID_TRIP, "RESERVED", ["held", "held"]),
        (SOLD_TRIP, "CONFIRMED", ["held", "held"]),
        (moves.DOWN, "CONFIRMED", ["held"]),
        (moves.UP, "CONFIRMED", ["held"]),
    ]
    waiting = "select pending_change ->> 'to_room_id' from booking where pending_change ? 'to_room_id'"
    assert await rows(new_database, waiting) == [(str(moves.DEARER_ROOM),)]
    of_trips = [row for row in await rows(new_database, targets) if row[0] in {TRIP, CANCELLED_TRIP, moves.DOWN}]
    assert of_trips == [
        (TRIP, f"pi_{TRIP.int}", PRICE, "creating"),
        (CANCELLED_TRIP, f"pi_{CANCELLED_TRIP.int}", 2 * PRICE, "succeeded"),
        (moves.DOWN, intent_of(moves.DOWN), PRICE // 5 + 1_500, "succeeded"),
    ]
    await holds(log, new_database)

    # Coordination reads all of this log again, and all that follows from it is there already.
    events = len(await log.events())
    await coordinate(log, new_database)
    assert await rows(new_database, documents) == documented
    assert len(await log.events()) > events
    await work(log, new_database)
    report = await audit(log.settings, new_database)
    assert report.ok, list(report.problems())


async def test_pending_stripe_calls_come_back(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    waiting, spent = UUID(int=31), UUID(int=32)
    given_back = CancelBooking(room_id=1, booking_id=spent, user_id=7)
    await log.send(*everything(), *asked(waiting), *paid(spent), given_back)
    await work(log, database)

    await restored(log, new_database)

    sessions = "select booking_id, status, session_id, next_attempt_at is not null, params, idempotency_key"
    sessions += " from checkout_session order by booking_id"
    known = {row[0]: row[1:4] for row in await rows(new_database, sessions)}
    assert known == {
        PAID: ("complete", session(PAID), False),
        REFUNDED: ("complete", session(REFUNDED), False),
        CLOSED: ("expired", session(CLOSED), False),
        DIVIDED: ("complete", session(DIVIDED), False),
        waiting: ("creating", session(waiting), True),
        spent: ("complete", session(spent), False),
    }
    calls = "select booking_id, attempt, params, idempotency_key, expires_at from checkout_session order by 1"
    assert await rows(new_database, calls) == await rows(database, calls)
    refunds = "select booking_id, status, refund_id, next_attempt_at is not null from refund order by booking_id"
    assert await rows(new_database, refunds) == [
        (REFUNDED, "succeeded", "re_1", False),
        (DIVIDED, "closed", "re_rest", False),
        (spent, "creating", None, True),
    ]
    payments_of_sessions = "select booking_id, payment_intent from checkout_session order by booking_id"
    assert await rows(new_database, payments_of_sessions) == [
        *((booking, intent(booking)) for booking in (PAID, REFUNDED)),
        (CLOSED, None),
        (DIVIDED, intent(DIVIDED)),
        (waiting, None),
        (spent, intent(spent)),
    ]


async def test_refunds_and_disputes_come_back_one_by_one(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    due, failed = UUID(int=41), UUID(int=42)
    await log.send(nights_on_sale(1))
    for booking in (due, failed):
        # Up to the cancellation, without the refund by hand: a refund's id belongs to one payment.
        await log.send(*(each for each in list(divided(booking))[:8] if not isinstance(each, RecordRefund)))
    rest: dict[str, Any] = {
        "room_id": 1,
        "booking_id": failed,
        "payment_intent": intent(failed),
        "refund_id": "re_of_42",
    }
    await log.send(
        RecordRefund(**rest, amount_minor=2 * PRICE),
        FailRefund(**rest, amount_minor=2 * PRICE, failure="expired_or_canceled_card"),
    )
    await log.send(*divided(DIVIDED))
    await work(log, database)

    await restored(log, new_database)

    refunds = "select booking_id, refund_id, amount_minor, status, by_hand, failure from payment_refund order by 1, 2"
    assert await rows(new_database, refunds) == [
        (DIVIDED, "re_again", 10_000, "succeeded", True, None),
        (DIVIDED, "re_hand", 3_000, "succeeded", True, None),
        (DIVIDED, "re_rest", 17_000, "failed", False, "expired_or_canceled_card"),
        (failed, "re_of_42", 2 * PRICE, "failed", False, "expired_or_canceled_card"),
    ]
    disputes = "select booking_id, dispute_id, payment_intent, amount_minor, currency, status, reason"
    assert await rows(new_database, f"{disputes} from payment_dispute") == [
        (DIVIDED, "dp_1", intent(DIVIDED), 5_000, "EUR", "lost", "fraudulent")
    ]
    targets = "select booking_id, status, amount_minor, refusals, next_attempt_at is not null from refund order by 1"
    assert await rows(new_database, targets) == [
        (DIVIDED, "closed", 2 * PRICE, 1, False),
        (due, "creating", 2 * PRICE, 0, True),
        (failed, "creating", 2 * PRICE, 1, True),
    ]
    await holds(log, new_database)


async def test_a_database_with_the_ids_of_two_installations_is_refused(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await work(log, database)
    insert = "insert into installation (id) values ('00000000-0000-0000-0000-000000000001')"
    async with await psycopg.AsyncConnection.connect(new_database.conninfo()) as connection:
        await connection.execute(insert)

    with pytest.raises(NotRestored, match="The table installation has 2 rows"):
        await restored(log, new_database)

    async with await psycopg.AsyncConnection.connect(new_database.conninfo()) as connection:
        await connection.execute("delete from installation")
    with pytest.raises(NotRestored, match="The table installation is empty"):
        await restored(log, new_database)


async def test_the_last_command_is_found_by_its_position_and_not_by_a_clock(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.send(*everything())
    await work(log, database)
    monkeypatch.setattr(LogReader, "offsets_and_times_at", None)

    outcome = await restored(log, new_database)

    assert (outcome.undecided, outcome.unpublished, outcome.notes) == (0, 0, ())
    assert await rows(new_database, CURSORS) == await rows(database, CURSORS)


async def test_the_system_resumes_where_it_was(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await log.send(*everything())
    await work(log, database)
    late = UUID(int=33)
    await log.send(stay(late, terms=Terms.AT_HOTEL))

    outcome = await restored(log, new_database)
    await work(log, new_database)

    assert outcome.undecided == 1
    status = f"select id, status from booking where id in ('{late}', '{PAID}', '{HELD}') order by id"
    assert await rows(new_database, status) == [(PAID, "CONFIRMED"), (HELD, "RESERVED"), (late, "CONFIRMED")]
    await holds(log, new_database)


class _Cut:
    """A broker that takes only the first of the records that a worker publishes, and confirms all of them."""

    def __init__(self, processor: BatchProcessor, count: int) -> None:
        self._publish = processor._publisher.publish
        self._count = count

    async def publish(self, records: Sequence[Outgoing]) -> None:
        await self._publish(records[: self._count])
        self._count = max(0, self._count - len(records))


async def decide_and_lose(
    log: Log, database: DatabaseSettings, *commands: Command, published: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decide the commands in one batch, of whose events only the first `published` reach the broker."""
    role = handler.build(log.settings, database)
    async with open_processor(role, log, database) as processor:
        await log.send(*commands)
        monkeypatch.setattr(processor._publisher, "publish", _Cut(processor, published).publish)
        await process_all(processor, role, log)


async def test_a_decision_that_was_never_published_is_made_again_in_the_same_way(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.send(nights_on_sale(1), *paid(PAID))
    await work(log, database)
    await decide_and_lose(log, database, stay(AT_HOTEL, terms=Terms.AT_HOTEL), published=0, monkeypatch=monkeypatch)
    lost = await rows(database, "select * from booking order by id")

    outcome = await restored(log, new_database)
    await work(log, new_database)

    assert outcome.undecided == 1
    assert await rows(new_database, "select * from booking order by id") == lost
    await holds(log, new_database)


async def test_a_decision_of_which_the_broker_has_one_half_is_published_to_its_end(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.send(nights_on_sale(1), *paid(PAID))
    await work(log, database)
    # A paid booking's cancellation is two events: the second is the guest's money.
    cancel = CancelBooking(room_id=1, booking_id=PAID, user_id=7)
    await decide_and_lose(log, database, cancel, published=1, monkeypatch=monkeypatch)

    outcome = await restored(log, new_database)
    assert (outcome.undecided, outcome.unpublished) == (0, 1)
    await work(log, new_database)

    assert [event for _, event in await log.events() if isinstance(event, RefundRequested)] != []
    assert await rows(new_database, "select booking_id, status from refund") == [(PAID, "creating")]
    assert await rows(new_database, "select * from booking") == await rows(database, "select * from booking")
    await holds(log, new_database)


async def test_a_command_that_is_on_the_log_twice_is_decided_as_often_as_it_was(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(1))
    await log.send(*[stay(PAID)] * 3, id="again and again")
    await work(log, database)

    outcome = await restored(log, new_database)

    assert (outcome.undecided, outcome.unpublished, outcome.notes) == (0, 0, ())
    assert await rows(new_database, CURSORS) == await rows(database, CURSORS)


async def test_events_that_are_on_the_log_twice_are_applied_once(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await log.send(*everything())
    await work(log, database)
    for records in (await log.read(BOOKING_EVENTS)).values():
        await log.write(*(_copy_of(record) for record in records[-4:]))

    await restored(log, new_database)

    assert await rows(new_database, "select * from inventory order by room_id, date") == await rows(
        database, "select * from inventory order by room_id, date"
    )
    await holds(log, new_database)


def _copy_of(record: Any, **headers: bytes) -> Outgoing:
    changed = [(name, headers.get(name, value)) for name, value in record.headers]
    return Outgoing(record.topic, record.key, record.value, changed, record.partition)


async def test_a_log_that_lacks_an_event_is_refused(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await work(log, database)
    ((partition, records),) = (await log.read(BOOKING_EVENTS)).items()
    await log.write(_copy_of(records[-1], ce_sequence=b"9"))

    with pytest.raises(NotRestored, match=rf"\[{partition.partition}\] lacks the events after sequence 2 and before 9"):
        await restored(log, new_database)

    assert await rows(new_database, "select id from booking") == []


async def test_a_database_with_anything_in_it_is_refused(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(1), stay(PAID))
    await work(log, database)
    await restored(log, new_database)

    with pytest.raises(NotRestored, match="not empty: log_cursor, topic_generation, inventory, booking"):
        await restored(log, new_database)


async def test_workers_that_are_connected_are_named(log: Log, new_database: DatabaseSettings) -> None:
    role = handler.build(log.settings, new_database)
    async with open_processor(role, log, new_database):
        with pytest.raises(NotRestored, match="Workers are connected to this database: innkeeper reservations"):
            await restore(log.settings, new_database, PAYMENTS, operator="a test", without_backup=True)


async def test_a_worker_that_starts_meanwhile_waits_and_resumes_behind_the_restore(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await log.send(*everything())
    await work(log, database)

    # It connects after it was asked who is there, at the earliest when the tables are locked.
    starting: list[asyncio.Task[None]] = []

    def start(_: int, __: int) -> None:
        if not starting:
            starting.append(asyncio.create_task(work(log, new_database)))

    await restore(log.settings, new_database, PAYMENTS, operator="a test", without_backup=True, progress=start)
    await starting[0]

    assert await rows(new_database, "select * from inventory order by 1, 2") == await rows(
        database, "select * from inventory order by 1, 2"
    )
    assert len({envelope.id for envelope, _ in await log.events()}) == len(await log.events())
    await holds(log, new_database)


async def test_a_worker_that_meets_an_empty_ledger_beside_a_full_log_does_not_begin(
    log: Log, database: DatabaseSettings, new_database: DatabaseSettings
) -> None:
    await check_ledger(log.settings, database)
    await log.send(nights_on_sale(1), stay(PAID))
    await work(log, database)

    with pytest.raises(Stopped, match=r"The ledger is empty, and .*booking.events has 2 events"):
        await check_ledger(log.settings, new_database)

    await restored(log, new_database)
    await check_ledger(log.settings, new_database)
