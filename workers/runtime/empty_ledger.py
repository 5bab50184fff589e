"""Keeps a worker from beginning with an empty ledger beside a log that has events: it would decide everything anew.

Asked once, when a worker starts. The database was lost then, or it is the wrong one; a restore makes it anew.
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
    """Return when the ledger answers; whoever starts before it waits.

    Raises:
        Stopped: nothing was ever decided by this ledger, and its events stand on the log.
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
