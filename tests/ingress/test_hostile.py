"""Requests that no well-meaning client sends, and moments that no careful manager chooses."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import make_mocked_request

from ingress.answers import Answer
from ingress.money import CURRENCIES
from storage.settings import DatabaseSettings
from tests.ingress.house import House
from tests.ingress.managers import HOTEL, Manager

INFO = ("/v1/hotels/{}/info", "/hotels/{}/info")


@pytest.fixture
async def tables(database: DatabaseSettings) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def manager(house: House) -> Manager:
    return Manager(house)


async def sent(house: House, head: str) -> str:
    """Send the head of a request as it is; return all that is answered before the server hangs up."""
    url = house.session._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"{head}\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer.decode()


async def test_an_id_is_written_with_plain_digits(house: House) -> None:
    for path in INFO:
        assert (await house.get(path.format("1"))).status == 200
        # The same number in other scripts: a second name for the same thing.
        for one in ("\u0661", "\uff11", "\u0967"):
            assert (await house.get(path.format(one))).status == 404, (path, one)


async def test_who_expects_what_we_do_not_know_is_told_so_in_our_form(house: House) -> None:
    for path in ("/v1/auth/login", "/v1/nothing"):
        answer = await sent(house, f"POST {path} HTTP/1.1\r\nExpect: tea\r\nContent-Length: 0")
        assert answer.startswith("HTTP/1.1 417 ")
        assert '{"detail":"' in answer
        assert "aiohttp" not in answer


async def test_a_day_is_written_one_way_alone(manager: Manager) -> None:
    hotel_id = await manager.hotel()
    report = f"/hotels/{hotel_id}/reports?start_date={{0}}&end_date={{0}}"

    assert (await manager.ask("GET", report.format("2026-12-01"))).status == 200
    # A count of seconds, a moment, and digits of another script.
    for day in ("1796083200", "2026-12-01T00:00:00", "2026-12-01T00:00:00Z", "20261201", "\uff12026-12-01"):
        answer = await manager.ask("GET", report.format(day))
        assert answer.status == 422, (day, answer.body)
        assert [each["field"] for each in answer.body["errors"]] == ["start_date", "end_date"]


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        *[("gzip", True), ("br, GZIP;q=0.5", True), ("x-gzip", True), ("gzip;q=0", False), ("identity", False)],
        *[("gzip; q=0.0, identity", False), ("gzip;q=0, *", False), ("", False), ("gzipped", False)],
    ],
)
async def test_an_answer_is_packed_only_for_those_who_take_it(accepted: str, *, packed: bool) -> None:
    large = Answer(200, b" " * 5000, None)
    large._compress(make_mocked_request("GET", "/", headers={"Accept-Encoding": accepted}))
    assert ("Content-Encoding" in large.headers) is packed


async def test_prices_are_in_no_currency_that_stripe_counts_otherwise(manager: Manager) -> None:
    # Their smallest unit is not Stripe's: 500 would be charged as 5.00, or 5.00 as 500.
    for code in ("ISK", "UGX", "MGA"):
        assert (await manager.ask("POST", "/hotels", HOTEL | {"currency": code})).status == 422
        assert code not in CURRENCIES


async def test_guests_see_no_room_that_is_gone_or_not_there_yet_and_no_hotel_that_is_gone(
    house: House, tables: psycopg.AsyncConnection[Any]
) -> None:
    await tables.execute(
        b"insert into room (hotel_id, type, base_price_minor, total_count, capacity, opening, deleted_at) values"
        b" (1, 'not yet', 1, 1, 1, true, null), (1, 'gone', 1, 1, 1, false, now())"
    )
    shown = await house.get("/v1/hotels/1/info")
    assert [room["type"] for room in shown.body["rooms"]] == ["double"]

    await tables.execute(b"update hotel set deleted_at = now() where id = 1")
    assert (await house.get("/v1/hotels/1/info")).status == 404
