"""An operator makes a read model anew while guests go on booking: the same rows as before, and nothing left behind."""

from collections.abc import AsyncIterator

import pytest

from storage.rebuilding import PROJECTIONS, Rebuilt, rebuild
from storage.settings import DatabaseSettings
from tests.projections.hotel import BusyHotel, open_busy_hotel
from topics.settings import KafkaSettings


@pytest.fixture
async def hotel(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[BusyHotel]:
    async with open_busy_hotel(kafka_settings, database) as hotel:
        yield hotel


async def rebuilt(hotel: BusyHotel, name: str, *, swap: bool = True) -> Rebuilt:
    return await rebuild(hotel.kafka, hotel.database, name, who="an operator", swap=swap)


async def oids(hotel: BusyHotel) -> dict[str, int]:
    tables = [table.name for each in PROJECTIONS.values() for table in each.tables]
    return dict(await hotel.rows(f"select relname, oid from pg_class where relname = any('{{{', '.join(tables)}}}')"))


async def test_a_rebuild_gives_the_same_rows_while_guests_go_on_booking(hotel: BusyHotel) -> None:
    await hotel.book(300)
    await hotel.kept()
    before = await oids(hotel)

    async with hotel.keeps_booking():
        done = [await rebuilt(hotel, name) for name in PROJECTIONS]
    await hotel.kept()

    assert [each.different for each in done] == [0, 0, 0]
    assert not set(before.values()) & set((await oids(hotel)).values())
    # The workers have gone on with the new tables; a rebuild at rest has nothing to add to them.
    rows = await hotel.read_models()
    assert all(rows.values())
    for name in PROJECTIONS:
        assert (await rebuilt(hotel, name)).different == 0
    assert await hotel.read_models() == rows
    assert await hotel.left_behind() == []
