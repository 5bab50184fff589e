"""Two servers of one database: a primary, and a standby that has every commit before the client is answered.

Either may be the primary. `fail_over` kills the primary and promotes the standby, from any process that can read the
folders. The servers' keeper (`sandbox.processes.Supervisor`) starts the killed one again, as a standby of the other:
with a new copy, because it may have commits that the other never got. A mark in its folder keeps it from being a
second primary meanwhile.

The primary waits for its standby from the moment in which the standby follows it (`synchronous_standby_names`). After a
failover the new primary waits for nobody until the other is its standby: bookings go on at once.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil
import psycopg
from typing_extensions import override

from sandbox.postgres.server import DATABASE, PASSWORD, USER, Postgres, administer, program
from sandbox.spawning import PROCESS_POLL_SECONDS

_DEMOTED: Final = "demoted"


class CannotFailOver(Exception):
    """There is no standby that could be promoted; nothing was done."""


class Member(Postgres):
    """One of the two servers; `other` is set by `Pair`."""

    other: "Member"

    def __init__(self, name: str, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, variables=variables)
        self.name = name

    @property
    def is_standby(self) -> bool:
        """Whether it is a standby, or becomes one at its next start."""
        return is_standby(self.folder)

    @override
    async def prepare(self) -> None:
        """Make the data folder when it is new, or when a failover left this server behind."""
        demoted = self.folder / _DEMOTED
        if demoted.exists():
            while not await self.other.is_primary():
                await asyncio.sleep(PROCESS_POLL_SECONDS)
            shutil.rmtree(self._cluster, ignore_errors=True)
        await super().prepare()
        demoted.unlink(missing_ok=True)

    @override
    def filling(self, folder: Path) -> list[str]:
        """Copy the other server if it is the primary; else there is nothing to copy yet."""
        if not self.is_standby:
            return super().filling(folder)
        copy = [str(program("pg_basebackup")), f"--dbname={_way_to(self.other)}", f"--pgdata={folder}"]
        return [*copy, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]

    @override
    async def start(self, *, without_deadline: bool = False) -> None:
        await super().start(without_deadline=without_deadline)
        if self.is_standby:
            async with await self.other.administer() as primary:
                await primary.execute("alter system set synchronous_standby_names = 'innkeeper_standby'")
                await primary.execute("select pg_reload_conf()")

    @override
    def command(self) -> Sequence[str]:
        # The copy has the primary's port of the time at which it was made, and its list of standbys.
        more = {
            "primary_conninfo": _way_to(self.other),
            "wal_keep_size": "512MB",
            # A standby that is promoted while it looks for its primary waits for so long (5 s unless it is set).
            "wal_retrieve_retry_interval": "500ms",
        }
        return [*super().command(), *(word for name, value in more.items() for word in ("-c", f"{name}={value}"))]

    async def is_primary(self) -> bool:
        """Whether it answers, and takes writes."""
        try:
            async with await self.administer() as connection:
                row = await (await connection.execute("select pg_is_in_recovery()")).fetchone()
        except psycopg.OperationalError:
            return False
        return row == (False,)


class Pair:
    """Both servers: `postgres`, which is the primary at first, and `postgres-2`."""

    def __init__(self, folder: Path, standby_folder: Path, variables: Mapping[str, str] | None = None) -> None:
        first, second = Member("postgres", folder, variables), Member("postgres-2", standby_folder, variables)
        first.other, second.other = second, first
        self.members = (first, second)
        if not (first.folder / "cluster").exists() and not (second.folder / "cluster").exists():
            second.folder.mkdir(parents=True, exist_ok=True)
            (second.folder / _DEMOTED).touch()

    @property
    def url(self) -> str:
        """The URL of the database `innkeeper`, of whichever server is the primary."""
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgresql://{USER}:{PASSWORD}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    @property
    def in_order(self) -> Sequence[Member]:
        """The primary, and then the standby."""
        return sorted(self.members, key=lambda member: member.is_standby)


def is_standby(folder: Path) -> bool:
    """Return whether the server of a folder is a standby, or becomes one at its next start."""
    return (folder / _DEMOTED).exists() or (folder / "cluster" / "standby.signal").exists()


async def fail_over(*folders: Path) -> Path:
    """Kill the primary of two servers and promote the standby; return the new primary's folder.

    An interrupted failover can be done again.

    Raises:
        CannotFailOver: the standby does not answer.
    """
    for folder in folders:
        if (found := _server_of(folder)) is None or (folder / _DEMOTED).exists():
            continue
        _, port = found
        try:
            async with await administer(port) as standby:
                row = await (await standby.execute("select pg_is_in_recovery()")).fetchone()
                if row == (False,):
                    continue
                for other in folders:
                    if other != folder:
                        await _kill(other)
                # This server waits for no other until it has a standby itself.
                await standby.execute("alter system reset synchronous_standby_names")
                await standby.execute("select pg_reload_conf()")
                await standby.execute("select pg_promote()")
        except psycopg.OperationalError as error:
            raise CannotFailOver(f"the standby does not answer: {str(error).strip()}") from None
        return folder
    raise CannotFailOver("no standby runs; the sandbox has one with --standby")


def fail_over_and_report(data: Path) -> int:
    """Do it with the servers of a sandbox on a folder, and report it; return the exit status."""
    try:
        primary = asyncio.run(fail_over(*folders_of(data)))
    except CannotFailOver as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{primary.name} is the primary now.\n")
    return 0


def folders_of(data: Path) -> tuple[Path, Path]:
    """Return the folders of a sandbox's database server and of its standby."""
    return data / "postgres", data / "postgres-2"


async def _kill(folder: Path) -> None:
    """SIGKILL a primary with all its sessions, as a loss of power would; it is a standby from now on."""
    (folder / _DEMOTED).touch()
    if (found := _server_of(folder)) is None:
        return
    pid, _ = found
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(psutil.wait_procs, family)


def _server_of(folder: Path) -> tuple[int, int] | None:
    """Return the process id and the port of the server that runs on a folder."""
    try:
        lines = (folder / "cluster" / "postmaster.pid").read_text().splitlines()
        pid, port = int(lines[0]), int(lines[3])
    except (OSError, ValueError, IndexError):
        return None
    # The system may have given the number of a dead server to another process.
    with contextlib.suppress(psutil.NoSuchProcess):
        if str((folder / "cluster").resolve()) in psutil.Process(pid).cmdline():
            return pid, port
    return None


def _way_to(server: Postgres) -> str:
    return f"host=127.0.0.1 port={server.port} user={USER} password={PASSWORD} application_name=innkeeper_standby"
