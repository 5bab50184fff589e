"""The TCP proxy makes each fault that it names, and passes everything else on unchanged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until


class Echo:
    """A server that sends back what it gets, behind a name of its own; `got` is all of it."""

    def __init__(self, name: bytes = b"") -> None:
        self.name = name
        self.got = b""
        self.ended = 0
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Echo"]:
        server = await asyncio.start_server(self._echo, "127.0.0.1")
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.got += data
                writer.write(self.name + data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.ended += 1
            writer.close()


class Clients:
    """Opens connections to the proxy, and closes them at the end."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._proxy.port)
        self.writers.append(writer)
        return reader, writer


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[tuple[Echo, TcpProxy, Clients]]:
    async with Echo().running() as echo, TcpProxy("127.0.0.1", echo.port) as proxy:
        clients = Clients(proxy)
        yield echo, proxy, clients
        for writer in clients.writers:
            writer.close()
        await asyncio.gather(*[writer.wait_closed() for writer in clients.writers], return_exceptions=True)


async def test_bytes_go_through_unchanged_and_so_does_the_end() -> None:
    async with echo_behind_proxy() as (_, proxy, clients):
        reader, writer = await clients.connect()
        sent = bytes(range(256)) * 4000
        writer.write(sent)
        writer.write_eof()
        assert await reader.read(-1) == sent
        assert proxy.to_server.passed_bytes == proxy.to_client.passed_bytes == len(sent)
        writer.close()
        await wait_until(lambda: proxy.open_connections == 0)


async def test_a_silent_network_closes_nothing_and_delivers_afterwards() -> None:
    async with echo_behind_proxy() as (echo, proxy, clients):
        reader, writer = await clients.connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"

        proxy.silence()
        writer.write(b"two")
        later_reader, later_writer = await clients.connect()
        later_writer.write(b"new")
        reading, reading_later = asyncio.create_task(reader.read(3)), asyncio.create_task(later_reader.read(3))
        await wait_until(lambda: proxy.open_connections == 2)
        assert not reading.done()
        assert not reading_later.done()
        assert echo.got == b"one"

        proxy.speak()
        assert await reading == b"two"
        assert await reading_later == b"new"


async def test_one_direction_can_be_silent_alone() -> None:
    async with echo_behind_proxy() as (echo, proxy, clients):
        reader, writer = await clients.connect()
        proxy.to_client.silence()
        writer.write(b"one")
        await wait_until(lambda: echo.got == b"one")
        reading = asyncio.create_task(reader.read(3))
        await wait_until(lambda: proxy.to_server.passed_bytes == 3)
        assert not reading.done()
        proxy.to_client.speak()
        assert await reading == b"one"


async def test_connections_that_exist_can_be_silent_for_good_while_new_ones_work_elsewhere() -> None:
    async with echo_behind_proxy() as (echo, proxy, clients), Echo(b"other:").running() as other:
        reader, writer = await clients.connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"

        proxy.freeze_existing()
        proxy.move_to("127.0.0.1", other.port)
        writer.write(b"two")
        new_reader, new_writer = await clients.connect()
        new_writer.write(b"new")
        assert await new_reader.readexactly(9) == b"other:new"
        assert echo.got == b"one"


async def test_a_reset_is_seen_as_one() -> None:
    async with echo_behind_proxy() as (_, proxy, clients):
        reader, writer = await clients.connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def test_a_connection_is_reset_in_the_middle_of_an_answer() -> None:
    async with echo_behind_proxy() as (echo, proxy, clients):
        reader, writer = await clients.connect()
        proxy.to_client.reset_after(2)
        writer.write(b"three")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(5)
        assert echo.got == b"three"
        assert proxy.to_client.passed_bytes == 2


async def test_a_delay_keeps_the_order() -> None:
    async with echo_behind_proxy() as (_, proxy, clients):
        reader, writer = await clients.connect()
        proxy.delay(0.05)
        clock = asyncio.get_running_loop().time
        began = clock()
        for number in range(10):
            writer.write(b"%d" % number)
        assert await reader.readexactly(10) == b"0123456789"
        # The bytes are under way together: each waits for its own time, not for that of all before it.
        assert clock() - began >= 0.1
        late = proxy.to_client.late_bytes
        assert 0 < late <= 10
        proxy.delay(0)
        writer.write(b"at once")
        await reader.readexactly(7)
        assert proxy.to_client.late_bytes == late


async def test_refused_connections_are_refused_until_it_listens_again() -> None:
    async with echo_behind_proxy() as (_, proxy, clients):
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await clients.connect()
        await proxy.listen()
        reader, writer = await clients.connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"


async def test_a_forgotten_connection_is_reset_for_the_server_and_silent_for_the_client() -> None:
    async with echo_behind_proxy() as (echo, proxy, clients):
        reader, writer = await clients.connect()
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"

        proxy.forget_existing()
        await wait_until(lambda: echo.ended == 1, message="the server has seen the end")
        writer.write(b"into nothing")
        await writer.drain()
        other_reader, other_writer = await clients.connect()
        other_writer.write(b"after")

        assert await other_reader.readexactly(5) == b"after"
        assert not reader.at_eof()
        assert echo.got == b"beforeafter"
