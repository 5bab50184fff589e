"""The whole system on one machine: broker, database, Stripe stand-in, workers and ingress.

`async with System(Plan(folder=...)) as system:` starts what the plan asks for, each part as soon as
those that it needs answer, keeps it running, and stops all of it in order.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp

from sandbox import days_ahead
from sandbox.kafka import Cluster, Kafka, SecuredKafka
from sandbox.locations import Location
from sandbox.ports import free_port
from sandbox.postgres import Postgres
from sandbox.postgres.standby import Pair, folders_of
from sandbox.processes import ManagedProcess, Program, Supervisor
from sandbox.spawning import StartFailed
from sandbox.tansu import Tansu
from topics.catalogue import Service
from workers.stripe.event_types import EVENT_TYPES

STRIPE_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_of_the_sandbox_alone"  # noqa: S105 - known only to the stand-in that signs with it
READY_LINE = "worker ready"
ONE_OF_EACH: Mapping[str, int] = {
    "reservations": 1,
    "payments": 1,
    "expiry": 1,
    "projections": 1,
    "coordination": 1,
    "reconciliation": 1,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which parts a system has.

    `workers` has the number of each role's workers; they are called `reservations-1` and so on. `ingress`
    is the number of those: the first is called just that, and has the `port`, the next is `ingress-2`. A
    `secured` broker asks everybody for a name and a password, and lets each role do its own work alone. Of several
    `brokers` (of the kind `kafka`) each has a copy of everything; they are called `kafka`, `kafka-2`...
    With a `standby` there are two database servers, `postgres` and `postgres-2`; a folder that had one keeps it.
    `environment` is added for every program of ours. `of_one` is added for the named ones, and
    `first_start` for the named ones' first start alone (a failpoint that is met once); a role's
    name means each of its workers. `own_servers` starts a broker and a database also where
    KAFKA_URL and DATABASE_URL name others. `quiet` writes the programs' lines to files in
    the folder `logs` in place of stderr. The clock of all parts is `days_ahead` of the machine's, or
    follows the file `clock`, which has the seconds that it is ahead.

    `locations` has the parts (`kafka`, `postgres`, `stripe`, `ingress-2`, `payments-1`...) that run on a network of
    their own, or at a port of the plan's choice; `doors` are for proxies before a lone broker, as `Kafka` has them.
    `public_url` is that of a proxy before all ingress processes, which clients and Stripe then use.
    """

    folder: Path
    broker: Literal["kafka", "secured", "tansu"] = "kafka"
    brokers: int = 1
    standby: bool = False
    workers: Mapping[str, int] = field(default_factory=lambda: ONE_OF_EACH)
    ingress: int = 1
    stripe: bool = True
    port: int | None = None
    partitions: int | None = None
    own_servers: bool = False
    quiet: bool = False
    days_ahead: int = 0
    clock: Path | None = None
    locations: Mapping[str, Location] = field(default_factory=dict)
    doors: Mapping[int, int] = field(default_factory=dict)
    public_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    of_one: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    first_start: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError: several brokers of a kind of which there can be only one."""
        if self.brokers > 1 and self.broker != "kafka":
            raise ValueError(f"there can be only one broker of the kind {self.broker}")


class FolderInUse(RuntimeError):
    """Another system runs on the same folder."""


class System:
    """Every part of a plan, started, watched and stopped together.

    A part that ends by itself, or is killed through its pid, is started again at once. One that is
    stopped or killed through the system stays down until `start_part`.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder.resolve()
        self.logs = self.folder / "logs"
        self.supervisor = Supervisor(self._report)
        self.kafka: Kafka | Cluster | Tansu | None = None
        self.postgres: Postgres | None = None
        self._pair: Pair | None = None
        self._parts: dict[str, ManagedProcess] = {}
        self._ingress_ports = [self._port(name) for name in self.ingress_names or ["ingress"]]
        self._stripe_port = self._port("stripe")
        self._lock: int | None = None
        self._clock = days_ahead.following(plan.clock) if plan.clock else days_ahead.variables(plan.days_ahead)

    @property
    def url(self) -> str:
        """The URL for clients: that of the (first) ingress, or of the proxy that the plan names."""
        return self.plan.public_url or self.urls[0]

    @property
    def urls(self) -> list[str]:
        """The URL of each ingress."""
        names = zip(self.ingress_names or ["ingress"], self._ingress_ports, strict=True)
        return [f"http://{self._location(name).host}:{port}" for name, port in names]

    @property
    def now(self) -> datetime:
        """The time by the clock of all parts."""
        seconds = int(self.plan.clock.read_text()) if self.plan.clock else 0
        return datetime.now(UTC) + timedelta(days=self.plan.days_ahead, seconds=seconds)

    @property
    def stripe_url(self) -> str:
        """The URL of the Stripe stand-in."""
        return f"http://{self._location('stripe').host}:{self._stripe_port}"

    @property
    def kafka_url(self) -> str:
        """The bootstrap servers, ours or those of `KAFKA_URL`."""
        return os.environ["KAFKA_URL"] if self.kafka is None else self.kafka.url

    @property
    def idempotent(self) -> bool:
        """Whether the broker takes an idempotent producer."""
        return not isinstance(self.kafka, Tansu)

    @property
    def database_url(self) -> str:
        """The database, ours or that of `DATABASE_URL`."""
        if self._pair is not None:
            return self._pair.url
        return os.environ["DATABASE_URL"] if self.postgres is None else self.postgres.url

    @property
    def worker_names(self) -> list[str]:
        """The workers of the plan, such as `reservations-1`."""
        return [f"{role}-{number}" for role, count in self.plan.workers.items() for number in range(1, count + 1)]

    @property
    def ingress_names(self) -> list[str]:
        """The ingress processes of the plan: `ingress`, `ingress-2`..."""
        return ["ingress", *(f"ingress-{number}" for number in range(2, self.plan.ingress + 1))][: self.plan.ingress]

    @property
    def broker_names(self) -> list[str]:
        """The brokers of our own: `kafka`, `kafka-2`..., or `tansu`."""
        return [broker.name for broker in self._brokers]

    def pid(self, name: str) -> int:
        """The process id of a part: `kafka`, `postgres`, `stripe`, `ingress`, `payments-1`..."""
        return self._parts[name].pid

    async def start(self) -> None:
        """Start every part; returns when all of them answer. Raises StartFailed, FolderInUse or ClockCannotMove."""
        self._take_folder()
        days_ahead.keep(self.folder, self.plan.days_ahead)
        self._choose_parts()
        try:
            async with asyncio.TaskGroup() as together:
                together.create_task(self._start_broker())
                together.create_task(self._start_database())
                if self.plan.stripe:
                    together.create_task(self._start(self._stripe()))
            async with asyncio.TaskGroup() as together:
                for program in self._programs():
                    together.create_task(self._start(program))
        except* StartFailed as failures:
            raise StartFailed("\n".join(_sentences(failures))) from None

    async def stop(self) -> None:
        """Stop every part, those first that send to others."""
        workers = [name for name in self.worker_names if name in self._parts]
        ingresses = [name for name in self.ingress_names if name in self._parts]
        for names in (ingresses, workers, ["stripe"], [*self.broker_names, "postgres", "postgres-2"]):
            await self.supervisor.stop(*(name for name in names if name in self._parts))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def stop_part(self, name: str) -> None:
        """Stop one part; it stays down until `start_part`."""
        await self.supervisor.stop(name)

    async def kill_part(self, name: str) -> None:
        """SIGKILL one part; it stays down until `start_part`."""
        await self.supervisor.kill(name)

    async def start_part(self, name: str) -> None:
        """Start a part again after `stop_part` or `kill_part`; returns when it is ready."""
        await self.supervisor.start(self._parts[name])

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _take_folder(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FolderInUse(f"another system runs on {self.folder}") from None
        self._lock = lock

    def _choose_parts(self) -> None:
        folder = self.folder
        given: set[str] = set() if self.plan.own_servers else {"KAFKA_URL", "DATABASE_URL"} & os.environ.keys()
        if self.plan.broker == "tansu" and "KAFKA_URL" not in given:
            # A database is of no use without the log that it describes: both start anew.
            folder = self.folder / "tansu"
            shutil.rmtree(folder, ignore_errors=True)
            self.kafka = Tansu(folder)
        elif "KAFKA_URL" not in given:
            self.kafka = self._kafka()
        if "DATABASE_URL" not in given:
            first, second = folders_of(folder)
            if self.plan.standby or second.exists():
                self._pair = Pair(first, second, self._clock)
                self.postgres = self._pair.members[0]
            else:
                location = self._location("postgres")
                variables = {**self._clock, **self.plan.of_one.get("postgres", {})}
                self.postgres = Postgres(first, location.port, variables, host=location.host)
        self._stripe_folder = folder / "stripe"

    def _kafka(self) -> Kafka | Cluster:
        if self.plan.brokers > 1:
            return Cluster(self.folder / "cluster", self.plan.brokers)
        if self.plan.broker == "secured":
            return SecuredKafka(self.folder / "secured")
        location = self._location("kafka")
        variables = self.plan.of_one.get("kafka", {})
        return Kafka(
            self.folder / "kafka", location.port, host=location.host, doors=self.plan.doors, variables=variables
        )

    @property
    def _brokers(self) -> Sequence[Kafka | Tansu]:
        match self.kafka:
            case None:
                return []
            case Cluster():
                return self.kafka.brokers
            case _:
                return [self.kafka]

    def _location(self, name: str) -> Location:
        return self.plan.locations.get(name, Location())

    def _port(self, name: str) -> int:
        chosen = self.plan.port if name == "ingress" else None
        return chosen or self._location(name).port or free_port()

    async def _start(self, part: ManagedProcess) -> None:
        self._parts[part.name] = part
        part.prefix = self._location(part.name).prefix
        self._report(f"starting {part.name}")
        await self.supervisor.start(part)

    async def _start_broker(self) -> None:
        async with asyncio.TaskGroup() as together:
            for broker in self._brokers:
                together.create_task(self._start(broker))
        if self._clock:
            await days_ahead.let_topics_keep_the_times_of_producers(self._way_in(None))
        await self._program("topics", "topics", "create").finish()

    async def _start_database(self) -> None:
        if self._pair is not None:
            for server in self._pair.in_order:
                await self._start(server)
        elif self.postgres is not None:
            await self._start(self.postgres)
        await self._program("storage", "storage", "migrate").finish()

    def _programs(self) -> list[Program]:
        programs = [
            self._program(name, "operators", "worker", name.rpartition("-")[0], "--name", name, ready_line=READY_LINE)
            for name in self.worker_names
        ]
        for name, port, url in zip(self.ingress_names, self._ingress_ports, self.urls, strict=False):
            at = ("--host", self._location(name).host, "--port", str(port))
            programs.append(self._program(name, "operators", "ingress", *at, probe=partial(_is_ready, url)))
        return programs

    def _stripe(self) -> Program:
        options = {
            "--host": self._location("stripe").host,
            "--port": str(self._stripe_port),
            "--data": str(self._stripe_folder),
            "--webhook-url": f"{self.url}/webhooks/stripe",
            "--webhook-secret": WEBHOOK_SECRET,
            "--key": STRIPE_KEY,
        }
        words = [word for option in options.items() for word in option]
        words += [word for event in EVENT_TYPES for word in ("--event", event)]
        return self._program("stripe", "sandbox.stripe", *words, probe=self._stripe_listens)

    def _program(
        self,
        name: str,
        module: str,
        *arguments: str,
        ready_line: str | None = None,
        probe: Callable[[], Awaitable[bool]] | None = None,
    ) -> Program:
        role = name.rpartition("-")[0]
        plan = self.plan
        return Program(
            name,
            [sys.executable, "-m", module, *arguments],
            {
                **self.environment(_principal(role or name)),
                **plan.of_one.get(role, {}),
                **plan.of_one.get(name, {}),
            },
            first_start={**plan.first_start.get(role, {}), **plan.first_start.get(name, {})},
            ready_line=ready_line,
            probe=probe,
            log=self.logs / f"{name}.log" if plan.quiet else None,
        )

    def environment(self, principal: str | None = None) -> dict[str, str]:
        """Return the environment of a program of ours; for programs of a test too.

        `principal` is its name at a broker that asks for one, where each role has a name of its own.
        """
        partitions = self.plan.partitions
        return {
            **self._clock,
            "ENVIRONMENT": "development",
            "DATABASE_URL": self.database_url,
            **self._way_in(principal),
            "KAFKA_IDEMPOTENT": str(self.idempotent).lower(),
            **({} if partitions is None else {"TOPIC_PARTITIONS": str(partitions)}),
            **({"TOPIC_CREATE_TIME": "true"} if self._clock else {}),
            "STRIPE_API_KEY": STRIPE_KEY,
            "STRIPE_API_URL": self.stripe_url,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "JWT_SECRET_KEY": self._jwt_secret(),
            "FRONTEND_URL": self.url,
            "LOG_FORMAT": "console",
            **self.plan.environment,
        }

    def _way_in(self, principal: str | None) -> Mapping[str, str]:
        # The environment has the credentials for a given broker already.
        return {"KAFKA_URL": self.kafka_url} if self.kafka is None else self.kafka.variables(principal)

    def _jwt_secret(self) -> str:
        """A secret that is as old as the folder, so that a restart logs nobody out."""
        path = self.folder / "jwt-secret"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(48))
        return path.read_text()

    def _report(self, line: str) -> None:
        if self.plan.quiet:
            with (self.logs / "sandbox.log").open("a") as log:
                log.write(f"{line}\n")
        else:
            report(line)

    async def _stripe_listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self._location("stripe").host, self._stripe_port)
        except OSError:
            return False
        writer.close()
        return True


async def _is_ready(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health/ready") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _sentences(failures: ExceptionGroup[StartFailed]) -> Iterator[str]:
    """Yield the sentence of each failure, of those in groups within the group too."""
    for failure in failures.exceptions:
        if isinstance(failure, ExceptionGroup):
            yield from _sentences(failure)
        else:
            yield str(failure)


def _principal(program: str) -> str | None:
    """Return a program's name at a broker that asks for one; the operators' tool has another name than its user."""
    if program == "topics":
        return Service.OPERATORS
    return program if program in set(Service) else None


def report(line: str) -> None:
    """Write a line about the sandbox to stderr, in the form of the programs' own lines."""
    sys.stderr.write(f"{'sandbox':<14} | {line}\n")
    sys.stderr.flush()
