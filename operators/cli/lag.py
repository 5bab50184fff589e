"""Prints how far each consumer is behind the log, once or again and again; the exit status is an alarm for scripts."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from aiokafka.errors import KafkaError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from operators.cli.console import (
    counted,
    database_settings,
    err,
    fail,
    kafka_settings,
    open_database,
    out,
    print_json,
    run,
)
from operators.cli.tables import NOT_KNOWN, Field, Row, fitted
from operators.lag import Lag, Total, lags, totals, with_rates
from storage import pauses, stripe_circuits
from topics.kafka.settings import KafkaSettings

_NUMBERS: Final = (
    Field(name="behind", right=True),
    Field(name="seconds", right=True),
    Field(name="rate/s", right=True, yields=1),
    Field(name="caught up", right=True, yields=2),
)
_NAMES: Final = (Field(name="consumer"), Field(name="topic"))
_READ_BY: Final = Field(name="read by", yields=3, prose=True)
_TOTALS: Final = (*_NAMES, *_NUMBERS, Field(name="state"), _READ_BY)
_PARTITIONS: Final = (*_NAMES, Field(name="done/written"), *_NUMBERS, _READ_BY)
_TROUBLE: Final = (KafkaError, psycopg.Error, OSError, TimeoutError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How far behind any partition may be, in records and in seconds."""

    records: int | None
    seconds: float | None

    def exceeded(self, found: Sequence[Lag]) -> str | None:
        """Return a sentence that names the exceeded limit and the consumer, or None."""
        for lag in found:
            consumer = f"{lag.consumer} in {lag.topic}[{lag.partition}]"
            if self.records is not None and lag.lag > self.records:
                return f"More than {counted(self.records, 'record')} behind: {consumer}, by {lag.lag}."
            if self.seconds is not None and lag.seconds > self.seconds:
                return f"More than {self.seconds:g} s behind: {consumer}, by {lag.seconds:.1f} s."
        return None


def lag_command(
    *,
    limit: int | None,
    limit_seconds: float | None,
    partitions: bool,
    watch: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Print how far each consumer is behind, once or with `watch` again and again; end with 1 beyond a limit."""
    settings = kafka_settings()
    shown = Limit(records=limit, seconds=limit_seconds)
    if watch:
        run(_watch(settings, shown, max(interval, 0.1), partitions=partitions, as_json=as_json), settings)
        return
    found, notices = run(_measure(settings, interval), settings)
    if as_json:
        print_json(_plain(lag) for lag in found)
    else:
        _print(_tables(settings, found, partitions=partitions))
        for notice in notices:
            err.print(notice, markup=False)
    if sentence := shown.exceeded(found):
        fail(sentence)


async def _measure(settings: KafkaSettings, interval: float) -> tuple[list[Lag], list[str]]:
    """Measure twice, because rates need two measurements."""
    found = await lags(settings, database_settings())
    if interval:
        await asyncio.sleep(interval)
        found = with_rates(found, await lags(settings, database_settings()))
    return found, await _read_notices(found)


async def _watch(settings: KafkaSettings, limit: Limit, interval: float, *, partitions: bool, as_json: bool) -> None:
    # A cancellation can get lost in the Kafka client. Only the terminal has to be restored.
    signal.signal(signal.SIGINT, _leave)
    in_place = not as_json and out.is_terminal
    with Live(console=out, auto_refresh=False) if in_place else nullcontext() as live:
        async for found in _measure_repeatedly(settings, interval):
            now = datetime.now(UTC)
            if as_json:
                print_json([{"at": now.isoformat(timespec="milliseconds"), "lags": [_plain(lag) for lag in found]}])
            else:
                notices = [Text(notice) for notice in await _read_notices(found)]
                shown = Group(_tables(settings, found, partitions=partitions), *notices, f"{now:%H:%M:%S} UTC")
                _print(shown) if live is None else live.update(shown, refresh=True)
            if sentence := limit.exceeded(found):
                fail(sentence)


async def _measure_repeatedly(settings: KafkaSettings, interval: float) -> AsyncIterator[list[Lag]]:
    """Measure for ever; while the broker or the database does not answer, try again."""
    before: list[Lag] = []
    while True:
        try:
            found = await lags(settings, database_settings())
        except _TROUBLE as error:
            err.print(f"Broker or database do not answer ({type(error).__name__}); trying again.", markup=False)
        else:
            yield with_rates(before, found)
            before = found
        await asyncio.sleep(interval)


async def _read_notices(found: Sequence[Lag]) -> list[str]:
    """Return a line for each pause and name in double use that the lags show, and for each open circuit to Stripe.

    A pause that began since is left out.
    """
    paused = {lag.role: lag.paused for lag in found}
    twice = sorted({(lag.owner, lag.processes) for lag in found if lag.owner and lag.processes and lag.processes > 1})
    async with open_database() as connection:
        # Roles that read no topic are in no lag.
        shown = [f"{pause}." for pause in await pauses.list_pauses(connection) if paused.get(pause.role, True)]
        shown += [
            f"{processes} processes have the name {name}; only one of them can be at work. End the others, or give each"
            " a name of its own."
            for name, processes in twice
        ]
        if circuits := await stripe_circuits.not_closed(connection):
            waiting = counted(await stripe_circuits.waiting_calls(connection), "call")
            shown += [f"{circuit}; {waiting} due." for circuit in circuits]
        return shown


def _print(shown: Group) -> None:
    out.print(shown)


def _leave(*_: object) -> None:
    out.show_cursor()
    sys.stdout.flush()
    os._exit(130)


def _plain(lag: Lag) -> dict[str, Any]:
    return {
        **asdict(lag),
        "last_time": lag.last_time and lag.last_time.isoformat(),
        "seen_at": lag.seen_at.isoformat(timespec="milliseconds"),
    }


def _tables(settings: KafkaSettings, found: Sequence[Lag], *, partitions: bool) -> Group:
    prefix = settings.topic_prefix
    shown = [lag for lag in found if partitions or lag.lag]
    return Group(_of_totals(totals(found), prefix), *([_of_partitions(shown, prefix)] if shown else []))


def _of_totals(found: Sequence[Total], prefix: str) -> RenderableType:
    rows = [
        Row(
            cells=(total.consumer, total.topic.removeprefix(prefix), *_cells(total), _state(total), _readers(total)),
            style=_style(total),
        )
        for total in found
    ]
    return fitted(_TOTALS, rows, out.width)


def _of_partitions(found: Sequence[Lag], prefix: str) -> RenderableType:
    rows = []
    for lag in found:
        partition = f"{lag.topic.removeprefix(prefix)}[{lag.partition}]"
        reader = "nobody" if lag.owner is None else f"{lag.owner} at {lag.host}"
        # Records that were deleted before they were read do not count as waiting, so they count as done here.
        done = f"{lag.end - lag.lag}/{lag.end}"
        rows.append(Row(cells=(lag.consumer, partition, done, *_cells(lag), reader), style=_style(lag)))
    return fitted(_PARTITIONS, rows, out.width)


def _cells(found: Lag | Total) -> tuple[str, str, str, str]:
    rate = NOT_KNOWN if found.rate is None else f"{found.rate:.0f}"
    return str(found.lag), f"{found.seconds:.1f}", rate, _caught_up(found)


def _caught_up(found: Lag | Total) -> str:
    if found.rate is None:
        return NOT_KNOWN
    return "never" if found.caught_up_seconds is None else f"{found.caught_up_seconds:.1f} s"


def _state(total: Total) -> str:
    if total.paused:
        return "paused"
    if total.not_started == total.partitions:
        return "never ran"
    if total.unassigned == total.partitions:
        return "nobody reads"
    if total.stalled:
        return "stalled" if total.stalled == total.behind else f"{total.stalled} of {total.partitions} stalled"
    return "reads"


def _readers(total: Total) -> str:
    if total.role is None:
        return "no role of ours"
    names = ", ".join(total.members) or "nobody"
    if total.unassigned in {0, total.partitions}:
        return names
    return f"{names}; {counted(total.unassigned, 'partition')} by nobody"


def _style(found: Lag | Total) -> str:
    return "yellow" if found.paused else "red" if found.lag else ""
