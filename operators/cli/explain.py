"""`innkeeper explain`: prints a booking's history, for people as one page and for programs as one JSON object."""

import asyncio
from typing import Annotated, Final
from uuid import UUID

import typer

from operators.cli.console import COULD_NOT, Json, err, fail, kafka_settings, out, print_json, refuse, run
from operators.cli.explain_page import print_history
from operators.explain import BookingHistory, NoSuchBooking, explain
from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings, refused_in_words

_PATIENCE_SECONDS: Final = 30


def explain_command(
    booking: Annotated[str, typer.Argument(metavar="BOOKING", help="The booking's id.")],
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="A row also for each time that something was sent again and changed nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a booking's whole history: request, commands, events, webhooks, Stripe's objects, and what is awaited now.

    Each step has its position on the log and the time since the one before. A record that was sent again (a request
    repeated, a replay) is counted in the row of the record that it repeats; with --json each record is by itself,
    marked sent_again. The command reads a few records, however long the log is, and changes nothing.

    Exit status: 0 it is shown; 1 nothing has the booking; 2 the broker or the database is away, or it is no id.
    """
    try:
        booking_id = UUID(booking)
    except ValueError:
        fail(f"{booking} is no booking's id: those look like 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d.", COULD_NOT)
    kafka = kafka_settings()
    with refused_in_words():
        database = DatabaseSettings()
    try:
        history = run(_within_patience(kafka, database, booking_id), kafka)
    except NoSuchBooking as error:
        refuse(str(error), as_json=as_json)
    if as_json:
        print_json([history.as_json()])
    else:
        print_history(history, out, err, everything=everything)


async def _within_patience(kafka: KafkaSettings, database: DatabaseSettings, booking_id: UUID) -> BookingHistory:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return await explain(kafka, database, booking_id)
