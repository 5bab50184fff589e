"""Runs a soak: a system of its own, steady load, a fault every few minutes, samples all the while, and a judgement."""

import asyncio
import os
import platform
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

from sandbox.system import Plan, System
from tests.soak import canaries
from tests.soak.samples import SampleFile
from tests.soak.sampling import Sampler
from tests.soak.visits import Person, come_and_go, measure
from tests.system.pipeline import chaos
from tests.system.pipeline.faults import MENU, Dish, Fault, inject, say
from tests.system.pipeline.load import Town
from tests.system.pipeline.visitors import visitor

SAMPLE_SECONDS: Final = 15.0
WAIT_SECONDS: Final = 5.0
SESSION_SECONDS: Final = 4.0
ACCOUNTS: Final = 120
PEOPLE: Final = 12
#: Rows that are too old are planted at the beginning and so often after it.
PLANT_SECONDS: Final = 600.0
#: Bookings are for days that go on by so many while the run lasts, so that rooms do not run out.
DAYS_AHEAD: Final = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """The length of a run, its visitors a second, and the time from one fault to the next."""

    hours: float
    per_second: float
    fault_minutes: float
    seed: int
    commit: str
    note: str = ""

    @property
    def seconds(self) -> float:
        """How long the load lasts."""
        return self.hours * 3600


def timetable(seed: int, seconds: float, every_seconds: float) -> list[Fault]:
    """Return one fault every so often: of each family in any order, then again; none at the beginning and the end."""
    chance = random.Random(f"soak {seed}")
    waiting: list[Dish] = []
    faults = []
    for number in range(1, int(seconds / every_seconds)):
        waiting = waiting or _one_of_each(chance)
        faults.append(waiting.pop().serve(chance, number * every_seconds))
    return faults


def _one_of_each(chance: random.Random) -> list[Dish]:
    families = sorted({dish.family for dish in MENU})
    dishes = [chance.choice([dish for dish in MENU if dish.family == family]) for family in families]
    chance.shuffle(dishes)
    return dishes


def plan(folder: Path, hours: float) -> Plan:
    """Return the system of a storm, with the settings that only a long run needs."""
    storm = chaos.plan(folder)
    # The load does not log in again: sessions are made, refreshed and ended by people of their own. Published records
    # are kept for six minutes, not for the days of a deployment, so that the table must not grow.
    return Plan(
        folder=storm.folder,
        workers=storm.workers,
        own_servers=True,
        quiet=True,
        environment={
            **storm.environment,
            "ACCESS_TOKEN_MINUTES": str(round(hours * 60) + 120),
            "OUTBOX_KEPT_HOURS": "0.1",
        },
    )


async def run(terms: Terms, folder: Path, file: SampleFile) -> chaos.Verdict:
    """Start a system in the folder, soak it, and judge what is left; every line goes to the file."""
    faults = timetable(terms.seed, terms.seconds, terms.fault_minutes * 60)
    verdict = chaos.Verdict(terms.seed, terms.seconds, Counter(fault.family for fault in faults))
    async with (
        System(plan(folder, terms.hours)) as system,
        chaos.settled_town(system, ACCOUNTS) as town,
    ):
        file.append("run", **about(terms))
        await _soak(terms, system, town, faults, file)
        await chaos.judge(system, town, verdict)
        topics = await topics_are_as_wanted(system)
        file.append("verdict", **verdict.as_json(), holds=verdict.holds, problems=_few(verdict.problems), topics=topics)
    return verdict


def about(terms: Terms) -> dict[str, Any]:
    """Return the first line of the file: the terms of the run, its beginning and its commit."""
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "hours_wanted": terms.hours,
        "per_second": terms.per_second,
        "fault_minutes": terms.fault_minutes,
        "seed": terms.seed,
        "commit": terms.commit,
        "note": terms.note,
        "python": platform.python_version(),
        "accounts": ACCOUNTS,
        "sample_seconds": SAMPLE_SECONDS,
    }


async def _soak(terms: Terms, system: System, town: Town, faults: Sequence[Fault], file: SampleFile) -> None:
    """Let everybody come and everything break until the time is over."""
    people = [Person(town, f"passer-{number}") for number in range(PEOPLE)]
    for person in people:
        await person.sign_up()
    began = asyncio.get_running_loop().time()
    say(f"soak begins: {terms.hours:g} h, {terms.per_second:g} visitors a second, {len(faults)} faults")
    async with asyncio.TaskGroup() as together:
        besides = [
            together.create_task(measure(town, file, began, terms.seconds, WAIT_SECONDS)),
            together.create_task(come_and_go(town, people, SESSION_SECONDS)),
            together.create_task(_sample(system, file, began, terms.seconds)),
            together.create_task(_break(system, faults, file, began)),
            together.create_task(_plant(system, town.host.id, file, began)),
            together.create_task(_move_days(town, terms.seconds)),
        ]
        await town.live(terms.seed, terms.seconds, terms.per_second, chaos.FINISH_SECONDS, visitor)
        for task in besides:
            task.cancel()


async def _sample(system: System, file: SampleFile, began: float, seconds: float) -> None:
    """Take samples for as long as visitors come: afterwards the last ones only end their stories."""
    clock = asyncio.get_running_loop().time
    sampler = Sampler(system)
    for number in range(int(seconds / SAMPLE_SECONDS) + 1):
        await asyncio.sleep(max(0.0, began + number * SAMPLE_SECONDS - clock()))
        sample = await sampler.sample()
        with suppress(psycopg.Error):
            sample["canaries"] = await canaries.present(system.database_url)
        file.append("sample", at=round(clock() - began, 2), **sample)


async def _break(system: System, faults: Sequence[Fault], file: SampleFile, began: float) -> None:
    clock = asyncio.get_running_loop().time
    for fault in faults:
        await asyncio.sleep(max(0.0, began + fault.at_seconds - clock()))
        file.append("fault", at=round(clock() - began, 2), fault=str(fault).split(" s ", 1)[1])
        await inject(system, fault)


async def _plant(system: System, user_id: int, file: SampleFile, began: float) -> None:
    """Plant rows that are too old, and again; one that cannot be planted now is planted a little later."""
    clock = asyncio.get_running_loop().time
    while True:
        try:
            tables = await canaries.plant(system.database_url, user_id)
        except psycopg.Error:
            await asyncio.sleep(5)
            continue
        file.append("planted", at=round(clock() - began, 2), tables=tables)
        await asyncio.sleep(PLANT_SECONDS)


async def _move_days(town: Town, seconds: float) -> None:
    first = town.first_day
    for day in range(1, DAYS_AHEAD + 1):
        await asyncio.sleep(seconds / (DAYS_AHEAD + 1))
        town.first_day = first + timedelta(days=day)


async def topics_are_as_wanted(system: System) -> str:
    """Return "ok" if the broker keeps each topic for as long as the catalogue names, else the output of the check."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "topics",
        "check",
        env={**os.environ, **system.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return "ok" if process.returncode == 0 else output.decode(errors="replace")[-2_000:]


def _few(problems: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: found[:20] for name, found in problems.items()}
