"""The horizon on a real database and broker: every room is on sale for a year from today, day after day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from storage import pauses
from storage.horizon import _SHORT_ROOMS, HORIZON_NIGHTS, time_zones
from storage.settings import DatabaseSettings
from tests.support.hotels import HotelsInTables
from tests.support.log import Log, open_processor, process_all
from tests.support.waiting import wait_until
from tests.workers.expiry.timers import Connection, timer
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import decode_envelope, decode_value
from topics.messages.commands import OpenInventory
from topics.zones import day_at
from workers.expiry import holds, horizon
from workers.reservations import handler

WHERE_DAYS_BEGIN, WHERE_DAYS_END = "Pacific/Kiritimati", "Pacific/Pago_Pago"
YEAR = timedelta(days=HORIZON_NIGHTS)
#: No day begins while tests run.
NOON = datetime.now(UTC).replace(hour=12, minute=0)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for the next look only for a moment; on no machine is it late enough to ask a second time."""
    monkeypatch.setattr(horizon, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(horizon, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(horizon, "FIRST_HORIZON_PAUSE_SECONDS", 600.0)
    monkeypatch.setattr(horizon, "MAX_HORIZON_PAUSE_SECONDS", 600.0)


@pytest.fixture(autouse=True)
def _it_is_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_noon(connection: Connection) -> tuple[datetime, Sequence[str]]:
        _, zones = await time_zones(connection)
        return NOON, zones

    monkeypatch.setattr(horizon, "time_zones", at_noon)


def today(time_zone: str = "UTC") -> date:
    return day_at(time_zone, NOON)


async def hotel(connection: Connection, time_zone: str = "UTC", currency: str = "EUR", *, deleted: bool = False) -> int:
    """Insert a hotel that guests do not see yet; its nights are opened all the same."""
    return await HotelsInTables(connection).hotel(
        time_zone=time_zone, currency=currency, active=False, deleted_at=NOON if deleted else None
    )


async def room(
    connection: Connection,
    hotel_id: int,
    *,
    open_until: date | None = None,
    opening: bool = False,
    deleted: bool = False,
) -> int:
    """Insert a room; with `open_until` its nights from a week ago on are open, up to but without that one."""
    hotels = HotelsInTables(connection)
    room_id = await hotels.room(hotel_id, total_count=7, opening=opening, deleted_at=NOON if deleted else None)
    if open_until is not None:
        await hotels.nights(hotel_id, room_id, today() - timedelta(days=7), open_until, total_count=1, price_minor=1)
    return room_id


async def asked(log: Log) -> list[tuple[str, OpenInventory]]:
    """Return every OpenInventory on the log, with its id."""
    found = []
    for records in (await log.read(BOOKING_COMMANDS)).values():
        for record in records:
            envelope = decode_envelope(record.headers)
            command = decode_value(envelope.type, record.value)
            assert isinstance(command, OpenInventory)
            found.append((envelope.id, command))
    return found


async def rooms_asked_for(log: Log) -> list[int]:
    return sorted(command.room_id for _, command in await asked(log))


async def test_each_room_is_put_on_sale_from_its_last_night_on_for_a_year_from_its_hotels_today(
    log: Log, database: DatabaseSettings, connection: Connection
) -> None:
    early, late = await hotel(connection, WHERE_DAYS_BEGIN), await hotel(connection, WHERE_DAYS_END, "JPY")
    new = await room(connection, early)
    yesterdays = await room(connection, late, open_until=today(WHERE_DAYS_END) + YEAR - timedelta(days=1))
    forgotten = await room(connection, late, open_until=today() - timedelta(days=3))

    async with timer(log, database):
        await wait_until(lambda: _asked_times(log, 3))

    about = {"total_count": 7, "price_minor": 12000}
    ends = today(WHERE_DAYS_END) + YEAR
    by_room = {command.room_id: command for _, command in await asked(log)}
    assert by_room == {
        new: OpenInventory(
            room_id=new,
            hotel_id=early,
            first_night=today(WHERE_DAYS_BEGIN),
            end_night=today(WHERE_DAYS_BEGIN) + YEAR,
            currency="EUR",
            **about,
        ),
        yesterdays: OpenInventory(
            room_id=yesterdays,
            hotel_id=late,
            first_night=ends - timedelta(days=1),
            end_night=ends,
            currency="JPY",
            **about,
        ),
        forgotten: OpenInventory(
            room_id=forgotten,
            hotel_id=late,
            first_night=today(WHERE_DAYS_END),
            end_night=ends,
            currency="JPY",
            **about,
        ),
    }


async def _asked_times(log: Log, times: int) -> bool:
    return len(await asked(log)) >= times


async def test_rooms_that_have_all_nights_or_are_not_there_to_be_sold_are_left_alone(
    log: Log, database: DatabaseSettings, connection: Connection
) -> None:
    inn = await hotel(connection)
    await room(connection, inn, open_until=today() + YEAR)
    await room(connection, inn, open_until=today() + YEAR + timedelta(days=9))
    await room(connection, inn, opening=True)
    await room(connection, inn, deleted=True)
    await room(connection, await hotel(connection, deleted=True))
    short = await room(connection, inn)

    async with timer(log, database):
        await wait_until(lambda: asked(log))

    assert await rooms_asked_for(log) == [short]


async def test_nights_asked_for_are_opened_and_not_asked_for_again_until_another_night_lacks(
    log: Log, database: DatabaseSettings, connection: Connection
) -> None:
    short = await room(connection, await hotel(connection))
    role = handler.build(log.settings, database)
    async with open_processor(role, log, database) as processor, timer(log, database):
        await wait_until(lambda: asked(log))
        await process_all(processor, role, log)

        found = await connection.execute("select count(*), min(date), max(date), min(total_count) from inventory")
        assert await found.fetchone() == (HORIZON_NIGHTS, today(), today() + YEAR - timedelta(days=1), 7)
        assert await rooms_asked_for(log) == [short]

        # As it will be tomorrow: one night lacks.
        await connection.execute("delete from inventory where date = (select max(date) from inventory)")
        await wait_until(lambda: _asked_times(log, 2))

    (_, command) = (await asked(log))[-1]
    assert (command.first_night, command.end_night) == (today() + YEAR - timedelta(days=1), today() + YEAR)


async def test_nights_are_asked_for_again_while_they_are_not_open_by_the_same_command(
    log: Log, database: DatabaseSettings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horizon, "FIRST_HORIZON_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(horizon, "MAX_HORIZON_PAUSE_SECONDS", 0.4)
    await room(connection, await hotel(connection))

    async with timer(log, database):
        await wait_until(lambda: _asked_times(log, 3))

    assert len({id for id, _ in await asked(log)}) == 1


async def test_guests_do_not_wait_behind_a_year_of_every_room_at_once(
    log: Log, database: DatabaseSettings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horizon, "MAX_NIGHTS_AWAITED", 2 * HORIZON_NIGHTS)
    inn = await hotel(connection)
    rooms = [await room(connection, inn) for _ in range(5)]
    role = handler.build(log.settings, database)
    async with open_processor(role, log, database) as processor, timer(log, database):
        await wait_until(lambda: _asked_times(log, 2))
        assert await rooms_asked_for(log) == rooms[:2]

        await process_all(processor, role, log)
        await wait_until(lambda: _asked_times(log, 4))
        await process_all(processor, role, log)
        await wait_until(lambda: _asked_times(log, 5))

    assert await rooms_asked_for(log) == rooms


async def test_a_time_zone_that_nobody_knows_keeps_no_nights_closed(
    log: Log, database: DatabaseSettings, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    odd = await room(connection, await hotel(connection, "Mars/Olympus"))
    plain = await room(connection, await hotel(connection))

    async with timer(log, database):
        await wait_until(lambda: _asked_times(log, 2))

    assert await rooms_asked_for(log) == [odd, plain]
    assert "no such time zone: 'Mars/Olympus'" in caplog.text


async def test_short_rooms_are_found_by_the_ends_of_their_nights(connection: Connection) -> None:
    inn = await hotel(connection)
    for _ in range(30):
        await room(connection, inn, open_until=today() + YEAR)
    await connection.execute("analyze")
    await connection.execute("set enable_seqscan = off")

    found = await connection.execute(
        f"explain (analyze, format text, timing off) {_SHORT_ROOMS}",
        {"time_zones": ["UTC"], "todays": [today()], "after": 0, "nights": HORIZON_NIGHTS, "limit": 1000},
    )
    plan = "\n".join(row[0] for row in await found.fetchall())

    assert "Index Only Scan Backward using inventory_pkey" in plan, plan
    assert "Seq Scan on inventory" not in plan, plan


async def test_a_pause_does_not_wait_until_all_rooms_were_gone_through(log: Log, connection: Connection) -> None:
    await room(connection, await hotel(connection))
    await pauses.begin(connection, holds.ROLE, who="anna", reason=None)
    keeper = horizon.Horizon(connection, log.producer, log.settings.topic(BOOKING_COMMANDS), role=holds.ROLE)

    await keeper.keep()
    assert await asked(log) == []

    await pauses.end(connection, holds.ROLE, who="anna")
    keeper._next_at = 0.0
    await keeper.keep()
    assert len(await asked(log)) == 1
