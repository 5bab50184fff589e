"""Processes a range of the log again, and prints what that changed."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from operators import replay
from operators.cli.console import (
    counted,
    err,
    kafka_settings,
    moment,
    name_of,
    open_database,
    print_json,
    refuse,
    run,
)
from operators.replay import CursorRewind, Plan, Refused, ReplayRange, ReplayResult
from storage import pauses
from storage.operator_log import operator_name
from topics.catalogue import CATALOGUE, STRIPE_WEBHOOKS
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.times import to_the_second

INTERRUPTED: Final = 130


def replay_command(
    topic: str,
    *,
    begin: str,
    end: str | None,
    partition: int | None,
    kind: str | None,
    consumer: str | None,
    wait: float,
    by: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Process a range of the log again, or without `yes` only print what would be done."""
    settings = kafka_settings()
    name_of(topic, settings)
    asked = ReplayRange(
        topic=next(each for each in CATALOGUE if each.name == topic),
        begin=_offset_or_time(begin, partition),
        end=None if end is None else _offset_or_time(end, partition),
        partition=partition,
        type=kind,
    )
    if consumer is None:
        work = _send(settings, asked, wait_seconds=wait, by=by, yes=yes, as_json=as_json)
    else:
        work = _rewind(settings, asked, consumer, by=by, yes=yes, as_json=as_json)
    try:
        status = run(work, settings)
    except Refused as refused:
        refuse(str(refused), as_json=as_json)
    if status:
        raise typer.Exit(status)


async def _send(
    settings: KafkaSettings, asked: ReplayRange, *, wait_seconds: float, by: str | None, yes: bool, as_json: bool
) -> int:
    async with open_database() as connection:
        plan = await replay.plan_replay(settings, connection, asked)
        if not yes:
            _would_send(plan, as_json=as_json)
            return 1
        async with open_producer(settings, client_id="innkeeper-operators") as producer, _interruptible() as stop:
            with _progress() as progress:
                bar = progress.add_task("sent again", total=plan.records)
                result = await replay.run_replay(
                    settings,
                    connection,
                    producer,
                    plan,
                    operator=operator_name(by),
                    wait_seconds=wait_seconds,
                    advance=lambda count: progress.advance(bar, count),
                    stop=stop,
                )
    _print_result(plan, result, as_json=as_json)
    if stop.is_set():
        return INTERRUPTED
    return 0 if result.reason is None and result.effects.known else 1


async def _rewind(
    settings: KafkaSettings, asked: ReplayRange, consumer: str, *, by: str | None, yes: bool, as_json: bool
) -> int:
    async with open_database() as connection:
        planned = await replay.plan_rewind(settings, connection, asked, consumer)
        _print_rewind(planned, done=False, as_json=as_json and not yes)
        if not yes:
            err.print(f"Would put {planned.consumer} back so far. Add --yes to do it.")
            return 1
        await replay.rewind(connection, planned, operator=operator_name(by))
        _print_rewind(planned, done=True, as_json=as_json)
        paused = await pauses.of(connection, planned.role)
    command = f"innkeeper {'resume' if paused else 'worker'} {planned.role}"
    err.print(f"Done. {planned.consumer} reads them when its role resumes: {command}")
    return 0


def _offset_or_time(text: str, partition: int | None) -> int | datetime:
    if not text.isdecimal():
        return moment(text)
    if partition is None:
        raise typer.BadParameter(f"{text} is an offset, and each partition has its own: name one with --partition")
    return int(text)


def _would_send(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        return print_json([_as_object(plan)])
    times = f"from {to_the_second(plan.first_time)} to {to_the_second(plan.last_time)}"
    err.print(escape(f"{_records(plan)} of {plan.name}, {times}:"))
    _print_types(plan.types)
    for partition, (first, last) in sorted(plan.ranges.items()):
        err.print(escape(f"  partition {partition}: offsets {first} to {last - 1}"))
    if plan.repeats:
        err.print(f"Left out: {counted(plan.repeats, 'record')} with the id of one before, as each id is sent once.")
    if plan.not_yet:
        err.print(f"Left out: {counted(plan.not_yet, 'record')} that no worker has processed for the first time yet.")
    return err.print(
        "Would send them again. A record that had its effect has none again; a refused one may have one now."
        f" {_left_behind(plan)} Add --yes to do it."
    )


def _left_behind(plan: Plan) -> str:
    each = "Each command that a webhook leads to" if plan.topic is STRIPE_WEBHOOKS else "Each that changes nothing"
    return f"{each} leaves one event of its repetition or refusal, kept for ever."


def _records(plan: Plan) -> str:
    return counted(plan.records, "webhook" if plan.topic is STRIPE_WEBHOOKS else "record")


def _print_result(plan: Plan, result: ReplayResult, *, as_json: bool) -> None:
    effects = result.effects
    if as_json:
        fields = {
            **_as_object(plan),
            "sent": result.sent,
            "reached": result.reached,
            "reason": result.reason,
            "processed": effects.known,
            "commands": effects.commands,
            "changed": effects.changed if effects.known else None,
            "events": dict(effects.events),
        }
        return print_json([fields])
    err.print(f"{result.sent:,} of {_records(plan)} sent again.")
    if result.reason is not None:
        err.print(f"[red]Ended early: {escape(result.reason)}. Sent up to:[/]")
        for partition, offset in sorted(result.reached.items()):
            err.print(escape(f"  {plan.name}[{partition}]@{offset}"))
    if not effects.known:
        return err.print("[red]The workers did not process all of it in time, so the changes are not known.[/]")
    err.print(_effects_in_words(plan, result))
    return _print_types(effects.events)


def _effects_in_words(plan: Plan, result: ReplayResult) -> str:
    effects = result.effects
    commands = counted(effects.commands, "command")
    if plan.topic is STRIPE_WEBHOOKS:
        sent = f"The {counted(result.sent, 'webhook')} led to {commands}"
        if not effects.commands:
            return f"{sent}: their contents were known already, or are about no booking of ours."
    else:
        sent = f"These were {counted(result.sent, 'record')} of {commands}"
    rest = effects.commands - effects.changed
    changed = f"{sent}: {effects.changed:,} changed something."
    return f"{changed} {rest:,} changed nothing, and left an event each." if rest else changed


def _print_rewind(planned: CursorRewind, *, done: bool, as_json: bool) -> None:
    if as_json:
        fields = {
            "consumer": planned.consumer,
            "topic": planned.name,
            "records": planned.records,
            "types": dict(planned.types),
            "from": planned.first,
            "was_applied": planned.applied,
            "rewound": done,
        }
        return print_json([fields])
    if done:
        return None
    err.print(escape(f"{planned.consumer} reads {counted(planned.records, 'event')} of {planned.name} again:"))
    _print_types(planned.types)
    for partition, first in sorted(planned.first.items()):
        err.print(escape(f"  partition {partition}: from offset {first} on (cursor: {planned.applied[partition]})"))
    return err.print(escape(f"The effect: {planned.effect.description}."))


def _print_types(types: Mapping[str, int]) -> None:
    for kind, count in sorted(types.items(), key=lambda each: (-each[1], each[0])):
        err.print(escape(f"  {count:>9}  {kind}"))


def _as_object(plan: Plan) -> dict[str, Any]:
    return {
        "topic": plan.name,
        "records": plan.records,
        "types": dict(plan.types),
        "from": plan.first_time.isoformat(timespec="milliseconds"),
        "to": plan.last_time.isoformat(timespec="milliseconds"),
        "partitions": {partition: [first, last - 1] for partition, (first, last) in sorted(plan.ranges.items())},
        "not_yet": plan.not_yet,
        "repeats": plan.repeats,
    }


def _progress() -> Progress:
    """Return a progress bar; it is drawn on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


@asynccontextmanager
async def _interruptible() -> AsyncIterator[asyncio.Event]:
    """Stop after the batch in flight on the first Ctrl-C; the second one ends the program at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def request_stop() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, request_stop)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)
