"""Waits for the lead of a role that has one working process, and logs both states."""

import asyncio
import logging

from psycopg import AsyncConnection

from storage.leads import take_lead

log = logging.getLogger(__name__)


async def wait_for_lead(
    connection: AsyncConnection, role: str, name: str, *, silent_seconds: float, poll_seconds: float
) -> None:
    """Return when this process leads; `name` distinguishes it in the log. Its session must not be silent for long."""
    log.info("worker ready: %s %s", role, name)
    while not await take_lead(connection, role, silent_seconds=silent_seconds):
        await asyncio.sleep(poll_seconds)
    log.info("%s %s leads", role, name)
