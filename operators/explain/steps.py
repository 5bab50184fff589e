"""Turns what was found into steps: records of ours with their envelopes, webhooks, rows whose records are gone."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec

from operators.explain.life import Kind, Place, Request, Step
from operators.explain.log import time_of
from operators.explain.repeats import marked
from operators.explain.search import Search, enveloped
from operators.explain.senders import signed
from operators.explain.told import Row, Told
from topics.envelope import Envelope

#: Fields of our messages that stand elsewhere on the page.
_KNOWN: Final = frozenset({"room_id", "booking_id", "hotel_id", "user_id"})


def steps_of(told: Told, search: Search, request: Request) -> tuple[Step, ...]:
    """Return the steps in the order in which they happened, each with the time since the one before it."""
    found = signed([*marked([*_steps(told, search)], _decided(told, search))], told.actions)
    return tuple(_timed([*_began(request), *found]))


def _decided(told: Told, search: Search) -> dict[str, datetime]:
    """Return when each event was decided, by its id: that is its command's time, whichever of the same id it was."""
    return {row["event_id"]: row["time"] for row in told.timeline} | {
        envelope.id: envelope.time for envelope, _ in enveloped(search.log.found(search.events))
    }


def _began(request: Request) -> Iterator[Step]:
    if request.made_at is not None:
        yield Step(
            kind=Kind.REQUEST,
            at=request.made_at,
            what="booking id made",
            source=request.source,
            details="" if request.user_id is None else f"user_id={request.user_id}",
        )


def _steps(told: Told, search: Search) -> Iterator[Step]:
    yield from (_command(envelope, record) for envelope, record in enveloped(search.log.found(search.commands)))
    met = set()
    for envelope, record in enveloped(search.log.found(search.events)):
        if envelope.id not in met:
            met.add(envelope.id)
            yield _event(envelope, record)
    yield from (_event_of_row(row) for row in told.timeline if row["event_id"] not in met)
    yield from _commands_gone(told, search)
    yield from map(_webhook, search.log.found(search.webhooks))
    for row, record in search.letters:
        yield Step(
            kind=Kind.DEAD_LETTER,
            at=row["created_at"],
            what=row["reason"],
            place=_place(record),
            source=row["consumer"],
        )


def _commands_gone(told: Told, search: Search) -> Iterator[Step]:
    """Yield the commands that events of the timeline name and the log has no more."""
    known = {envelope.id for envelope, _ in enveloped(search.log.found(search.commands))}
    for row in told.timeline:
        if row["causation"] is not None and row["causation"] not in known:
            known.add(row["causation"])
            yield Step(kind=Kind.COMMAND, at=row["time"], what="a command", id=row["causation"])


def _command(envelope: Envelope, record: Any) -> Step:
    return Step(
        kind=Kind.COMMAND,
        at=time_of(record),
        what=envelope.type,
        id=envelope.id,
        place=_place(record),
        source=envelope.source,
        cause=envelope.causation,
        details=_in_words(fields_of(record)),
    )


def _event(envelope: Envelope, record: Any) -> Step:
    return Step(
        kind=Kind.EVENT,
        at=time_of(record),
        what=envelope.type,
        id=envelope.id,
        place=_place(record),
        sequence=envelope.sequence,
        source=envelope.source,
        cause=envelope.causation,
        details=_in_words(fields_of(record)),
    )


def _event_of_row(row: Row) -> Step:
    return Step(
        kind=Kind.EVENT,
        at=row["time"],
        what=row["type"],
        id=row["event_id"],
        sequence=row["sequence"],
        cause=row["causation"],
        details=_in_words(row["event"]),
    )


def _webhook(record: Any) -> Step:
    """Return the step of a webhook: what it is called and about which object; all else may be somebody's own."""
    told = fields_of(record)
    content = told.get("data")
    about = content.get("object") if isinstance(content, dict) else None
    object_id = about.get("id") if isinstance(about, dict) else None
    return Step(
        kind=Kind.WEBHOOK,
        at=time_of(record),
        what=str(told.get("type", "unreadable")),
        id=str(told["id"]) if "id" in told else None,
        place=_place(record),
        source="Stripe",
        details="" if object_id is None else f"object={object_id}",
    )


def _timed(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps in the order in which they happened, each with the time since the one before it."""
    order = list(Kind)
    ordered = sorted(steps, key=lambda step: (step.at, order.index(step.kind), step.place.offset if step.place else 0))
    before = None
    for step in ordered:
        yield step if before is None else replace(step, seconds=(step.at - before).total_seconds())
        before = step.at


def fields_of(record: Any | None) -> dict[str, Any]:
    """Return the fields of a record's data; none where it is no JSON object."""
    try:
        told = msgspec.json.decode(b"" if record is None else record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return told if isinstance(told, dict) else {}


def _in_words(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items() if name not in _KNOWN and value is not None)


def _place(record: Any) -> Place:
    return Place(topic=record.topic, partition=record.partition, offset=record.offset)
