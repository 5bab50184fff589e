"""Prints an audit, once or again and again."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Final

import psycopg
import typer
from aiokafka.errors import KafkaError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from operators.audit import NoSuchTopic, Report, audit
from operators.cli import console
from topics.times import to_the_second

_FAILED: Final = 1
_INTERRUPTED: Final = 130
#: A failure counts more than the Ctrl-C that ended the watch.
_WORST_FIRST: Final = (_FAILED, console.COULD_NOT, _INTERRUPTED, 0)


def audit_command(*, as_json: bool, holds: bool, watch: bool, every: float) -> None:
    """Audit once, or with `watch` every so many seconds, and print what was found."""
    statuses: set[int] = set()
    try:
        while True:
            _once(statuses, holds=holds, as_json=as_json, watched=watch)
            if not watch:
                break
            time.sleep(every)
    except KeyboardInterrupt:
        if not watch:
            raise
        console.err.print()
        statuses.add(_INTERRUPTED)
    raise typer.Exit(next(status for status in _WORST_FIRST if status in statuses))


def _once(statuses: set[int], *, holds: bool, as_json: bool, watched: bool) -> None:
    """Audit, note the exit status, and only then print: a printed result must count, also when Ctrl-C comes next."""
    try:
        report = _audit(holds=holds, silent=watched)
    except (psycopg.Error, KafkaError, NoSuchTopic, OSError) as error:
        statuses.add(console.COULD_NOT)
        reason = f"The audit could not be made: {type(error).__name__}: {str(error).strip()}"
        console.err.print(f"{_when(watched=watched)}{reason}", markup=False)
        return
    statuses.add(0 if report.ok else _FAILED)
    if as_json:
        console.print_json([report.as_json()])
    else:
        _print(report, _when(watched=watched))


def _audit(*, holds: bool, silent: bool) -> Report:
    kafka = console.kafka_settings()
    columns = TextColumn("reading events"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console.err, disable=silent) as bar:
        task = bar.add_task("", total=None)
        return asyncio.run(
            audit(
                kafka,
                console.database_settings(),
                holds=holds,
                progress=lambda read, to_read: bar.update(task, completed=read, total=to_read),
            )
        )


def _when(*, watched: bool) -> str:
    return f"{to_the_second(datetime.now(UTC))}  " if watched else ""


def _print(report: Report, when: str) -> None:
    for problem in report.problems():
        sys.stdout.write(f"{problem}\n")
    sys.stdout.flush()
    counts = ", ".join(f"{count} {name}" for name, count in report.counts.items())
    failed = report.failed()
    verdict = f"The audit failed: {', '.join(failed)}" if failed else "The audit holds"
    console.err.print(f"{when}{verdict} ({counts}).", markup=False)
