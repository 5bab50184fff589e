"""Takes one sample of everything that may grow: processes, tables, files, rows that somebody should delete."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from sandbox.system import System

#: Rows that are deleted again, or that nobody should make: counted exactly.
_COUNTS: Final[Mapping[str, str]] = {
    "bookings": "select count(*) from booking",
    "outbox": "select count(*) from outbox",
    "refresh_token": "select count(*) from refresh_token",
    "idempotency_key": "select count(*) from idempotency_key",
    "stripe_circuit": "select count(*) from stripe_circuit",
    "unattributed_object": "select count(*) from unattributed_object",
    "dead_letter": "select count(*) from dead_letter where consumer <> 'soak'",
    "log_cursor": "select count(*) from log_cursor",
    "held": "select count(*) from booking where status in ('RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING',"
    " 'RESERVING')",
    "calls": "select (select count(*) from checkout_session where next_attempt_at is not null)"
    " + (select count(*) from refund where next_attempt_at is not null)",
    "sessions": "select count(*) from pg_stat_activity where backend_type = 'client backend'",
    "transaction_seconds": "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float"
    " from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
}
_TABLES: Final = """
    select relname, pg_table_size(oid), pg_indexes_size(oid) from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace
"""
_BLOCK_BYTES: Final = 512
_CONNECT_SECONDS: Final = 3
_STATEMENT_SECONDS: Final = 10


class Sampler:
    """Looks at a system from outside: /proc, SQL, and the sizes of files."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def sample(self) -> dict[str, Any]:
        """Return all that can be read now; a part that is away is missing from it."""
        outside = await asyncio.to_thread(self._outside)
        try:
            return {**outside, **await self._rows()}
        except (psycopg.Error, TimeoutError):
            return outside

    def _outside(self) -> dict[str, Any]:
        services = self._system.supervisor.services
        found = {service.name: of_family(pid) for service in services if (pid := service.running_pid) is not None}
        files = bytes_of(self._system.folder)
        return {"processes": {name: figures for name, figures in found.items() if figures}, "files": files}

    async def _rows(self) -> dict[str, Any]:
        async with asyncio.timeout(_STATEMENT_SECONDS):
            connection = await psycopg.AsyncConnection.connect(
                self._system.database_url, autocommit=True, connect_timeout=_CONNECT_SECONDS
            )
            async with connection:
                counts = {name: await _number(connection, statement) for name, statement in _COUNTS.items()}
                tables = {name: sizes async for name, *sizes in await connection.execute(_TABLES)}
        return {"bookings": counts.pop("bookings"), "counts": counts, "tables": tables}


def of_family(pid: int) -> dict[str, Any]:
    """Return the figures of a process and its children together; empty when it is gone.

    `process` changes when the process is another one. `rss` counts memory that processes share for each of them, and
    `uss` leaves it out; both in bytes.
    """
    totals: Counter[str] = Counter()
    try:
        first = psutil.Process(pid)
        name = f"{pid}@{first.create_time():.0f}"
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return {}
    for process in family:
        try:
            memory = process.memory_full_info()
            totals.update(rss=memory.rss, uss=memory.uss, threads=process.num_threads(), **descriptors_of(process.pid))
        except (psutil.Error, OSError):  # A session of the database that has ended meanwhile.
            continue
    return {"process": name, **totals}


def descriptors_of(pid: int) -> dict[str, int]:
    """Return the number of open descriptors of a process, and how many of them are sockets."""
    targets = list(_targets(Path(f"/proc/{pid}/fd")))
    return {"descriptors": len(targets), "sockets": sum(target.startswith("socket:") for target in targets)}


def bytes_of(folder: Path) -> dict[str, int]:
    """Return the bytes that a system's files take on the disk, by their kind.

    Kafka makes its indexes in advance with holes in them, so blocks are counted, and not lengths.
    """
    totals: Counter[str] = Counter()
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            try:
                totals[kind_of(path.relative_to(folder))] += path.lstat().st_blocks * _BLOCK_BYTES
            except OSError:  # It was deleted meanwhile.
                continue
    return dict(totals)


def kind_of(path: Path) -> str:
    """Return the kind of a file, by its path in the folder of the system."""
    match path.parts:
        case ("kafka", "log", topic, _, *_):
            kind = f"topic {topic.rpartition('-')[0]}"
        case ("kafka", "kafka.log") | ("postgres", "postgres.log") | ("logs", _):
            kind = f"log of {path.stem}"
        case ("postgres", "cluster", "pg_wal", *_):
            kind = "write-ahead log"
        case ("postgres", "cluster", *_):
            kind = "data of postgres"
        case ("stripe", *_):
            kind = "stand-in for Stripe"
        case _:
            kind = "the rest"
    return kind


def _targets(folder: Path) -> Iterator[str]:
    for link in folder.iterdir():
        try:
            yield str(link.readlink())
        except OSError:  # It was closed meanwhile.
            continue


async def _number(connection: psycopg.AsyncConnection, statement: str) -> float:
    row = await (await connection.execute(statement)).fetchone()
    assert row is not None
    return float(row[0]) if isinstance(row[0], float) else int(row[0])
