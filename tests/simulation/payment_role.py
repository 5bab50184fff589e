"""The role `payments` as a process of the simulation has it: the real consumer and caller, with what is around them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from storage.pool import WorkerPool
from storage.settings import DatabaseSettings
from tests.simulation.database import Connection
from tests.simulation.log import LogClient
from tests.simulation.payment_claims import PAYMENTS
from tests.simulation.plan import Kind
from tests.simulation.process import Process
from tests.simulation.stripe_client import open_gateway
from workers.payments.caller import CONNECTIONS, POLL_SECONDS, Caller, CallerDependencies
from workers.payments.consumer import Payments
from workers.payments.settings import PaymentSettings
from workers.runtime.role import Role

if TYPE_CHECKING:
    from tests.simulation.world import World

SETTINGS: Final = PaymentSettings(environment="development", _env_file=None, _secrets_dir=None)
_DATABASE: Final = DatabaseSettings(_env_file=None, _secrets_dir=None)
_LEND_SECONDS: Final = 5.0
#: Measurements and reports of the circuit are made so many times less often than in production.
_SLOWER: Final = 600.0


class Pool:
    """`storage.pool.WorkerPool`: lends at most so many connections, and none that is broken."""

    max_size = CONNECTIONS

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.drop()

    def get_stats(self) -> dict[str, int]:
        """Return nothing: nobody measures this pool."""
        return {}

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection."""
        try:
            async with asyncio.timeout(_LEND_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise PoolTimeout("all connections are in use (simulated)") from None
        try:
            connection = await self._connection()
            with self._lent(connection):
                yield cast("AsyncConnection", connection)
        finally:
            self._free.release()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_broken:
                return connection
        await self._process.step(Kind.BEGIN, lambda: None)
        return Connection(self._world.database, self._process)

    @contextmanager
    def _lent(self, connection: Connection) -> Iterator[None]:
        try:
            yield
        finally:
            if not connection.is_broken:
                self._idle.append(connection)


class Polls:
    """Waits until a poll would find a call that is due, in place of a look each second for nothing."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self._chance = world.plan.chance(f"polls {process.name}")
        self._times = world.database.rows.due.values()
        self._woken: asyncio.Event | None = None
        self._until: datetime | None = None
        #: Counts the looks that are planned: only the last of them is made.
        self._looks = 0
        world.database.rows.at_due[self._note] = None
        process.at_death.append(lambda: world.database.rows.at_due.pop(self._note, None))

    async def wait_for(self, woken: asyncio.Event, seconds: float) -> None:
        """Wait until woken, or for the next poll that would find something; `seconds` are between two polls."""
        await self._process.pause(seconds * 0.5)
        self._woken = woken
        self._plan_look()
        await woken.wait()
        self._woken = None
        await self._process.pause(0)

    def would_find(self) -> bool:
        """Return whether a poll would find a call that is due."""
        now = self._world.now()
        return any(time <= now for times in self._times for time in times.values())

    def _note(self, at: datetime) -> None:
        """Look sooner if a call becomes due before the one for which this worker waits."""
        if self._woken is not None and (self._until is None or at < self._until):
            self._plan_look()

    def _plan_look(self) -> None:
        self._looks += 1
        self._until = min((time for times in self._times for time in times.values()), default=None)
        if self._until is not None:
            left = max((self._until - self._world.now()).total_seconds(), 0.0)
            self._world.later(left + self._chance.random() * POLL_SECONDS, partial(self._look, self._looks))

    def _look(self, number: int) -> None:
        if self._woken is None or number != self._looks or not self._process.is_alive:
            return
        if self.would_find():
            self._woken.set()
        else:
            self._plan_look()


def payments_role(world: "World", process: Process) -> Role:
    """Return the role for one life of a process."""
    polls = Polls(world, process)

    async def sleep(seconds: float) -> None:
        await process.pause(seconds * _SLOWER)

    def open_log(*_: object) -> Any:
        return LogClient(process, world.log)

    dependencies = CallerDependencies(
        statements=PAYMENTS,
        open_pool=lambda _: cast("WorkerPool", Pool(world, process)),
        open_log=open_log,
        open_gateway=lambda _, breaker: open_gateway(process, world.stripe.books, breaker),
        wait_for=polls.wait_for,
        sleep=sleep,
        now=world.now,
    )
    caller = Caller(world.kafka, _DATABASE, SETTINGS, clock=world.time, dependencies=dependencies)
    consumer = Payments(world.kafka, SETTINGS, PAYMENTS)

    def wake() -> None:
        # The consumer wakes the caller after each batch; most batches ask for no call.
        if polls.would_find():
            caller.wake()

    return Role(name="payments", consumers=(consumer,), background=caller.run, committed=wake)
