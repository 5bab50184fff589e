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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp

from sandbox import days_ahead
from sandbox.kafka import Kafka, SecuredKafka
from sandbox.ports import free_port
from sandbox.postgres import Postgres
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
    `secured` broker asks everybody for a name and a password, and lets each role do its own work alone.
    `environment` is added for every program of ours. `of_one` is added for the named ones, and
    `first_start` for the named ones' first start alone (a failpoint that is met once); a role's
    name means each of its workers. `own_servers` starts a broker and a database also where
    KAFKA_URL and DATABASE_URL name others. `quiet` writes the programs' lines to files in
    the folder `logs` in place of stderr. The clock of all parts is `days_ahead` of the machine's.
    """

    folder: Path
    broker: Literal["kafka", "secured", "tansu"] = "kafka"
    workers: Mapping[str, int] = field(default_factory=lambda: ONE_OF_EACH)
    ingress: int = 1
    stripe: bool = True
    port: int | None = None
    partitions: int | None = None
    own_servers: bool = False
    quiet: bool = False
    days_ahead: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    of_one: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    first_start: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


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
        self.kafka: Kafka | Tansu | None = None
        self.postgres: Postgres | None = None
        self._parts: dict[str, ManagedProcess] = {}
        self._ingress_ports = [plan.port or free_port(), *(free_port() for _ in range(1, plan.ingress))]
        self._stripe_port = free_port()
        self._lock: int | None = None
        self._clock = days_ahead.variables(plan.days_ahead)

    @property
    def url(self) -> str:
        """The URL of the (first) ingress."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """The URL of each ingress."""
        return [f"http://127.0.0.1:{port}" for port in self._ingress_ports]

    @property
    def stripe_url(self) -> str:
        """The URL of the Stripe stand-in."""
        return f"http://127.0.0.1:{self._stripe_port}"

    @property
    def kafka_url(self) -> str:
        """The bootstrap server, ours or that of `KAFKA_URL`."""
        return os.environ["KAFKA_URL"] if self.kafka is None else self.kafka.url

    @property
    def idempotent(self) -> bool:
        """Whether the broker takes an idempotent producer."""
        return not isinstance(self.kafka, Tansu)

    @property
    def database_url(self) -> str:
        """The database, ours or that of `DATABASE_URL`."""
        return os.environ["DATABASE_URL"] if self.postgres is None else self.postgres.url

    @property
    def worker_names(self) -> list[str]:
        """The workers of the plan, such as `reservations-1`."""
        return [f"{role}-{number}" for role, count in self.plan.workers.items() for number in range(1, count + 1)]

    @property
    def ingress_names(self) -> list[str]:
        """The ingress processes of the plan: `ingress`, `ingress-2`..."""
        return ["ingress", *(f"ingress-{number}" for number in range(2, self.plan.ingress + 1))][: self.plan.ingress]

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
            raise StartFailed("\n".join(str(failure) for failure in failures.exceptions)) from None

    async def stop(self) -> None:
        """Stop every part, those first that send to others."""
        workers = [name for name in self.worker_names if name in self._parts]
        ingresses = [name for name in self.ingress_names if name in self._parts]
        for names in (ingresses, workers, ["stripe"], ["kafka", "tansu", "postgres"]):
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
            self.kafka = SecuredKafka(folder / "secured") if self.plan.broker == "secured" else Kafka(folder / "kafka")
        if "DATABASE_URL" not in given:
            self.postgres = Postgres(folder / "postgres", variables=self._clock)
        self._stripe_folder = folder / "stripe"

    async def _start(self, part: ManagedProcess) -> None:
        self._parts[part.name] = part
        self._report(f"starting {part.name}")
        await self.supervisor.start(part)

    async def _start_broker(self) -> None:
        if self.kafka is not None:
            await self._start(self.kafka)
        if self._clock:
            await days_ahead.let_topics_keep_the_times_of_producers(self.kafka_url)
        await self._program("topics", "topics", "create").finish()

    async def _start_database(self) -> None:
        if self.postgres is not None:
            await self._start(self.postgres)
        await self._program("storage", "storage", "migrate").finish()

    def _programs(self) -> list[Program]:
        programs = [
            self._program(name, "operators", "worker", name.rpartition("-")[0], "--name", name, ready_line=READY_LINE)
            for name in self.worker_names
        ]
        for name, port, url in zip(self.ingress_names, self._ingress_ports, self.urls, strict=False):
            programs.append(
                self._program(name, "operators", "ingress", "--port", str(port), probe=partial(_is_ready, url))
            )
        return programs

    def _stripe(self) -> Program:
        options = {
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
                **self._clock,
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
            _, writer = await asyncio.open_connection("127.0.0.1", self._stripe_port)
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


def _principal(program: str) -> str | None:
    """Return a program's name at a broker that asks for one; the operators' tool has another name than its user."""
    if program == "topics":
        return Service.OPERATORS
    return program if program in set(Service) else None


def report(line: str) -> None:
    """Write a line about the sandbox to stderr, in the form of the programs' own lines."""
    sys.stderr.write(f"{'sandbox':<14} | {line}\n")
    sys.stderr.flush()
