"""Keeps a worker from starting with an empty ledger and a log that has events: it would decide everything again.

A worker checks this once, at its start. Such a database was lost, or is the wrong one; a restore fills it again.
"""

import psycopg

from storage import consumer_positions
from storage.database import connect_worker
from storage.settings import DatabaseSettings
from topics.backoff import Backoff
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka.log_reader import end_offsets
from topics.kafka.settings import KafkaSettings
from workers.runtime.role import Stopped


async def check_ledger(kafka: KafkaSettings, database: DatabaseSettings) -> None:
    """Wait until the database answers.

    Raises:
        Stopped: this ledger never decided anything, and the log has events.
    """
    backoff = Backoff("the worker waits for the database and its tables")
    while True:
        try:
            has_decided = await _has_decided(database, kafka.topic(BOOKING_COMMANDS))
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable, OSError) as error:
            await backoff.wait(error)
        else:
            break
    name = kafka.topic(BOOKING_EVENTS)
    if not has_decided and (events := sum([end for _, end in (await end_offsets(kafka, [name])).values()])):
        raise Stopped(
            f"The ledger is empty, and {name} has {events} events: the database was lost, or is another one."
            " Make it anew out of them: innkeeper restore --from-log"
        )


async def _has_decided(database: DatabaseSettings, commands: str) -> bool:
    async with await connect_worker(database, "innkeeper start") as connection:
        return await consumer_positions.has_written_events(connection, "reservations", commands)
