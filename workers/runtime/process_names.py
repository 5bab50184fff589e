"""Keeps a worker from taking the name of one that is at work: each would take the other's partitions again and again.

A worker checks this once, at its start. A killed process has let its name go by then (its sessions at PostgreSQL are
gone), and a frozen one is no member of the group any more once its session there has ended.
"""

import asyncio
import logging
import time
from typing import Final

import psycopg
from aiokafka.errors import KafkaError

from storage import process_names
from storage.database import connect_worker
from storage.failures import reason_of
from storage.settings import DatabaseSettings
from topics.backoff import Backoff
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from workers.runtime.membership import SESSION_SECONDS
from workers.runtime.role import Stopped

#: So long a process waits for its name: the group has forgotten a member that is frozen or cut off by then.
MAX_NAME_WAIT_SECONDS: Final = SESSION_SECONDS + 5.0
_POLL_SECONDS: Final = 0.5

log = logging.getLogger(__name__)


async def wait_for_name(kafka: KafkaSettings, database: DatabaseSettings, role: str, name: str) -> None:
    """Return when no other process with this name is at work.

    Raises:
        Stopped: one is.
    """
    backoff = Backoff(f"{name} waits for the database and the broker, to look for another process with its name")
    while True:
        try:
            async with await connect_worker(database, f"innkeeper {role} name") as connection:
                await _wait(connection, kafka, role, name)
        except (psycopg.OperationalError, KafkaError, admin.TopicsFailed, OSError) as error:
            await backoff.wait(error, reason_of(error))
        else:
            return


async def _wait(connection: psycopg.AsyncConnection, kafka: KafkaSettings, role: str, name: str) -> None:
    deadline = time.monotonic() + MAX_NAME_WAIT_SECONDS
    warned = False
    while await process_names.register(connection, role, name) > 1 and await _is_member(kafka, role, name):
        if time.monotonic() > deadline:
            raise Stopped(
                f"Another process with the name {name} is at work. A name belongs to one process:"
                " end one of the two, or give it a name of its own."
            )
        if not warned:
            log.warning("another process with the name %s runs; waiting until it is no worker any more", name)
            warned = True
        await asyncio.sleep(_POLL_SECONDS)


async def _is_member(kafka: KafkaSettings, role: str, name: str) -> bool:
    async with admin.open_admin(kafka) as broker:
        return name in await broker.member_names(kafka.group(role))
