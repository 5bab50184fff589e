"""Keeps a worker from starting with an empty ledger and a log that has events: it would decide everything again.

Checked once, when a worker starts. Either the database was lost or it is the wrong one; a restore fills it again.
"""

from typing import Final

import psycopg

from storage.database import connect_worker
from storage.settings import DatabaseSettings
from topics.backoff import Backoff
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS
from topics.kafka.log_reader import end_offsets
from topics.kafka.settings import KafkaSettings
from workers.runtime.role import Stopped

_HAS_DECIDED: Final = """
select exists (select from log_cursor where consumer = 'reservations' and topic = %s and sequence > 0)
"""


async def check_ledger(kafka: KafkaSettings, database: DatabaseSettings) -> None:
    """Wait until the ledger answers.

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
        found = await connection.execute(_HAS_DECIDED, (commands,))
        return bool((await found.fetchone() or (False,))[0])
