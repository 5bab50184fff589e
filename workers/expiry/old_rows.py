"""Deletes rows about dead letters that the dead-letter topic does not have any more.

Deletes from `dead_letter` and `dead_letter_end`, and writes nothing else. The expiry role runs it in its leader.
"""

import asyncio
import logging
from typing import Final

from psycopg import AsyncConnection

from storage.dead_letters import MAX_FORGOTTEN, forget_old

#: The leader looks so often, and goes on at once while there are many.
LOOK_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


class OldRows:
    """Deletes old rows now and then, a limited number at a time."""

    def __init__(self, connection: AsyncConnection, *, kept_days: int) -> None:
        self._connection = connection
        self._kept_days = kept_days
        self._next_at = 0.0

    async def forget(self) -> None:
        """Delete old rows, if it is time to."""
        now = asyncio.get_running_loop().time()
        if now < self._next_at:
            return
        count = await forget_old(self._connection, self._kept_days)
        if count:
            log.info("deleted %d rows about dead letters of more than %d days ago", count, self._kept_days)
        if count < MAX_FORGOTTEN:
            self._next_at = now + LOOK_SECONDS
