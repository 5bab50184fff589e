"""A running system under load: a calibration without a fault, then one row after the other, each judged by itself.

async with opened(group, folder, seed) as stage:
quiet = await stage.calibrate()
facts = await stage.play(row.id, row.breaks)
found = await stage.audit()
"""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from sandbox.system import System
from tests.faults.holds import MARGIN_SECONDS, Expired, Holds, ended_late
from tests.faults.judging import Facts
from tests.faults.room_model import RoomModel, out_of_order
from tests.faults.row import Group, Scene
from tests.support.program_logs import ProgramLogs
from tests.system.deploy.guests import Guests
from tests.system.pipeline import chaos, log, reckoning
from tests.system.pipeline.chaos import Compared, Verdict
from tests.system.pipeline.load import NO_ANSWER, Guest, Promises, Town
from tests.system.pipeline.visitors import visitor

GUESTS: Final = 2
VISITORS_A_SECOND: Final = 3.0
MAX_VISITORS: Final = 25
#: So long each row's load lasts before its fault.
BEFORE_SECONDS: Final = 3.0
#: So long the load of the calibration lasts.
CALIBRATION_SECONDS: Final = 10.0
#: No load lasts longer.
MAX_LOAD_SECONDS: Final = 300.0
#: A new booking is tried so often until one is confirmed.
PROBE_EVERY_SECONDS: Final = 1.0
#: After this no booking is waited for any more.
MAX_RECOVERY_SECONDS: Final = 120.0
#: An operator's command over the log of a group takes seconds.
_MAX_COMMAND_SECONDS: Final = 120.0

#: The line of the sandbox about a part that ended; one that others ended, or that ended in order, is another matter.
_ENDED: Final = r"^\S+ ended \((?!SIGKILL|SIGTERM|exit status (?:0|143)\b)"

Breaks = Callable[[Scene], Awaitable[None]]


@dataclass(kw_only=True)
class Stage:
    """One running system, for all rows of its group."""

    system: System
    town: Town
    guests: Guests
    tools: Mapping[str, Any]
    seed: int
    model: RoomModel = field(default_factory=RoomModel)
    holds: Holds = field(default_factory=Holds)
    #: How many events of each partition the model has applied.
    applied: Counter[int] = field(default_factory=Counter)
    numbers: Any = field(default_factory=count)
    #: The doubles on the log before the present row.
    republished: int = 0

    async def calibrate(self) -> Facts:
        """Play a row without a fault."""

        async def nothing(scene: Scene) -> None:
            await asyncio.sleep(CALIBRATION_SECONDS)

        return await self.play("calibration", nothing)

    async def play(self, name: str, breaks: Breaks) -> Facts:
        """Make a fault under load, let everything settle, and return what is left behind."""
        scene, logs = self._new_scene(name), ProgramLogs(self.system.logs)
        commands_before = await log.ends(self.system.kafka_url, [reckoning.COMMANDS])
        dead_letters_before = await self._dead_letters()
        began = time.monotonic()
        fault_seconds, recovery_seconds = await self._under_load(name, scene, breaks)
        scene.figures.setdefault("load", f"{time.monotonic() - began:.0f} s")
        verdict = Verdict(self.seed, 0.0, Counter())
        await chaos.everything_runs(self.system)
        verdict.unsettled = await chaos.settled(self.system, self.town)
        compared = await chaos.compare(self.system, self.town, verdict)
        since = {partition: end for (_, partition), end in commands_before.items()}
        commands = [each for each in compared.commands if each.offset >= since.get(each.partition, 0)]
        republished, self.republished = verdict.doubles - self.republished, verdict.doubles
        return Facts(
            promised=len(self.town.promises.bookings),
            decided=sum(
                compared.by_ledger.get(booking, "PENDING") not in {"PENDING", *reckoning.HOLDING}
                for booking in self.town.promises.bookings
            ),
            found=self._found(scene, verdict, compared, fault_seconds + (recovery_seconds or 0.0)),
            republished=republished,
            dead_letters=await self._dead_letters() - dead_letters_before,
            answers=self._answers(),
            longest_wait_seconds=(
                longest_wait_by_wall(self.guests)
                if scene.log_time_leaps
                else reckoning.longest_wait_seconds(commands, compared.published)
            ),
            guest_wait_seconds=longest_wait_by_wall(self.guests),
            recovery_seconds=recovery_seconds,
            fault_seconds=fault_seconds,
            causes=scene.causes,
            figures=scene.figures,
            ended=ended_by_themselves(logs),
        )

    async def audit(self) -> Mapping[str, list[str]]:
        """Return the problems that the operators' audit finds, and those of each read model that is rebuilt beside."""
        verdict = Verdict(self.seed, 0.0, Counter())
        _, (status, output) = await asyncio.gather(
            chaos.audit(self.system, verdict), self._innkeeper("rebuild", "all", "--compare-only", "--json")
        )
        rebuilt = [] if status == 0 else [output or "the rebuild printed nothing"]
        return {"audit": audit_problems(verdict), "rebuilt": rebuilt}

    def _new_scene(self, name: str) -> Scene:
        """Forget what guests were promised before: all of it was judged."""
        self.town.promises = Promises()
        guests = Guests(self.town.http, self.guests.url, self.town.rooms, self.town.first_day)
        guests.token = self.guests.token
        self.guests = guests
        chance = random.Random(f"{self.seed}:{name}")
        return Scene(system=self.system, town=self.town, guests=guests, chance=chance, tools=self.tools)

    async def _under_load(self, name: str, scene: Scene, breaks: Breaks) -> tuple[float, float | None]:
        """Return how long the fault lasted, and how long after it a new booking was confirmed."""
        town, guests = self.town, self.guests
        stopped, recovery_seconds = asyncio.Event(), None
        recovering: asyncio.Task[float | None] | None = None
        load_seed = scene.chance.getrandbits(32)
        async with asyncio.TaskGroup() as together:
            together.create_task(
                town.live(
                    load_seed,
                    MAX_LOAD_SECONDS,
                    VISITORS_A_SECOND,
                    chaos.FINISH_SECONDS,
                    visitor,
                    stopped=stopped,
                    at_once=MAX_VISITORS,
                )
            )
            for _ in range(GUESTS):
                together.create_task(guests.book_until(stopped, self.numbers))
            try:
                await asyncio.sleep(BEFORE_SECONDS)
                await guests.every_room_decides()
                began = ended = time.monotonic()

                def over() -> None:
                    nonlocal ended, recovering
                    if recovering is not None:
                        recovering.cancel()
                    ended = time.monotonic()
                    recovering = together.create_task(first_confirmed(town, name))

                scene.over = over
                await breaks(scene)
                if recovering is None:
                    over()
                await guests.every_room_decides()
                assert recovering is not None
                recovery_seconds = await recovering
            finally:
                stopped.set()
        for booking in guests.bookings:
            town.promises.booked(booking, None, guests.asked[booking])
        town.promises.decided.update(guests.decided)
        return ended - began, recovery_seconds

    def _found(
        self, scene: Scene, verdict: Verdict, compared: Compared, disturbed_seconds: float
    ) -> Mapping[str, list[str]]:
        """Return every problem, by what it is about; `disturbed_seconds` the fault lasted, with the recovery."""
        promises = self.town.promises
        known = len(self.model.problems)
        expired: list[Expired] = []
        for partition, events in compared.published.items():
            new = events[self.applied[partition] :]
            for event in new:
                self.model.apply(event)
            expired += self.holds.apply(new)
            self.applied[partition] = len(events)
        if expired and not scene.log_time_leaps:
            latest = max(each.late_seconds for each in expired)
            scene.figures["the latest end of a hold"] = f"{latest:.1f} s after its deadline"
        return {
            "scene": scene.problems,
            "lost": verdict.lost,
            "sold_twice": verdict.sold_twice,
            "keys_broken": promises.broken_keys(),
            "trips_torn": verdict.trips_torn,
            "codes_overused": verdict.codes_overused,
            "money_wrong": verdict.money_wrong,
            "gone_back": promises.gone_back(),
            "log_wrong": verdict.log_wrong,
            "surprises": promises.surprises + self.guests.unexpected,
            "unsettled": verdict.unsettled,
            "holds": [] if scene.log_time_leaps else ended_late(expired, MARGIN_SECONDS + disturbed_seconds),
            "rooms": self.model.problems[known:],
            "order": out_of_order(self.model.decisions, promises.asked, promises.decided),
        }

    def _answers(self) -> Counter[str]:
        answers = Counter(self.town.promises.answers)
        answers.update({str(status): number for status, number in self.guests.statuses.items()})
        answers[NO_ANSWER] += len(self.guests.unanswered)
        return +answers

    async def _innkeeper(self, *arguments: str) -> tuple[int, str]:
        """Run an operator's command; return its exit status and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "operators",
            *arguments,
            env={**os.environ, **self.system.environment()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _MAX_COMMAND_SECONDS)
        except (asyncio.CancelledError, TimeoutError):
            with suppress(ProcessLookupError):
                process.kill()
            raise
        return process.returncode or 0, output.decode(errors="replace").strip()

    async def _dead_letters(self) -> int:
        return sum((await log.ends(self.system.kafka_url, [reckoning.DEAD_LETTERS])).values())


def ended_by_themselves(logs: ProgramLogs) -> Counter[str]:
    """Return how often each part ended with a failure of its own, by the lines of the sandbox."""
    return Counter(line.split()[0] for line in logs.lines("sandbox", _ENDED))


def longest_wait_by_wall(guests: Guests) -> float:
    """Return the longest time between a guest's request and the decision as the guest saw it, in seconds."""
    return max((seen - guests.asked[booking] for booking, seen in guests.decided.items()), default=0.0)


def audit_problems(verdict: Verdict) -> list[str]:
    """Return the problems of an audit that failed, one at least."""
    if verdict.audit == "ok":
        return []
    return verdict.audit_problems or ["the audit failed, and named no problem"]


async def first_confirmed(town: Town, name: str) -> float | None:
    """Book again and again as a guest would, each time from the start; return when the first was confirmed."""
    clock = asyncio.get_running_loop().time
    began = clock()
    until = began + MAX_RECOVERY_SECONDS
    waiting: set[asyncio.Task[bool]] = set()
    try:
        for number in count():
            guest = Guest(town, random.Random(f"{name}:{number}"), f"probe-{name}-{time.time_ns()}", until)
            waiting.add(asyncio.create_task(guest.is_confirmed()))
            done, waiting = await asyncio.wait(
                waiting, timeout=PROBE_EVERY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if any(task.result() for task in done):
                return clock() - began
            if clock() > until:
                return None
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return None


@asynccontextmanager
async def opened(group: Group, folder: Path, seed: int) -> AsyncIterator[Stage]:
    """Run the system of a group, with its town and its guests, for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        plan = group.plan(folder)
        if group.around is not None:
            plan = await stack.enter_async_context(group.around(plan))
        system = await stack.enter_async_context(System(plan))
        tools = {} if group.tools is None else await stack.enter_async_context(group.tools(system))
        town = await stack.enter_async_context(chaos.settled_town(system))
        guests = Guests(town.http, system.url, town.rooms, town.first_day)
        await guests.log_in()
        yield Stage(system=system, town=town, guests=guests, tools=tools, seed=seed)
