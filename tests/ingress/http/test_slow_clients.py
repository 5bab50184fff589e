"""Clients that are slow, silent, cut off, or speak no HTTP: none holds a connection for ever or fills the log."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web

from ingress.http import connections
from ingress.http.bodies import BODY_SECONDS, read
from ingress.http.connections import Runner
from ingress.http.problems import answer_problems
from ingress.http.responses import Response, json_response
from tests.ingress.clocks import freeze
from tests.ingress.conftest import AMPLE_SECONDS, run_ingress_alone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

SHORT_SECONDS = 0.5
ENDED = web.AppKey("ENDED", asyncio.Event)
HEAD = b"POST /length HTTP/1.1\r\nHost: inn\r\n"


@dataclass
class Server:
    """A small server on connections of our kind."""

    port: int
    runner: Runner

    def connections(self) -> int:
        """Return how many clients are connected."""
        assert self.runner.server is not None
        return len(self.runner.server.connections)

    def has_begun(self) -> bool:
        """Whether it has the head of a request."""
        assert self.runner.server is not None
        return self.runner.server.requests_count > 0

    async def exchange(self, *sent: bytes, then_every_tenth: bytes = b"") -> bytes:
        """Send something, then maybe a byte or so every tenth of a second; return all bytes until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in sent:
            writer.write(part)
            await writer.drain()
        dripping = _Dripping(writer, then_every_tenth)
        received = b""
        try:
            async with asyncio.timeout(AMPLE_SECONDS):
                while part := await reader.read(10_000):
                    received += part
        except ConnectionResetError:
            """Closed while we were still sending: that is one way to end."""
        finally:
            dripping.end()
            writer.close()
        return received


class _Dripping:
    """Writes the same few bytes every tenth of a second."""

    def __init__(self, writer: asyncio.StreamWriter, drop: bytes) -> None:
        self._writer = writer
        self._drop = drop
        self._next = asyncio.get_running_loop().call_later(0.1, self._write)

    def _write(self) -> None:
        self._writer.write(self._drop)
        self._next = asyncio.get_running_loop().call_later(0.1, self._write)

    def end(self) -> None:
        """Write no more."""
        self._next.cancel()


async def _length(request: web.Request) -> Response:
    return json_response(200, len(await read(request)))


async def _length_after_the_end(request: web.Request) -> Response:
    """Read the body, which came with the head, only when the client has hung up."""
    await wait_until(lambda: request.transport is None or request.transport.is_closing(), message="the client hangs up")
    try:
        return await _length(request)
    finally:
        request.app[ENDED].set()


async def _long(_: web.Request) -> Response:
    return json_response(200, "x" * 1_000_000)


@pytest.fixture(autouse=True)
def _refusals_are_soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGERING_SECONDS", 0.3)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that waits long for its clients."""
    async with serve() as server:
        yield server


@pytest.fixture
async def hasty() -> AsyncIterator[Server]:
    """A server that soon closes connections without requests."""
    async with serve(idle_seconds=SHORT_SECONDS) as server:
        yield server


@asynccontextmanager
async def serve(*, idle_seconds: float = AMPLE_SECONDS, body_seconds: float = AMPLE_SECONDS) -> AsyncIterator[Server]:
    """Serve for as long as the block lasts."""
    app = web.Application(middlewares=[answer_problems], client_max_size=64 * 1024)
    app[BODY_SECONDS] = body_seconds
    app[ENDED] = asyncio.Event()
    late = web.post("/late", _length_after_the_end)
    app.add_routes([web.post("/length", _length), late, web.get("/long", _long)])
    runner = Runner(app, drain_seconds=1.0, idle_seconds=idle_seconds)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Server(runner.addresses[0][1], runner)
    finally:
        await runner.cleanup()


def parse(answered: bytes) -> tuple[int, str]:
    """Return the status and the detail of a response that closes its connection."""
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head, answered
    return int(head.split()[1]), json.loads(body)["detail"]


async def test_a_body_that_comes_a_byte_at_a_time_is_not_waited_for() -> None:
    async with serve(body_seconds=SHORT_SECONDS) as server:
        answered = await server.exchange(HEAD + b"Content-Length: 60000\r\n\r\n", then_every_tenth=b"x")
    assert parse(answered) == (408, "the body did not arrive within 0.5 s")


async def test_a_client_that_hangs_up_before_its_body_is_read_is_no_fault_of_ours(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /late HTTP/1.1\r\nHost: inn\r\nContent-Length: 2\r\n\r\n{}")
    await wait_until(server.has_begun, message="the request has come")
    writer.transport.abort()
    await server.runner.app[ENDED].wait()

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_ingress_itself_waits_no_longer_for_a_body() -> None:
    async with run_ingress_alone(body_seconds=0.3) as house:

        async def slow() -> AsyncIterator[bytes]:
            yield b'{"email": '
            await asyncio.Event().wait()

        answered = await house.ask("POST", "/v1/auth/login", data=slow(), headers={"Content-Type": "application/json"})
        assert (answered.status, answered.body) == (408, {"detail": "the body did not arrive within 0.3 s"})


async def test_a_head_that_comes_a_byte_at_a_time_ends_with_its_connection(hasty: Server) -> None:
    assert await hasty.exchange(HEAD + b"X-Slow: ", then_every_tenth=b"x") == b""


async def test_a_client_that_sends_nothing_is_not_kept(hasty: Server) -> None:
    assert await hasty.exchange() == b""


async def test_a_client_that_was_answered_may_ask_again_but_not_for_ever(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for body in (b"ab", b"a"):
        writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(1) == str(len(body)).encode()
    writer.write(HEAD)
    freeze(AMPLE_SECONDS)
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_reads_no_response_is_let_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", SHORT_SECONDS)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /long HTTP/1.1\r\nHost: inn\r\n\r\n" * 20)
    await wait_until(server.has_begun, message="it never connected")
    await wait_until(lambda: server.connections() == 0, message="it still is connected")
    writer.close()


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b"hello\r\n\r\n", "this is not HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "this is not HTTP"),
        (b"GET / HTTP/1.1\r\nHost: inn\r\nno colon\r\n\r\n", "this is not HTTP"),
        (HEAD + b"Content-Length: many\r\n\r\n", "this is not HTTP"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "this is not HTTP"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "this is not HTTP"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: inn\r\n\r\n", "a line of the head is too long"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", "a line of the head is too long"),
    ],
)
async def test_bytes_that_are_not_http_are_answered_like_other_mistakes_and_not_worth_a_log_line(
    server: Server, caplog: pytest.LogCaptureFixture, sent: bytes, detail: str
) -> None:
    assert parse(await server.exchange(sent)) == (400, detail)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_a_client_that_goes_away_in_the_middle_of_its_body_is_no_fault_of_ours(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\nabc")
    await wait_until(server.has_begun, message="it never connected")
    writer.close()
    await wait_until(lambda: server.connections() == 0)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_a_body_without_end_is_refused_at_64_kb_and_its_connection_closed(server: Server) -> None:
    answered = await server.exchange(
        HEAD + b"Content-Length: 99999999\r\n\r\n", b"x" * 70_000, then_every_tenth=b"x" * 100
    )
    assert parse(answered) == (413, "the body is larger than 64 KB")


async def test_a_packed_body_is_taken_as_it_comes(server: Server) -> None:
    packed = b"\x1f\x8b not really"
    head = HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n" + f"Content-Length: {len(packed)}\r\n\r\n".encode()
    assert (await server.exchange(head + packed)).endswith(b"\r\n\r\n13")
