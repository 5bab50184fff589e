"""One run of the simulation: the world, its people, its processes, and what the auditor finds."""

import asyncio
import contextlib
import gc
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from storage.bookings import BOOKING_COLUMNS
from storage.inventory import NIGHT_COLUMNS
from tests.faults.row import Promise
from tests.simulation import statements
from tests.simulation.auditor import Auditor
from tests.simulation.database import Database, Statement
from tests.simulation.log import SimulatedLog, SimulatedRecord
from tests.simulation.loop import run
from tests.simulation.payment_role import payments_role
from tests.simulation.people import Host, Visitor, opening
from tests.simulation.plan import Fault, Faults, Kind, Plan
from tests.simulation.process import Killed, Process
from tests.simulation.roles import Expiry, Group
from tests.simulation.stripe_guests import Stripe
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, DEAD_LETTERS
from topics.envelope import Outgoing, command_record
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import Command
from workers.coordination.consumer import Coordination
from workers.reservations.handler import Reservations
from workers.runtime.role import Role

PARTITIONS: Final = 4
_STATUS: Final = list(BOOKING_COLUMNS).index("status")
_VERSION: Final = list(BOOKING_COLUMNS).index("version")
_REFUSED, _LOST, _LATE, _TWICE = 0.01, 0.01, 0.01, 0.01
_HASHED: Final = (
    *("booking", "inventory", "promo_code", "hotel_document", "log_cursor"),
    *("checkout_session", "refund", "payment_refund"),
)
_SETTLING_SECONDS: Final = 3 * 3_600.0
#: A run that takes more steps for each visitor does not come to rest.
_MAX_STEPS_OF_A_VISITOR: Final = 3_000


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run, with the promises that it broke."""

    plan: Plan
    problems: tuple[str, ...]
    #: A hash of every record and every row.
    history: str
    visitors: int
    steps: int
    faults: Counter[Fault]
    #: The numbers of the faults that happened.
    fault_numbers: tuple[int, ...]
    events: Counter[str]
    #: All statements, if this result is of a recorded plan.
    statements: list[Statement] | None
    database: Database


class World:
    """The system with all that is around it."""

    def __init__(self, plan: Plan, *, records: bool = False) -> None:
        self.plan = plan
        self._begins_at = plan.begins_at
        self.faults = Faults(plan)
        self._max_steps = int(_MAX_STEPS_OF_A_VISITOR * (50 + plan.hours * plan.visitors_per_hour))
        self.kafka = KafkaSettings(topic_partitions=PARTITIONS, _env_file=None)
        self._loop = asyncio.get_running_loop()
        self.log = SimulatedLog(PARTITIONS, lambda: int(self.now().timestamp() * 1000))
        self.database = Database(self.time, self._time_of, records=records)
        self.auditor = Auditor(*(self.kafka.topic(topic) for topic in (BOOKING_EVENTS, BOOKING_COMMANDS, DEAD_LETTERS)))
        self.stripe = Stripe(self)
        self._commands = self.kafka.topic(BOOKING_COMMANDS)
        self._database_until = self._broker_until = self._stripe_until = 0.0
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: Done at the first problem: others would only follow from it.
        self._enough: asyncio.Future[None] = self._loop.create_future()
        self.visitors = 0
        self.log.readers.append(self._read)

    # Time.

    def time(self) -> float:
        """Return the seconds since the beginning."""
        return self._loop.time()

    def now(self) -> datetime:
        """Return the time (UTC)."""
        return self._time_of(self._loop.time())

    def _time_of(self, seconds: float) -> datetime:
        return self._begins_at + timedelta(seconds=seconds)

    def note_step(self) -> None:
        """Note a step of a process; end the run if there are far too many."""
        if self.faults.steps > self._max_steps and not self._enough.done():
            self.auditor.problem(Promise.IT_RECOVERS, f"{self.faults.steps} steps, and no end")
            self._end_at_problem()

    def later(self, seconds: float, effect: Callable[[], object]) -> None:
        """Call a function after some seconds."""
        self._loop.call_later(seconds, effect)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a story beside the others; the run ends when all have ended."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note an error that nobody awaits, such as one in a callback of a timer; not the end of a killed process."""
        error = context.get("exception")
        if error is not None and not isinstance(error, Killed):
            self.auditor.problems.append(f"the simulation itself failed: {context['message']}: {error!r}")
            self._end_at_problem()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.auditor.problems.append(f"the simulation itself failed: {error!r}")

    # Faults of everything.

    def is_away(self, kind: Kind) -> bool:
        """Return whether the server of such a step is away."""
        if kind is Kind.SEND or kind is Kind.READ:
            return self._loop.time() < self._broker_until
        return self._loop.time() < (self._stripe_until if kind is Kind.CALL else self._database_until)

    def take_database(self, seconds: float) -> None:
        """Kill the database; it comes back with what was committed."""
        self._database_until = max(self._database_until, self.time() + seconds)
        self.database.restart()

    def take_broker(self, seconds: float) -> None:
        """Let no client reach the broker for a while."""
        self._broker_until = max(self._broker_until, self.time() + seconds)

    def take_stripe(self, seconds: float) -> None:
        """Let no worker reach Stripe for a while; guests do."""
        self._stripe_until = max(self._stripe_until, self.time() + seconds)

    def rebalance(self) -> None:
        """Let the partitions of all groups change hands."""
        for group in self._groups:
            group.rebalance()

    def note_stop(self, process: Process, error: Exception) -> None:
        """Note that a process ended with an error: the product ends so when it finds that something is wrong."""
        self.auditor.problem(Promise.IT_RECOVERS, f"{process.name} ended with {type(error).__name__}: {error}")
        self._end_at_problem()

    def _end_at_problem(self) -> None:
        if self.auditor.problems and not self._enough.done():
            self._enough.set_result(None)

    # The front, in place of the ingress.

    async def ask(self, command: Command, id: str, chance: Random) -> None:
        """Send a command until it is accepted, under one id, as a client with an Idempotency-Key does."""
        record = command_record(self._commands, command, id=id, source="innkeeper/ingress", time=self.now())
        while True:
            await self.sleep(chance.random() * 0.05)
            what = chance.random()
            if self.is_away(Kind.SEND) or (what < _REFUSED and not self.faults.are_over):
                await self.sleep(1 + chance.random() * 4)
                continue
            if what < _REFUSED + _LATE and not self.faults.are_over:
                self.later(chance.random() * 40, lambda: self.log.append(record))
                await self.sleep(5)
                continue
            self.log.append(record)
            if what < _REFUSED + _LATE + _LOST and not self.faults.are_over:
                await self.sleep(5)
                continue
            self.auditor.promise(id)
            return

    def send_unreadable(self, key: bytes, value: bytes) -> None:
        """Send bytes that are no command."""
        self.auditor.expect_dead_letter(value)
        self.log.append(Outgoing(self._commands, key, value, []))

    def look(self, booking_id: UUID) -> str | None:
        """Return a booking's status as its guest sees it."""
        row = self.database.rows.get("booking", booking_id)
        if row is None:
            return None
        self.auditor.see(str(booking_id), row[_VERSION])
        return str(row[_STATUS])

    async def next_event(self, booking_id: UUID, seconds: float) -> None:
        """Wait for an event of a booking, or for so long."""
        future = self._loop.create_future()
        self._waiting.setdefault(str(booking_id), []).append(future)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await future

    def _read(self, record: SimulatedRecord) -> None:
        found = self.auditor.read(record)
        self._end_at_problem()
        if found is not None:
            _, event = found
            for future in self._waiting.pop(event.get("booking_id", ""), ()):
                if not future.done():
                    future.set_result(None)

    # The run.

    async def live(self) -> Result:
        """Let everything happen, and audit it."""
        self._loop.set_exception_handler(self._note_error)
        self._groups = [
            Group(self, "reservations", self._reservations, 2),
            Group(self, "coordination", self._coordination, 2),
            Group(self, "payments", lambda process: payments_role(self, process), 2),
        ]
        Expiry(self)
        whole = self._loop.create_task(self._live())
        await asyncio.wait([whole, self._enough], return_when=asyncio.FIRST_COMPLETED)
        if whole.done():
            whole.result()
        self.faults.are_over = True
        return self._result()

    async def _live(self) -> None:
        chance = self.plan.chance("arrivals")
        for number, command in enumerate(opening(self.now().date())):
            await self.ask(command, f"open:{number}", chance)
        await self.sleep(60)
        self.spawn(Host(self).story(self.plan.hours))
        self.spawn(self.stripe.share_account(self.plan.hours))
        end = self.time() + self.plan.hours * 3_600
        while True:
            await self.sleep(chance.expovariate(self.plan.visitors_per_hour / 3_600))
            if self.time() >= end:
                break
            self.visitors += 1
            if self.plan.visitors is None or self.visitors in self.plan.visitors:
                self.spawn(Visitor(self, self.visitors).story())
        await self._until_quiet()
        await self._settle()

    async def _settle(self) -> None:
        """Let all faults end and all that is on its way arrive; then nothing may be left undone."""
        self.faults.are_over = self.stripe.books.is_kind = True
        await self.sleep(_SETTLING_SECONDS)
        await self._until_quiet()
        probe = Visitor(self, 0)
        await self.ask(probe.wish_for_certain(), "probe", Random(0))
        await self.sleep(60)
        if self.look(probe.booking_id) is None:
            self.auditor.problem(Promise.IT_RECOVERS, "a booking after the faults is not decided")
        await self.sleep(_SETTLING_SECONDS)
        self.auditor.check_settled(self.now())
        self.auditor.money.check_money(self.stripe.payments(), self.auditor.due())
        self.auditor.documents.check(self.auditor.documented(self.stripe.payments()))
        self.auditor.money.check_sessions(self.stripe.sessions())
        self.auditor.money.check_calls(self._calls())
        self.auditor.compare_nights(self._night_rows())
        self.auditor.compare_bookings(
            {str(id): row[_STATUS] for id, row in self.database.rows.table("booking").items()}
        )

    async def _until_quiet(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _night_rows(self) -> dict[Any, tuple[int, int, int, int]]:
        names = list(NIGHT_COLUMNS)
        at = [names.index(f"{name}_count") for name in ("total", "booked", "reserved", "blocked")]
        rows = self.database.rows.table("inventory")
        return {key: (row[at[0]], row[at[1]], row[at[2]], row[at[3]]) for key, row in rows.items()}

    def _calls(self) -> Iterator[tuple[str, str, bool]]:
        """Yield what the workers know of each call to Stripe: about what, its status, and whether it is due."""
        rows = self.database.rows
        for booking_id, sessions in rows.table("checkout_session").items():
            for attempt, row in sessions.items():
                yield f"session {attempt} of {booking_id}", row["status"], row["next_attempt_at"] is not None
        for payment_intent, row in rows.table("refund").items():
            yield f"refund of {payment_intent}", row["status"], row["next_attempt_at"] is not None

    def _reservations(self, _: Process) -> Role:
        return Role("reservations", (Reservations(self.kafka, statements.LEDGER),))

    def _coordination(self, _: Process) -> Role:
        return Role("coordination", (Coordination(self.kafka, statements.LEDGER),))

    def _result(self) -> Result:
        history = self.log.history.copy()
        for name in _HASHED:
            table = self.database.rows.table(name)
            for key in sorted(table, key=str):
                history.update(repr(table[key]).encode())
        return Result(
            plan=self.plan,
            problems=tuple(self.auditor.problems),
            history=history.hexdigest(),
            visitors=self.visitors,
            steps=self.faults.steps,
            faults=self.faults.happened,
            fault_numbers=tuple(self.faults.numbers),
            events=self.auditor.events,
            statements=self.database.recorded,
            database=self.database,
        )


def simulate(plan: Plan, *, records: bool = False) -> Result:
    """Run a plan. `records`: keep the statements of all transactions."""

    async def live() -> Result:
        return await World(plan, records=records).live()

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    # A run makes millions of objects, and nearly all of them without cycles.
    gc.collect()
    gc.disable()
    # The jitter of delays, which is the one chance that the product has.
    state = random.getstate()
    random.seed(f"{plan.seed}:{plan.week}")
    try:
        return run(live(), f"{plan.seed}:{plan.week}")
    finally:
        random.setstate(state)
        gc.enable()
        logging.disable(level)
