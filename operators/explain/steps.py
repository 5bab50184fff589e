"""Turns rows and records into steps: records of ours with their envelopes, webhooks, rows whose records are gone."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from operators.explain.history import Kind, Request, Sender, Step
from operators.explain.records import causation_position_of, envelope_of
from operators.explain.search import Search
from operators.explain.snapshot import TimelineRow
from topics.envelope import UNREADABLE, Envelope, decode_replay
from topics.kafka.positions import LogPosition
from topics.kafka.records import time_of
from topics.messages.events import ChangeRejected, CodeUnchanged, CommandRefused, CommandRepeated

#: The answers to commands that changed nothing.
ANSWERS: Final = frozenset(
    kind.message_type for kind in (CommandRefused, CommandRepeated, ChangeRejected, CodeUnchanged)
)
#: Fields of our messages that the page shows elsewhere. The request in a message about a promo code is another step.
_SHOWN_ELSEWHERE: Final = frozenset({"room_id", "booking_id", "hotel_id", "user_id", "stay_times", "reserve", "trip"})


def steps_of(search: Search, request: Request) -> tuple[Step, ...]:
    """Return the steps in the order in which they happened, each with the time since the one before it."""
    commands = list(map(_command, _enveloped(search.records.of(search.topics.commands))))
    webhooks = list(map(_webhook, search.records.of(search.topics.webhooks)))
    steps = [
        *_began(request),
        *sent_again(commands),
        *_events(search),
        *_commands_gone(search, commands),
        *sent_again(webhooks),
        *_dead_letters(search),
    ]
    return tuple(_timed(steps))


def sent_again(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield commands or webhooks, in the order of the log; those whose id a record before has are marked."""
    ids: set[str] = set()
    for step in steps:
        again = step.sent_again or step.id in ids
        if step.id is not None:
            ids.add(step.id)
        yield replace(step, sent_again=again)


def followed_from_repeats(events: Iterable[tuple[Step, LogPosition | None]]) -> Iterator[Step]:
    """Yield events; those that followed from another record of a command than the first event did are marked.

    Sequences are compared within a partition: two requests with one Idempotency-Key are one command, and may name two
    rooms.

    Args:
        events: each with the position of its command, where that is known.
    """
    first: dict[tuple[str, int], LogPosition] = {}
    for step, cause in sorted(events, key=lambda event: event[0].sequence or 0):
        if cause is None or step.cause is None:
            yield step
        else:
            yield replace(step, sent_again=first.setdefault((step.cause, cause.partition), cause) != cause)


def fields_of(record: Any | None) -> dict[str, Any]:
    """Return the fields of a record's data; none where it is no JSON object."""
    try:
        data = msgspec.json.decode(b"" if record is None else record.value or b"")
    except UNREADABLE:
        return {}
    return data if isinstance(data, dict) else {}


def _enveloped(records: Iterable[Any]) -> Iterator[tuple[Envelope, Any]]:
    """Yield the records that have our envelope, with it; a record that has none is shown as a dead letter."""
    for record in records:
        if (envelope := envelope_of(record)) is not None:
            yield envelope, record


def _began(request: Request) -> Iterator[Step]:
    if request.made_at is not None:
        yield Step(
            kind=Kind.REQUEST,
            at=request.made_at,
            what="booking id made",
            source=request.source,
            details="" if request.user_id is None else f"user_id={request.user_id}",
        )


def _events(search: Search) -> Iterator[Step]:
    """Yield the events of the timeline and those that it does not have yet, each id of a partition once.

    Two requests with one Idempotency-Key are one command, so that their events in two partitions may have one id.
    """
    events: dict[tuple[int | None, str], tuple[Step, LogPosition | None]] = {}
    for row in search.snapshot.timeline:
        record = search.records.at(row.position)
        envelope = None if record is None else envelope_of(record)
        is_there = envelope is not None and envelope.id == row.event_id
        step = _event(envelope, record) if envelope is not None and is_there else _event_of_row(row)
        events[row.partition, row.event_id] = step, row.causation_position
    for envelope, record in _enveloped(search.records.of(search.topics.events)):
        # A row from before 0.1.0 has no partition.
        if (record.partition, envelope.id) not in events and (None, envelope.id) not in events:
            events[record.partition, envelope.id] = _event(envelope, record), causation_position_of(envelope)
    if missing := sum(step.place is None for step, _ in events.values()):
        search.notes.append(
            f"events that are not at the timeline's positions: {missing}; innkeeper rebuild booking_timeline finds them"
        )
    yield from followed_from_repeats(events.values())


def _commands_gone(search: Search, commands: Sequence[Step]) -> Iterator[Step]:
    """Yield the commands that the timeline names and the log does not have (any more)."""
    known = {step.id for step in commands}
    kept = unknown = 0
    for row in search.snapshot.timeline:
        if row.causation is not None and row.causation not in known:
            known.add(row.causation)
            kept, unknown = (kept, unknown + 1) if row.causation_position is None else (kept + 1, unknown)
            yield Step(kind=Kind.COMMAND, at=row.time, what="a command", id=row.causation)
    if kept:
        search.notes.append(f"commands that are no longer on the log, which keeps them for 7 days: {kept}")
    if unknown:
        search.notes.append(f"commands whose positions their events do not name, as before 0.1.0: {unknown}")


def _dead_letters(search: Search) -> Iterator[Step]:
    for row in search.dead_letters:
        yield Step(kind=Kind.DEAD_LETTER, at=row.created_at, what=row.reason, place=row.position, source=row.consumer)


def _command(found: tuple[Envelope, Any]) -> Step:
    envelope, record = found
    return replace(_of_ours(Kind.COMMAND, envelope, record), **_replayed(record))


def _event(envelope: Envelope, record: Any) -> Step:
    return replace(_of_ours(Kind.EVENT, envelope, record), sequence=envelope.sequence)


def _of_ours(kind: Kind, envelope: Envelope, record: Any) -> Step:
    return Step(
        kind=kind,
        at=time_of(record),
        what=envelope.type,
        id=envelope.id,
        place=LogPosition.of(record),
        source=envelope.source,
        cause=envelope.causation,
        actor=envelope.actor,
        request_id=envelope.request_id,
        details=_in_words(fields_of(record)),
    )


def _event_of_row(row: TimelineRow) -> Step:
    return Step(
        kind=Kind.EVENT,
        at=row.time,
        what=row.type,
        id=row.event_id,
        sequence=row.sequence,
        cause=row.causation,
        details=_in_words(row.event),
    )


def _webhook(record: Any) -> Step:
    """Return the step of a webhook: its type and its object's id. All its other fields may be about people."""
    body = fields_of(record)
    content = body.get("data")
    about = content.get("object") if isinstance(content, dict) else None
    object_id = about.get("id") if isinstance(about, dict) else None
    step = Step(
        kind=Kind.WEBHOOK,
        at=time_of(record),
        what=str(body.get("type", "unreadable")),
        id=str(body["id"]) if "id" in body else None,
        place=LogPosition.of(record),
        source="Stripe",
        details="" if object_id is None else f"object={object_id}",
    )
    return replace(step, **_replayed(record))


def _replayed(record: Any) -> dict[str, Any]:
    """Return the fields of a step whose record names the operator's replay that sent it."""
    replay = decode_replay(record.headers)
    if replay is None:
        return {}
    return {"sent_again": True, "sent_by": Sender(who=replay.by, action=replay.action, at=replay.at)}


def _timed(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps in the order in which they happened, each with the time since the one before it."""
    order = list(Kind)
    ordered = sorted(steps, key=lambda step: (step.at, order.index(step.kind), step.place.offset if step.place else 0))
    before = None
    for step in ordered:
        yield step if before is None else replace(step, seconds=(step.at - before).total_seconds())
        before = step.at


def _in_words(fields: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={value}" for name, value in fields.items() if name not in _SHOWN_ELSEWHERE and value not in (None, [])
    )
