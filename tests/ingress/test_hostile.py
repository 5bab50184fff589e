"""Requests that no well-meaning client sends, and moments that no careful manager chooses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import psycopg
import pytest
from aiohttp.test_utils import make_mocked_request

from ingress.admin.nights import Nights
from ingress.http.responses import Response
from storage.settings import DatabaseSettings
from tests.ingress.house import TODAY, House
from tests.ingress.managers import ROOM, Manager, Worker, open_worker
from topics.kafka.settings import KafkaSettings

Moment: TypeAlias = Callable[[], Awaitable[None]] | None
INFO = ("/v1/hotels/{}/info", "/hotels/{}/info")


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    async with open_worker(kafka_settings, database) as worker:
        yield worker


@pytest.fixture
async def tables(database: DatabaseSettings) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def manager(house: House) -> Manager:
    return Manager(house)


async def send_head(house: House, head: str) -> str:
    """Send the head of a request as it is; return all that is answered before the server hangs up."""
    url = house.session._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"{head}\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    received = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return received.decode()


async def test_an_id_is_written_with_plain_digits(house: House) -> None:
    for path in INFO:
        assert (await house.get(path.format("1"))).status == 200
        # The same number in other scripts: a second name for the same thing.
        for one in ("\u0661", "\uff11", "\u0967"):
            assert (await house.get(path.format(one))).status == 404, (path, one)


async def test_an_unknown_expectation_is_refused_in_our_form(house: House) -> None:
    for path in ("/v1/auth/login", "/v1/nothing"):
        response = await send_head(house, f"POST {path} HTTP/1.1\r\nExpect: tea\r\nContent-Length: 0")
        assert response.startswith("HTTP/1.1 417 ")
        assert '{"detail":"' in response
        assert "aiohttp" not in response


async def test_a_day_is_written_one_way_alone(manager: Manager) -> None:
    hotel_id = await manager.hotel()
    report = f"/hotels/{hotel_id}/reports?start_date={{0}}&end_date={{0}}"

    assert (await manager.ask("GET", report.format("2026-12-01"))).status == 200
    # A count of seconds, a moment, and digits of another script.
    for day in ("1796083200", "2026-12-01T00:00:00", "2026-12-01T00:00:00Z", "20261201", "\uff12026-12-01"):
        response = await manager.ask("GET", report.format(day))
        assert response.status == 422, (day, response.body)
        assert [each["field"] for each in response.body["errors"]] == ["start_date", "end_date"]


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        *[("gzip", True), ("br, GZIP;q=0.5", True), ("x-gzip", True), ("gzip;q=0", False), ("identity", False)],
        *[("gzip; q=0.0, identity", False), ("gzip;q=0, *", False), ("", False), ("gzipped", False)],
    ],
)
async def test_an_answer_is_packed_only_for_those_who_take_it(accepted: str, *, packed: bool) -> None:
    large = Response(200, b" " * 5000, None)
    large._compress(make_mocked_request("GET", "/", headers={"Accept-Encoding": accepted}))
    assert ("Content-Encoding" in large.headers) is packed


async def test_guests_see_no_room_that_is_gone_or_not_there_yet_and_no_hotel_that_is_gone(
    house: House, tables: psycopg.AsyncConnection[Any]
) -> None:
    await tables.execute(
        b"insert into room (hotel_id, type, base_price_minor, total_count, capacity, opening, deleted_at) values"
        b" (1, 'not yet', 1, 1, 1, true, null), (1, 'gone', 1, 1, 1, false, now())"
    )
    hotel = await house.get("/v1/hotels/1/info")
    assert [room["type"] for room in hotel.body["rooms"]] == ["double"]

    await tables.execute(b"update hotel set deleted_at = now() where id = 1")
    assert (await house.get("/v1/hotels/1/info")).status == 404


# Moments that no careful manager chooses.


async def open_nights(worker: Worker, room_id: int) -> int:
    """Return how many nights of a room could be sold."""
    ((count,),) = await worker.rows("select count(*) from inventory where room_id = %s and not closed", room_id)
    return int(count)


def just(monkeypatch: pytest.MonkeyPatch, name: str, *, before: Moment = None, after: Moment = None) -> None:
    """Run something once, just before or after a command about nights is decided."""
    ask = getattr(Nights, name)
    moments = {"before": before, "after": after}

    async def ask_at_the_moment(*arguments: Any, **named: Any) -> Any:
        if (moment := moments.pop("before", None)) is not None:
            await moment()
        result = await ask(*arguments, **named)
        if (moment := moments.pop("after", None)) is not None:
            await moment()
        return result

    monkeypatch.setattr(Nights, name, ask_at_the_moment)


@pytest.mark.parametrize("kind", ["hotel", "room"])
async def test_nights_put_back_on_sale_while_they_are_deleted_are_taken_off_again(
    manager: Manager, worker: Worker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hotel_id = await manager.hotel()
    room_id = await manager.room(hotel_id)
    path = f"/hotels/{hotel_id}" if kind == "hotel" else f"/hotels/{hotel_id}/rooms/{room_id}"
    statuses = []

    async def put_back() -> None:
        days = f"start_date={TODAY + timedelta(days=5)}&end_date={TODAY + timedelta(days=9)}"
        nights = await manager.ask("PATCH", f"/inventory/rooms/{room_id}?{days}", {"closed": False, "total_count": 3})
        activated = await manager.ask("PATCH", f"/hotels/{hotel_id}/activate")
        statuses.extend([nights.status, activated.status])

    just(monkeypatch, "take_off_sale", after=put_back)
    deleted = await manager.ask("DELETE", path)

    assert (statuses, deleted.status) == ([200, 204], 204)
    assert await open_nights(worker, room_id) == 0
    ((is_active,),) = await worker.rows("select active from hotel where id = %s", hotel_id)
    assert is_active is (kind == "room")


async def test_a_change_that_comes_too_late_puts_nothing_of_a_deleted_room_on_sale(
    manager: Manager, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hotel_id = await manager.hotel()
    room_id = await manager.room(hotel_id)
    statuses = []

    async def delete() -> None:
        statuses.append((await manager.ask("DELETE", f"/hotels/{hotel_id}/rooms/{room_id}")).status)

    just(monkeypatch, "change", before=delete)
    days = f"start_date={TODAY + timedelta(days=5)}"
    changed = await manager.ask("PATCH", f"/inventory/rooms/{room_id}?{days}", {"closed": False, "total_count": 3})

    assert (statuses, changed.status) == ([204], 404)
    assert await open_nights(worker, room_id) == 0


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_room_that_is_added_while_its_hotel_is_deleted_is_not_on_sale(
    manager: Manager, worker: Worker, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    hotel_id = await manager.hotel()
    await manager.room(hotel_id)
    statuses = []

    async def delete() -> None:
        statuses.append((await manager.ask("DELETE", f"/hotels/{hotel_id}")).status)

    just(monkeypatch, "open_all", **{moment: delete})
    added = await manager.ask("POST", f"/hotels/{hotel_id}/rooms", ROOM | {"type": "single"})

    assert (statuses, added.status) == ([204], 404)
    for (room_id,) in await worker.rows("select id from room where hotel_id = %s", hotel_id):
        assert await open_nights(worker, room_id) == 0
