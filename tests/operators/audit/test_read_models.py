"""The auditor recomputes every read model by its own means, and names each row that differs."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from operators.audit import audit
from operators.audit.expected_read_models import ExpectedReadModels, Record
from operators.audit.read_models import Reads, read_models
from storage.projections.rebuildable import PROJECTIONS
from storage.settings import DatabaseSettings
from tests.operators.booking_load import FIRST, open_booking_load
from tests.operators.decided_ledger import write_ledger
from tests.operators.decided_log import PRICE, decided_log
from tests.operators.rebuild import test_batches
from tests.operators.trips import CANCELLED_TRIP, TRIP, leg
from tests.storage.projections import test_daily_report
from tests.storage.projections.log import FIRST as FIRST_NIGHT
from tests.storage.projections.log import HOTEL_OF, Log, apply, cut, on_the_log, opened
from tests.storage.projections.test_daily_report import Stay
from tests.storage.projections.test_timeline import IN_TWO_PARTITIONS
from topics.catalogue import BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings
from topics.messages.events import BookingEvent, BookingReserved, Event

READS = "read models match events"
TABLES = [table.name for projection in PROJECTIONS.values() for table in projection.tables]
some_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def expected(log: Log) -> dict[str, Reads]:
    """Return the rows that the auditor computes from the events."""
    applied = {number: len(received) for number, received in log.items()}
    auditor = ExpectedReadModels(dict.fromkeys(PROJECTIONS, applied))
    for number, received in log.items():
        for each in received:
            envelope = each.envelope
            assert envelope is not None
            assert envelope.sequence is not None
            auditor.apply(
                Record(
                    number,
                    envelope.sequence,
                    envelope.id,
                    envelope.type,
                    envelope.time.isoformat(),
                    envelope.causation,
                    each.record.value or b"",
                )
            )
    return auditor.rows()


async def written(database: DatabaseSettings) -> dict[str, Reads]:
    """Return the rows that the auditor finds in the tables."""
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        return (await read_models(connection, BOOKING_EVENTS.name)).tables


async def check(database: DatabaseSettings, events: Sequence[Event], sizes: Sequence[int]) -> None:
    """Apply the events in batches, and compare with the auditor's rows."""
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(f"truncate {', '.join(TABLES)}, booking".encode())
    log = on_the_log(events)
    await apply(database, cut(log, sizes))

    assert await written(database) == expected(log)


async def test_events_of_one_sequence_in_two_partitions_have_a_row_each(database: DatabaseSettings) -> None:
    await check(database, IN_TWO_PARTITIONS, [1])
    assert len((await written(database))["booking_timeline"]) == 3


@given(events=test_batches.logs(), sizes=some_sizes)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_auditor_and_the_projections_agree_on_nights(
    events: list[Event], sizes: list[int], database: DatabaseSettings
) -> None:
    await check(database, events, sizes)


FREE = Stay(id=UUID(int=5), check_out=FIRST_NIGHT + timedelta(days=1), amount_minor=0)


@example(log=([FREE], [FREE.confirmed(), FREE.refunded("re_1", 1_00)]), sizes=[1])
@given(log=test_daily_report.logs(), sizes=some_sizes)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_auditor_and_the_projections_agree_on_revenue(
    log: tuple[list[Stay], list[BookingEvent]], sizes: list[int], database: DatabaseSettings
) -> None:
    stays, events = log
    nights = [opened(room, 0, 7, 1) for room in HOTEL_OF]

    await check(database, [*nights, *(reserved(stay) for stay in stays), *events], sizes)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_the_auditor_and_the_projections_agree_on_trips_and_all_else(
    size: int, kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    history = decided_log()
    await write_ledger(kafka_settings, database, history)
    log = on_the_log([logged.event for logged in history.events])

    await apply(database, cut(log, [size]))

    found = await written(database)
    assert found == expected(log)
    legs = [f"booking {leg(trip, number)}" for trip in (TRIP, CANCELLED_TRIP) for number in (1, 2)]
    assert [found["reported_stay"][each][-2] for each in legs] == [PRICE, PRICE // 2, PRICE, PRICE]
    assert not found["reported_stay"].keys() & {f"booking {each}" for each in (TRIP, CANCELLED_TRIP)}
    kept = [row[3:] for row in found["money_movement"].values() if row[2] == "kept_by_policy" and row[3] == "pi_92"]
    assert kept == [("pi_92", "pi_92", 2 * PRICE, 0, "EUR", False)]


def reserved(stay: Stay) -> BookingReserved:
    return BookingReserved(
        room_id=stay.room_id,
        booking_id=stay.id,
        hotel_id=stay.hotel_id,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=stay.rooms_count,
        amount_minor=stay.amount_minor,
        currency=stay.currency,
        night_amounts_minor=tuple(stay.night_amounts_minor or ()),
    )


@pytest.mark.system
async def test_read_models_hold_while_guests_go_on_booking_and_every_changed_row_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings
) -> None:
    async with open_booking_load(kafka_settings, database) as load:
        await load.book(200)
        async with load.keeps_booking():
            under_load = await audit(kafka_settings, database)
        await load.kept()
        [(booking, partition, position)] = await load.rows(
            "select (select min(booking_id::text) from booking_timeline where type = 'booking.reserved.v1'),"
            " partition, min(position) from room_night_change group by partition limit 1"
        )
        [(sold, amount)] = await load.rows("select booking_id, amount_minor from reported_stay limit 1")
        [(deducted,)] = await load.rows(
            f"select min(booking_id::text) from reported_stay where booking_id <> '{sold}' and deductions is null"
        )
        [(day, staying)] = await load.rows("select date::text, staying from daily_report where hotel_id = 2 limit 1")
        [(moved, of_partition, sequence, money)] = await load.rows(
            "select booking_id, partition, sequence, amount_minor from money_movement where kind = 'payment' limit 1"
        )
        await load.change(
            "update booking_timeline set event = '{}'"
            f" where booking_id = '{booking}' and type = 'booking.reserved.v1'",
            f"update room_night set price_minor = 1 where (room_id, date) = (1, '{FIRST}')",
            f"delete from room_night_change where (partition, position) = ({partition}, {position})",
            f"insert into hotel_min_price values (1, '{FIRST}'::date - 1, 1, 'EUR')",
            f"update reported_stay set amount_minor = 1 where booking_id = '{sold}'",
            f"""update reported_stay set deductions = '{{"re": 5}}' where booking_id = '{deducted}'""",
            f"update daily_report set staying = 77 where (hotel_id, date) = (2, '{day}')",
            f"update money_movement set amount_minor = 7 where (booking_id, sequence) = ('{moved}', {sequence})",
        )
        [(price,)] = await load.rows(f"select price_minor from inventory where (room_id, date) = (1, '{FIRST}')")
        damaged = await audit(kafka_settings, database)

    assert under_load.problems() == []
    timeline, *others = damaged.problems()
    # Of two stays the one comes first that was sold first.
    others[3:5] = sorted(others[3:5], key=lambda problem: "deductions" in problem)
    assert timeline.startswith(f"{READS}: booking_timeline, booking {booking}, partition ")
    assert timeline.endswith(": event is another one")
    at = f"booking {moved}, partition {of_partition}, sequence {sequence}"
    assert others == [
        f"{READS}: room_night, room 1, night {FIRST}: price_minor is 1 in the read model and {price} by the log",
        f"{READS}: room_night_change, partition {partition}, position {position}: on the log but not in the read model",
        f"{READS}: hotel_min_price, hotel 1, night 2027-04-30: in the read model but not on the log",
        f"{READS}: reported_stay, booking {sold}: amount_minor is 1 in the read model and {amount} by the log",
        f"{READS}: reported_stay, booking {deducted}: deductions is {{'re': 5}} in the read model and None by the log",
        f"{READS}: daily_report, hotel 2, night {day}: staying is 77 in the read model and {staying} by the log",
        f"{READS}: money_movement, {at}: amount_minor is 7 in the read model and {money} by the log",
    ]
