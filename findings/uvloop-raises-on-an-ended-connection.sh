#!/usr/bin/env bash
# uvloop 0.23.0 and redis 8.1.0: an idle connection that is reset is made anew on asyncio's loop, and an error on uvloop.
#
# asyncio's transports ignore a write after the connection has ended, and the next read fails. The Redis library waits
# for that: it raises its ConnectionError, makes another connection and sends the command again, so that the caller gets
# the answer. uvloop's transports raise RuntimeError for the write. The library takes that for no lost connection: it
# does not try again, and the caller gets an error that is neither a RedisError nor an OSError. The same code, with the
# faster loop, fails when a proxy, a firewall or a restarted host resets a connection between two commands of one client.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0 uvloop==0.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
import socket
import struct
import sys
from importlib.metadata import version

import uvloop
from redis.asyncio import Redis

logging.disable()
connected = []


async def serve(reader, writer):
    """Answer every command as Redis answers PING."""
    connected.append(writer)
    while start := await reader.readline():
        for _ in range(2 * int(start[1:])):
            await reader.readline()
        writer.write(b"+PONG\r\n")


async def ping_twice():
    connected.clear()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Redis(port=port, protocol=2).client() as client:
        await client.ping()
        ours = client.connection._writer
        # A reset, as from a proxy or a balancer that gives idle connections up.
        connected[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connected[0].transport.abort()
        while not ours.transport.is_closing():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        try:
            outcome = f"the answer {await client.ping()}"
        except Exception as error:
            outcome = type(error).__name__
        return outcome, len(connected)


print("redis", version("redis"), "uvloop", version("uvloop"), "Python", sys.version.split()[0])
found = {}
for name, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
    found[name] = run(ping_twice())
    print(f"{name}: the second command has {found[name][0]}; connections made: {found[name][1]}")
sys.exit(0 if found == {"asyncio": ("the answer True", 2), "uvloop": ("RuntimeError", 1)} else 1)
PYTHON
