"""The broker and the database that tests run against: real ones, from wherever this machine can take them.

By default the sandbox starts them. `INNKEEPER_TEST_STACK=testcontainers` takes them from a container engine.
`KAFKA_URL` or `DATABASE_URL` in the environment names a server that runs already; then only fresh topics and fresh
databases of ours are made there, and removed again.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

Source = Literal["given", "sandbox", "testcontainers"]

_MAX_WAITS = 24
KAFKA_IMAGE = "apache/kafka:4.3.0"
POSTGRES_IMAGE = "postgres:18"
#: For an ingress of tests that are not about how soon it gives up: a machine may pause for longer than the few seconds
#: after which the ingress asks guests to try again.
LONG_TIMEOUTS: Mapping[str, str] = {"ACK_SECONDS": "60", "BODY_SECONDS": "60"}
#: For systems whose tests let Stripe be away: payments looks soon whether it is back.
SHORT_OUTAGES: Mapping[str, str] = {"STRIPE_CIRCUIT_OPEN_SECONDS": "2"}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers at `url`; `pids` are the processes that we started for it."""

    url: str
    pids: frozenset[int] = field(default_factory=frozenset)


def source_of(variable: str, environment: Mapping[str, str]) -> Source:
    """Return where a server comes from; `variable` is the one that would name a running server.

    Raises:
        ValueError: INNKEEPER_TEST_STACK is neither `sandbox` nor `testcontainers`.
    """
    if environment.get(variable):
        return "given"
    match environment.get("INNKEEPER_TEST_STACK") or "sandbox":
        case "sandbox":
            return "sandbox"
        case "testcontainers":
            return "testcontainers"
        case other:
            raise ValueError(f"INNKEEPER_TEST_STACK={other}: it must be sandbox or testcontainers")


@contextmanager
def open_kafka(folder: Path) -> Iterator[Server]:
    """Yield a broker for as long as the block lasts; its data, if it is ours, are in `folder`."""
    match source_of("KAFKA_URL", os.environ):
        case "given":
            yield Server(url=os.environ["KAFKA_URL"])
        case "sandbox":
            from sandbox.kafka import Kafka

            with Kafka(folder) as kafka:
                yield Server(url=kafka.url, pids=frozenset({kafka.pid}))
        case "testcontainers":
            with _kafka_container() as url:
                yield Server(url=url)


@contextmanager
def open_postgres(folder: Path) -> Iterator[Server]:
    """Yield a database server for as long as the block lasts; its data, if it is ours, are in `folder`."""
    match source_of("DATABASE_URL", os.environ):
        case "given":
            yield Server(url=os.environ["DATABASE_URL"])
        case "sandbox":
            from sandbox.postgres import Postgres

            with Postgres(folder) as postgres:
                yield Server(url=postgres.url, pids=frozenset({postgres.pid}))
        case "testcontainers":
            from testcontainers.community.postgres import PostgresContainer

            with PostgresContainer(POSTGRES_IMAGE, driver=None) as postgres:
                yield Server(url=postgres.get_connection_url())


@contextmanager
def fresh_database(server_url: str, template: str | None = None) -> Iterator[str]:
    """Yield the URL of a new database, copied from `template` where one is named; dropped afterwards."""
    name = f"innkeeper_test_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        execute_alone(connection, create.format(sql.Identifier(name), sql.Identifier(template or "template1")))
        try:
            yield url_of(server_url, name)
        finally:
            # Sessions that a test left open must not keep it.
            execute_alone(connection, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def execute_alone(connection: psycopg.Connection, statement: sql.Composed) -> None:
    """Execute what the server does once the last session of a database is gone, for which it waits 5 s each time."""
    for more in reversed(range(_MAX_WAITS)):
        try:
            connection.execute(statement)
        except psycopg.errors.ObjectInUse:
            if not more:
                raise
        else:
            return


def url_of(server_url: str, database: str) -> str:
    """Return the address of another database of the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


def name_of(database_url: str) -> str:
    """Return the name of the database that an address ends in."""
    return urlsplit(database_url).path.removeprefix("/")


@contextmanager
def _kafka_container() -> Iterator[str]:
    """Run the official image; the broker advertises a port that must be known before it starts."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    from sandbox.ports import free_port

    url = f"127.0.0.1:{free_port()}"
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, int(url.rpartition(":")[2]))
    for name, value in kafka_container_environment(url).items():
        container.with_env(name, value)
    with container.waiting_for(LogMessageWaitStrategy("Kafka Server started")):
        yield url


def kafka_container_environment(url: str) -> dict[str, str]:
    """Return the environment of a one-node broker in a container whose clients reach it at `url`."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{url}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_MESSAGE_MAX_BYTES": str(9 * 1024 * 1024),
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    }
