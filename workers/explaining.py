"""`workers explain`: prints a booking's life, for people as one page and for programs as one JSON object."""

import asyncio
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from storage.explaining import Kind, Life, NoSuchBooking, Step, explain
from storage.settings import DatabaseSettings
from topics.console import COULD_NOT, Json, err, fail, kafka_settings, out, print_json, run
from topics.settings import KafkaSettings, refused_in_words

_PATIENCE_SECONDS: Final = 30
_STYLES: Final = {Kind.COMMAND: "cyan", Kind.EVENT: "green", Kind.WEBHOOK: "magenta", Kind.DEAD_LETTER: "red"}
_NARROWEST: Final = 160


def explain_command(
    booking: Annotated[str, typer.Argument(metavar="BOOKING", help="The booking's id.")], *, as_json: Json = False
) -> None:
    """Tell a booking's whole life: request, commands, events, webhooks, Stripe's objects, and what is awaited now.

    Every step stands with its place on the log and the time since the one before. Reads a few hundred records, however
    long the log is, and changes nothing.

    Exit status: 0 it is told; 1 nothing knows the booking; 2 the broker or the database is away, or it is no id.
    """
    try:
        booking_id = UUID(booking)
    except ValueError:
        fail(f"{booking} is no booking's id: those look like 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d.", COULD_NOT)
    kafka = kafka_settings()
    with refused_in_words():
        database = DatabaseSettings()
    try:
        life = run(_within_patience(kafka, database, booking_id), kafka)
    except NoSuchBooking as error:
        fail(str(error))
    if as_json:
        print_json([life.as_json()])
    else:
        _print(life)


async def _within_patience(kafka: KafkaSettings, database: DatabaseSettings, booking_id: UUID) -> Life:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return await explain(kafka, database, booking_id)


def _print(life: Life) -> None:
    if not out.is_terminal:
        # Whoever reads it from a file or a pipe has lines as long as they are.
        out.width = max(out.width, _NARROWEST)
    out.print(f"[bold]Booking {life.booking_id}  {life.status}[/]")
    for line in (_stay(life), _request(life)):
        out.print(line, markup=False)
    out.print(_steps(life))
    if life.stripe:
        out.print(_stripe(life))
    out.print("[bold]Awaited now[/]")
    for each in life.awaited:
        out.print(f"  {each}", markup=False)
    if not life.awaited:
        out.print("  nothing: final", markup=False)
    for note in life.notes:
        err.print(f"Note: {note}.", markup=False)


def _stay(life: Life) -> str:
    stay = life.stay
    if stay is None:
        return "accepted, and not in the ledger yet"
    told = (
        f"hotel {stay.hotel_id}, room {stay.room_id}, {stay.check_in} to {stay.check_out}, {stay.rooms_count} rooms,"
        f" {stay.amount_minor} {stay.currency} (minor units)"
    )
    return told if stay.reason is None else f"{told}, {stay.reason}"


def _request(life: Life) -> str:
    request = life.request
    told = {"user": request.user_id, "from": request.source, "request": request.correlation, "trace": request.trace}
    return ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)


def _steps(life: Life) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("log time (UTC)", "after", "", "what", "place", "details"):
        table.add_column(name, justify="right" if name == "after" else "left", overflow="fold")
    for step in life.steps:
        told = (_time(step.at), _after(step), step.kind, step.what, _place(step), step.details or step.id or "")
        table.add_row(*map(escape, told), style=_STYLES.get(step.kind))
    return table


def _stripe(life: Life) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("at Stripe", "id", "status", "for", "made", "changed", "owed", "failures"):
        table.add_column(name, overflow="fold")
    for each in life.stripe:
        about = each.payment_intent or (f"attempt {each.attempt}" if each.attempt else "")
        times = (each.created_at, each.updated_at, each.owed_at)
        table.add_row(
            each.kind, each.id or "none yet", each.status, about, *map(_time_or_nothing, times), str(each.failures)
        )
    return table


def _place(step: Step) -> str:
    if step.place is None:
        return "" if step.kind is Kind.REQUEST else "not on the log"
    return str(step.place)


def _after(step: Step) -> str:
    if step.seconds is None:
        return ""
    return f"+{step.seconds * 1000:.0f} ms" if step.seconds < 1 else f"+{step.seconds:,.1f} s"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def _time_or_nothing(at: datetime | None) -> str:
    return "" if at is None else _time(at)
