"""Redis, in which ingresses count requests together, is killed, hangs or is full: each counts by itself, and logs it.

Redis decides nothing: no request may be refused, or wait longer than a moment, because it is away.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis as Client

from sandbox import redis
from sandbox.ports import free_port
from sandbox.redis import PASSWORD, Redis
from sandbox.system import Plan, System
from tests.faults import groups
from tests.faults.breaking import for_seconds
from tests.faults.row import Group, Promise, Row, Scene
from tests.support.program_logs import ProgramLogs
from tests.support.waiting import wait_until
from tests.system.pipeline import chaos

AWAY_SECONDS: Final = 8.0
#: So many that nobody of a dozen accounts, all at one address, is ever refused.
LIMITS: Final = {
    "RATE_LIMITS": "true",
    "USER_REQUESTS_PER_MINUTE": "60000",
    "ADDRESS_REQUESTS_PER_MINUTE": "60000",
    "BURST": "10000",
}
_MAX_SECONDS: Final = 30.0

AWAY: Final = "the ingress logged that Redis is away, and counted by itself"
FULL: Final = "the ingress logged that Redis is full, and counted by itself"
TOGETHER: Final = "the ingress counted in Redis again"

_LINES: Final = {AWAY: "Redis is away", FULL: "Redis is full", TOGETHER: "Redis counts for all processes"}


def plan(folder: Path) -> Plan:
    """Return the parts of a system whose ingress counts in Redis."""
    of_storm = chaos.plan(folder)
    url = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"
    return replace(of_storm, environment={**of_storm.environment, **LIMITS, "REDIS_URL": url})


@asynccontextmanager
async def tools(system: System) -> AsyncIterator[Mapping[str, Any]]:
    """Run the Redis of a system's plan."""
    port = urlsplit(system.plan.environment["REDIS_URL"]).port
    logs = ProgramLogs(system.logs)
    async with Redis(system.folder / "redis", port) as server:
        await wait_until(lambda: logs.lines("ingress", _LINES[TOGETHER]), _MAX_SECONDS, "the ingress counts in Redis")
        yield {"redis": server}


async def breaks_redis(
    scene: Scene, cause: str, breaks: Callable[[Redis], Awaitable[None]], mends: Callable[[Redis], Awaitable[None]]
) -> None:
    """Let Redis be away for some seconds; note its log lines, and when it counted in Redis again."""
    server, logs = scene.tools["redis"], ProgramLogs(scene.system.logs)
    answers_before = scene.town.promises.answers.total()
    await breaks(server)
    try:
        await for_seconds(AWAY_SECONDS)
    finally:
        answered = scene.town.promises.answers.total() - answers_before
        await mends(server)
    scene.over()
    mended = time.monotonic()
    await wait_until(lambda: logs.lines("ingress", _LINES[TOGETHER]), _MAX_SECONDS, "the ingress counts in Redis again")
    scene.figures["visitors' requests meanwhile"] = str(answered)
    scene.figures["counted in Redis again"] = f"{time.monotonic() - mended:.1f} s after the end"
    note(scene, cause, logs)


def note(scene: Scene, cause: str, logs: ProgramLogs) -> None:
    """Note the lines of the ingress: one about the outage, and one about its end."""
    lines = logs.lines("ingress", _LINES[cause])
    scene.causes[cause] += len(lines)
    scene.causes[TOGETHER] += len(logs.lines("ingress", _LINES[TOGETHER]))
    if len(lines) > 1:
        scene.problems.append(f"the ingress logged one outage {len(lines)} times: {lines[0]}")


async def is_killed(scene: Scene) -> None:
    """Kill it, and start it again without anything that it had."""
    await breaks_redis(scene, AWAY, Redis.kill, Redis.start)


async def hangs(scene: Scene) -> None:
    """Stop it, so that it takes connections and never answers."""

    async def freeze(server: Redis) -> None:
        os.kill(server.pid, signal.SIGSTOP)

    async def thaw(server: Redis) -> None:
        os.kill(server.pid, signal.SIGCONT)

    await breaks_redis(scene, AWAY, freeze, thaw)


async def is_full(scene: Scene) -> None:
    """Let its memory be full, so that it answers and takes no writes."""

    async def fill(server: Redis) -> None:
        await _limit_memory(server, "1")

    async def empty(server: Redis) -> None:
        await _limit_memory(server, "0")

    await breaks_redis(scene, FULL, fill, empty)


async def _limit_memory(server: Redis, max_bytes: str) -> None:
    async with Client.from_url(server.url) as client:
        await client.config_set("maxmemory", max_bytes)


COUNTED: Final = Group(
    name="redis",
    system="one broker, and a Redis in which the ingress counts requests",
    plan=plan,
    tools=tools,
    missing=lambda: groups.missing() or redis.available(),
)


def _row(id: str, fault: str, made_by: str, breaks: Callable[[Scene], Awaitable[None]], cause: str) -> Row:
    return Row(
        id=id,
        fault=fault,
        made_by=made_by,
        group=COUNTED,
        promises=(Promise.EVERY_PROMISE_IS_KEPT, Promise.ONE_KEY_ONE_BOOKING, Promise.IT_RECOVERS),
        breaks=breaks,
        max_wait_seconds=5.0,
        max_recovery_seconds=15.0,
        answers=frozenset(),
        causes=(cause, TOGETHER),
    )


ROWS: Final = (
    _row("F20", "Redis is killed", f"SIGKILL; it starts again after {AWAY_SECONDS:g} s", is_killed, AWAY),
    _row("F20b", "Redis hangs", f"SIGSTOP for {AWAY_SECONDS:g} s", hangs, AWAY),
    _row("F20c", "Redis is full", f"a memory limit of one byte for {AWAY_SECONDS:g} s", is_full, FULL),
)
