"""Picks the TCP ports on 127.0.0.1 that the sandbox's servers listen on."""

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST_PORT = 10_000

_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on now, and that neither this process nor another that runs has given out.

    It lies below the range from which the kernel picks ports for outgoing connections. A port of
    that range is not safe while its server is down: a client that reconnects to it may be given
    this very port as its own, and so keep the server from starting again.
    """
    choices = random.SystemRandom()
    highest = _lowest_ephemeral_port() - 1
    for _ in range(1000):
        port = choices.randint(LOWEST_PORT, highest)
        if port not in _given and _promised(port) and _nothing_listens_on(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {LOWEST_PORT} and {highest}")


def _lowest_ephemeral_port() -> int:
    try:
        lowest = int(EPHEMERAL_RANGE.read_text().split()[0])
    except OSError:
        return 32_768
    return lowest if lowest > LOWEST_PORT + 1000 else 32_768


def _promised(port: int) -> bool:
    """Keep the port for this process as long as it runs, unless another one has it: nothing may listen there yet."""
    try:
        fcntl.lockf(_promises(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _promises() -> int:
    """Open the file of which each process locks the bytes whose numbers are its ports; it stays empty."""
    path = Path(tempfile.gettempdir()) / f"innkeeper-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _nothing_listens_on(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
