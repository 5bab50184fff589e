"""Each part has a network of its own; each direction of a pair fails alone, silently, and is mended again."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from sandbox.spawning import StartFailed
from tests.support import namespaces
from tests.support.namespaces import LOST, TESTS, Impairment, Network, missing
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")
_PORT = 7777
_DELAY_SECONDS = 0.1
_BUILT = """
import asyncio, os
from tests.support.namespaces import Network
async def main():
    async with Network(["server"]) as network:
        print(network._at_home, network._holders["server"].pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_two_networks_that_are_built_at_once_never_have_the_same_net(monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither has an interface yet, so that only their locks keep them apart.
    monkeypatch.setattr(namespaces, "_NUMBERS", range(251, 253))
    first, one_lock = await namespaces._free_net()
    second, other_lock = await namespaces._free_net()
    try:
        assert {first, second} == {251, 252}
        with pytest.raises(StartFailed, match="every net is in use"):
            await namespaces._free_net()
    finally:
        one_lock.close()
        other_lock.close()


class Echo:
    """A server that sends back what it gets; `got` is all of it."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.got += data
                writer.write(data)
        writer.close()
        self.ended = True


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Network, Echo, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect from the tests' own network to an echo on that of another part."""
    async with Network(["server", "other"]) as network:
        echo, host = Echo(), network.host("server")
        listening = network.inside("server", lambda: socket.create_server((host, _PORT)))
        server = await asyncio.start_server(echo.serve, sock=listening)
        reader, writer = await asyncio.open_connection(host, _PORT)
        try:
            yield network, echo, reader, writer
        finally:
            writer.transport.abort()
            server.close()
            await wait_until(lambda: echo.ended, message="the server has seen the end")


async def test_bytes_sent_over_a_cut_direction_arrive_after_it_is_mended() -> None:
    async with connected() as (network, echo, reader, writer):
        await network.impair(TESTS, "server", LOST)
        writer.write(b"x" * 100_000)
        await wait_until(lambda: network.lost[TESTS, "server"] > 1, message="packets are lost, and sent again")
        assert echo.got == b""

        await network.mend(TESTS, "server")

        assert await reader.readexactly(100_000) == b"x" * 100_000


async def test_only_one_direction_is_cut() -> None:
    async with connected() as (network, echo, reader, writer):
        await network.impair("server", TESTS, LOST)
        writer.write(b"asked")
        await wait_until(lambda: echo.got == b"asked", message="the request arrives")
        await wait_until(lambda: network.lost["server", TESTS], message="the answer is lost")

        await network.mend("server", TESTS)

        assert await reader.readexactly(5) == b"asked"
        assert network.lost[TESTS, "server"] == 0


async def test_a_new_connection_over_a_cut_pair_is_neither_made_nor_refused() -> None:
    async with connected() as (network, _, _, _):
        await network.impair(TESTS, "server", LOST)
        connecting = asyncio.create_task(asyncio.open_connection(network.host("server"), _PORT))
        await wait_until(lambda: network.lost[TESTS, "server"], message="the first packet is lost")
        assert not connecting.done()

        await network.mend(TESTS, "server")

        _, writer = await connecting
        writer.transport.abort()


async def test_a_slow_direction_delays_packets_and_loses_a_share_of_them() -> None:
    async with connected() as (network, _, reader, writer):
        clock = asyncio.get_running_loop().time
        await network.impair(TESTS, "server", Impairment(delay_seconds=_DELAY_SECONDS, lost_share=0.5))
        began = clock()
        for _ in range(5):
            writer.write(b"a packet of its own")
            await reader.readexactly(19)

        assert clock() - began > 5 * _DELAY_SECONDS
        assert network.delayed[TESTS, "server"] >= 5
        assert network.lost[TESTS, "server"] > 0


async def test_a_part_that_has_another_network_of_its_own_reaches_the_first_by_its_address_alone() -> None:
    async with connected() as (network, _, _, _):
        with pytest.raises(OSError, match="refused"):
            network.inside("other", lambda: socket.create_connection(("127.0.0.1", _PORT), 1))
        network.inside("other", lambda: socket.create_connection((network.host("server"), _PORT), 1)).close()


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_nothing_is_left_of_a_network_whose_process_was_killed() -> None:
    builder = subprocess.Popen([sys.executable, "-c", _BUILT], stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    interface, holder = (await asyncio.to_thread(builder.stdout.readline)).split()
    assert interface in dict(socket.if_nameindex()).values()
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    builder.stdout.close()

    await wait_until(lambda: interface not in dict(socket.if_nameindex()).values(), message="its interface is gone")
    await wait_until(lambda: _has_ended(int(holder)), message="the process that kept it has ended")


def test_the_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "nsenter" else tool)
    assert missing.__wrapped__() == "nsenter cannot be found (apt-get install iproute2 util-linux)"


def test_a_user_who_is_not_root_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing.__wrapped__() == "only root can make networks"
