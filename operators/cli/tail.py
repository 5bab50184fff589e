"""Prints the records of a topic, and those that come."""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final
from uuid import UUID

import typer
from rich.markup import escape
from rich.text import Text

from operators.cli.console import err, kafka_settings, moment, name_of, out, print_json, run
from topics.kafka import log_reader

_SHOWN_BY_DEFAULT: Final = 10
_INDENT: Final = "    "
_STYLES: Final = {"time": "dim", "position": "cyan", "type": "bold green", "subject": "yellow", "field": "default"}


def tail_command(
    topic: str,
    *,
    booking: str | None,
    room: int | None,
    kind: str | None,
    since: str | None,
    from_beginning: bool,
    follow: bool,
    with_headers: bool,
    as_json: bool,
    limit: int | None,
) -> None:
    """Print the records of a topic that match, and with `follow` those that come."""
    settings = kafka_settings()
    if follow and limit is not None and from_beginning:
        raise typer.BadParameter(
            "with --follow it means the last N records: leave out --from-beginning", param_hint="--limit"
        )
    wanted = log_reader.RecordFilter(booking=None if booking is None else _booking_id(booking), room=room, type=kind)
    start = None if since is None else moment(since)
    last = limit if follow else None
    if start is None and not from_beginning and wanted.matches_all:
        last = limit or _SHOWN_BY_DEFAULT
    show = _show_json if as_json else _show_with_headers if with_headers else _show_line
    found = log_reader.read(settings, name_of(topic, settings), wanted, since=start, last=last, follow=follow)
    # A cancellation can get lost in the Kafka client. There is nothing to tidy up: a reader belongs to no group.
    signal.signal(signal.SIGINT, _leave)
    shown = run(_show(found, None if follow else limit, show), settings)
    if not shown:
        err.print(f"Nothing on {topic} matches." if not wanted.matches_all or start else f"{topic} is empty.")


async def _show(
    found: AsyncGenerator[log_reader.Record, None], limit: int | None, show: Callable[[log_reader.Record], None]
) -> int:
    """Show the records, and return how many there were."""
    shown = 0
    async with aclosing(found):
        async for record in found:
            show(record)
            shown += 1
            if shown == limit:
                break
    return shown


def _booking_id(text: str) -> str:
    """Return the id in the form that the log has; raises BadParameter."""
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text} is no booking's id: that is a UUID", param_hint="--booking") from None


def _show_json(record: log_reader.Record) -> None:
    print_json([log_reader.cloud_event(record)])


def _show_line(record: log_reader.Record) -> None:
    line = log_reader.line(record, lambda text, part: f"[{_STYLES[part]}]{escape(text)}[/]")
    if not out.is_terminal:
        return out.print(line)
    # A long line is wrapped between two words, because the terminal itself would break an id.
    first, *rest = Text.from_markup(line).wrap(out, out.width - len(_INDENT))
    return out.print(first, *(Text.assemble(_INDENT, each) for each in rest), sep="\n")


def _show_with_headers(record: log_reader.Record) -> None:
    _show_line(record)
    for header in log_reader.headers(record):
        out.print(f"{_INDENT}[dim]{escape(header)}[/]")


def _leave(*_: object) -> None:
    """End at once, as a program ends on Ctrl-C."""
    sys.stdout.flush()
    os._exit(130)
