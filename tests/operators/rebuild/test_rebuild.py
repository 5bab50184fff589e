"""An operator rebuilds a read model while guests continue to book: the same rows as before, and nothing left behind."""

import signal
from collections.abc import AsyncIterator

import psycopg
import pytest

from ingress.database import Database
from ingress.hotels.search.index import SearchIndex
from ingress.hotels.search.models import IndexOutdated
from operators.rebuild import PROJECTIONS, Difference, EventsMissing, Rebuilt, StillWritten, rebuild
from storage.settings import DatabaseSettings
from tests.operators.booking_load import FIRST, BookingLoad, open_booking_load
from tests.storage.test_tool import end, run, start
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings
from topics.messages.releases import Release

# Each has workers of its own, for some seconds.
pytestmark = pytest.mark.system


@pytest.fixture
async def load(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[BookingLoad]:
    async with open_booking_load(kafka_settings, database) as load:
        yield load


async def rebuilt(load: BookingLoad, name: str, *, swap: bool = True) -> Rebuilt:
    return await rebuild(load.kafka, load.database, name, operator="an operator", swap=swap)


async def oids(load: BookingLoad) -> dict[str, int]:
    tables = [table.name for each in PROJECTIONS.values() for table in each.tables]
    return dict(await load.rows(f"select relname, oid from pg_class where relname = any('{{{', '.join(tables)}}}')"))


async def test_a_rebuild_gives_the_same_rows_while_guests_continue_to_book(load: BookingLoad) -> None:
    await load.book(300)
    await load.kept()
    before = await oids(load)

    async with load.keeps_booking():
        done = [await rebuilt(load, name) for name in PROJECTIONS]
    await load.kept()

    assert [each.different for each in done] == [0] * len(PROJECTIONS)
    assert not set(before.values()) & set((await oids(load)).values())
    # The workers have gone on with the new tables; a rebuild at rest has nothing to add to them.
    rows = await load.read_models()
    # Coordination does not run here, so that nobody buys a trip; test_all_money.py compares the rows of trips.
    assert {table for table, found in rows.items() if not found} == {"reported_trip"}
    assert await load.rows("select count(*) > 1 from reported_stay where deductions is not null") == [(True,)]
    assert await load.rows("select count(*) > 1 from reported_stay where payments is not null") == [(True,)]
    kinds = await load.rows(
        "select distinct type from booking_timeline where type like 'booking.change%' order by type"
    )
    assert kinds == [(f"booking.{kind}.v1",) for kind in ("change_ended", "change_held", "changed")]
    for name in PROJECTIONS:
        assert (await rebuilt(load, name)).different == 0
    assert await load.read_models() == rows
    assert await load.left_behind() == []


async def test_changed_rows_are_reported_and_replaced_and_searches_notice(load: BookingLoad) -> None:
    await load.book(30)
    await load.kept()
    rows = await load.read_models()
    await load.change(
        f"update room_night set taken_count = 999 where (room_id, date) = (1, '{FIRST}')",
        f"delete from room_night where (room_id, date) = (2, '{FIRST}')",
        f"insert into hotel_min_price values (7, '{FIRST}', 1, 'EUR')",
    )
    changed = await load.read_models()
    pool = Database(load.database, pool_size=1)
    copy = SearchIndex(load.kafka.topic(BOOKING_EVENTS))
    async with pool.writing() as connection:
        await copy.load(connection)

    looked = await rebuilt(load, "room_nights", swap=False)
    assert await load.read_models() == changed
    async with pool.reading() as connection:
        await copy.refresh(connection)
    mended = await rebuilt(load, "room_nights")

    assert await load.read_models() == rows
    assert looked.tables == mended.tables
    nights, _, prices = looked.tables
    assert (looked.different, nights.different, prices.different) == (3, 2, 1)
    first, second = nights.first
    assert (first.key, second.key) == ({"room_id": 1, "date": str(FIRST)}, {"room_id": 2, "date": str(FIRST)})
    assert first.was is not None
    assert first.is_now is not None
    assert [name for name in first.was if first.was[name] != first.is_now[name]] == ["taken_count"]
    assert second.was is None
    price = {"hotel_id": 7, "date": str(FIRST), "min_price_minor": 1, "currency": "EUR"}
    key = {"hotel_id": 7, "date": str(FIRST)}
    assert prices.first == (Difference(table="hotel_min_price", key=key, was=price, is_now=None),)
    async with pool.reading() as connection:
        with pytest.raises(IndexOutdated):
            await copy.refresh(connection)
    await pool.close()


async def test_a_rebuild_that_is_interrupted_or_killed_leaves_nothing_behind(
    load: BookingLoad, environment: dict[str, str]
) -> None:
    await load.book(30)
    await load.kept()
    before = await load.read_models()

    async with await psycopg.AsyncConnection.connect(load.database.conninfo()) as somebody:
        # A confirmation is applied with a query of the ledger's bookings: the rebuild comes that far, and waits.
        await somebody.execute("lock table booking in access exclusive mode")
        interrupted = await start(environment, "rebuild", "daily_report", "--yes")
        await wait_until(lambda: somebody_waits(load.database), message="the rebuild waits for the bookings")
        interrupted.send_signal(signal.SIGINT)
        stopped = await end(interrupted)
        left_by_the_interrupted = await load.left_behind()

        killed = await start(environment, "rebuild", "daily_report", "--yes")
        await wait_until(load.left_behind, message="the rebuild has begun")
        killed.kill()
        await killed.wait()
    assert await load.left_behind() != []
    again = await run(environment, "rebuild", "booking_timeline", "--compare-only")

    assert (stopped.status, "nothing of it is left" in stopped.err, "Traceback" in stopped.err) == (2, True, False), (
        stopped.err
    )
    assert left_by_the_interrupted == []
    assert again.status == 0, again.err
    assert await load.left_behind() == []
    assert await load.read_models() == before


async def test_a_log_of_a_topic_that_was_created_anew_is_refused_before_anything_is_lost(
    load: BookingLoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load.book(10)
    await load.kept()
    before = await load.read_models()
    # As after a topic was deleted and created again: its sequence continues behind the lost events.
    await load.change("update log_cursor set sequence = sequence + 1000 where consumer = 'daily_report'")
    monkeypatch.setattr("topics.kafka.log_reader.MISSING_AFTER_SECONDS", 0.5)

    with pytest.raises(EventsMissing, match="the log was cut or replaced"):
        await rebuilt(load, "daily_report")

    assert await load.read_models() == before
    assert await load.left_behind() == []


async def test_a_rebuild_needs_an_option_and_is_recorded(load: BookingLoad, environment: dict[str, str]) -> None:
    await load.book(30)
    await load.kept()
    before = await oids(load)
    await load.change("update daily_report set nights = nights + 1 where hotel_id = 1")

    refused = await run(environment, "rebuild", "daily_report")
    looked = await run(environment, "rebuild", "daily_report", "--compare-only")
    assert await oids(load) == before
    done = await run(environment, "rebuild", "all", "--yes", "--by", "Grace")

    assert (refused.status, "Nothing was done: add --yes" in refused.err) == (1, True), refused.err
    assert looked.status == 1, looked.err
    assert "daily_report hotel_id 1, date " in looked.out
    assert done.status == 0, done.err
    assert not set(before.values()) & set((await oids(load)).values())
    assert await load.rows("select who, action, target from operator_action order by id") == [
        ("Grace", "rebuild", name) for name in PROJECTIONS
    ]


async def test_a_timeline_that_0_1_0_still_writes_is_not_replaced(database: DatabaseSettings) -> None:
    settings = KafkaSettings(_env_file=None, log_readable_by=Release.V0_1_0)

    with pytest.raises(StillWritten, match=r"0\.1\.0 could not write the new table"):
        await rebuild(settings, database, "booking_timeline", operator="a test", swap=True)
