"""`innkeeper topics`, or `python -m topics`: lists, creates and checks the topics that bookings travel on.

Plain text and argparse: this package imports neither typer nor rich.
"""

import argparse
import asyncio
import inspect
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any, Final

from aiokafka.errors import KafkaError

from topics import asyncapi, pages, schemas
from topics.catalogue import CATALOGUE
from topics.kafka import acls, admin
from topics.kafka.settings import KafkaSettings, exit_on_invalid_settings

#: Exit statuses: something is wrong or refused; it could not be done.
_WRONG: Final = 1
_COULD_NOT: Final = 2
_RETRY_SECONDS: Final = 0.5
_HEADINGS: Final = ("topic", "kept", "key", "written by", "read by")
#: On a terminal that is too narrow for all columns, the first headings keep a column each.
_NARROW: Final = 2
#: The columns of a terminal whose size is not known, such as a pipe.
_WIDE: Final = 200


def main(arguments: Sequence[str] | None = None, program: str = "python -m topics") -> int:
    """Run one command and return its exit status: 0 fine, 1 something is wrong or refused, 2 it could not be done."""
    options = parser(program).parse_args(arguments)
    with exit_on_invalid_settings():
        settings = KafkaSettings()
    # aiokafka logs every failed attempt as an error of its own; this command reports the outcome.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return int(options.command(settings, options))
    except admin.TopicsFailed as error:
        _say(str(error))
        return _WRONG
    except BrokenPipeError:
        # The reader of the pipe has ended (`| head`), so there is nowhere to flush the rest to.
        sys.stdout = None
        return _WRONG
    except (KafkaError, TimeoutError, OSError) as error:
        _say(f"The broker at {settings.kafka_url} does not answer (KAFKA_URL): {error}")
        return _COULD_NOT


def parser(program: str) -> argparse.ArgumentParser:
    """Return the command line's parser; `program` is the name that its help shows."""
    made = argparse.ArgumentParser(
        program,
        description="List, create and check the topics that bookings travel on.",
        epilog=f"{_examples(program, '')}\n\nKAFKA_URL names the broker; docs/configuration.md lists every variable.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    added = {}
    for name, command in SUBCOMMANDS.items():
        description = inspect.cleandoc(str(command.__doc__))
        added[name] = commands.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            epilog=_examples(program, name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added[name].set_defaults(command=command)
    for name in ("list", "check", "acls"):
        added[name].add_argument("--json", action="store_true", dest="as_json", help="One JSON object a line.")
    wait = "How long to wait for a broker that is not there yet."
    added["create"].add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help=wait)
    named = "The broker's name for a role; `{role}` is replaced by the role."
    added["acls"].add_argument("--principal", default="User:{role}", metavar="NAME", help=named)
    message = "One message type, such as `booking.reserved.v1`."
    added["schema"].add_argument("message", nargs="?", metavar="TYPE", help=message)
    return made


def _examples(program: str, command: str) -> str:
    lines = [each for each in EXAMPLES if each.startswith(command)]
    return "\n".join(["Examples:", *(f"  {program} {line}" for line in lines)])


def _list(settings: KafkaSettings, options: argparse.Namespace) -> int:
    """Show the catalogue: each topic's key, writers, readers and retention. Asks no broker."""
    if options.as_json:
        _print_json(
            {
                "topic": settings.topic(topic),
                "key": topic.key,
                "written_by": ", ".join(topic.written_by),
                "read_by": ", ".join(topic.read_by),
                "retention_seconds": None if topic.retention is None else int(topic.retention.total_seconds()),
                "partitions": settings.topic_partitions,
                "messages": [kind.message_type for kind in topic.messages],
            }
            for topic in CATALOGUE
        )
        return 0
    rows = [
        (
            settings.topic(topic),
            pages.retention_in_words(topic),
            topic.key,
            ", ".join(topic.written_by),
            ", ".join(topic.read_by),
        )
        for topic in CATALOGUE
    ]
    print("\n".join(_table(rows, shutil.get_terminal_size((_WIDE, 0)).columns)))
    print(f"{settings.topic_partitions} partitions each")
    return 0


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the lines of the catalogue's table; if it is too wide, the rest is written below each row."""
    wide = _in_columns([[heading.upper() for heading in _HEADINGS], *rows])
    if max(map(len, wide)) <= width:
        return wide
    heading, *narrow = _in_columns([[each.upper() for each in _HEADINGS[:_NARROW]], *(row[:_NARROW] for row in rows)])
    lines = [heading]
    for line, row in zip(narrow, rows, strict=True):
        below = [f"{name} {cell}" for name, cell in zip(_HEADINGS[_NARROW:], row[_NARROW:], strict=True)]
        lines += [line, *(part for each in below for part in _wrapped(each, width))]
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text that is indented below a row; no name is broken."""
    return wrap(
        text,
        width,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _create(settings: KafkaSettings, options: argparse.Namespace) -> int:
    """Create the topics that are missing, as they are in the catalogue; then check them all.

    May be repeated, and run by several at once. Exit status 1: the broker refuses, or has a topic that no process may
    start with; 2: the broker does not answer.
    """
    created = asyncio.run(_create_when_there(settings, options.wait))
    for topic in CATALOGUE:
        name = settings.topic(topic)
        _say(f"{'created' if name in created else 'there   '}  {name}")
    mismatches = asyncio.run(admin.check(settings))
    for mismatch in mismatches:
        _say(str(mismatch))
    return _WRONG if any(mismatch.fatal for mismatch in mismatches) else 0


def _check(settings: KafkaSettings, options: argparse.Namespace) -> int:
    """Compare the broker's topics with the catalogue: partitions, replicas, retention, clock, and the rest.

    A topic with our prefix that is not in the catalogue is a difference, too. Every difference is shown with its mend.
    Exit status 1 if there is any. With --json one line for each difference, or one line with `"differences": 0`.
    """
    mismatches = asyncio.run(_all_mismatches(settings))
    if options.as_json:
        fine = {"broker": settings.kafka_url, "topics": len(CATALOGUE), "differences": 0}
        _print_json((asdict(mismatch) for mismatch in mismatches) if mismatches else [fine])
    for mismatch in () if options.as_json else mismatches:
        _say(str(mismatch))
    if mismatches:
        return _WRONG
    if not options.as_json:
        _say(f"All {len(CATALOGUE)} topics on {settings.kafka_url} are as in the catalogue.")
    return 0


def _acls(settings: KafkaSettings, options: argparse.Namespace) -> int:
    """Print what each role may do at a broker that asks for names, as arguments of `kafka-acls.sh`, one call a line.

    They follow from the catalogue: a service that is not named as a topic's writer cannot write to it. Asks no broker.
    """
    for grant in acls.grants(settings):
        principal = options.principal.replace("{role}", grant.role)
        if options.as_json:
            _print_json([{"principal": principal, **asdict(grant)}])
        else:
            print(grant.arguments(principal))
    return 0


def _schema(_: KafkaSettings, options: argparse.Namespace) -> int:
    """Print the JSON Schema of every message, or of one, one a line."""
    known = schemas.schemas()
    if options.message is not None and options.message not in known:
        _say(f"There is no message {options.message}.")
        return _COULD_NOT
    _print_json(each for message_type, each in known.items() if options.message in {None, message_type})
    return 0


def _asyncapi(*_: object) -> int:
    """Print the AsyncAPI document of all topics and messages, as every ingress serves it at /asyncapi.json."""
    print(asyncapi.PUBLISHED.read_text(), end="")
    return 0


async def _all_mismatches(settings: KafkaSettings) -> list[admin.Mismatch]:
    return [*await admin.check(settings), *await admin.unknown_topics(settings)]


async def _create_when_there(settings: KafkaSettings, wait_seconds: float) -> list[str]:
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait_seconds
    is_waiting = False
    while True:
        try:
            return await admin.create(settings)
        except (KafkaError, TimeoutError, admin.Passing) as error:
            if clock() >= deadline:
                raise
            if not is_waiting:
                # A cluster refuses topics that have more replicas than it has brokers by then.
                refused = isinstance(error, admin.Passing)
                reason = f"{error} Waiting" if refused else f"No broker at {settings.kafka_url} yet; waiting"
                _say(f"{reason} up to {wait_seconds:g} s.")
                is_waiting = True
        await asyncio.sleep(_RETRY_SECONDS)


def _print_json(objects: Iterable[Any]) -> None:
    for each in objects:
        print(json.dumps(each, ensure_ascii=False, separators=(",", ":")), flush=True)


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


#: In the order of `--help`.
SUBCOMMANDS: Final[Mapping[str, Callable[[KafkaSettings, argparse.Namespace], int]]] = {
    "list": _list,
    "create": _create,
    "check": _check,
    "acls": _acls,
    "schema": _schema,
    "asyncapi": _asyncapi,
}
#: The words after the program's name, as each command's help shows them.
EXAMPLES: Final = (
    "list --json",
    "create --wait 60",
    "check",
    "check --json",
    "acls --principal User:CN={role}",
    "schema booking.reserved.v1",
    "asyncapi",
)

if __name__ == "__main__":
    sys.exit(main())
