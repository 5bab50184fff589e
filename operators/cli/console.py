"""What the operator's commands share: tables on stdout, notes on stderr, one sentence in place of a traceback.

Exit status: 0 fine, 1 something is wrong or refused, 2 it could not be done: nobody answers, or bad usage.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NoReturn, TypeAlias, TypeVar

import psycopg
import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from operators.lag import DatabaseAddress
from topics.catalogue import CATALOGUE
from topics.kafka import admin, log_reader
from topics.kafka.settings import KafkaSettings, refused_in_words

#: Who reads a table from a pipe has as much room as it takes.
_WIDE: Final = 200
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)

T = TypeVar("T")

#: Exit status: it could not be done.
COULD_NOT: Final = 2

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Yes: TypeAlias = Annotated[
    bool, typer.Option("--yes", help="Do it. Without it: what would be done, and exit status 1.")
]
#: The option of every command that changes something.
By: TypeAlias = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does this, for the record; else the login name.")
]


def kafka_settings() -> KafkaSettings:
    """Return where the broker is; ends the process, in words, where the environment is refused."""
    with refused_in_words():
        return KafkaSettings()


def run(work: Coroutine[Any, Any, T], settings: KafkaSettings) -> T:
    """Run to the end; a broker or a database that is away ends the command with one sentence."""
    # aiokafka logs every attempt as an error of its own; we tell the outcome.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except (admin.TopicsFailed, log_reader.NoSuchTopic, log_reader.RecordsMissing) as error:
        fail(str(error))
    except psycopg.Error as error:
        fail(f"The database cannot be used (DATABASE_URL): {str(error).strip()}", COULD_NOT)
    except BrokenPipeError:
        raise  # Nobody reads us any more (`| head`); typer ends quietly.
    except (KafkaError, TimeoutError, OSError) as error:
        fail(f"The broker at {settings.kafka_url} does not answer (KAFKA_URL): {error}", COULD_NOT)


@asynccontextmanager
async def ledger() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Open a connection to the database, in autocommit. Raises psycopg.Error."""
    address = DatabaseAddress().database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(
        address, autocommit=True, connect_timeout=10, application_name="innkeeper operators"
    ) as connection:
        yield connection


def fail(sentence: str, status: int = 1) -> NoReturn:
    """End the command with a sentence."""
    err.print(f"[red]{escape(sentence)}[/]")
    raise typer.Exit(status)


def refuse(sentence: str, *, as_json: bool = False) -> NoReturn:
    """End the command with the reason why it is not done; for programs as `{"detail": ...}` on stdout."""
    if not as_json:
        fail(sentence)
    print_json([{"detail": sentence}])
    raise typer.Exit(1)


def print_json(objects: Iterable[Any]) -> None:
    """Print objects for programs, one a line."""
    for each in objects:
        sys.stdout.write(json.dumps(each, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def counted(count: int, noun: str) -> str:
    """Return so many of something: `1 record`, `1,200 records`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def name_of(topic: str, settings: KafkaSettings) -> str:
    """Return the name on the broker of a topic of the catalogue; raises BadParameter."""
    names = [each.name for each in CATALOGUE]
    if topic not in names:
        raise typer.BadParameter(f"there is no topic {topic}; there are {', '.join(names)}")
    return settings.topic_prefix + topic


def moment(text: str) -> datetime:
    """Return the time that a person means, see `log_reader.moment`; raises BadParameter."""
    try:
        return log_reader.moment(text, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
