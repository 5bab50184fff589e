"""The statements on cursors, outbox and holds, on rows in memory; those on the ledger are in `statements`."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, cast

from storage.cursors import Cursor, CursorKey
from storage.holds import BATCH, DueHold
from storage.ledger import CursorStatements, HoldStatements
from tests.simulation.database import Connection, Transaction
from topics.envelope import Outgoing


def of(connection: Any) -> Connection:
    """Return the connection that the workers were given as PostgreSQL's."""
    return cast("Connection", connection)


# Cursors.


def copy(cursor: Cursor) -> Cursor:
    """Return a copy: the workers change theirs."""
    at = cursor.applied, cursor.published, cursor.sequence
    return Cursor(cursor.key, *at, cursor.last_time, cursor.last_hash)


async def generation(connection: Any, topic: str, broker_id: str) -> int:
    """As `storage.cursors.generation`."""

    def effect(rows: Transaction) -> int:
        found: tuple[int, str] | None = rows.get("topic_generation", topic)
        if found is not None and found[1] == broker_id:
            return found[0]
        number = sum(1 for _ in rows.keys("topic_generation")) + 1
        rows.put("topic_generation", topic, (number, broker_id))
        return number

    return await of(connection).run(
        "generation", (topic, broker_id), effect, locks=[("advisory", "innkeeper.generation")]
    )


async def create(connection: Any, key: CursorKey, log_start: int) -> None:
    """As `storage.cursors.create`."""

    def effect(rows: Transaction) -> None:
        if rows.get("log_cursor", key) is None:
            rows.put("log_cursor", key, Cursor(key, log_start - 1, log_start - 1, 0, None, None))

    await of(connection).run("create", (key, log_start), effect, locks=[("log_cursor", key)])


async def lock(connection: Any, keys: Iterable[CursorKey]) -> dict[CursorKey, Cursor]:
    """As `storage.cursors.lock`."""
    listed = sorted(keys, key=lambda key: (key.consumer, key.topic, key.partition))

    def effect(rows: Transaction) -> dict[CursorKey, Cursor]:
        return {key: copy(_existing(rows.get("log_cursor", key), key)) for key in listed}

    return await of(connection).run("lock", (listed,), effect, locks=[("log_cursor", key) for key in listed])


def _existing(cursor: Cursor | None, key: CursorKey) -> Cursor:
    if cursor is None:
        raise KeyError(key)
    return cursor


async def save(connection: Any, cursors: Sequence[Cursor], outbox: Sequence[tuple[Cursor, Sequence[Outgoing]]]) -> None:
    """As `storage.cursors.save`."""
    written = [copy(cursor) for cursor in cursors]
    new = [(copy(cursor), tuple(records)) for cursor, records in outbox]

    def effect(rows: Transaction) -> None:
        for cursor in written:
            rows.put("log_cursor", cursor.key, cursor)
            if kept := rows.get("outbox", cursor.key):
                rows.put("outbox", cursor.key, tuple(each for each in kept if each[0] > cursor.published))
        for cursor, records in new:
            kept = [each for each in rows.get("outbox", cursor.key) or () if each[0] != cursor.applied]
            rows.put("outbox", cursor.key, (*kept, (cursor.applied, records)))

    locks = [("log_cursor", cursor.key) for cursor in written]
    await of(connection).run("save", (written, new), effect, locks=locks)


async def unpublished(connection: Any, key: CursorKey) -> list[Outgoing]:
    """As `storage.cursors.unpublished`."""

    def effect(rows: Transaction) -> list[Outgoing]:
        cursor = _existing(rows.get("log_cursor", key), key)
        kept = rows.get("outbox", key) or ()
        return [record for offset, records in kept if offset > cursor.published for record in records]

    return await of(connection).run("unpublished", (key,), effect)


async def mark_published(connection: Any, key: CursorKey, through: int) -> None:
    """As `storage.cursors.mark_published`; there is one generation of each topic here."""

    def effect(rows: Transaction) -> None:
        cursor: Cursor | None = rows.get("log_cursor", key)
        if cursor is not None and cursor.applied == through and cursor.published < through:
            changed = copy(cursor)
            changed.published = changed.applied
            rows.put("log_cursor", key, changed)
        if kept := rows.get("outbox", key):
            rows.put("outbox", key, tuple(each for each in kept if each[0] > through))

    await of(connection).run("mark_published", (key, through), effect, locks=[("log_cursor", key)])


async def record_dead_letter(connection: Any, key: CursorKey, offset: int, reason: str) -> int:
    """As `storage.cursors.record_dead_letter`."""
    now = of(connection).now()

    def effect(rows: Transaction) -> int:
        rows.put("dead_letter", (key, offset), (now, reason))
        times = [rows.get("dead_letter", each)[0] for each in rows.keys("dead_letter") if each[0] == key]
        return sum(time > now - timedelta(hours=1) for time in times)

    return await of(connection).run("record_dead_letter", (key, offset, reason), effect)


# Holds.


async def due_holds(connection: Any, after: DueHold, margin_seconds: float) -> list[DueHold]:
    """As `storage.holds.due_holds`."""
    session = of(connection)
    until = session.now() - timedelta(seconds=margin_seconds)

    def effect(_: Transaction) -> list[DueHold]:
        due = sorted(
            DueHold(deadline, id, room_id)
            for id, (deadline, room_id) in session.holds().items()
            if deadline <= until and (deadline, id) > after[:2]
        )
        return due[:BATCH]

    return await session.run("due_holds", (after, margin_seconds), effect)


async def pause_of(connection: Any, role: str) -> None:
    """As `storage.pauses.of`: no operator pauses a role here."""


CURSORS: Final = CursorStatements(
    generation=generation,
    create=create,
    lock=lock,
    save=save,
    unpublished=unpublished,
    mark_published=mark_published,
    record_dead_letter=record_dead_letter,
)
HOLDS: Final = HoldStatements(due_holds=due_holds, pause_of=pause_of)
