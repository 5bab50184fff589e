"""Keeps a worker from starting with an empty ledger and a log that has events: it would decide everything again.

A worker checks this once, at its start. Such a database was lost, or is the wrong one; a restore fills it again.
"""

import psycopg
from aiokafka.errors import KafkaError

from storage import consumer_positions
from storage.database import connect_worker
from storage.failures import reason_of
from storage.settings import DatabaseSettings
from topics.backoff import Backoff
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka.admin import TopicsFailed
from topics.kafka.log_reader import end_offsets
from topics.kafka.settings import KafkaSettings
from workers.runtime.role import Stopped


async def check_ledger(kafka: KafkaSettings, database: DatabaseSettings) -> None:
    """Wait until the database answers, and the broker if it must be asked.

    Raises:
        Stopped: this ledger never decided anything, and the log has events.
    """
    commands, name = kafka.topic(BOOKING_COMMANDS), kafka.topic(BOOKING_EVENTS)
    backoff = Backoff("the worker waits for the database and its tables")
    while True:
        try:
            if await _has_decided(database, commands):
                return
            events = sum([end for _, end in (await end_offsets(kafka, [name])).values()])
            # The first events of a new system may have been decided and published since then.
            if not events or await _has_decided(database, commands):
                return
        except (psycopg.Error, KafkaError, TopicsFailed, OSError) as error:
            is_new = isinstance(error, psycopg.errors.UndefinedTable)
            if isinstance(error, psycopg.Error) and not is_new and reason_of(error) is None:
                raise
            await backoff.wait(error, reason_of(error))
        else:
            break
    raise Stopped(
        f"The ledger is empty, and {name} has {events} events: the database was lost, or is another one."
        " Make it anew out of them: innkeeper restore --from-log"
    )


async def _has_decided(database: DatabaseSettings, commands: str) -> bool:
    async with await connect_worker(database, "innkeeper start") as connection:
        return await consumer_positions.has_written_events(connection, "reservations", commands)
