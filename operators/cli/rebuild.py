"""Rebuilds a read model, and prints the progress and the differences."""

import asyncio
import signal
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

import typer
from rich.box import SIMPLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from operators.cli import console
from operators.cli.commands.rebuild import ReadModel
from operators.rebuild import (
    PROJECTIONS,
    Busy,
    Compared,
    EventsMissing,
    InUse,
    NoCursor,
    Rebuilt,
    StillWritten,
    rebuild,
)
from storage.operator_log import operator_name
from topics.kafka.settings import KafkaSettings

T = TypeVar("T")


def rebuild_command(projection: str, *, compare_only: bool, yes: bool, by: str | None, as_json: bool) -> None:
    """Rebuild a read model, or `all`, and print how the new tables differ from the old ones."""
    names = list(PROJECTIONS) if projection == ReadModel.ALL else [projection]
    if not (yes or compare_only):
        _print_plan(names, as_json=as_json)
        console.fail("Nothing was done: add --yes to do it, or --compare-only to see what would be different.")
    kafka = console.kafka_settings()
    done = [_rebuild(kafka, name, operator_name(by), swap=not compare_only, as_json=as_json) for name in names]
    if compare_only and any(each.different for each in done):
        raise typer.Exit(1)


def _print_plan(names: list[str], *, as_json: bool) -> None:
    plan = {name: [table.name for table in PROJECTIONS[name].tables] for name in names}
    if as_json:
        console.print_json({"done": False, "projection": name, "tables": tables} for name, tables in plan.items())
        return
    for name, tables in plan.items():
        replaced = f"the table{'s' * (len(tables) > 1)} {', '.join(tables)}"
        console.err.print(f"{name} would be made anew from the whole log, and replace {replaced}.")


def _rebuild(kafka: KafkaSettings, name: str, operator: str, *, swap: bool, as_json: bool) -> Rebuilt:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console.err
    )
    with bar:
        task = bar.add_task(name, total=None)
        work = rebuild(
            kafka,
            console.database_settings(),
            name,
            operator=operator,
            swap=swap,
            on_compared=lambda tables: None if as_json else _print_comparison(tables),
            progress=lambda applied, to_apply: bar.update(task, completed=applied, total=to_apply),
        )
        try:
            done = console.run(_until_terminated(work), kafka)
        except (Busy, EventsMissing, InUse, NoCursor, StillWritten) as error:
            console.refuse(f"{name} was not rebuilt: {error}.", as_json=as_json)
        except (asyncio.CancelledError, KeyboardInterrupt):
            console.fail(f"{name} was not rebuilt: it was interrupted, and nothing of it is left.", console.COULD_NOT)
    if as_json:
        console.print_json([asdict(done)])
    else:
        console.err.print(_sentence(done), markup=False)
    return done


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Cancel the work on SIGTERM and on Ctrl-C, and wait until it has tidied up."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _print_comparison(tables: tuple[Compared, ...]) -> None:
    shown = Table(Column("TABLE"), Column("ROWS", justify="right"), Column("DIFFERENT", justify="right"), box=SIMPLE)
    for table in tables:
        shown.add_row(table.table, f"{table.rows:,}", f"{table.different:,}")
    console.out.print(shown)
    for table in tables:
        for each in table.first:
            console.out.print(f"{each.table} {_pairs(each.key)}: {_change(each.was, each.is_now)}", markup=False)
        if table.different > len(table.first):
            console.out.print(f"{table.table}: and {table.different - len(table.first):,} more")


def _change(was: dict[str, Any] | None, is_now: dict[str, Any] | None) -> str:
    if was is None:
        return "missing where it serves"
    if is_now is None:
        return "not on the log"
    changed = (name for name in was if was[name] != is_now[name])
    return ", ".join(f"{name} {was[name]!r}, by the log {is_now[name]!r}" for name in changed)


def _pairs(key: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items())


def _sentence(done: Rebuilt) -> str:
    rate = done.events / max(done.seconds, 0.001)
    made = f"{done.projection}: {console.counted(done.events, 'event')} in {done.seconds:.1f} s ({rate:,.0f} a second)"
    differs = {0: "no row differs", 1: "1 row differs"}.get(done.different, f"{done.different:,} rows differ")
    end = f"in place; the workers waited for {done.held_seconds:.2f} s" if done.swapped else "thrown away"
    return f"{made}, {differs}; {end}."
