"""A TCP proxy between a program and a server that makes the faults of a network: silence, delay, resets, no server.

A silent direction takes bytes and passes none on, and closes nothing, as a network whose packets vanish or a process
that is frozen does. The bytes are passed on when the direction speaks again, as TCP sends lost packets again. The
kernel of this machine acknowledges what the proxy takes, so a client's `tcp_user_timeout` and keepalives notice
nothing: that is the harder case. New connections are accepted meanwhile, and no byte comes back on them.

    async with TcpProxy("127.0.0.1", 5432) as proxy:
        connect to 127.0.0.1, proxy.port
        proxy.silence()
        ...
        proxy.speak()
"""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Final, Self

_CHUNK_BYTES: Final = 64 * 1024
#: The chunks of one direction that wait for their time; when it has so many, the proxy reads no more of that side.
_MAX_DELAYED_CHUNKS: Final = 1000
#: Closing with this option sends a reset (RST) in place of an orderly end.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Direction:
    """One direction of all connections: to the server or to the client.

    `latency_seconds` delays every byte. `passed_bytes` have gone through since the proxy began; `late_bytes` of them
    had to wait for it.
    """

    def __init__(self) -> None:
        self.latency_seconds = 0.0
        self.passed_bytes = 0
        self.late_bytes = 0
        self._reset_after_bytes: int | None = None
        self._speaking = asyncio.Event()
        self._speaking.set()

    @property
    def is_silent(self) -> bool:
        """Whether bytes are kept back."""
        return not self._speaking.is_set()

    def silence(self) -> None:
        """Keep all bytes back from now on, on present and new connections."""
        self._speaking.clear()

    def speak(self) -> None:
        """Pass on what was kept back, and all that comes."""
        self._speaking.set()

    def reset_after(self, size_bytes: int) -> None:
        """Reset the connection on which so many more bytes have gone through, in the middle of whatever it carries."""
        self._reset_after_bytes = self.passed_bytes + size_bytes

    def reset_no_more(self) -> None:
        """Reset no connection any more, if none was reset yet."""
        self._reset_after_bytes = None

    async def until_speaking(self) -> None:
        """Return when bytes are passed on."""
        await self._speaking.wait()

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """Count the bytes that are passed on now; return them, and whether the connection is reset after them."""
        limit = self._reset_after_bytes
        is_last = limit is not None and self.passed_bytes + len(data) >= limit
        if is_last and limit is not None:
            data = data[: limit - self.passed_bytes]
            self._reset_after_bytes = None
        self.passed_bytes += len(data)
        return data, is_last


class TcpProxy:
    """Passes connections to `127.0.0.1:port` on to a server.

    `to_server` and `to_client` are the directions, for faults of one of them. `move_to` sends new connections to
    another server, as a name that gets a new address does; those that exist stay where they are.
    """

    def __init__(self, host: str, port: int) -> None:
        """Pass connections on to this server; listen when the block begins."""
        self._server_address = (host, port)
        self.to_server = Direction()
        self.to_client = Direction()
        self.accepted = 0
        self._listener: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 at which clients connect; `refuse` and `listen` keep it."""
        return self._port

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def is_silent(self) -> bool:
        """Whether nothing is passed on in either direction."""
        return self.to_server.is_silent and self.to_client.is_silent

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything."""
        await self.refuse()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Accept connections, again after `refuse`."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections, as a machine on which no server listens; those that exist go on."""
        if self._listener is not None:
            # Not `wait_closed`, which waits for the connections too from Python 3.12 on.
            self._listener.close()
            self._listener = None

    def silence(self) -> None:
        """Pass nothing on in either direction, and close nothing."""
        self.to_server.silence()
        self.to_client.silence()

    def speak(self) -> None:
        """Pass on what was kept back, and all that comes."""
        self.to_server.speak()
        self.to_client.speak()

    def delay(self, seconds: float) -> None:
        """Delay every byte by so many seconds in each direction; 0 ends that."""
        self.to_server.latency_seconds = self.to_client.latency_seconds = seconds

    def reset(self) -> None:
        """Reset all connections (RST), on both sides."""
        for connection in tuple(self._connections):
            connection.reset()

    def move_to(self, host: str, port: int) -> None:
        """Pass new connections on to another server."""
        self._server_address = (host, port)

    def freeze_existing(self) -> None:
        """Keep back all bytes of the connections that exist, for good; new connections are not concerned."""
        for connection in self._connections:
            connection.is_frozen = True

    def forget_existing(self) -> None:
        """Leave the connections that exist half-open: the server sees them reset, and clients see nothing for good."""
        for connection in self._connections:
            connection.forget()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        # A task of our own: asyncio's would log its cancellation at the end as an error.
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._server_address)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, server_writer)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(connection.pump(reader, server_writer, self.to_server))
                both.create_task(connection.pump(server_reader, writer, self.to_client))
        finally:
            self._connections.discard(connection)
            await connection.close()


class _Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.is_frozen = False
        self._writers = (client, server)

    def reset(self) -> None:
        for writer in self._writers:
            _reset(writer)

    def forget(self) -> None:
        self.is_frozen = True
        _reset(self._writers[1])

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*[writer.wait_closed() for writer in self._writers], return_exceptions=True)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """Pass on what one side sends until its end, and then the end."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MAX_DELAYED_CHUNKS)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take_in(reader, chunks, direction))
            both.create_task(self._pass_on(chunks, writer, direction))

    async def _take_in(
        self, reader: asyncio.StreamReader, chunks: asyncio.Queue[tuple[float, bytes]], direction: Direction
    ) -> None:
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                # A side that resets its connection has the other one reset too.
                self.reset()
                data = b""
            await chunks.put((clock() + direction.latency_seconds, data))

    async def _pass_on(
        self, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await chunks.get()
            if (seconds := due - clock()) > 0:
                await asyncio.sleep(seconds)
            await direction.until_speaking()
            if self.is_frozen:
                continue
            if not data:
                break
            passed, is_last = direction.take(data)
            if seconds > 0:
                direction.late_bytes += len(passed)
            with contextlib.suppress(OSError):
                writer.write(passed)
                await writer.drain()
            if is_last:
                self.reset()
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    # The side may be closed already.
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
