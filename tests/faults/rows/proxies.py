"""F9: TCP proxies between the programs and broker, database, Stripe and Redis: silence, delay, resets.

Workers and ingress have proxies of their own to broker and database. The kernels acknowledge what a silent proxy takes,
so that only limits on waits notice it: the harder case (`tests.support.tcp_proxy`).
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from sandbox import redis
from sandbox.locations import HERE, Location
from sandbox.ports import free_port
from sandbox.postgres.server import DATABASE, PASSWORD, USER
from sandbox.redis import Redis
from sandbox.system import Plan
from tests.faults import groups
from tests.faults.breaking import for_seconds
from tests.faults.row import OF_NETWORKS, Group, Row, Scene
from tests.faults.rows._watching import Readiness, equipped, tools_of, until_accepted
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from tests.system.pipeline import chaos

#: The proxies, by whose connections go through them and where to.
BROKER_OF_WORKERS: Final = "workers to broker"
BROKER_OF_INGRESS: Final = "ingress to broker"
DATABASE_OF_WORKERS: Final = "workers to database"
DATABASE_OF_INGRESS: Final = "ingress to database"
STRIPE: Final = "workers to stripe"
REDIS: Final = "ingress to redis"
BROKER: Final = (BROKER_OF_WORKERS, BROKER_OF_INGRESS)
DATABASE_BOTH: Final = (DATABASE_OF_WORKERS, DATABASE_OF_INGRESS)
_SILENT_SECONDS: Final = 15.0
_SLOW_SECONDS: Final = 12.0
_LATENCY_SECONDS: Final = 0.2
_RESET_EVERY_SECONDS: Final = 0.5
_RESETS: Final = 20
#: The next reset comes within so many bytes, which is in the middle of most messages.
_MAX_BYTES_TO_RESET: Final = 4_000


def _plan(folder: Path) -> Plan:
    plan = chaos.plan(folder)
    # Requests are counted in Redis, and so many are allowed that nobody is refused.
    counted = {
        "RATE_LIMITS": "true",
        "USER_REQUESTS_PER_MINUTE": "1000000",
        "ADDRESS_REQUESTS_PER_MINUTE": "1000000",
    }
    return replace(plan, environment={**plan.environment, **counted})


@asynccontextmanager
async def _around(plan: Plan) -> AsyncIterator[Plan]:
    ports = {name: free_port() for name in ("postgres", "stripe", *BROKER)}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Redis(plan.folder / "redis"))
        behind = {
            BROKER_OF_WORKERS: ports[BROKER_OF_WORKERS],
            BROKER_OF_INGRESS: ports[BROKER_OF_INGRESS],
            DATABASE_OF_WORKERS: ports["postgres"],
            DATABASE_OF_INGRESS: ports["postgres"],
            STRIPE: ports["stripe"],
            REDIS: server.port,
        }
        proxies = {name: await stack.enter_async_context(TcpProxy(HERE, port)) for name, port in behind.items()}
        ingress = {
            "KAFKA_URL": f"{HERE}:{proxies[BROKER_OF_INGRESS].port}",
            "DATABASE_URL": _database_url(proxies[DATABASE_OF_INGRESS]),
            "REDIS_URL": server.url.replace(str(server.port), str(proxies[REDIS].port)),
        }
        others = {
            "KAFKA_URL": f"{HERE}:{proxies[BROKER_OF_WORKERS].port}",
            "DATABASE_URL": _database_url(proxies[DATABASE_OF_WORKERS]),
            "STRIPE_API_URL": f"http://{HERE}:{proxies[STRIPE].port}",
        }
        yield equipped(
            plan,
            proxies,
            locations={name: Location(port=ports[name]) for name in ("postgres", "stripe")},
            doors={ports[name]: proxies[name].port for name in BROKER},
            environment={**plan.environment, **others},
            of_one={**plan.of_one, "ingress": ingress},
        )


def _database_url(proxy: TcpProxy) -> str:
    return f"postgresql://{USER}:{PASSWORD}@{HERE}:{proxy.port}/{DATABASE}"


def missing() -> str | None:
    """Return why this machine cannot run the system."""
    return groups.missing() or redis.available()


PROXIED: Final = Group(
    name="proxied",
    system="one broker, two workers of reservations, Redis; a TCP proxy on each way to a server",
    plan=_plan,
    around=_around,
    tools=tools_of,
    missing=missing,
)


def _proxies(scene: Scene, names: Sequence[str]) -> list[TcpProxy]:
    return [scene.tools[name] for name in names]


async def silence(scene: Scene, names: Sequence[str], *, way: str = "both", part: str | None = None) -> None:
    """Let connections go silent for some seconds; readiness of the ingress names `part`, if there is one."""
    proxies = _proxies(scene, names)
    before = {name: scene.tools[name].accepted for name in names}
    for proxy in proxies:
        if way != "to_client":
            proxy.to_server.silence()
        if way != "to_server":
            proxy.to_client.silence()
    try:
        if part is not None:
            await Readiness(scene, scene.system.urls[0]).names(part)
        await for_seconds(_SILENT_SECONDS)
    finally:
        for proxy in proxies:
            proxy.speak()
    if part is not None:
        await until_accepted(scene)
    _count_new_connections(scene, before)


async def forget_connections(scene: Scene, names: Sequence[str]) -> None:
    """Let the connections that exist be half-open: the server drops them, and the clients are not informed."""
    before = {name: scene.tools[name].accepted for name in names}
    for proxy in _proxies(scene, names):
        proxy.forget_existing()
    await for_seconds(_SILENT_SECONDS)
    _count_new_connections(scene, before)


async def slow_down(scene: Scene, names: Sequence[str]) -> None:
    """Delay every byte in both directions."""
    before = _late_bytes(scene, names)
    for proxy in _proxies(scene, names):
        proxy.delay(_LATENCY_SECONDS)
    try:
        await for_seconds(_SLOW_SECONDS)
    finally:
        for proxy in _proxies(scene, names):
            proxy.delay(0)
    scene.causes["bytes came late"] += _late_bytes(scene, names) - before


def _late_bytes(scene: Scene, names: Sequence[str]) -> int:
    return sum(proxy.to_client.late_bytes for proxy in _proxies(scene, names))


async def reset_in_the_middle(scene: Scene, names: Sequence[str]) -> None:
    """Reset connections again and again, each after some more bytes have gone through."""
    before = {name: scene.tools[name].accepted for name in names}
    try:
        for _ in range(_RESETS):
            proxy: TcpProxy = scene.tools[scene.chance.choice(names)]
            direction = scene.chance.choice([proxy.to_server, proxy.to_client])
            direction.reset_after(scene.chance.randint(1, _MAX_BYTES_TO_RESET))
            await for_seconds(_RESET_EVERY_SECONDS)
    finally:
        # A direction in which little is sent would reset a connection in the next row.
        for proxy in _proxies(scene, names):
            proxy.to_server.reset_no_more()
            proxy.to_client.reset_no_more()
    _count_new_connections(scene, before)


async def refuse(scene: Scene, names: Sequence[str]) -> None:
    """Reset all connections and refuse new ones for some seconds, as a machine does on which no server listens."""
    proxies = _proxies(scene, names)
    before = {name: scene.tools[name].accepted for name in names}
    for proxy in proxies:
        await proxy.refuse()
        proxy.reset()
    try:
        await for_seconds(_SLOW_SECONDS)
    finally:
        for proxy in proxies:
            await proxy.listen()
    await wait_until(
        lambda: all(scene.tools[name].accepted > before[name] for name in names), message="all connect again"
    )
    _count_new_connections(scene, before)


def _new_connections(name: str) -> str:
    return f"new connections of {name}"


def _count_new_connections(scene: Scene, before: Mapping[str, int]) -> None:
    for name, accepted in before.items():
        scene.causes[_new_connections(name)] += scene.tools[name].accepted - accepted


def _row(
    id: str,
    fault: str,
    made_by: str,
    breaks: Callable[[Scene], Awaitable[None]],
    *causes: str,
    wait: float,
    recovery: float = 30.0,
) -> Row:
    return Row(
        id=id,
        fault=fault,
        made_by=f"a TCP proxy {made_by}",
        group=PROXIED,
        promises=OF_NETWORKS,
        breaks=breaks,
        max_wait_seconds=wait,
        max_recovery_seconds=recovery,
        causes=causes,
    )


def _silent(
    id: str,
    fault: str,
    names: Sequence[str],
    *causes: str,
    way: str = "both",
    part: str | None = None,
    wait: float,
    recovery: float = 30.0,
) -> Row:
    more = () if part is None else (f"readiness named the {part}",)
    breaks = functools.partial(silence, names=names, way=way, part=part)
    return _row(
        id, fault, f"keeps bytes back for {_SILENT_SECONDS:.0f} s", breaks, *causes, *more, wait=wait, recovery=recovery
    )


ROWS: Final[tuple[Row, ...]] = (
    _silent(
        "F9pa",
        "No byte passes between the ingress and the database",
        [DATABASE_OF_INGRESS],
        _new_connections(DATABASE_OF_INGRESS),
        part="database",
        wait=15.0,
    ),
    _silent(
        "F9pb",
        "No byte passes between the workers and the database",
        [DATABASE_OF_WORKERS],
        _new_connections(DATABASE_OF_WORKERS),
        wait=45.0,
    ),
    _silent(
        "F9pc",
        "No byte passes between any program and the database",
        DATABASE_BOTH,
        *map(_new_connections, DATABASE_BOTH),
        part="database",
        wait=45.0,
    ),
    _silent(
        "F9pd",
        "The database gets everything, and its answers are kept back",
        DATABASE_BOTH,
        *map(_new_connections, DATABASE_BOTH),
        way="to_client",
        part="database",
        wait=45.0,
    ),
    _silent(
        "F9pe",
        "No byte passes between any program and the broker",
        BROKER,
        *map(_new_connections, BROKER),
        part="broker",
        wait=60.0,
    ),
    _silent(
        "F9pf",
        "The broker gets everything, and its answers are kept back",
        BROKER,
        *map(_new_connections, BROKER),
        way="to_client",
        wait=60.0,
    ),
    _silent(
        "F9pg",
        "The broker gets nothing, and what it sends arrives",
        BROKER,
        *map(_new_connections, BROKER),
        way="to_server",
        wait=60.0,
    ),
    _row(
        "F9ph",
        "All connections to broker and database are half-open; new ones work",
        "resets them on the server's side, and closes nothing on the other",
        functools.partial(forget_connections, names=(*BROKER, *DATABASE_BOTH)),
        *map(_new_connections, (*BROKER, *DATABASE_BOTH)),
        wait=60.0,
    ),
    _row(
        "F9pi",
        "Broker and database answer 400 ms later",
        "delays each direction by 200 ms",
        functools.partial(slow_down, names=(*BROKER, *DATABASE_BOTH)),
        "bytes came late",
        wait=30.0,
    ),
    _row(
        "F9pj",
        "Connections to broker and database are reset in the middle of messages",
        f"resets one each {_RESET_EVERY_SECONDS:g} s after 1 to {_MAX_BYTES_TO_RESET:,} bytes",
        functools.partial(reset_in_the_middle, names=(*BROKER, *DATABASE_BOTH)),
        *map(_new_connections, (BROKER_OF_INGRESS, DATABASE_OF_WORKERS)),
        wait=45.0,
    ),
    _silent("F9pk", "No byte passes between the workers and Stripe", [STRIPE], _new_connections(STRIPE), wait=10.0),
    _row(
        "F9pl",
        "Connections to Stripe are reset in the middle of calls and answers",
        f"resets one each {_RESET_EVERY_SECONDS:g} s after 1 to {_MAX_BYTES_TO_RESET:,} bytes",
        functools.partial(reset_in_the_middle, names=[STRIPE]),
        _new_connections(STRIPE),
        wait=10.0,
    ),
    _silent(
        "F9pm",
        "No byte passes between the ingress and Redis",
        [REDIS],
        _new_connections(REDIS),
        wait=10.0,
    ),
    _row(
        "F9pn",
        "Redis is away",
        "refuses and resets connections",
        functools.partial(refuse, names=[REDIS]),
        _new_connections(REDIS),
        wait=10.0,
    ),
)
