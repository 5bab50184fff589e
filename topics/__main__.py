"""`python -m topics`: the operator's tool for the topics of the house."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Final
from uuid import UUID

import typer
from aiokafka.errors import KafkaError
from rich.markup import escape
from rich.text import Text

from topics import acls, admin, asyncapi, dead_letters_tool, pages, reading, replaying_tool, schemas
from topics.actions import actions_command
from topics.catalogue import CATALOGUE
from topics.console import Json, err, fail, kafka_settings, moment, name_of, out, print_json, run
from topics.exporting.command import export
from topics.lagging import lag_command
from topics.settings import KafkaSettings
from topics.tables import Field, Row, fitted

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Lists, makes, checks and reads the topics that bookings travel on. "
    "KAFKA_URL names the broker; docs/configuration.md has the other variables.",
)
app.add_typer(dead_letters_tool.app, name="dead-letters")
app.command("replay")(replaying_tool.replay)

_RETRY_SECONDS: Final = 0.5
_SHOWN_BY_DEFAULT: Final = 10
_INDENT: Final = "    "
_CATALOGUE: Final = (
    Field(name="topic"),
    Field(name="key", yields=3, prose=True),
    Field(name="written by", yields=1, prose=True),
    Field(name="read by", yields=2, prose=True),
    Field(name="kept"),
)
_STYLES: Final = {"time": "dim", "place": "cyan", "type": "bold green", "subject": "yellow", "field": "default"}


@app.command("list")
def list_topics(as_json: Json = False) -> None:
    """Show the catalogue: each topic's key, who writes and reads it, how long it is kept. Asks no broker."""
    settings = kafka_settings()
    rows = [
        {
            "topic": settings.topic(topic),
            "key": topic.key,
            "written_by": ", ".join(topic.written_by),
            "read_by": ", ".join(topic.read_by),
            "retention_seconds": None if topic.retention is None else int(topic.retention.total_seconds()),
            "partitions": settings.topic_partitions,
            "messages": [kind.wire for kind in topic.messages],
        }
        for topic in CATALOGUE
    ]
    if as_json:
        return print_json(rows)
    shown = [
        Row(
            cells=(
                settings.topic(topic),
                topic.key,
                ", ".join(topic.written_by),
                ", ".join(topic.read_by),
                pages.retention_in_words(topic),
            )
        )
        for topic in CATALOGUE
    ]
    out.print(fitted(_CATALOGUE, shown, out.width))
    return out.print(f"{settings.topic_partitions} partitions each")


@app.command()
def create(
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait so long for a broker that is not there yet.")
    ] = 0.0,
) -> None:
    """Create the topics that are missing, as the catalogue says; then check them all.

    May be repeated, and run by several at once. Exit status 1: the broker refuses, or has a topic that no process may
    start with; 2: it is away.
    """
    settings = kafka_settings()
    created = run(_create_patiently(settings, wait), settings)
    for topic in CATALOGUE:
        name = settings.topic(topic)
        err.print(f"{'created' if name in created else 'there   '}  {name}")
    mismatches = run(admin.check(settings), settings)
    _tell(mismatches)
    if any(mismatch.fatal for mismatch in mismatches):
        raise typer.Exit(1)


@app.command()
def check(as_json: Json = False) -> None:
    """Compare the broker's topics with the catalogue: partitions, replicas, retention, clock, and the rest.

    Topics of ours by their name that the catalogue does not know count, too. Every difference is told with its mend.
    Exit status 1 if there is any. With --json one line for each difference, and where there is none one that says so.
    """
    settings = kafka_settings()
    mismatches = run(_everything_wrong(settings), settings)
    if as_json:
        fine = {"broker": settings.kafka_url, "topics": len(CATALOGUE), "differences": 0}
        print_json((asdict(mismatch) for mismatch in mismatches) if mismatches else [fine])
    else:
        _tell(mismatches)
    if mismatches:
        raise typer.Exit(1)
    if not as_json:
        err.print(f"All {len(CATALOGUE)} topics on {settings.kafka_url} are as the catalogue says.")


@app.command("acls")
def print_acls(
    principal: Annotated[
        str, typer.Option(metavar="NAME", help="What the broker calls a role; `{role}` stands for it.")
    ] = "User:{role}",
    as_json: Json = False,
) -> None:
    """Print what each role may do at a broker that asks for names, as arguments of `kafka-acls.sh`, one call a line.

    They follow from the catalogue: who is not named as a topic's writer cannot write to it. Asks no broker.
    """
    for grant in acls.grants(kafka_settings()):
        who = principal.replace("{role}", grant.role)
        if as_json:
            print_json([{"principal": who, **asdict(grant)}])
        else:
            print(grant.arguments(who))


@app.command()
def tail(  # noqa: PLR0917 - typer passes options by name
    topic: Annotated[str, typer.Argument(help="Its name in the catalogue, such as `booking.events`.")],
    booking: Annotated[str | None, typer.Option(metavar="ID", help="Only records about this booking.")] = None,
    room: Annotated[int | None, typer.Option(metavar="ID", help="Only records of this room.")] = None,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only this type; `*` stands for anything.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Begin then: `30s`, `10m`, `2h`, `1d` ago, or an ISO time.")
    ] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin at the first record.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    with_headers: Annotated[bool, typer.Option("--headers", help="Each record's headers, too, below it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="CloudEvents in structured mode, one a line.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Show no more than so many; with --follow the last so many, then what comes."
        ),
    ] = None,
) -> None:
    """Show what stands on a topic, one record a line: log time, partition@offset, type, subject, fields, #sequence.

    A webhook is about a booking when the booking's id stands in it. Who follows waits for a broker that goes away.
    Without --since or --from-beginning: the last ten records (or --limit), and with a filter all that match from the
    first record on. Reading belongs to no consumer group and disturbs nobody.
    """
    settings = kafka_settings()
    if follow and limit is not None and from_beginning:
        raise typer.BadParameter(
            "with --follow it means the last so many: leave out --from-beginning", param_hint="--limit"
        )
    wanted = reading.Wanted(booking=None if booking is None else _booking_id(booking), room=room, type=kind)
    start = None if since is None else moment(since)
    last = limit if follow else None
    if start is None and not from_beginning and wanted.anything:
        last = limit or _SHOWN_BY_DEFAULT
    show = _show_json if as_json else _show_with_headers if with_headers else _show_line
    found = reading.read(settings, name_of(topic, settings), wanted, since=start, last=last, follow=follow)
    # A cancellation can get lost in the Kafka client. There is nothing to tidy up: a reader belongs to no group.
    signal.signal(signal.SIGINT, _leave)
    shown = run(_show(found, None if follow else limit, show), settings)
    if not shown:
        err.print(f"Nothing on {topic} matches." if not wanted.anything or start else f"Nothing stands on {topic}.")


app.command("lag")(lag_command)


app.command("actions")(actions_command)


app.command()(export)


@app.command()
def schema(
    message: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="One wire name, such as `booking.reserved.v1`.")
    ] = None,
) -> None:
    """Print the JSON Schema of every message, or of one, one a line."""
    known = schemas.schemas()
    if message is not None and message not in known:
        raise typer.BadParameter(f"there is no message {message}")
    print_json(each for wire, each in known.items() if message in {None, wire})


@app.command("asyncapi")
def print_asyncapi() -> None:
    """Print the AsyncAPI document of all topics and messages, as every ingress serves it at /asyncapi.json."""
    print(asyncapi.PUBLISHED.read_text(), end="")


@app.command()
def docs(
    check_only: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 1 if a page is not what the code says.")
    ] = False,
) -> None:
    """Write the pages of the documentation that come from the code. Works in a checkout only."""
    outdated = []
    for name, page in pages.PAGES.items():
        path = pages.ROOT / name
        content = page()
        if path.exists() and path.read_text() == content:
            continue
        outdated.append(name)
        if not check_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            err.print(f"wrote {name}")
    if check_only and outdated:
        fail(f"Not what the code says: {', '.join(outdated)}. Run python -m topics docs.")


async def _everything_wrong(settings: KafkaSettings) -> list[admin.Mismatch]:
    return [*await admin.check(settings), *await admin.unknown_topics(settings)]


async def _create_patiently(settings: KafkaSettings, wait_seconds: float) -> list[str]:
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait_seconds
    told = False
    while True:
        try:
            return await admin.create(settings)
        except (KafkaError, TimeoutError):
            if clock() >= deadline:
                raise
        if not told:
            err.print(f"No broker at {settings.kafka_url} yet; waiting up to {wait_seconds:g} s.")
            told = True
        await asyncio.sleep(_RETRY_SECONDS)


async def _show(
    found: AsyncGenerator[reading.Record, None], limit: int | None, show: Callable[[reading.Record], None]
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
    """Return the id as it stands on the log; raises BadParameter."""
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text} is no booking's id: that is a UUID", param_hint="--booking") from None


def _show_json(record: reading.Record) -> None:
    print_json([reading.cloud_event(record)])


def _show_line(record: reading.Record) -> None:
    line = reading.line(record, lambda text, part: f"[{_STYLES[part]}]{escape(text)}[/]")
    if not out.is_terminal:
        return out.print(line)
    # What a window has no room for goes on below, between two words: a terminal would break an id.
    first, *rest = Text.from_markup(line).wrap(out, out.width - len(_INDENT))
    return out.print(first, *(Text.assemble(_INDENT, each) for each in rest), sep="\n")


def _show_with_headers(record: reading.Record) -> None:
    _show_line(record)
    for header in reading.headers(record):
        out.print(f"{_INDENT}[dim]{escape(header)}[/]")


def _tell(mismatches: Iterable[admin.Mismatch]) -> None:
    for mismatch in mismatches:
        sentence, mend = f"[red]{escape(mismatch.sentence)}[/]", escape(mismatch.mend)
        if err.is_terminal:
            # A window breaks a sentence between words. What is to be copied from it has no line ends of ours.
            err.print(sentence, soft_wrap=False)
            err.print(mend)
        else:
            err.print(f"{sentence} {mend}")


def _leave(*_: object) -> None:
    """End at once, as a program ends on Ctrl-C."""
    sys.stdout.flush()
    os._exit(130)


if __name__ == "__main__":
    app(prog_name="python -m topics")
