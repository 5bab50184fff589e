"""Networks of the kernel for the parts of a system: each part has a network of its own, and any pair can be cut.

`Network` gives every part a network namespace with one interface at a bridge, and this machine one more, so that tests
reach the parts. Faults are made on the wire: the sender's kernel is given a wrong hardware address for the receiver,
that of a loop of ours (`_Detour`), which loses the packets, or sends them on after a time. So a direction of one pair
fails, nothing is closed, no connection is refused, and the kernels on both sides know nothing of it, as in a real
network. A delay by the kernel itself (netem) and firewall rules would need more than every kernel and machine has.

The namespaces have no names: each is kept by a process that dies with this one, and the kernel removes a namespace, its
interfaces and their other ends when the last process in it has ended. So nothing is left behind after a SIGKILL either.

    async with Network(["kafka", "ingress"]) as network:
        network.location("kafka")          # its address, and the words that start a program there
        await network.impair("ingress", "kafka", LOST)
        await network.mend("ingress", "kafka")
"""

import asyncio
import contextlib
import ctypes
import fcntl
import functools
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, TypeVar

from sandbox.locations import Location
from sandbox.spawning import StartFailed, end, spawn
from tests.support.waiting import wait_until

T = TypeVar("T")
#: The tests' own end of the network, on this machine.
TESTS: Final = "tests"
#: Addresses for tests of networks, which no network uses (RFC 2544).
_NETS: Final = "198.18"
_NUMBERS: Final = range(1, 255)
_TOOLS: Final = ("ip", "nsenter", "unshare")
_INTERFACE: Final = "part"
_DETOUR: Final = "detour"
_HEADER_BYTES: Final = 14
_IPV4: Final = b"\x08\x00"
_MAX_FRAME_BYTES: Final = 65_536
# linux/sockios.h, linux/ethtool.h, linux/sched.h
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_STXCSUM: Final = 0x17
_CLONE_NEWNET: Final = 0x40000000
_ETH_P_IP: Final = 0x0800


@dataclass(frozen=True, kw_only=True)
class Impairment:
    """A fault of one direction: a share of its packets is lost, the others come later."""

    lost_share: float = 0.0
    delay_seconds: float = 0.0


LOST: Final = Impairment(lost_share=1.0)


class Network:
    """A network of parts; `lost` and `delayed` count the packets of each impaired (sender, receiver)."""

    def __init__(self, names: Sequence[str], chance: random.Random | None = None) -> None:
        """Take the parts' names, and the chance by which a share of packets is lost."""
        self._names = (TESTS, *names)
        self._chance = chance or random.Random(0)
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._detour: _Detour | None = None
        self._net = 0
        self._lock: IO[str] | None = None

    @property
    def lost(self) -> Counter[tuple[str, str]]:
        """The packets that were lost on purpose, by sender and receiver."""
        return self._running.lost

    @property
    def delayed(self) -> Counter[tuple[str, str]]:
        """The packets that were sent on later, by sender and receiver."""
        return self._running.delayed

    @property
    def _running(self) -> "_Detour":
        if self._detour is None:
            raise RuntimeError("the network is not there yet")
        return self._detour

    def host(self, name: str) -> str:
        """Return the address of a part."""
        return f"{_NETS}.{self._net}.{self._names.index(name) + 1}"

    def location(self, name: str, port: int | None = None) -> Location:
        """Return where a part runs, for `Plan.locations`."""
        return Location(host=self.host(name), port=port, prefix=self._prefix(name))

    def inside(self, name: str, what: Callable[[], T]) -> T:
        """Call something in the network of a part; a socket that it opens stays there."""
        return _in_namespace(os.getpid() if name == TESTS else self._holders[name].pid, what)

    async def impair(self, sender: str, receiver: str, how: Impairment) -> None:
        """Let the packets of one direction be lost or late, until `mend`."""
        self._running.impaired[self._hardware(sender), socket.inet_aton(self.host(receiver))] = (
            (sender, receiver),
            how,
        )
        await self._aim(sender, receiver, _mac(0))

    async def mend(self, sender: str, receiver: str) -> None:
        """Let all packets of a direction through again."""
        await self._aim(sender, receiver, _mac(self._names.index(receiver) + 1))
        self._running.impaired.pop((self._hardware(sender), socket.inet_aton(self.host(receiver))), None)

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _build(self) -> None:
        self._net, self._lock = await _free_net()
        for name in ("", *self._names[1:]):
            self._holders[name] = spawn(["unshare", "--net", "sleep", "infinity"], {}, subprocess.DEVNULL)
        for holder in self._holders.values():
            await wait_until(functools.partial(_is_apart, holder.pid), message="a process has a network of its own")
        hub = self._holders[""].pid
        await self._in("", "link add bridge type bridge", "link set bridge up", "link set lo up")
        await _ip((), f"link add {self._at_home} type veth peer name {self._at_home} netns {hub}")
        for name in self._names[1:]:
            pid, port = self._holders[name].pid, f"port{self._names.index(name) + 1}"
            await self._in("", f"link add {port} type veth peer name {_INTERFACE} netns {pid}")
        ports = [self._at_home, *(f"port{number}" for number in range(2, len(self._names) + 1))]
        await self._in("", *(f"link set {port} master bridge up" for port in ports))
        await self._in(
            "",
            f"link add {_DETOUR} type veth peer name {_DETOUR}-port",
            f"link set {_DETOUR} address {_mac(0)} up",
            f"link set {_DETOUR}-port master bridge up",
        )
        for name in self._names:
            await self._set_up(name)
        self._detour = _Detour(_in_namespace(hub, _raw_socket), self._by_address(), self._chance)

    async def _set_up(self, name: str) -> None:
        interface = self._interface(name)
        await self._in(
            name,
            *(() if name == TESTS else ("link set lo up",)),
            f"link set {interface} address {_mac(self._names.index(name) + 1)} up",
            f"addr add {self.host(name)}/24 dev {interface}",
        )
        # The detour gets packets as they are on a wire: no longer than a frame, and with a checksum.
        self.inside(name, functools.partial(_switch_checksums_on, interface))

    def _by_address(self) -> dict[bytes, bytes]:
        """Return each part's hardware address by its address."""
        return {socket.inet_aton(self.host(name)): self._hardware(name) for name in self._names}

    @property
    def _at_home(self) -> str:
        return f"inn{self._net}"

    def _interface(self, name: str) -> str:
        return self._at_home if name == TESTS else _INTERFACE

    def _hardware(self, name: str) -> bytes:
        return bytes.fromhex(_mac(self._names.index(name) + 1).replace(":", ""))

    def _prefix(self, name: str) -> tuple[str, ...]:
        if name == TESTS:
            return ()
        return ("nsenter", f"--net=/proc/{self._holders[name].pid}/ns/net", "--")

    async def _in(self, name: str, *commands: str) -> None:
        await _ip(self._prefix(name), *commands)

    async def _aim(self, sender: str, receiver: str, mac: str) -> None:
        """Let a sender's kernel believe that a receiver has this hardware address."""
        where = f"{self.host(receiver)} lladdr {mac} dev {self._interface(sender)} nud permanent"
        await self._in(sender, f"neigh replace {where}")

    async def _end(self) -> None:
        if self._detour is not None:
            self._detour.close()
            self._detour = None
        await asyncio.gather(*(end(holder, signal.SIGKILL, 0) for holder in self._holders.values()))
        self._holders.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class _Detour:
    """Gets the packets of impaired directions, and loses each or sends it on in its time."""

    def __init__(self, detour: socket.socket, hardware: dict[bytes, bytes], chance: random.Random) -> None:
        self.impaired: dict[tuple[bytes, bytes], tuple[tuple[str, str], Impairment]] = {}
        self.lost: Counter[tuple[str, str]] = Counter()
        self.delayed: Counter[tuple[str, str]] = Counter()
        self._socket = detour
        self._hardware = hardware
        self._own = bytes.fromhex(_mac(0).replace(":", ""))
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(detour, self._take)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._judge(self._socket.recv(_MAX_FRAME_BYTES))

    def _judge(self, frame: bytes) -> None:
        source, kind, receiver = frame[6:12], frame[12:_HEADER_BYTES], frame[30:34]
        found = self.impaired.get((source, receiver))
        if frame[:6] != self._own or kind != _IPV4 or found is None:
            return
        pair, how = found
        if self._chance.random() < how.lost_share:
            self.lost[pair] += 1
            return
        self.delayed[pair] += 1
        passed = self._hardware[receiver] + self._own + frame[12:]
        self._loop.call_later(how.delay_seconds, self._send, passed)

    def _send(self, frame: bytes) -> None:
        # A full queue loses packets, as any wire does; the network may have ended meanwhile.
        with contextlib.suppress(OSError):
            self._socket.send(frame)


@functools.cache
def missing() -> str | None:
    """Why this machine cannot have such networks, in one sentence; None when it can."""
    if sys.platform != "linux":
        return "only Linux has network namespaces"
    if os.geteuid() != 0:
        return "only root can make networks"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} cannot be found (apt-get install iproute2 util-linux)"
    links = "link add bridge type bridge\nlink add one type veth peer name two\n"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "-batch", "-"], input=links, capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else f"the kernel makes no networks: {tried.stderr.strip()}"


def _mac(number: int) -> str:
    """Return the hardware address of a part; 0 is the detour's."""
    return f"02:18:00:00:00:{number:02x}"


async def _ip(prefix: Sequence[str], *commands: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *prefix, "ip", "-batch", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate("".join(f"{command}\n" for command in commands).encode())
    if process.returncode != 0:
        raise StartFailed(f"the network cannot be made: {errors.decode().strip()}")


async def _free_net() -> tuple[int, IO[str]]:
    """Return the third number of a net that no interface of this machine is in, and the lock that reserves it.

    Another process that looks at the same moment sees no interface either: each net belongs to the lock's owner.

    Raises:
        StartFailed: every net is in use.
    """
    process = await asyncio.create_subprocess_exec("ip", "-json", "addr", stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    taken = {info["local"] for link in json.loads(output) for info in link["addr_info"]}
    free = [net for net in _NUMBERS if f"{_NETS}.{net}.1" not in taken]
    random.SystemRandom().shuffle(free)
    for net in free:
        lock = (Path(tempfile.gettempdir()) / f"innkeeper-net-{net}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return net, lock
    raise StartFailed("every net is in use")


def _is_apart(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def _in_namespace(pid: int, what: Callable[[], T]) -> T:
    """Call something in the network of a process: in a thread, of which each has a network by itself."""

    def inside() -> T:
        with Path(f"/proc/{pid}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "the network cannot be entered")
        return what()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(inside).result()


def _raw_socket() -> socket.socket:
    detour = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
    detour.bind((_DETOUR, _ETH_P_IP))
    detour.settimeout(0)
    return detour


def _switch_checksums_on(interface: str) -> None:
    """Let the kernel compute each packet's checksum, as it leaves; then it also cuts them to the size of a frame."""
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
