"""Prints a booking's history, for people as one page and for programs as one JSON object."""

import asyncio
from typing import Final
from uuid import UUID

from operators.cli import console
from operators.cli.console import COULD_NOT, database_settings, fail, kafka_settings, print_json, refuse, run
from operators.explain import BookingHistory, NoSuchBooking, explain
from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings

_EXPLAIN_TIMEOUT_SECONDS: Final = 30


def explain_command(booking: str, *, everything: bool, as_json: bool) -> None:
    """Print a booking's history; `everything`: also each record that was sent again and changed nothing."""
    try:
        booking_id = UUID(booking)
    except ValueError:
        fail(f"{booking} is no booking's id: those look like 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d.", COULD_NOT)
    kafka, database = kafka_settings(), database_settings()
    try:
        history = run(_explain_in_time(kafka, database, booking_id), kafka)
    except NoSuchBooking as error:
        refuse(str(error), as_json=as_json)
    if as_json:
        print_json([history.as_json()])
    else:
        # rich takes a tenth of the command's time, and a program needs no page.
        from operators.cli.explain_page import print_history  # noqa: PLC0415 - only a page for people needs rich

        print_history(history, console.out, console.err, everything=everything)


async def _explain_in_time(kafka: KafkaSettings, database: DatabaseSettings, booking_id: UUID) -> BookingHistory:
    async with asyncio.timeout(_EXPLAIN_TIMEOUT_SECONDS):
        return await explain(kafka, database, booking_id)
