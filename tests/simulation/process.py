"""A process that may be killed or frozen at each step that it takes in the world: at every await of its code."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
import stripe
from aiokafka.errors import KafkaConnectionError

from tests.simulation.plan import Fault, Kind

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

#: The longest time for which a process is frozen, or a step takes; beyond all limits of sessions and transactions.
_MAX_FROZEN_SECONDS: Final = 45.0
_MAX_SLOW_SECONDS: Final = 12.0
_MAX_LATE_SECONDS: Final = 40.0
_MAX_AWAY_SECONDS: Final = 30.0
_MAX_STRIPE_AWAY_SECONDS: Final = 240.0
_MAX_USUAL_SECONDS: Final = 0.02
#: The share of steps that take some time, so that others run meanwhile.
_STEPS_WITH_TIME: Final = 0.12
#: A step takes so long at least that finds the broker or the database away.
_TRY_SECONDS: Final = 0.2


class Killed(BaseException):
    """The process is dead: nothing that its code still does has an effect."""


class Process:
    """One life of a process. `name` stays the same over its lives."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = True
        self.frozen_until = 0.0
        # A dict keeps the order of its keys, which a set of objects does not: that order decides what happens.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.at_death: list[Callable[[], None]] = []
        self.at_freeze: list[Callable[[float], None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a part of this process; its error ends the process."""
        task = asyncio.get_running_loop().create_task(self._part(work))
        self._tasks[task] = None
        task.add_done_callback(lambda _: self._forget(task, work))
        return task

    def _forget(self, task: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
        self._tasks.pop(task, None)
        work.close()  # A task that was cancelled before its first step has never awaited it.

    async def _part(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (Killed, asyncio.CancelledError):
            if self.is_alive:
                raise
        except Exception as error:  # noqa: BLE001 - as `stop_hard` ends a real process
            if self.is_alive:
                self.world.note_stop(self, error)
                self.kill()

    def kill(self) -> None:
        """End the process at once: `kill -9`. Its sockets are closed, nothing of its code has an effect any more."""
        if not self.is_alive:
            return
        self.is_alive = False
        for end in self.at_death:
            end()
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()

    def freeze(self, seconds: float) -> None:
        """Let no step of the process be done for some time: SIGSTOP."""
        self.frozen_until = max(self.frozen_until, self.world.time() + seconds)
        for note in self.at_freeze:
            note(seconds)

    async def pause(self, seconds: float) -> None:
        """Wait as a part of this process, and while it is frozen.

        Raises:
            Killed: the process died meanwhile.
        """
        if seconds:
            await asyncio.sleep(seconds)
        while (left := self.frozen_until - self.world.time()) > 0:
            await asyncio.sleep(left)
        if not self.is_alive:
            raise Killed

    async def step(self, kind: Kind, effect: Callable[[], T], *, in_part: Callable[[], object] | None = None) -> T:
        """Do one thing to the world: wait for what it takes, have the effect, and get the answer, or a fault.

        `in_part` is a part of the effect; of a call to Stripe, the one whose answer has status 500.
        """
        world = self.world
        if not self.is_alive:
            raise Killed
        chance = world.faults.chance
        if self.frozen_until and self.frozen_until > world.time():
            await self.pause(0)
        elif chance.random() < _STEPS_WITH_TIME:
            await self.pause(chance.random() * _MAX_USUAL_SECONDS)
        fault = world.faults.at(kind)
        world.note_step()
        if world.is_away(kind):
            await self.pause(_TRY_SECONDS + chance.random())
            raise _error(kind)
        if fault is None:
            return effect()
        return await self._faulty(fault, kind, effect, in_part)

    async def _faulty(
        self, fault: Fault, kind: Kind, effect: Callable[[], T], in_part: Callable[[], object] | None
    ) -> T:
        """Do a step during which something happens."""
        if fault is Fault.CRASH_BEFORE or fault is Fault.CRASH_AFTER:
            if fault is Fault.CRASH_AFTER:
                effect()
            self.kill()
            raise Killed
        if fault is Fault.FREEZE_AFTER:
            answer = effect()
            await self._hold_up(fault)
            return answer
        if fault is Fault.FREEZE_BEFORE or fault is Fault.SLOW:
            await self._hold_up(fault)
        else:
            self._fail(fault, kind, effect, in_part)
        if self.world.is_away(kind):
            raise _error(kind)
        return effect()

    async def _hold_up(self, fault: Fault) -> None:
        chance = self.world.faults.chance
        if fault is Fault.SLOW:
            await self.pause(chance.random() * _MAX_SLOW_SECONDS)
        else:
            self.freeze(chance.random() * _MAX_FROZEN_SECONDS)
            await self.pause(0)

    def _fail(
        self, fault: Fault, kind: Kind, effect: Callable[[], object], in_part: Callable[[], object] | None
    ) -> None:
        """Raise the error of a step that fails, or take something away from all processes."""
        chance, world = self.world.faults.chance, self.world
        match fault:
            case Fault.REBALANCE:
                world.rebalance()
            case Fault.DATABASE_AWAY:
                world.take_database(chance.random() * _MAX_AWAY_SECONDS)
            case Fault.BROKER_AWAY:
                world.take_broker(chance.random() * _MAX_AWAY_SECONDS)
            case Fault.STRIPE_AWAY:
                world.take_stripe(chance.random() * _MAX_STRIPE_AWAY_SECONDS)
            case Fault.ANSWER_LOST:
                effect()
                raise _error(kind)
            case Fault.IN_PART | Fault.SERVER_ERROR if in_part is not None:
                in_part()
                raise _error(kind)
            case Fault.LATE:
                world.later(chance.random() * _MAX_LATE_SECONDS, effect)
                raise _error(kind)
            case _:
                raise _ERRORS[fault]() if fault in _ERRORS else _error(kind)


class FetchFault(Exception):
    """Records of a fetch are lost, or fetched twice."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


#: The errors of faults that name one.
_ERRORS: Final[Mapping[Fault, Callable[[], Exception]]] = {
    Fault.SERIALIZATION: lambda: psycopg.errors.SerializationFailure("could not serialize access (simulated)"),
    Fault.TOO_SLOW: lambda: psycopg.errors.QueryCanceled("canceling statement due to statement timeout (simulated)"),
    Fault.FETCHED_TWICE: lambda: FetchFault(Fault.FETCHED_TWICE),
    Fault.FETCH_LOST: lambda: FetchFault(Fault.FETCH_LOST),
    Fault.RATE_LIMITED: lambda: stripe.RateLimitError("too many requests (simulated)", http_status=429),
}


def _error(kind: Kind) -> Exception:
    """Return the error with which a client of a server reports a broken connection."""
    if kind is Kind.CALL:
        return stripe.APIConnectionError("connection lost (simulated)", should_retry=True)  # type: ignore[no-untyped-call]
    if kind in {Kind.SEND, Kind.READ}:
        error: Exception = KafkaConnectionError("connection lost (simulated)")
        return error
    return psycopg.OperationalError("connection lost (simulated)")
