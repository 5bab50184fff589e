"""The search index: as fresh as promised, shared, and loaded anew when it must be."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from ingress.database import Database
from ingress.hotels.search import freshness
from ingress.hotels.search import index as indexes
from ingress.hotels.search.freshness import Freshness
from ingress.hotels.search.index import SearchIndex
from ingress.hotels.search.models import HotelSearch, earliest_today
from storage.settings import DatabaseSettings
from tests.ingress.hotels.market import TOPIC
from tests.ingress.hotels.town import Town, day, open_town
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until

SEARCH = HotelSearch(city="Porto", check_in_date=day(0), check_out_date=day(2))


@pytest.fixture
async def town(database: DatabaseSettings) -> AsyncIterator[Town]:
    """A town with a hotel (1) that has a room (1)."""
    async with open_town(database) as town:
        await town.rooms(await town.hotel(), 10_000)
        yield town


@pytest.fixture
async def pool(database: DatabaseSettings) -> AsyncIterator[Database]:
    """An ingress's connections."""
    pool = Database(database, pool_size=3)
    yield pool
    await pool.close()


@pytest.fixture
async def ours(town: Town, pool: Database) -> AsyncIterator[Freshness]:
    """A copy of the town, kept as in an ingress."""
    async with run_freshness(pool) as ours:
        yield ours


@asynccontextmanager
async def run_freshness(pool: Database) -> AsyncIterator[Freshness]:
    ours = Freshness(pool, TOPIC)
    running = asyncio.create_task(ours.run())
    try:
        yield ours
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def rooms_left(ours: Freshness) -> int | None:
    """Return how many rooms a search shows, None when it finds no hotel."""
    hits = (await ours.find(SEARCH, None)).hits
    return hits[0].rooms_left if hits else None


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], int]:
    """Count how often the copy is loaded or refreshed from now on."""
    method = getattr(SearchIndex, name)
    calls = []

    async def call(self: SearchIndex, connection: Any) -> None:
        calls.append(name)
        await method(self, connection)

    monkeypatch.setattr(SearchIndex, name, call)
    return lambda: len(calls)


async def test_a_commit_is_soon_seen_by_every_search(ours: Freshness, town: Town) -> None:
    assert await rooms_left(ours) == 3

    for left in (2, 1, 0):
        await town.sell(1)
        await wait_until(lambda left=left: _is(ours, left or None))  # type: ignore[misc]


async def _is(ours: Freshness, left: int | None) -> bool:
    return await rooms_left(ours) == left


async def test_a_search_sees_what_was_committed_as_long_ago_as_promised(
    ours: Freshness, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    for left in (2, 1):
        await town.sell(1)
        assert await rooms_left(ours) == left


async def test_searches_at_the_same_time_share_a_refresh_and_one_soon_after_needs_none(
    ours: Freshness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rooms_left(ours)
    refreshed = count_calls(monkeypatch, "refresh")
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    searches = [asyncio.create_task(rooms_left(ours)) for _ in range(50)]
    assert await asyncio.gather(*searches) == [3] * 50
    # Those that came while one was under way, which may have read before they came, share the next.
    assert 1 <= refreshed() <= 2

    monkeypatch.setattr(freshness, "FRESH_SECONDS", 60.0)
    before = refreshed()
    assert await rooms_left(ours) == 3
    assert refreshed() == before


async def test_a_search_that_is_given_up_ends_no_refresh_that_others_wait_for(
    ours: Freshness, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rooms_left(ours)
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    await town.sell(1)
    abandoned, waiting = asyncio.create_task(rooms_left(ours)), asyncio.create_task(rooms_left(ours))
    await asyncio.wait([abandoned], timeout=0)
    abandoned.cancel()

    assert await waiting == 2


async def test_a_search_while_prices_change_shows_those_before_or_after_and_no_mixture(
    ours: Freshness, town: Town, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    assert await total_minor(ours) == 20_000
    await town.change(1, 0, price_minor=11_000)
    async with town.connection.transaction():
        # The refresh stops half-way: it has read the position of the nights, and not yet their changes.
        await town.connection.execute("lock table room_night_change in access exclusive mode")
        searching = asyncio.create_task(total_minor(ours))
        await wait_until(lambda: somebody_waits(database), message="the search waits for what was changed")
        await town.change(1, 0, 1, price_minor=20_000)

    assert await searching == 21_000
    assert await total_minor(ours) == 40_000


async def total_minor(ours: Freshness) -> int:
    (hit,) = (await ours.find(SEARCH, None)).hits
    return hit.total_minor


async def test_a_failed_refresh_is_reported_to_its_searches_and_made_up_for_by_the_next(
    ours: Freshness, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    await rooms_left(ours)
    await town.sell(1)
    await town.describe("hotel", 1, name="Old Mill")
    with monkeypatch.context() as broken:

        async def fails(*_: Any) -> Any:
            raise OperationalError("select", {}, Exception("the server is gone"))

        broken.setattr("storage.reads.search.hotels_changed_since", fails)
        with pytest.raises(OperationalError):
            await rooms_left(ours)

    (hit,) = (await ours.find(SEARCH, None)).hits
    assert (hit.rooms_left, hit.hotel.name) == (2, "Old Mill")


async def test_a_room_that_is_described_after_its_nights_were_opened_is_found_with_them(
    ours: Freshness, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    await rooms_left(ours)
    hotel = await town.hotel()
    room = await town.rooms(hotel, 5_000)
    # As a copy sees it that was loaded in between.
    nights = (await ours.index())._nights
    assert room in nights
    del nights._columns[room]
    await town.describe("room", room, type="suite")

    hits = (await ours.find(SEARCH, None)).hits

    assert [(hit.hotel.id, hit.room_type, hit.average_minor) for hit in hits] == [
        (hotel, "suite", 5_000),
        (1, "double", 10_000),
    ]


async def test_a_hotel_that_moves_to_another_city_is_found_there_alone(
    ours: Freshness, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    in_bern = SEARCH.model_copy(update={"city": "Bern"})
    assert (await ours.find(in_bern, None)).hits == []
    await town.describe("hotel", 1, city="Bern")

    assert (await ours.find(SEARCH, None)).hits == []
    assert len((await ours.find(in_bern, None)).hits) == 1


# Reasons to load the index anew.


async def test_a_read_model_that_is_rebuilt_is_copied_anew(
    ours: Freshness, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    await town.sell(1)
    assert await rooms_left(ours) == 2
    loaded = count_calls(monkeypatch, "load")

    await town.projection.empty()
    assert await rooms_left(ours) is None
    await town.open(1, 9_000, total=7)

    assert await rooms_left(ours) == 7
    assert loaded() >= 1


async def test_another_generation_of_the_log_is_loaded_anew(
    ours: Freshness, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    assert await rooms_left(ours) == 3
    loaded = count_calls(monkeypatch, "load")

    await town.projection.begin()
    await town.sell(1)

    assert await rooms_left(ours) == 2
    assert loaded() == 1


async def test_a_copy_whose_days_run_out_serves_until_the_next_is_there(
    town: Town, pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = count_calls(monkeypatch, "load")
    async with run_freshness(pool) as ours:
        with monkeypatch.context() as weeks_ago:
            weeks_ago.setattr(indexes, "earliest_today", lambda: earliest_today() - timedelta(days=20))
            old = await ours.index()
        assert old.nearly_over
        assert old.covers_today
        assert await rooms_left(ours) == 3

        async def is_replaced() -> bool:
            return await ours.index() is not old

        await wait_until(is_replaced)
        assert await rooms_left(ours) == 3
        assert loaded() == 2


async def test_an_index_whose_days_have_run_out_is_replaced(
    town: Town, pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_freshness(pool) as ours:
        with monkeypatch.context() as a_month_ago:
            a_month_ago.setattr(indexes, "earliest_today", lambda: earliest_today() - timedelta(days=30))
            module = freshness._index_module()
            old = module.SearchIndex(TOPIC)
            async with pool.writing() as connection:
                await old.load(connection)
        ours._index = old
        ours._loaded.set()

        last = SEARCH.model_copy(update={"check_in_date": day(330), "check_out_date": day(360)})
        assert (await ours.find(last, None)).hits == []
        assert await ours.index() is not old


async def test_an_index_that_cannot_be_loaded_is_tried_again_after_longer_pauses(
    town: Town, pool: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(freshness, "_FIRST_PAUSE_SECONDS", 0.1)
    load, failures = SearchIndex.load, iter([OSError("away"), OSError("away")])

    async def load_at_the_third_try(self: SearchIndex, connection: Any) -> None:
        for failure in failures:
            raise failure
        await load(self, connection)

    monkeypatch.setattr(SearchIndex, "load", load_at_the_third_try)
    async with run_freshness(pool) as ours:
        assert await rooms_left(ours) == 3

    assert [record.getMessage() for record in caplog.records if record.name == "topics.backoff"] == [
        "searches wait for the database (OSError: away); try 2 in 0.1 s",
        "searches wait for the database (OSError: away); try 3 in 0.2 s",
        "works again after 2 failures: searches wait for the database",
    ]
