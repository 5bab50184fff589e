"""Break everything under load, then see what is left: `python -m tests.system.pipeline.chaos --seed 1 --seconds 60`.

Starts a system of its own, lets seeded guests and their host book, pay, change and cancel stays and trips over HTTP
while a seeded schedule of faults harms its parts, then stops the faults, waits until everything has settled, and
compares their promises with the data. The last line on stdout is JSON; the exit status is 0 only if nothing was lost or
sold twice, no trip is torn, no promo code is overused, money at Stripe is explained by events, and all else holds.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import psycopg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sandbox.system import Plan, System
from tests.support.caps import WITHOUT_CAPS
from tests.support.hotels import HotelsInTables
from tests.support.money import unexplained
from tests.support.waiting import wait_until
from tests.system.pipeline import log, reckoning
from tests.system.pipeline.faults import RESERVATIONS, Fault, all_run, inject_all, say, schedule
from tests.system.pipeline.load import Guest, Room, Town
from tests.system.pipeline.visitors import CODE, HALF_PLAN, visitor

WORKERS: Final = {
    "reservations": len(RESERVATIONS),
    "payments": 1,
    "expiry": 1,
    "reconciliation": 1,
    "projections": 1,
    "coordination": 1,
}
GUESTS_A_SECOND: Final = 10.0
HOLD_SECONDS: Final = 8
ACCOUNTS: Final = 12
NIGHTS: Final = 30
#: How many rooms there are of each type, and how much guests want them: one that is hot, two scarce, the rest plenty.
STOCK: Final = ((25, 3.0), (8, 1.0), (8, 1.0), (5_000, 1.0), (5_000, 1.0), (5_000, 1.0), (5_000, 1.0), (5_000, 1.0))
#: By the plan that guests buy without naming one a cancellation is free, by the other it always costs a half.
TERMS: Final = {
    "version": 1,
    "capacity": 2,
    "plans": [
        {"id": "standard", "name": "Standard"},
        {
            "id": HALF_PLAN,
            "name": "Half back",
            "policy": {"id": HALF_PLAN, "steps": [{"hours_before": 366 * 24, "kept": {"percent": 50}}]},
        },
    ],
    "taxes": [
        {"id": "vat", "name": "VAT", "percent_milli": 7_000, "included": True},
        {"id": "cleaning", "name": "Cleaning", "kind": "fee", "amount_minor": 2_500},
    ],
}
#: More guests than this want the promo code, also in a short storm.
CODE_USES: Final = 4
#: How long guests whose requests were not answered go on asking after the last fault.
FINISH_SECONDS: Final = 60.0
#: A call to Stripe whose worker died is taken up again after 30 s, a webhook that was not taken within as long.
SETTLE_SECONDS: Final = 150.0
PROBE_SECONDS: Final = 180.0
READERS: Final = {
    "reservations": ["booking.commands"],
    "payments": ["booking.events", "stripe.webhooks"],
    "booking_timeline": ["booking.events"],
    "room_nights": ["booking.events"],
    "coordination": ["booking.events"],
}
_LOG: Final = (reckoning.COMMANDS, reckoning.EVENTS)


@dataclass
class Verdict:
    """The result. Every list that `problems` names must be empty."""

    seed: int
    seconds: float
    faults: Counter[str]
    promised: int = 0
    decided: int = 0
    lost: list[str] = field(default_factory=list)
    sold_twice: list[str] = field(default_factory=list)
    trips_torn: list[str] = field(default_factory=list)
    codes_overused: list[str] = field(default_factory=list)
    keys_broken: list[str] = field(default_factory=list)
    money_wrong: list[str] = field(default_factory=list)
    gone_back: list[str] = field(default_factory=list)
    log_wrong: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    audit: str = "failed"
    audit_problems: list[str] = field(default_factory=list)
    doubles: int = 0
    paid: int = 0
    confirmed: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    visits: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    longest_wait_seconds: float = 0.0
    settle_seconds: float = 0.0
    probe_seconds: float | None = None

    @property
    def problems(self) -> dict[str, list[str]]:
        """Return what must not be, by name; empty when everything holds."""
        found = {
            "lost": self.lost,
            "sold_twice": self.sold_twice,
            "trips_torn": self.trips_torn,
            "codes_overused": self.codes_overused,
            "keys_broken": self.keys_broken,
            "money_wrong": self.money_wrong,
            "gone_back": self.gone_back,
            "log_wrong": self.log_wrong,
            "surprises": self.surprises,
            "unsettled": self.unsettled,
            "audit": self.audit_problems if self.audit != "ok" else [],
            "probe": [] if self.probe_seconds is not None else [f"not confirmed within {PROBE_SECONDS:.0f} s"],
        }
        return {name: problems for name, problems in found.items() if problems}

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or sold twice, and all else is as it must be."""
        return self.audit == "ok" and not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return the line for machines."""
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "switched_off": ["rate limits"],
            "faults": dict(sorted(self.faults.items())),
            "promised": self.promised,
            "decided": self.decided,
            "lost": len(self.lost),
            "sold_twice": len(self.sold_twice),
            "trips_torn": len(self.trips_torn),
            "codes_overused": len(self.codes_overused),
            "audit": self.audit,
            "keys_broken": len(self.keys_broken),
            "money_wrong": len(self.money_wrong),
            "gone_back": len(self.gone_back),
            "log_wrong": len(self.log_wrong),
            "surprises": len(self.surprises),
            "unsettled": len(self.unsettled),
            "doubles": self.doubles,
            "paid": self.paid,
            "confirmed": self.confirmed,
            "answers": dict(sorted(self.answers.items())),
            "visits": dict(sorted(self.visits.items())),
            "events": dict(sorted(self.events.items())),
            "longest_wait_seconds": self.longest_wait_seconds,
            "settle_seconds": round(self.settle_seconds, 1),
            "probe_seconds": None if self.probe_seconds is None else round(self.probe_seconds, 2),
        }


async def run(seed: int, seconds: float, folder: Path, faults: Sequence[Fault] | None = None) -> Verdict:
    """Start a system in the folder, break it under load for so long, and judge what is left."""
    planned = schedule(seed, seconds) if faults is None else faults
    verdict = Verdict(seed, seconds, Counter(fault.family for fault in planned))
    async with System(plan(folder)) as system, settled_town(system) as town:
        say(f"load begins: seed {seed}, {seconds:g} s, {len(planned)} faults")
        async with asyncio.TaskGroup() as together:
            together.create_task(town.live(seed, seconds, GUESTS_A_SECOND, FINISH_SECONDS, visitor))
            together.create_task(inject_all(system, planned))
        await judge(system, town, verdict)
    return verdict


def plan(folder: Path, brokers: int = 1) -> Plan:
    """Return the parts of a system that a storm may break."""
    return Plan(
        folder=folder,
        brokers=brokers,
        workers=WORKERS,
        own_servers=True,
        quiet=True,
        environment={
            "HOLD_SECONDS": str(HOLD_SECONDS),
            "BCRYPT_ROUNDS": "4",
            "STRIPE_CALLS_PER_SECOND": "100",
            # So often that webhooks count as lost which come later, and bookings as wrong which will be right.
            "RECONCILIATION_EVENTS_SECONDS": "2",
            "RECONCILIATION_COMPARE_SECONDS": "4",
            "INNKEEPER_FAILPOINT": "",
            # As deployed.
            "OUTBOX_KEPT_HOURS": "48",
            # A dozen accounts do what hundreds of people would.
            "RATE_LIMITS": "false",
            **WITHOUT_CAPS,
        },
    )


@asynccontextmanager
async def settled_town(system: System, accounts: int = ACCOUNTS) -> AsyncIterator[Town]:
    """Let people sign up, and their host open its rooms."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        town = Town(http, system.url, system.stripe_url, lambda: system.now)
        await town.settle(accounts)
        town.rooms = await open_rooms(system, owner_id=town.host.id)
        await town.add_code({"code": CODE, "percent": 10, "max_uses": CODE_USES})
        yield town


async def judge(system: System, town: Town, verdict: Verdict) -> None:
    """Wait until all is quiet, try the system once more, and compare promises with facts."""
    promises = town.promises
    verdict.promised, verdict.paid = len(promises.bookings), promises.paid.total()
    verdict.answers, verdict.visits = promises.answers, promises.visits
    verdict.keys_broken, verdict.gone_back = promises.broken_keys(), promises.gone_back()
    verdict.surprises = promises.surprises
    say(f"load ended: {verdict.promised} bookings promised; waiting until everything has settled")
    began = time.monotonic()
    await everything_runs(system)
    verdict.unsettled = await settled(system, town)
    verdict.settle_seconds = time.monotonic() - began
    verdict.probe_seconds = await probe(town)
    verdict.unsettled += await settled(system, town)
    await compare(system, town, verdict)
    await audit(system, verdict)


async def everything_runs(system: System) -> None:
    """Wait until each part of the system runs."""
    servers = ["stripe", *system.broker_names, "postgres"]
    await all_run(system, [*system.worker_names, *system.ingress_names, *servers])


async def settled(system: System, town: Town) -> list[str]:
    """Wait until nobody has anything to do; return what was still to be done at the deadline."""
    left: list[str] = ["nothing was asked"]

    async def quiet() -> bool:
        try:
            left[:] = await unsettled(system, town)
        except (psycopg.Error, KafkaError, aiohttp.ClientError, OSError) as error:
            left[:] = [repr(error)]
        return not left

    deadline = time.monotonic() + SETTLE_SECONDS
    while not await quiet() and time.monotonic() < deadline:
        await asyncio.sleep(1)
    return left


async def unsettled(system: System, town: Town) -> list[str]:
    """Return what is still to be done, in words."""
    before = await log.ends(system.kafka_url, _LOG)
    left = await reckoning.unfinished(system.database_url)
    for reader, topics in READERS.items():
        left += await reckoning.behind(system.kafka_url, system.database_url, reader, topics)
    async with town.http.get(f"{system.stripe_url}/_sandbox/deliveries") as response:
        # A webhook that the plan of faults withholds never comes; reconciliation brings its event.
        waiting = [each for each in await response.json() if each["state"] not in {"delivered", "withheld"}]
    if await log.ends(system.kafka_url, _LOG) != before:
        # A command that follows from an event may have come after its reader was looked at.
        left.append("commands and events")
    return left + [f"webhook {delivery['event_type']} {delivery['state']}" for delivery in waiting]


async def probe(town: Town) -> float | None:
    """Book, pay and be confirmed as any guest would; return how long it took, None when it took too long.

    On a slow machine the hold, which is short here, may end before it is paid: then the guest books once more.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    while clock() < began + PROBE_SECONDS:
        guest = Guest(town, random.Random(0), f"probe-{time.time_ns()}", began + PROBE_SECONDS)
        if await guest.is_confirmed():
            return clock() - began
        await asyncio.sleep(1)
    return None


class Compared(NamedTuple):
    """The log and the ledger at one moment at which nothing was left to do; `published` is by partition, each once."""

    commands: list[log.Entry]
    published: dict[int, list[log.Entry]]
    by_ledger: dict[str, str]


async def compare(system: System, town: Town, verdict: Verdict) -> Compared:
    """Compare promises, log, ledger and money; return what was compared."""
    commands, events = await log_at_rest(system)
    published, verdict.doubles, verdict.log_wrong = reckoning.first_publications(events)
    verdict.log_wrong += reckoning.decided_once(commands, published)
    verdict.longest_wait_seconds = reckoning.longest_wait_seconds(commands, published)
    by_ledger, by_events = await reckoning.statuses(system.database_url), reckoning.last_status(published)
    verdict.decided = len(by_ledger)
    verdict.confirmed = sum(status == "CONFIRMED" for status in by_ledger.values())
    verdict.lost = [
        f"{booking}: {by_ledger.get(booking)} in the ledger, {by_events.get(booking)} by the events"
        for booking in town.promises.bookings
        if by_ledger.get(booking) in {None, *reckoning.HOLDING} or by_ledger[booking] != by_events.get(booking)
    ]
    verdict.events = Counter(event.type for found in published.values() for event in found)
    verdict.sold_twice = await reckoning.oversold(system.database_url) + reckoning.sold_again(published)
    verdict.trips_torn = [*reckoning.torn_trips(published, by_ledger), *reckoning.torn_moves(published, by_ledger)]
    verdict.codes_overused = reckoning.overused_codes(published)
    verdict.log_wrong += await reckoning.miscounted(system.database_url)
    async with town.http.get(f"{system.stripe_url}/_sandbox/ledger") as response:
        payments = (await response.json())["payment_intents"]
    verdict.money_wrong = await reckoning.unpaid_for(system.database_url, payments)
    verdict.money_wrong += unexplained(
        ((event.type, event.body) for found in published.values() for event in found), payments
    )
    return Compared(commands, published, by_ledger)


async def log_at_rest(system: System) -> tuple[list[log.Entry], list[log.Entry]]:
    """Return all commands but dead letters, and all events.

    They are read while nobody sent a command: at any moment a night may go on sale.
    """

    async def read() -> tuple[list[log.Entry], list[log.Entry]] | None:
        before = await log.ends(system.kafka_url, [reckoning.COMMANDS])
        if await reckoning.behind(system.kafka_url, system.database_url, "reservations", [reckoning.COMMANDS]):
            return None
        commands = await log.read(system.kafka_url, reckoning.COMMANDS)
        commands = reckoning.without_dead_letters(commands, await log.read(system.kafka_url, reckoning.DEAD_LETTERS))
        events = await log.read(system.kafka_url, reckoning.EVENTS)
        return (commands, events) if await log.ends(system.kafka_url, [reckoning.COMMANDS]) == before else None

    found = await wait_until(read, message="nobody sends commands")
    assert found is not None
    return found


async def audit(system: System, verdict: Verdict) -> None:
    """Let the operators' audit judge as well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "operators",
        "audit",
        "--json",
        env={**os.environ, **system.environment()},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found = json.loads(output.splitlines()[-1]) if output.strip() else {}
    verdict.audit = "ok" if process.returncode == 0 and found.get("audit") == "ok" else "failed"
    verdict.audit_problems = found.get("problems", ["the audit printed nothing"])


async def open_rooms(system: System, owner_id: int) -> list[Room]:
    """Describe a hotel with its rooms, put their nights on sale through the log, and wait until they are."""
    async with await psycopg.AsyncConnection.connect(system.database_url, autocommit=True) as connection:
        hotels = HotelsInTables(connection)
        # Guests may arrive, and be missed, from the first minute of their day.
        hotel_id = await hotels.hotel(name="Storm", city="Brest", owner_id=owner_id, check_in_time=time_of_day(0))
        rooms = [
            Room(hotel_id, await hotels.room(hotel_id, base_price_minor=10_000, total_count=total), weight)
            for total, weight in STOCK
        ]
        first = system.now.date()
        end = first + timedelta(days=NIGHTS)
        await _open_nights(system, rooms, first, end)

        async def on_sale() -> bool:
            # The horizon opens many more, later than anybody here asks for.
            counts = await connection.execute(
                "select count(*), (select count(*) from room_sale_terms) from inventory where date < %s", (end,)
            )
            return await counts.fetchall() == [(len(rooms) * NIGHTS, len(rooms))]

        await wait_until(on_sale, message="the rooms are on sale")
    return rooms


async def _open_nights(system: System, rooms: Sequence[Room], first: date, end: date) -> None:
    async with AIOKafkaProducer(bootstrap_servers=system.kafka_url, acks="all") as producer:
        for room, (total, _) in zip(rooms, STOCK, strict=True):
            of_room = {"room_id": room.id, "hotel_id": room.hotel_id}
            nights = {
                "first_night": first.isoformat(),
                "end_night": end.isoformat(),
                "total_count": total,
                "price_minor": 10_000,
                "currency": "EUR",
            }
            for message_type, fields in (
                ("inventory.open.v1", of_room | nights),
                ("inventory.set_sale_terms.v1", of_room | {"terms": TERMS}),
            ):
                headers = log.command_headers(f"{message_type}-{room.id}", message_type, fields)
                value = json.dumps(fields).encode()
                await producer.send_and_wait(reckoning.COMMANDS, value, key=b"%d" % room.id, headers=headers)


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.pipeline.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what guests do and when what breaks")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the load lasts")
    parser.add_argument("--data", type=Path, help="a folder for the system; kept afterwards")
    arguments = parser.parse_args()
    # The clients log at length that killed servers do not answer.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = arguments.data or Path(tempfile.mkdtemp(prefix="innkeeper-chaos-"))
    verdict = asyncio.run(run(arguments.seed, arguments.seconds, folder))
    for name, problems in verdict.problems.items():
        for problem in problems[:20]:
            say(f"{name}: {problem}")
    if verdict.holds and arguments.data is None:
        shutil.rmtree(folder)
    elif not verdict.holds:
        say(f"SEED {arguments.seed} FAILED; its logs and data are in {folder}")
    sys.stdout.write(json.dumps(verdict.as_json()) + "\n")
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
