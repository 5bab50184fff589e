"""Shared by the commands: results on stdout, notes on stderr, and one sentence in place of a traceback.

Exit status: 0 fine, 1 something is wrong or refused, 2 it could not be done: no answer, or bad usage.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import psycopg
import typer
from aiokafka.errors import KafkaError

from storage.database import connect
from storage.failures import Reason, reason_of
from storage.settings import DatabaseSettings
from topics.catalogue import CATALOGUE
from topics.kafka import admin, log_reader
from topics.kafka.settings import KafkaSettings, exit_on_invalid_settings

#: The columns of a table that is written to a pipe.
_WIDE: Final = 200
if TYPE_CHECKING:
    from rich.console import Console

    out: Console
    err: Console

T = TypeVar("T")

#: Exit status: it could not be done.
COULD_NOT: Final = 2


def __getattr__(name: str) -> Any:
    """Return `out` or `err`, which are made when they are first used."""
    if name not in {"out", "err"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _console(is_error=name == "err")


@cache
def _console(*, is_error: bool) -> "Console":
    # rich takes long to load, and JSON for programs needs none of it.
    from rich.console import Console  # noqa: PLC0415 - only a page for people needs rich

    if is_error:
        return Console(stderr=True, highlight=False, soft_wrap=True)
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


def kafka_settings() -> KafkaSettings:
    """Return the broker's settings; ends the process with a sentence where the environment is wrong."""
    with exit_on_invalid_settings():
        return KafkaSettings()


def database_settings() -> DatabaseSettings:
    """Return the database's settings; ends the process with a sentence where the environment is wrong."""
    with exit_on_invalid_settings():
        return DatabaseSettings()


def run(work: Coroutine[Any, Any, T], settings: KafkaSettings) -> T:
    """Run to the end; a broker or a database that does not answer ends the command with one sentence."""
    # aiokafka logs every failed attempt as an error of its own; the command reports the outcome.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except (admin.TopicsFailed, log_reader.NoSuchTopic, log_reader.RecordsMissing) as error:
        fail(str(error))
    except psycopg.Error as error:
        reason = reason_of(error) or Reason.AWAY
        state = "" if reason is Reason.AWAY else f"it {reason.in_words}: "
        fail(f"The database cannot be used (DATABASE_URL): {state}{str(error).strip()}", COULD_NOT)
    except BrokenPipeError:
        raise  # The reader of the pipe has ended (`| head`); typer ends quietly.
    except (KafkaError, TimeoutError, OSError) as error:
        fail(f"The broker at {settings.kafka_url} does not answer (KAFKA_URL): {error}", COULD_NOT)


@asynccontextmanager
async def open_database() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Open a connection to the database, in autocommit. Raises psycopg.Error."""
    async with await connect(database_settings(), "innkeeper operators") as connection:
        yield connection


def fail(sentence: str, status: int = 1) -> NoReturn:
    """End the command with a sentence."""
    _console(is_error=True).print(sentence, style="red", markup=False)
    raise typer.Exit(status)


def refuse(sentence: str, *, as_json: bool = False) -> NoReturn:
    """End the command with the reason for the refusal; for programs as `{"detail": ...}` on stdout."""
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
    """Return a count with its noun: `1 record`, `1,200 records`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def name_of(topic: str, settings: KafkaSettings) -> str:
    """Return the name on the broker of a topic of the catalogue; raises BadParameter."""
    names = [each.name for each in CATALOGUE]
    if topic not in names:
        raise typer.BadParameter(f"there is no topic {topic}; there are {', '.join(names)}")
    return settings.topic_prefix + topic


def moment(text: str) -> datetime:
    """Return the time that a person wrote, as `log_reader.moment` reads it; raises BadParameter."""
    try:
        return log_reader.moment(text, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
