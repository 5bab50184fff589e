"""Restores the ledger from the log, and prints the plan, the progress and the result."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from operators.cli import console
from operators.cli.tables import NOT_KNOWN, Field, Row, fitted
from operators.restore.backup_check import BackupCheck
from operators.restore.restore import Plan, Restored, plan, restore
from operators.restore.target import NotRestored
from storage import operator_log
from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings, exit_on_invalid_settings
from workers.decisions.states import IllegalTransition
from workers.payments.settings import PaymentSettings
from workers.runtime import garbage
from workers.runtime.role import Stopped

_PLAN: Final = """\
This would make bookings, inventory, read models, pending calls to Stripe and every cursor from {records:,} records of
{topic}, in one transaction, in the database of DATABASE_URL, which is migrated and empty.
- Load hotels, rooms, users, guests, their lists and the installation's id from your backup first. Their sequences then
  continue after every id that the log names, so that a new account never gets the bookings of an account that the
  backup lacks.
- Commands without an event are decided by the reservations workers once they are started: no client has their answer.
- Answers to repeated requests (Idempotency-Key) are not on the log: they come from the backup, as old as it is.
- The record of operators is not on the log either: replayed and discarded dead letters, pauses, actions. Without the
  backup every dead letter counts as open again.
- Stop every worker before, here and at the old database; start them after, and then run: innkeeper audit."""

_BACKUP_FIELDS: Final = (
    Field(name="the log names"),
    Field(name="named", right=True),
    Field(name="missing here", right=True),
    Field(name="such as", prose=True),
)


def restore_command(*, from_log: bool, without_backup: bool, yes: bool, by: str | None, as_json: bool) -> None:
    """Restore the ledger from the log, or without `yes` only print what would be done."""
    if not from_log:
        raise typer.BadParameter("--from-log is needed: the ledger is made from booking.events")
    kafka = console.kafka_settings()
    with exit_on_invalid_settings():
        database, payments = DatabaseSettings(), PaymentSettings()
    try:
        if not yes:
            _print_plan(kafka, database, without_backup=without_backup, as_json=as_json)
        restored = console.run(
            _restore(kafka, database, payments, operator=operator_log.operator_name(by), without_backup=without_backup),
            kafka,
        )
    except (NotRestored, Stopped, IllegalTransition) as error:
        console.refuse(str(error), as_json=as_json)
    if as_json:
        console.print_json([asdict(restored)])
    else:
        _print(restored)


def _print_plan(kafka: KafkaSettings, database: DatabaseSettings, *, without_backup: bool, as_json: bool) -> NoReturn:
    planned = console.run(_plan(kafka, database, without_backup=without_backup), kafka)
    topic = f"{kafka.topic_prefix}booking.events"
    if as_json:
        console.print_json([{"done": False, "topic": topic, **asdict(planned)}])
    else:
        console.err.print(_PLAN.format(records=planned.records, topic=topic), markup=False)
        _print_backup_check(planned.backup_check, console.err)
    console.fail("Nothing was done: add --yes to do it.")


async def _plan(kafka: KafkaSettings, database: DatabaseSettings, *, without_backup: bool) -> Plan:
    with _bar() as progress:
        return await plan(kafka, database, without_backup=without_backup, progress=progress)


async def _restore(
    kafka: KafkaSettings, database: DatabaseSettings, payments: PaymentSettings, *, operator: str, without_backup: bool
) -> Restored:
    garbage.collect_seldom()
    with _bar() as progress:
        return await restore(
            kafka, database, payments, operator=operator, without_backup=without_backup, progress=progress
        )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("reading events"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console.err) as bar:
        task = bar.add_task("", total=None)
        yield lambda read, to_read: bar.update(task, completed=read, total=to_read)


def _print(restored: Restored) -> None:
    for note in restored.notes:
        console.err.print(f"[yellow]{escape(note)}[/]")
    counted = console.counted
    console.out.print(
        f"Restored from {counted(restored.events, 'event')}: {counted(restored.bookings, 'booking')},"
        f" {counted(restored.nights, 'night')}, {counted(restored.sessions, 'session')}"
        f" and {counted(restored.refunds, 'refund')}."
    )
    console.out.print(
        f"The reservations workers still have to decide {counted(restored.undecided, 'command')} and to publish"
        f" {counted(restored.unpublished, 'event')}. Start the workers, then run: innkeeper audit"
    )
    _print_backup_check(restored.backup_check, console.out)


def _print_backup_check(found: Sequence[BackupCheck], where: Console) -> None:
    where.print(fitted(_BACKUP_FIELDS, [_row(each) for each in found], where.width))
    if any(each.missing for each in found):
        where.print("The missing ones have bookings or nights, and no guest can reach those: is there a newer backup?")


def _row(each: BackupCheck) -> Row:
    examples = [*map(str, each.examples), *(["..."] if each.missing > len(each.examples) else [])]
    cells = (each.rows, f"{each.named:,}", f"{each.missing:,}", ", ".join(examples) or NOT_KNOWN)
    return Row(cells=cells, style="yellow" if each.missing else "")
