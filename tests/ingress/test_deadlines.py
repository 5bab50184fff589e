"""The ingress while PostgreSQL is silent: no answer comes, and no connection breaks.

The proxy in between takes every byte and passes none on. All limits but the one at hand are ample (conftest).
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil
import psycopg
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from sqlalchemy import text

from ingress import database as databases
from ingress.application import DATABASE
from ingress.database import Database
from ingress.hotels.search import freshness
from ingress.http.deadlines import Deadlines
from ingress.http.problems import answer_problems_within
from ingress.operators import handlers as operators
from ingress.settings import IngressSettings
from sandbox.postgres import Postgres
from storage.database import Connection
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.ingress.conftest import LIMITS, ingress_settings, run_ingress
from tests.ingress.house import STAY, TODAY, WAIT, House, StandInWorker, open_hotel
from tests.ingress.webhooks.test_webhooks import BODY, sign
from tests.support.client import Answer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings
from topics.messages.events import CodeUnchanged, Event, InventoryChanged, InventoryUnchanged, NightRange
from topics.messages.values import InventoryRefusal

#: Far below every other limit, and above the time that a request takes on a machine that is slow for a moment.
SHORT_SECONDS = 2.0
#: A client gives up after this.
CLIENT_SECONDS = 15.0
#: The limits as they are outside of these tests, which make them ample.
DEFAULTS = {(module, name): getattr(module, name) for module, name in LIMITS}
SEARCH = {"city": "Bern", "guests": "1"} | {name: STAY[name] for name in ("check_in_date", "check_out_date")}
NIGHTS = NightRange(first_night=TODAY + timedelta(days=10), end_night=TODAY + timedelta(days=11))
NO_BOOKING = "/v1/bookings/00000000-0000-8000-8000-000000000000"


@asynccontextmanager
async def proxy_to(database: DatabaseSettings) -> AsyncIterator[tuple[TcpProxy, DatabaseSettings]]:
    """Put a proxy in front of the database; the settings lead to it."""
    address = urlsplit(database.conninfo())
    assert address.hostname is not None
    assert address.port is not None
    async with TcpProxy(address.hostname, address.port) as proxy:
        through = address._replace(netloc=address.netloc.replace(f":{address.port}", f":{proxy.port}")).geturl()
        yield proxy, database.model_copy(update={"database_url": SecretStr(through)})


@asynccontextmanager
async def run_behind_proxy(
    kafka: KafkaSettings, database: DatabaseSettings, **changes: Any
) -> AsyncIterator[tuple[House, TcpProxy]]:
    await open_hotel(database)
    async with proxy_to(database) as (proxy, through):
        settings = ingress_settings(**{"request_seconds": SHORT_SECONDS, "max_unpaid_bookings": 0, **changes})
        async with run_ingress(settings, kafka, through) as house:
            yield house, proxy
            # The pool closes its connections at the end.
            proxy.speak()


@pytest.fixture
def _probes_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "_PROBE_SECONDS", 0.5)


@pytest.mark.usefixtures("_probes_are_short")
async def test_every_request_that_needs_a_silent_database_is_answered_and_all_work_again_afterwards(
    kafka_settings: KafkaSettings, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A search in the moment after another one needs no database.
    monkeypatch.setattr(freshness, "FRESH_SECONDS", 0.0)
    async with run_behind_proxy(kafka_settings, database) as (house, proxy):

        def ask() -> dict[str, Any]:
            keyed = {"Idempotency-Key": "abc"}
            return {
                "the shared read of rooms": house.post("/v1/bookings/init", STAY, user=1),
                "the same read": house.post("/v1/bookings/init", STAY, user=2),
                "a write": house.post("/v1/bookings/init", STAY, user=1, headers=keyed),
                "a read": house.get(f"{NO_BOOKING}/status", user=1),
                "a search": house.get(f"/v1/hotels/search?{urlencode(SEARCH)}"),
                "a login": house.post("/v1/auth/login", {"email": "nobody@example.com", "password": "password"}),
                "a list": house.get("/v1/users/myBookings", user=1),
                "a manager's list": house.ask("GET", "/v1/admin/hotels", headers=house.manager_header(1)),
            }

        await wait_until(lambda: _are_served(ask()))
        # When no packet arrives any more, on the connections that exist and on new ones
        proxy.silence()
        requests = ask()
        answers = dict(zip(requests, await asyncio.gather(*requests.values()), strict=True))
        alive, ready = await house.get("/health/live"), await house.get("/health/ready")
        webhook = await house.ask("POST", "/webhooks/stripe", data=BODY, headers={"Stripe-Signature": sign()})

        # Then each is answered while the network is silent, and what needs no database works
        assert proxy.is_silent
        assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(answers, 503)
        assert all(answer.headers["Retry-After"] == "1" for answer in answers.values())
        assert answers["a read"].body["detail"] == "the database is away; nothing was done, try again"
        assert alive.status == 200
        assert (ready.status, ready.body["parts"]["database"]) == (503, "away")
        assert webhook.status == 200

        proxy.speak()
        await wait_until(lambda: _are_served(ask()))
        await wait_until(house.is_ready)
        await wait_until(lambda: house.app[DATABASE].used[0] == 0)


async def _are_served(requests: dict[str, Any]) -> bool:
    answers: list[Answer] = await asyncio.gather(*requests.values())
    return all(answer.status < 500 for answer in answers)


async def test_connections_of_before_leave_the_pool_when_the_name_moves(
    kafka_settings: KafkaSettings, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_PING_SECONDS", 0.5)
    async with run_behind_proxy(
        kafka_settings, database, request_seconds=ingress_settings().request_seconds, database_pool_size=3
    ) as (house, proxy):
        # Given a pool of several connections to the old address
        requests = [house.get(f"{NO_BOOKING}/status", user=1) for _ in range(20)]
        assert {answer.status for answer in await asyncio.gather(*requests)} == {404}
        accepted = proxy.accepted
        # When the old address is silent for good, and new connections reach the new one
        proxy.freeze_existing()
        # Then a request finds that out, and is served
        assert (await house.get(f"{NO_BOOKING}/status", user=1)).status == 404
        assert proxy.accepted == accepted + 1
        assert {(await house.get(f"{NO_BOOKING}/status", user=1)).status for _ in range(5)} == {404}


async def test_an_accepted_request_stays_accepted_when_the_database_falls_silent(
    kafka_settings: KafkaSettings, database: DatabaseSettings, stand_in: StandInWorker
) -> None:
    async with run_behind_proxy(kafka_settings, database) as (house, proxy):
        asking = asyncio.create_task(house.post("/v1/bookings/init", STAY, user=1, headers={"Prefer": "wait=1"}))
        command = await stand_in.next_command()
        proxy.silence()
        answer = await asking
        assert proxy.is_silent
        assert (answer.status, answer.body["booking_status"]) == (202, "PENDING")
        assert answer.body["id"] == command.envelope.subject
        assert answer.headers["Location"] == f"/v1/bookings/{command.envelope.subject}/status"


async def test_no_command_is_sent_for_a_guest_who_has_hung_up(
    kafka_settings: KafkaSettings, database: DatabaseSettings, stand_in: StandInWorker
) -> None:
    ample = ingress_settings().request_seconds
    async with run_behind_proxy(kafka_settings, database, request_seconds=ample) as (house, proxy):
        assert (await house.post("/v1/bookings/init", STAY, user=1)).status == 202
        await stand_in.next_command()
        # Given a request that waits for a silent database, whose guest hangs up
        proxy.silence()
        before = proxy.to_server.passed_bytes
        await _hang_up(house, key="left", proxy=proxy)
        assert proxy.to_server.passed_bytes == before
        # When the database answers again
        proxy.speak()
        async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
            await wait_until(lambda: _claims(connection, "left"), message="the request never went on")
        # Then the next command is another guest's
        later = await house.post("/v1/bookings/init", STAY, user=2)
        assert (await stand_in.next_command()).envelope.subject == later.body["id"]
        # And the same key begins where the guest left
        again = await house.post("/v1/bookings/init", STAY, user=1, headers={"Idempotency-Key": "left"})
        assert (await stand_in.next_command()).envelope.subject == again.body["id"]


async def test_a_command_that_was_sent_stays_when_its_guest_hangs_up(
    house: House, stand_in: StandInWorker, database: DatabaseSettings
) -> None:
    reader, writer = await _send(house, key="sent", more="Prefer: wait=30\r\n")
    command = await stand_in.next_command()
    await _close(reader, writer)
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        assert await _claims(connection, "sent")
    again = await house.post("/v1/bookings/init", STAY, user=1, headers={"Idempotency-Key": "sent"})
    assert (again.status, again.body["id"]) == (202, command.envelope.subject)


async def _claims(connection: psycopg.AsyncConnection, key: str) -> bool:
    found = await connection.execute("select from idempotency_key where key = %s", (key,))
    return await found.fetchone() is not None


async def _hang_up(house: House, *, key: str, proxy: TcpProxy) -> None:
    """Send a booking, and hang up while it waits for the database; return when the ingress has noticed."""
    reader, writer = await _send(house, key=key)
    # The room's facts are old by then: the request's first wait is for the database.
    await wait_until(lambda: house.app[DATABASE].used[0] > 0)
    await _close(reader, writer)


async def _send(house: House, *, key: str, more: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(house.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = re.sub("'", '"', str(STAY))
    token = house.user_header(1)["Authorization"]
    head = f"POST /v1/bookings/init HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nIdempotency-Key: {key}\r\n{more}"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    await writer.drain()
    return reader, writer


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a connection, and return when the ingress, which is in this process, has closed its end."""
    port = writer.get_extra_info("sockname")[1]
    writer.close()
    await writer.wait_closed()
    await wait_until(lambda: not _sockets_to(port))


def _sockets_to(port: int) -> bool:
    return any(bool(each.raddr) and each.raddr.port == port for each in psutil.Process().net_connections("tcp"))


async def test_a_change_whose_commit_is_not_confirmed_may_have_been_made(database: DatabaseSettings) -> None:
    async with proxy_to(database) as (proxy, through):
        pool, deadlines = Database(through, pool_size=1), Deadlines(SHORT_SECONDS)

        async def change(_: web.Request) -> web.StreamResponse:
            async with pool.writing() as connection:
                await connection.execute(text("insert into app_user (email, password_hash) values ('a@b.c', 'x')"))
                proxy.to_client.silence()
            raise AssertionError("the commit was confirmed by a silent server")

        app = web.Application(middlewares=[answer_problems_within(deadlines, pool.reason_of)])
        app.add_routes([web.post("/", change)])
        sweeping = asyncio.create_task(deadlines.run())
        async with TestServer(app) as server, ClientSession() as session, session.post(server.make_url("/")) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert (await answer.json())["detail"].startswith("the database did not answer in time; try again")
        sweeping.cancel()
        assert len(deadlines) == 0
        async with await psycopg.AsyncConnection.connect(database.conninfo()) as connection:
            found = await connection.execute("select from app_user where email = 'a@b.c'")
            assert await found.fetchone() is not None
        await pool.close()


async def test_a_load_that_is_cancelled_while_the_database_is_silent_ends(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[int] = []

    def silence(_: Connection) -> dict[str, object]:
        proxy.to_client.silence()
        before.append(proxy.to_server.passed_bytes)
        return {"transaction_timeout": 0}

    async def load() -> None:
        async with pool.loading():
            raise AssertionError("a silent database has answered")

    async with proxy_to(database) as (proxy, through):
        pool = Database(through, pool_size=1)
        monkeypatch.setattr(Connection, "options_without_end", property(silence))
        loading = asyncio.create_task(load())
        await wait_until(lambda: before and proxy.to_server.passed_bytes > before[0], message="a statement is sent")
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        await pool.close()


async def test_a_request_whose_change_is_confirmed_may_be_done_in_part(database: DatabaseSettings) -> None:
    pool = Database(database, pool_size=1)

    async def change(request: web.Request) -> web.StreamResponse:
        async with pool.writing(is_note="note" in request.query) as connection:
            await connection.execute(text("update app_user set email = email"))
        async with pool.reading() as connection:
            await connection.execute(text("set statement_timeout = 50"))
            await connection.execute(text("select pg_sleep(60)"))
        raise AssertionError("the statement took as long as it does")

    app = web.Application(middlewares=[answer_problems_within(Deadlines(CLIENT_SECONDS), pool.reason_of)])
    app.add_routes([web.post("/", change)])
    async with TestServer(app) as server, ClientSession() as session:
        details = []
        for query in ("", "?note"):
            async with session.post(f"{server.make_url('/')}{query}") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                details.append((await answer.json())["detail"].removeprefix("the database is away; "))
    assert details == ["it may be done in part, send the same request again", "nothing was done, try again"]
    await pool.close()


async def test_a_request_that_is_decided_is_not_called_undone_when_the_database_falls_silent(
    kafka_settings: KafkaSettings, database: DatabaseSettings, stand_in: StandInWorker
) -> None:
    async with run_behind_proxy(kafka_settings, database) as (house, proxy):
        await stand_in.connection.execute("update hotel set owner_id = 2 where id = 1")
        await stand_in.connection.execute("insert into promo_code_name (hotel_id, code) values (1, 'SUMMER')")
        (id_of_code,) = await _row(stand_in.connection, "select id from promo_code_name")
        headers = house.manager_header(2) | WAIT
        keyed = {**headers, "Idempotency-Key": "once"}
        room = f"/v1/admin/inventory/rooms/1?start_date={STAY['check_in_date']}"
        days = {"start_date": STAY["check_in_date"], "end_date": STAY["check_in_date"]}
        at_desk = {name: value for name, value in STAY.items() if name != "hotel_id"} | {"contact": {"name": "Ada"}}
        trip_days = {name: STAY[name] for name in ("hotel_id", "check_in_date", "check_out_date")}
        unchanged = InventoryUnchanged(room_id=1, command="", reason=InventoryRefusal.NIGHT_NOT_FREE)
        used = CodeUnchanged(code_id=id_of_code, command="")
        cases: list[tuple[str, str, dict[str, Any], Event, int]] = [
            ("PATCH", room, {"closed": True}, InventoryChanged(room_id=1, ranges=(NIGHTS,)), 503),
            ("POST", "/v1/admin/hotels/1/rooms/1/blocks", days | {"reason": "other"}, unchanged, 202),
            ("POST", "/v1/admin/hotels/1/bookings", at_desk | {"promo_code": "SUMMER"}, used, 202),
            ("POST", "/v1/bookings/init", STAY | {"promo_code": "SUMMER"}, used, 202),
            ("POST", "/v1/trips", trip_days | {"legs": [{"room_id": 1}], "promo_code": "SUMMER"}, used, 202),
        ]
        # Given requests that wait for their decisions
        asking, commands = [], []
        for method, path, body, *_ in cases:
            asking.append(asyncio.create_task(house.ask(method, path, body, headers=keyed)))
            commands.append(await stand_in.next_command())
        # When they are decided and the database is silent
        proxy.silence()
        for command, (*_, event, _) in zip(commands, cases, strict=True):
            await stand_in.publish(command, event)
        answers = await asyncio.gather(*asking)
        # Then each is answered with what it has done
        assert [answer.status for answer in answers] == [status for *_, status in cases]
        assert answers[0].body["detail"].endswith("; it may be done in part, send the same request again")


async def _row(connection: psycopg.AsyncConnection, query: str) -> Any:
    return await (await connection.execute(query.encode())).fetchone()


@pytest.mark.system
async def test_a_frozen_server_is_noticed_by_the_limits_that_everybody_has(
    tmp_path: Path, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in LIMITS:
        monkeypatch.setattr(module, name, DEFAULTS[module, name])
    async with Postgres(tmp_path / "postgres") as postgres:
        with monkeypatch.context() as patch:
            patch.setenv("DATABASE_URL", postgres.url)
            await asyncio.to_thread(upgrade)
        database = DatabaseSettings(_env_file=None, database_url=SecretStr(postgres.url))
        await open_hotel(database)
        defaults = {name: IngressSettings.model_fields[name].default for name in ("request_seconds", "ack_seconds")}
        async with run_ingress(ingress_settings(**defaults), kafka_settings, database) as house:
            booked = await house.post("/v1/bookings/init", STAY, user=1)
            assert booked.status == 202
            # When the server and all its sessions are frozen under requests, of which some fill the pool
            async with frozen(postgres):
                requests = [
                    *(house.post("/v1/bookings/init", STAY, user=1, key=f"key-{number}") for number in range(15)),
                    *(house.get(f"{NO_BOOKING}/status", user=1) for _ in range(15)),
                ]
                async with asyncio.timeout(CLIENT_SECONDS):
                    answers = await asyncio.gather(*requests)
                    ready, alive = await house.get("/health/ready"), await house.get("/health/live")
            # Then all are answered before any client gives up
            assert {(answer.status, answer.headers.get("Retry-After")) for answer in answers} == {(503, "1")}
            assert (ready.status, alive.status) == (503, 200)
            assert ready.body["detail"] == "not ready: database"
            # And bookings are taken as soon as it runs again
            again = await house.ask_until_answered("POST", "/v1/bookings/init", STAY, headers=house.user_header(1))
            assert again.status == 202
            await wait_until(house.is_ready)


@asynccontextmanager
async def frozen(postgres: Postgres) -> AsyncIterator[None]:
    """Stop a server and all its sessions as SIGSTOP does; nothing is closed."""
    server = psutil.Process(postgres.pid)
    # The postmaster first: it starts no more sessions then.
    server.suspend()
    stopped = [server, *server.children(recursive=True)]
    try:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.mark.usefixtures("_probes_are_short")
async def test_a_full_pool_is_no_database_that_is_away(
    kafka_settings: KafkaSettings, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_hotel(database)
    async with run_ingress(ingress_settings(database_pool_size=1), kafka_settings, database) as house:
        monkeypatch.setattr(house.app[DATABASE]._engine.sync_engine.pool, "_timeout", 0.5)
        busy = asyncio.create_task(_use(house))
        await wait_until(lambda: house.app[DATABASE].used == (1, 1))
        try:
            refused = await house.get(f"{NO_BOOKING}/status", user=1)
            ready = await house.get("/health/ready")
        finally:
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
        assert refused.status == 503
        assert refused.body["detail"] == "all connections to the database are in use; nothing was done, try again"
        assert (ready.status, ready.body["parts"]["database"]) == (503, "busy")


async def _use(house: House) -> None:
    async with house.app[DATABASE].reading() as connection:
        while True:
            await connection.execute(text("select pg_sleep(0.01)"))


async def test_a_database_that_takes_no_changes_is_named(
    kafka_settings: KafkaSettings, database: DatabaseSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await open_hotel(database)
    url = f"{database.conninfo()}?options=-c%20default_transaction_read_only%3Don"
    standby = database.model_copy(update={"database_url": SecretStr(url)})
    async with run_ingress(ingress_settings(), kafka_settings, standby) as house:
        refused = await house.post("/v1/bookings/init", STAY, user=1, headers={"Idempotency-Key": "abc"})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.body["detail"] == "the database takes no changes now; nothing was done, try again"
        assert "the database is read-only: " in caplog.text
        # It can be read, and bookings without a key are taken all the same.
        ready = await house.get("/health/ready")
        assert (ready.status, ready.body["parts"]["database"]) == (200, "read-only")
        assert (await house.post("/v1/bookings/init", STAY, user=1)).status == 202


async def test_a_missing_right_is_named(kafka_settings: KafkaSettings, database: DatabaseSettings) -> None:
    await open_hotel(database)
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        await connection.execute("create role reader_alone")
        await connection.execute("grant usage on schema public to reader_alone")
        await connection.execute("grant select on all tables in schema public to reader_alone")
        try:
            url = f"{database.conninfo()}?options=-c%20role%3Dreader_alone"
            reader = database.model_copy(update={"database_url": SecretStr(url)})
            async with run_ingress(ingress_settings(), kafka_settings, reader) as house:
                refused = await house.post("/v1/bookings/init", STAY, user=1, headers={"Idempotency-Key": "abc"})
                assert refused.status == 503
                assert refused.body["detail"] == "a right is missing in the database; nothing was done, try again"
                assert (await house.get("/health/ready")).body["parts"]["database"] == "no right"
        finally:
            await connection.execute("drop owned by reader_alone")
            await connection.execute("drop role reader_alone")
