"""Restores a lost database, a lost log, or both, and prints the plan, the progress and the result."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from msgspec import to_builtins
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from operators.cli import console
from operators.cli.tables import NOT_KNOWN, Field, Row, fitted
from operators.restore import from_export, from_ledger
from operators.restore.backup_check import BackupCheck
from operators.restore.exported import Checked
from operators.restore.from_export import Steps
from operators.restore.from_ledger import LedgerPlan
from operators.restore.restore import Plan, Restored, plan, restore
from operators.restore.target import NotRestored
from storage import operator_log
from storage.settings import DatabaseSettings
from telemetry import garbage
from topics.kafka.admin import TopicsFailed
from topics.kafka.settings import KafkaSettings, exit_on_invalid_settings
from topics.times import to_the_second
from workers.decisions.states import IllegalTransition
from workers.payments.settings import PaymentSettings
from workers.runtime.role import Stopped

_REFILL: Final = """\
This would first delete {topic} and create it anew, unless an interrupted restore left a part of its events there, and
put {events} on it. Until all are there the topic keeps the times of its producer: no worker and no ingress starts.
"""
_PLAN: Final = """\
This would make bookings, inventory, read models, pending calls to Stripe and every cursor from {source}, in one
transaction, in the database of DATABASE_URL, which is migrated and empty.
- Load hotels, rooms, users, guests, their lists and the installation's id from your backup first. Their sequences then
  continue after every id that the log names, so that a new account never gets the bookings of an account that the
  backup lacks.
- {commands}
- A request that is sent again with its Idempotency-Key is its first booking; the table of keys comes from the backup.
- The record of operators is not on the log either: replayed and discarded dead letters, pauses, actions. Without the
  backup every dead letter counts as open again.
- Stop every worker before, here and at the old database; start them after, and then run: innkeeper audit."""
_COMMANDS_LEFT: Final = (
    "Commands without an event are decided by the reservations workers once they are started: no client has their"
    " answer."
)
_COMMANDS_LOST: Final = (
    "All that happened after the newest event is lost. Clients that ask for a booking of then get REJECTED, `lost`;"
    " payments for it are found by: innkeeper reconcile."
)

_BACKUP_FIELDS: Final = (
    Field(name="the log names"),
    Field(name="named", right=True),
    Field(name="missing here", right=True),
    Field(name="such as", prose=True),
)
_MAX_SHOWN: Final = 20


def restore_command(
    *,
    from_log: bool,
    from_ledger_left: bool,
    folder: Path | None,
    without_backup: bool,
    despite_gaps: bool,
    yes: bool,
    by: str | None,
    as_json: bool,
) -> None:
    """Restore what is lost from what is left, or without `yes` only print what would be done."""
    if from_log == (from_ledger_left or folder is not None):
        raise typer.BadParameter(
            "name what is left: --from-log, --from-ledger, --from-export, or the last two together"
        )
    kafka = console.kafka_settings()
    with exit_on_invalid_settings():
        database, payments = DatabaseSettings(), PaymentSettings()
    operator = operator_log.operator_name(by)
    garbage.collect_seldom()
    try:
        with _bars() as bars:
            work: Coroutine[Any, Any, Plan | Checked | LedgerPlan | Restored]
            if from_ledger_left:
                work = _continue(kafka, database, folder, bars, operator if yes else None, despite_gaps=despite_gaps)
            elif folder is not None:
                work = _from_export(
                    kafka, database, payments, folder, bars, operator if yes else None, without_backup=without_backup
                )
            else:
                work = _from_log(
                    kafka, database, payments, bars, operator if yes else None, without_backup=without_backup
                )
            done = console.run(work, kafka)
    except (NotRestored, Stopped, IllegalTransition) as error:
        console.refuse(str(error), as_json=as_json)
    except TopicsFailed as error:
        console.fail(str(error), console.COULD_NOT)
    if not yes:
        _print_plan(done, f"{kafka.topic_prefix}booking.events", as_json=as_json)
    _print_done(done, as_json=as_json)


class _Bars:
    """A bar for each step of a restore."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def bar(self, name: str) -> Callable[[int, int], None]:
        """Return the function that moves the bar of a step, which is shown from its first call on."""
        tasks: list[Any] = []

        def move(done: int, of: int) -> None:
            if not tasks:
                tasks.append(self._progress.add_task(name, total=of))
            self._progress.update(tasks[0], completed=done, total=of)

        return move

    def steps(self) -> Steps:
        """Return the bars of a restore from files."""
        return Steps(
            check=self.bar("checking files, bytes"),
            refill=self.bar("putting events on the log"),
            restore=self.bar("reading events"),
        )


@contextmanager
def _bars() -> Iterator[_Bars]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console.err) as progress:
        yield _Bars(progress)


async def _from_log(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    payments: PaymentSettings,
    bars: _Bars,
    operator: str | None,
    *,
    without_backup: bool,
) -> Plan | Restored:
    bar = bars.bar("reading events")
    if operator is None:
        return await plan(kafka, database, without_backup=without_backup, progress=bar)
    return await restore(kafka, database, payments, operator=operator, without_backup=without_backup, progress=bar)


async def _from_export(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    payments: PaymentSettings,
    folder: Path,
    bars: _Bars,
    operator: str | None,
    *,
    without_backup: bool,
) -> Checked | Restored:
    steps = bars.steps()
    if operator is None:
        return await from_export.plan(kafka, database, folder, without_backup=without_backup, progress=steps.check)
    return await from_export.restore_from_export(
        kafka, database, payments, folder, operator=operator, without_backup=without_backup, steps=steps
    )


async def _continue(
    kafka: KafkaSettings,
    database: DatabaseSettings,
    folder: Path | None,
    bars: _Bars,
    operator: str | None,
    *,
    despite_gaps: bool,
) -> LedgerPlan:
    if operator is None:
        return await from_ledger.plan(kafka, database, folder, steps=bars.steps())
    return await from_ledger.continue_log(
        kafka, database, folder, operator=operator, despite_gaps=despite_gaps, steps=bars.steps()
    )


# The plan.


def _print_plan(planned: Plan | Checked | LedgerPlan | Restored, topic: str, *, as_json: bool) -> NoReturn:
    match planned:
        case Plan() if as_json:
            console.print_json([{"done": False, "topic": topic, **asdict(planned)}])
        case Plan():
            source = f"{planned.records:,} records of {topic}"
            console.err.print(_PLAN.format(source=source, commands=_COMMANDS_LEFT), markup=False)
            _print_backup_check(planned.backup_check, console.err)
        case Checked() if as_json:
            console.print_json([{"done": False, "topic": topic, **_files_of(planned)}])
        case Checked():
            source = f"{planned.events:,} events of {console.counted(len(planned.files), 'file')}"
            console.err.print(_REFILL.format(topic=topic, events=source), markup=False, end="")
            console.err.print(_PLAN.format(source=source, commands=_COMMANDS_LOST), markup=False)
            _print_files(planned)
        case LedgerPlan() if as_json:
            console.print_json([{"done": False, "topic": topic, **to_builtins(planned)}])
        case LedgerPlan():
            if topic in planned.lost:
                events = console.counted(planned.events, "event")
                console.err.print(_REFILL.format(topic=topic, events=events), markup=False, end="")
            _print_ledger(planned, "would be put")
    needed = "--despite-gaps --yes" if isinstance(planned, LedgerPlan) and planned.gaps else "--yes"
    console.fail(f"Nothing was done: add {needed} to do it.")


def _files_of(checked: Checked) -> dict[str, Any]:
    return {
        "files": [file.path.name for file in checked.files],
        "events": checked.events,
        "newest": to_builtins(checked.newest),
        "without_checksum": checked.without_checksum,
        "replaced": {
            str(partition): [each.sequence for each in found] for partition, found in checked.replaced.items()
        },
    }


def _print_files(checked: Checked) -> None:
    newest = "none" if checked.newest is None else to_the_second(checked.newest)
    console.err.print(
        f"The files are whole: each event once, none missing in between. The newest is of {newest}.", markup=False
    )
    for partition, found in sorted(checked.replaced.items()):
        sequences = ", ".join(str(each.sequence) for each in found)
        console.err.print(
            f"Partition {partition} has two events of sequence {sequences}: a failover lost the earlier decision, and"
            " the later one, with all that follows it, is restored.",
            markup=False,
        )
    if checked.without_checksum:
        console.err.print(
            f"{console.counted(len(checked.without_checksum), 'file')} without a checksum, such as"
            f" {checked.without_checksum[-1]}: if the newest was cut between two lines, nobody can see it.",
            markup=False,
        )


def _print_ledger(planned: LedgerPlan, put: str) -> None:
    if not planned.lost:
        console.err.print(
            "An earlier restore put all events back and set the cursors; its last step, the topic's settings, "
            + ("was left." if put == "were put" else "is left."),
            markup=False,
        )
        return
    console.err.print(
        f"Lost: {', '.join(planned.lost)}. {console.counted(planned.events, 'event')} {put} on the new log, with the"
        " ids and sequences that they had, those of files with their times, those of the outbox with the time of their"
        " decision; every consumer resumes behind its last one.",
        markup=False,
    )
    for gap in planned.gaps[:_MAX_SHOWN]:
        missed_by = ", ".join(gap.missed_by) or "no consumer of ours"
        console.err.print(
            f"Partition {gap.partition}: neither files nor the outbox have events {gap.first} to {gap.last}, missed by"
            f" {missed_by}. The log will begin at {gap.last + 1}; 1 to {gap.last} are not on it.",
            markup=False,
        )
    until = "never" if planned.decided_until is None else to_the_second(planned.decided_until)
    console.err.print(
        f"The last decision was made at {until}. Commands that were not decided then are lost: their bookings become"
        " REJECTED, `lost`, for their clients.",
        markup=False,
    )
    for request in planned.requests[-_MAX_SHOWN:]:
        console.err.print(
            f"Lost: {request.endpoint} of account {request.user_id} at {to_the_second(request.sent_at)},"
            f" {request.booking_id}",
            markup=False,
        )
    console.err.print(
        f"{console.counted(len(planned.requests), 'lost request')} with an Idempotency-Key or of the desk; of others"
        " the database has no trace.",
        markup=False,
    )


# The result.


def _print_done(done: Plan | Checked | LedgerPlan | Restored, *, as_json: bool) -> None:
    if isinstance(done, Restored | LedgerPlan) and as_json:
        console.print_json([to_builtins(done)])
    elif isinstance(done, Restored):
        _print_restored(done)
    elif isinstance(done, LedgerPlan):
        _print_ledger(done, "were put")
        console.out.print("Start everything, then run: innkeeper audit, and innkeeper reconcile --yes")


def _print_restored(restored: Restored) -> None:
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
