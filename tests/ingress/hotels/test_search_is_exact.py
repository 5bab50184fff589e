"""Any search has the same hits as one SQL query over hotels, rooms and the ledger's inventory, after any commands."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import pytest

from benchmarks.search.reference import Reference
from ingress.database import Database
from ingress.hotels.search import freshness
from ingress.hotels.search.freshness import Freshness
from ingress.hotels.search.models import Found, HotelSearch, SortPosition
from ingress.stays import today_at
from storage.settings import DatabaseSettings
from tests.ingress.hotels.market import TOPIC, ZONES, open_market

HOTELS = 25
ROUNDS = 5
SEARCHES = 40
T = TypeVar("T")


@pytest.fixture
async def pool(database: DatabaseSettings) -> AsyncIterator[Database]:
    """An ingress's connections."""
    pool = Database(database, pool_size=2)
    yield pool
    await pool.close()


@pytest.fixture
async def ours(pool: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Freshness]:
    """A copy that each search finds as fresh as the database."""
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    ours = Freshness(pool, TOPIC)
    keeping = asyncio.create_task(ours.run())
    yield ours
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


@pytest.mark.parametrize("seed", range(3))
async def test_a_search_finds_what_the_ledger_has(
    seed: int, ours: Freshness, pool: Database, database: DatabaseSettings
) -> None:
    reference = Reference(pool)
    found = 0
    async with open_market(database, seed, hotels=HOTELS) as market:
        for _ in range(ROUNDS):
            await market.happen(120)
            await market.describe_anew()
            for _ in range(SEARCHES):
                query = market.search()
                hits, expected = await on_one_day(lambda query=query: in_turn(query, ours, reference))  # type: ignore[misc]
                assert hits == expected, query
                found += len(hits.hits)
    assert found > ROUNDS * SEARCHES / 3, "searches should find something"


@pytest.mark.parametrize("seed", range(3, 5))
async def test_pages_and_cursors_lead_to_every_hit_once(
    seed: int, ours: Freshness, pool: Database, database: DatabaseSettings
) -> None:
    async with open_market(database, seed, hotels=HOTELS) as market:
        await market.happen(500)
        for _ in range(SEARCHES):
            query = market.search()

            async def in_all_ways(query: HotelSearch = query) -> list[Sequence[object]]:
                ways = [by_pages, by_cursors]
                whole = (await ours.find(query.model_copy(update={"limit": 100}), None)).hits
                return [whole, *[await way(finder, query) for finder in (ours, Reference(pool)) for way in ways]]

            whole, *others = await on_one_day(in_all_ways)
            assert others == [whole] * 4, query


async def in_turn(query: HotelSearch, *finders: Freshness | Reference) -> list[Found]:
    return [await finder.find(query, None) for finder in finders]


async def on_one_day(ask: Callable[[], Awaitable[T]]) -> T:
    """Search, and again if a day began in some time zone meanwhile: some searches were before it and some after."""
    while True:
        days = [today_at(zone) for zone in ZONES]
        found = await ask()
        if days == [today_at(zone) for zone in ZONES]:
            return found


async def by_pages(finder: Freshness | Reference, query: HotelSearch) -> list[object]:
    hits: list[object] = []
    found, page = Found([], more=True), 0
    while found.more:
        page += 1
        found = await finder.find(query.model_copy(update={"page": page}), None)
        hits += found.hits
    return hits


async def by_cursors(finder: Freshness | Reference, query: HotelSearch) -> list[object]:
    query = query.model_copy(update={"cursor": "any"})
    found = await finder.find(query.model_copy(update={"cursor": None}), None)
    hits: list[object] = list(found.hits)
    while found.more:
        found = await finder.find(query, SortPosition(found.hits[-1].key, found.hits[-1].hotel.id))
        hits += found.hits
    return hits
