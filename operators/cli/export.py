"""`innkeeper export`: which days are missing in a folder, and writing them."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from operators.cli.console import COULD_NOT, counted, err, fail, kafka_settings, moment, print_json, run
from operators.export.columns import Unexportable
from operators.export.days import EventDays, ExportBatch, open_days
from operators.export.files import InUse, Unavailable, check_available, day_file, folder_of_ours, remove
from operators.export.formats import Format
from topics.catalogue import BOOKING_EVENTS
from topics.kafka.settings import KafkaSettings

#: For this long after midnight the broker's clock may still give a record the time of the day before.
MAX_BROKER_CLOCK_SKEW: Final = timedelta(minutes=5)
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """One file that was written: the events of one day (UTC, by log time); `partial`: the day is not over."""

    file: str
    day: str
    partial: bool
    events: int
    bytes: int


class Unwritable(Exception):
    """The files cannot be written."""


def export_command(
    topic: str, out: Path, format: Format, *, since: str | None, until: str | None, as_json: bool
) -> None:
    """Write the events as files, one for each day."""
    if topic != BOOKING_EVENTS.name:
        raise typer.BadParameter(f"{topic} cannot be exported, only {BOOKING_EVENTS.name}: it is the record")
    first = None if since is None else moment(since).astimezone(UTC).date()
    last, every = _last_day(until)
    work = _Export(kafka_settings(), out, format, first=first, last=last, today=until == "now", every=every)
    # A cancellation can get lost in the Kafka client.
    signal.signal(signal.SIGINT, _leave)
    _export(work, (lambda exported: print_json([asdict(exported)])) if as_json else None)


def _last_day(until: str | None) -> tuple[date, bool]:
    """Return the last day to export that is over, and whether every day that is over is to be exported."""
    over = datetime.now(UTC) - MAX_BROKER_CLOCK_SKEW
    wanted = over if until in {None, "now"} else moment(until or "").astimezone(UTC)
    return min(wanted, over).date() - _ONE_DAY, wanted >= over


class _Export:
    """One call: the days to export, and the files that were written."""

    def __init__(
        self,
        settings: KafkaSettings,
        folder: Path,
        format: Format,
        *,
        first: date | None,
        last: date,
        today: bool,
        every: bool,
    ) -> None:
        self.settings = settings
        self.there = 0
        self.not_over = 0
        self.doubles = 0
        self.files: list[Exported] = []
        self.missing: dict[int, int] = {}
        self.replacing: dict[int, int] = {}
        self._name = settings.topic(BOOKING_EVENTS)
        self._folder = folder
        self._format = format
        self._first = first
        self._last = last
        self._today = today
        self._every = every

    async def write(self, on_written: Callable[[Exported], None] | None) -> None:
        """Write every file that is missing; `on_written` is called for each.

        Raises:
            Unavailable, InUse, Unwritable, Unexportable: see each.
            NoSuchTopic, KafkaError: as `open_days` does.
        """
        check_available(self._format)
        async with open_days(self.settings, self._name) as days:
            oldest = await days.first()
            if oldest is None:
                return
            first = oldest if self._first is None else max(self._first, oldest)
            if self._every and not self._today:
                self.not_over = await days.records_since(max(first, self._last + _ONE_DAY))
            try:
                with folder_of_ours(self._folder):
                    for span in self._missing_spans(first):
                        await self._write_span(days, span, on_written)
            except (TimeoutError, BrokenPipeError):
                raise
            except OSError as error:
                raise Unwritable(f"{self._folder} cannot be written (--out): {error}") from error

    def _missing_spans(self, first: date) -> Iterator[list[date]]:
        """Yield runs of consecutive days that have no file."""
        span: list[date] = []
        for day in _days(first, self._last):
            if not self._path(day).exists():
                span.append(day)
                continue
            self.there += 1
            if span:
                yield span
            span = []
        if self._today:
            span += _days(max(first, self._last + _ONE_DAY), datetime.now(UTC).date())
        if span:
            yield span

    async def _write_span(
        self, days: EventDays, span: list[date], on_written: Callable[[Exported], None] | None
    ) -> None:
        records = await days.begin(span[0], span[-1])
        with _bar(records) as advance:
            for day in span:
                exported = await self._write_day(day, days.day(day), advance)
                if exported is not None:
                    self.files.append(exported)
                    if on_written is not None:
                        on_written(exported)
        for partition, count in days.missing().items():
            self.missing[partition] = self.missing.get(partition, 0) + count
        for partition, count in days.replacing().items():
            self.replacing[partition] = self.replacing.get(partition, 0) + count

    async def _write_day(
        self, day: date, batches: AsyncIterator[ExportBatch], advance: Callable[[int], None]
    ) -> Exported | None:
        """Write one day's file; None: the day has no events, and no file."""
        partial = day > self._last
        path = self._path(day, partial=partial)
        events = 0
        with ExitStack() as stack:
            file = None
            async for batch in batches:
                if batch.new:
                    file = file or stack.enter_context(day_file(path, self._format))
                    file.write(batch.new)
                events += len(batch.new)
                self.doubles += batch.duplicates
                advance(len(batch.new) + batch.duplicates)
            if file is not None and not partial:
                # Before the whole file has its name: a reader of all files never finds an event in two.
                remove(self._path(day, partial=True))
        if file is None:
            return None
        return Exported(file=str(path), day=day.isoformat(), partial=partial, events=events, bytes=path.stat().st_size)

    def _path(self, day: date, *, partial: bool = False) -> Path:
        return self._folder / f"{self._name}-{day.isoformat()}{'.partial' if partial else ''}.{self._format}"


def _export(work: _Export, on_written: Callable[[Exported], None] | None) -> None:
    began = monotonic()
    try:
        run(work.write(on_written), work.settings)
    except InUse as error:
        fail(str(error))
    except (Unavailable, Unexportable, Unwritable) as error:
        fail(str(error), COULD_NOT)
    _sum_up(work, monotonic() - began)
    if work.missing:
        fail("The log does not have every event. See innkeeper audit.")


def _sum_up(work: _Export, seconds: float) -> None:
    events = sum(each.events for each in work.files)
    megabytes = sum(each.bytes for each in work.files) / 1e6
    err.print(
        f"{counted(len(work.files), 'file')} written, {work.there} {'was' if work.there == 1 else 'were'} there: "
        f"{counted(events, 'event')} "
        f"({work.doubles:,} published twice, left out) "
        f"in {megabytes:.1f} MB, {seconds:.1f} s, {events / seconds:,.0f} events/s."
    )
    if work.not_over:
        err.print(
            f"Left out, as their day is not over: {counted(work.not_over, 'record')}. --until now writes them, too."
        )
    for partition, count in sorted(work.replacing.items()):
        have = "1 event has" if count == 1 else f"{count} events have"
        err.print(f"Partition {partition}: {have} the sequence of another, which a failover lost; both are there.")
    for partition, count in sorted(work.missing.items()):
        missing = "1 sequence is" if count == 1 else f"{count} sequences are"
        err.print(f"[red]Partition {partition}: {missing} missing.[/]")


@contextmanager
def _bar(records: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal's stderr how many records have been read."""
    columns = (TextColumn("records read"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        task = bars.add_task("", total=records)
        yield lambda count: bars.advance(task, count)


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _leave(*_: object) -> None:
    """End at once, as a program ends on Ctrl-C.

    An unfinished file does not have its name yet; the next export writes it anew.
    """
    err.show_cursor()
    err.print("Interrupted; the same call continues.")
    os._exit(130)
