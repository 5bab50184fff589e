"""Prints dead letters, and replays or discards them."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

import psycopg
import typer
from aiokafka.errors import KafkaError
from rich.console import RenderableType
from rich.markup import escape

from operators import dead_letters
from operators.cli.console import (
    counted,
    err,
    fail,
    kafka_settings,
    moment,
    name_of,
    open_database,
    out,
    print_json,
    refuse,
    run,
)
from operators.cli.tables import Field, Row, fitted
from operators.dead_letters import DeadLetter, Outcome, Refused, State
from storage.operator_log import operator_name
from topics.kafka.positions import LogPosition
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings
from topics.times import to_the_second

_STYLES: Final = {State.OPEN: "red", State.BEGUN: "bold red", State.REPLAYED: "green", State.DISCARDED: "dim"}
_DEAD_LETTER_FIELDS: Final = (
    Field(name="id"),
    Field(name="sent here at", yields=1),
    Field(name="from"),
    Field(name="type", yields=3),
    Field(name="booking", yields=4),
    Field(name="reason", yields=5, prose=True),
    Field(name="state", yields=2, prose=True),
)
_CLIENT: Final = "innkeeper-operators"
#: Rows of a table for people; programs get all.
_MAX_SHOWN: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The dead letters that an operator chose: by their ids, or all that are open and match."""

    ids: Sequence[str]
    all: bool
    topic: str | None = None
    type: str | None = None
    reason: str | None = None
    since: datetime | None = None

    def __post_init__(self) -> None:
        if bool(self.ids) == self.all:
            raise typer.BadParameter("name the dead letters (PARTITION@OFFSET), or use --all; not both")
        if self.ids and (self.topic or self.type or self.reason or self.since):
            raise typer.BadParameter("filters go with --all")

    def matches(self, dead_letter: DeadLetter) -> bool:
        """Return whether the filters match it."""
        return (self.type is None or fnmatchcase(dead_letter.type or "", self.type)) and (
            self.reason is None or self.reason.lower() in dead_letter.reason.lower()
        )


def list_dead_letters(
    *, topic: str | None, since: str | None, kind: str | None, open_only: bool, as_json: bool
) -> None:
    """Print dead letters, the oldest first."""
    settings = kafka_settings()
    if topic is not None:
        name_of(topic, settings)
    start = None if since is None else moment(since)

    async def find() -> list[DeadLetter]:
        async with open_database() as connection:
            return await dead_letters.find_dead_letters(
                settings, connection, topic=topic, since=start, open_only=open_only
            )

    found = [each for each in run(find(), settings) if kind is None or fnmatchcase(each.type or "", kind)]
    if as_json:
        return print_json(as_object(dead_letter, settings) for dead_letter in found)
    if not found:
        return err.print("No dead letters.")
    _print_table(found, settings)
    is_open = sum(dead_letter.state in {State.OPEN, State.BEGUN} for dead_letter in found)
    return err.print(f"{is_open:,} open, of {counted(len(found), 'dead letter')}.")


def show(id: str, *, as_json: bool) -> None:
    """Print one dead letter whole."""
    settings = kafka_settings()

    async def find() -> tuple[DeadLetter, tuple[LogPosition | None, LogPosition | None]]:
        async with open_database() as connection:
            found = await dead_letters.find_dead_letters(settings, connection)
            (dead_letter,) = _chosen(found, Selection(ids=[id], all=False), as_json=as_json)
        if dead_letter.origin is None:
            return dead_letter, (None, None)
        return dead_letter, await dead_letters.neighbours(settings, dead_letter.origin)

    dead_letter, (before, after) = run(find(), settings)
    fields = {
        **as_object(dead_letter, settings),
        "before": None if before is None else str(before),
        "after": None if after is None else str(after),
        "key": _in_words(dead_letter.key),
        "headers": [[name, _in_words(value)] for name, value in dead_letter.headers],
        "bytes": None if dead_letter.value is None else len(dead_letter.value),
        "value": _in_words(dead_letter.value),
    }
    if as_json:
        return print_json([fields])
    headers = fields.pop("headers")
    fields["at"] = to_the_second(dead_letter.at)
    if dead_letter.end is not None:
        fields["ended_at"] = to_the_second(dead_letter.end.done_at or dead_letter.end.began_at)
    value = fields.pop("value")
    rows = [(name.replace("_", " "), text) for name, text in fields.items() if text is not None]
    for name, text in [*rows, *((f"header {name}", text) for name, text in headers)]:
        out.print(f"[dim]{escape(name):>24}[/]  {escape(str(text))}")
    return out.print(escape(value or ""), markup=True)


def replay(
    ids: list[str] | None,
    *,
    every: bool,
    topic: str | None,
    kind: str | None,
    reason: str | None,
    since: str | None,
    again: bool,
    wait: float,
    by: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Send dead letters to the topics they came from, or without `yes` only print which."""
    settings = kafka_settings()
    selection = _selection(settings, ids, every=every, topic=topic, kind=kind, reason=reason, since=since)

    async def work() -> bool:
        async with open_database() as connection:
            found = await dead_letters.find_dead_letters(settings, connection)
            chosen = _chosen(found, selection, settings, again=again, as_json=as_json)
            refusals = [dead_letters.refusal(settings, dead_letter, again=again) for dead_letter in chosen]
            _refuse(filter(None, refusals), as_json=as_json)
            if not chosen:
                err.print("No dead letter is open that matches.")
                return True
            if not yes:
                return _would("replay", chosen, settings, as_json=as_json)
            async with open_producer(settings, client_id=_CLIENT) as producer:
                replaying = _Replaying(
                    settings, connection, producer, operator_name(by), again=again, wait_seconds=wait
                )
                return await replaying.all(chosen, as_json=as_json)

    if not run(work(), settings):
        raise typer.Exit(1)


def discard(
    note: str,
    ids: list[str] | None,
    *,
    every: bool,
    topic: str | None,
    kind: str | None,
    reason: str | None,
    since: str | None,
    by: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Mark dead letters as not to be replayed, or without `yes` only print which."""
    settings = kafka_settings()
    selection = _selection(settings, ids, every=every, topic=topic, kind=kind, reason=reason, since=since)
    if not note.strip():
        raise typer.BadParameter("give the reason in a few words", param_hint="--note")

    async def work() -> bool:
        async with open_database() as connection:
            chosen = _chosen(
                await dead_letters.find_dead_letters(settings, connection), selection, settings, as_json=as_json
            )
            ended = [each for each in chosen if each.end is not None]
            _refuse((dead_letters.refusal(settings, each) or "" for each in ended), as_json=as_json)
            if not chosen:
                err.print("No dead letter is open that matches.")
                return True
            if not yes:
                return _would("discard", chosen, settings, as_json=as_json)
            for dead_letter in chosen:
                await dead_letters.discard(connection, dead_letter, operator=operator_name(by), note=note.strip())
                if as_json:
                    print_json(
                        [{"id": dead_letter.id, "discarded": True, "by": operator_name(by), "note": note.strip()}]
                    )
                else:
                    err.print(f"discarded  {dead_letter.id}")
            return True

    try:
        fine = run(work(), settings)
    except Refused as refused:
        refuse(str(refused), as_json=as_json)
    if not fine:
        raise typer.Exit(1)


class _Replaying:
    """Sends dead letters one after the other, and waits for the outcome of each before the next."""

    def __init__(
        self,
        settings: KafkaSettings,
        connection: psycopg.AsyncConnection[Any],
        producer: Producer,
        operator: str,
        *,
        again: bool,
        wait_seconds: float,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._producer = producer
        self._operator = operator
        self._again = again
        self._wait_seconds = wait_seconds

    async def all(self, chosen: Sequence[DeadLetter], *, as_json: bool) -> bool:
        """Replay them; return whether all of them were sent and read. Stops at the first new dead letter."""
        fine = True
        async with aclosing(self._each(chosen)) as results:
            left = len(chosen)
            async for dead_letter, position, result in results:
                left -= 1
                fine = fine and isinstance(result, Outcome) and result.known and result.reason is None
                if as_json:
                    print_json([_as_result(dead_letter, position, result)])
                else:
                    _print_result(dead_letter, position, result, looked=self._wait_seconds > 0)
                if isinstance(result, Outcome) and result.reason is not None and left:
                    rest = "1 is left as it was" if left == 1 else f"{left} are left as they were"
                    err.print(f"[red]Stopped: {rest}. Too many would stop the worker.[/]")
                    return False
        return fine or self._wait_seconds == 0

    async def _each(
        self, chosen: Sequence[DeadLetter]
    ) -> AsyncGenerator[tuple[DeadLetter, LogPosition | None, Outcome | str], None]:
        for dead_letter in chosen:
            try:
                position = await dead_letters.replay(
                    self._settings,
                    self._connection,
                    self._producer,
                    dead_letter,
                    operator=self._operator,
                    again=self._again,
                )
            except Refused as refused:
                yield dead_letter, None, str(refused)
                continue
            except KafkaError as error:
                fail(f"{dead_letter.id}: the broker did not acknowledge it ({error!r}). Try again with --again.", 2)
            yield (
                dead_letter,
                position,
                await dead_letters.outcome(
                    self._settings, self._connection, dead_letter, position, within_seconds=self._wait_seconds
                ),
            )


def as_object(dead_letter: DeadLetter, settings: KafkaSettings) -> dict[str, Any]:
    """Return a dead letter as `list --json` shows it."""
    end = dead_letter.end
    return {
        "id": dead_letter.id,
        "at": dead_letter.at.isoformat(timespec="milliseconds"),
        "topic": None if dead_letter.origin is None else dead_letter.origin.topic.removeprefix(settings.topic_prefix),
        "origin": None if dead_letter.origin is None else str(dead_letter.origin),
        "consumer": dead_letter.consumer,
        "type": dead_letter.type,
        "booking": None if dead_letter.booking is None else str(dead_letter.booking),
        "reason": dead_letter.reason,
        "state": dead_letter.state.value,
        "by": None if end is None else end.who,
        "ended_at": None if end is None else (end.done_at or end.began_at).isoformat(timespec="seconds"),
        "note": None if end is None else end.note,
        "left_behind_bytes": dead_letter.left_behind_bytes,
        "doubles": [f"{dead_letter.partition}@{offset}" for offset in dead_letter.doubles],
    }


def _selection(
    settings: KafkaSettings,
    ids: list[str] | None,
    *,
    every: bool,
    topic: str | None,
    kind: str | None,
    reason: str | None,
    since: str | None,
) -> Selection:
    if topic is not None:
        name_of(topic, settings)
    start = None if since is None else moment(since)
    return Selection(ids=ids or [], all=every, topic=topic, type=kind, reason=reason, since=start)


def _chosen(
    found: Iterable[DeadLetter],
    selection: Selection,
    settings: KafkaSettings | None = None,
    *,
    again: bool = False,
    as_json: bool = False,
) -> list[DeadLetter]:
    """Return the chosen dead letters; ends the command at an id that does not exist."""
    if selection.all:
        states = {State.OPEN, State.BEGUN} if again else {State.OPEN}
        prefix = "" if settings is None else settings.topic_prefix
        return [
            each
            for each in found
            if each.state in states
            and selection.matches(each)
            and (selection.since is None or each.at >= selection.since)
            and (selection.topic is None or (each.origin is not None and each.origin.topic == prefix + selection.topic))
        ]
    known = {dead_letter.id: dead_letter for dead_letter in found}
    doubles = {f"{each.partition}@{offset}": each for each in known.values() for offset in each.doubles}
    chosen: list[DeadLetter] = []
    for id in dict.fromkeys(selection.ids):
        if id in doubles:
            first = doubles[id].id
            refuse(f"{id} is a copy of {first}, which was sent here twice: use that one.", as_json=as_json)
        if id not in known:
            refuse(f"There is no dead letter {id}. innkeeper dead-letters list shows them.", as_json=as_json)
        chosen.append(known[id])
    return chosen


def _refuse(reasons: Iterable[str], *, as_json: bool) -> None:
    """End the command when any of them is refused: it does all or nothing."""
    if refusals := list(reasons):
        refuse("\n".join([*refusals, "Nothing was done."]), as_json=as_json)


def _would(verb: str, chosen: Sequence[DeadLetter], settings: KafkaSettings, *, as_json: bool) -> bool:
    if as_json:
        print_json({**as_object(dead_letter, settings), "would": verb} for dead_letter in chosen)
    else:
        _print_table(chosen, settings)
    done = f"send {len(chosen)} to the topics they came from" if verb == "replay" else f"discard {len(chosen)}"
    err.print(f"Would {done}. Add --yes to do it.")
    return False


def _print_result(
    dead_letter: DeadLetter, position: LogPosition | None, result: Outcome | str, *, looked: bool
) -> None:
    if isinstance(result, str):
        err.print(f"[red]refused    {escape(result)}[/]")
        return
    sent = f"replayed   {dead_letter.id} -> {position}"
    if result.reason is not None:
        err.print(f"[red]{escape(sent)}: came back as another dead letter: {escape(result.reason)}[/]")
    elif result.known:
        err.print(escape(f"{sent}: read"))
    else:
        err.print(escape(f"{sent}: {'not read yet; its worker may be behind, paused or down' if looked else 'sent'}"))


def _as_result(dead_letter: DeadLetter, position: LogPosition | None, result: Outcome | str) -> dict[str, Any]:
    fields = {"id": dead_letter.id, "position": None if position is None else str(position)}
    if isinstance(result, str):
        return {**fields, "refused": result}
    return {**fields, "read": result.known and result.reason is None, "dead_letter_again": result.reason}


def _print_table(chosen: Sequence[DeadLetter], settings: KafkaSettings) -> None:
    """Print the youngest ones: a table of a hundred thousand rows takes more than a minute to lay out."""
    out.print(_table(chosen[-_MAX_SHOWN:], settings))
    if (older := len(chosen) - _MAX_SHOWN) > 0:
        err.print(f"{older:,} older ones are not shown: ask for fewer (--since, --open, --topic, --type), or --json.")


def _table(chosen: Iterable[DeadLetter], settings: KafkaSettings) -> RenderableType:
    rows = []
    for dead_letter in chosen:
        position = "?" if dead_letter.origin is None else str(dead_letter.origin).removeprefix(settings.topic_prefix)
        about = (dead_letter.type or "?", str(dead_letter.booking or "?"), dead_letter.reason)
        cells = (dead_letter.id, to_the_second(dead_letter.at), position, *about)
        rows.append(Row(cells=(*cells, _state_in_words(dead_letter)), styles={len(cells): _STYLES[dead_letter.state]}))
    return fitted(_DEAD_LETTER_FIELDS, rows, out.width)


def _state_in_words(dead_letter: DeadLetter) -> str:
    if dead_letter.end is None:
        return dead_letter.state
    when = to_the_second(dead_letter.end.done_at or dead_letter.end.began_at)
    note = f": {dead_letter.end.note}" if dead_letter.end.note else ""
    return f"{dead_letter.state} by {dead_letter.end.who} at {when}{note}"


def _in_words(value: bytes | None) -> str | None:
    """Return bytes as text where all of it is printable, else in hex."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"hex {value.hex()}"
    return text if all(each.isprintable() or each in "\n\r\t" for each in text) else f"hex {value.hex()}"
