"""The outbox gives back each record as it was put in, also a dead letter of a foreign producer's record."""

from uuid import uuid4

import pytest
from psycopg import AsyncConnection

from storage import cursors
from storage.cursors import CursorKey
from storage.database import connect, connect_worker
from storage.settings import DatabaseSettings
from topics.envelope import Outgoing


async def test_a_header_without_a_value_comes_back_without_one(database: DatabaseSettings) -> None:
    dead = Outgoing("dead.letters", b"7", b"{", [("ce_id", None), ("dl_reason", b"malformed")])  # type: ignore[list-item]
    async with await connect(database, "test") as connection:
        generation = await cursors.generation(connection, "booking.commands", str(uuid4()))
        key = CursorKey("reservations", "booking.commands", 0, generation)
        await cursors.create(connection, key, 0)
        async with connection.transaction():
            (cursor,) = (await cursors.lock(connection, [key])).values()
            cursor.applied = 0
            await cursors.save(connection, [cursor], [(cursor, [dead])])

        assert await cursors.unpublished(connection, key) == [dead]


async def test_records_to_publish_are_not_compressed(database: DatabaseSettings) -> None:
    alike = Outgoing("booking.events", b"7", b"a" * 20_000, [])
    async with await connect(database, "test") as connection:
        generation = await cursors.generation(connection, "booking.commands", str(uuid4()))
        key = CursorKey("reservations", "booking.commands", 0, generation)
        await cursors.create(connection, key, 0)
        async with connection.transaction():
            (cursor,) = (await cursors.lock(connection, [key])).values()
            cursor.applied = 0
            await cursors.save(connection, [cursor], [(cursor, [alike])])

        found = await connection.execute(
            "select pg_column_size(records) >= octet_length(records) from outbox where generation = %s", (generation,)
        )
        assert await found.fetchone() == (True,)


def record(value: bytes) -> Outgoing:
    return Outgoing("booking.commands", b"7", value, [])


async def begun(connection: AsyncConnection, broker_id: str) -> CursorKey:
    generation = await cursors.generation(connection, "booking.events", broker_id)
    key = CursorKey("coordination", "booking.events", 0, generation)
    await cursors.create(connection, key, 0)
    return key


async def apply(connection: AsyncConnection, key: CursorKey, offset: int, *records: Outgoing) -> None:
    """Save a batch that ends at `offset`, all before which is published."""
    async with connection.transaction():
        (cursor,) = (await cursors.lock(connection, [key])).values()
        cursor.published, cursor.applied = cursor.applied, offset
        await cursors.save(connection, [cursor], [(cursor, records)] if records else [])


async def offsets(connection: AsyncConnection, topic: str = "booking.events") -> list[int]:
    found = await connection.execute("select last_offset from outbox where topic = %s order by 1", (topic,))
    return [offset for (offset,) in await found.fetchall()]


@pytest.fixture
def keeping(database: DatabaseSettings) -> DatabaseSettings:
    """The database, whose workers keep what they have published."""
    return database.model_copy(update={"outbox_kept_hours": 48.0})


async def test_kept_records_behind_a_cursor_that_is_set_back_are_neither_sent_again_nor_in_the_way(
    keeping: DatabaseSettings,
) -> None:
    broker_id = str(uuid4())
    async with await connect_worker(keeping, "test") as connection:
        key = await begun(connection, broker_id)
        for offset in range(4):
            await apply(connection, key, offset, record(b"%d" % offset))
        await cursors.mark_published(connection, key, 3)
        async with connection.transaction():
            assert await cursors.rewind(
                connection,
                consumer=key.consumer,
                topic=key.topic,
                topic_id=broker_id,
                partition=0,
                was=3,
                applied=1,
                sequence=2,
            )

        assert await cursors.unpublished(connection, key) == []
        assert await offsets(connection) == [0, 1]
        await apply(connection, key, 3, record(b"again"))
        assert await cursors.unpublished(connection, key) == [record(b"again")]


async def test_a_batch_that_ends_where_the_one_before_it_did_takes_its_place(keeping: DatabaseSettings) -> None:
    async with await connect_worker(keeping, "test") as connection:
        key = await begun(connection, str(uuid4()))
        await apply(connection, key, 0, record(b"first"))
        await apply(connection, key, 0, record(b"second"))

        async with connection.transaction():
            found = [each async for _, _, each in cursors.kept(connection, key.consumer, key.topic)]
        assert found == [record(b"second")]


@pytest.mark.parametrize("how", ["by a batch", "all of it"])
async def test_old_records_are_deleted_a_few_at_a_time(
    database: DatabaseSettings, keeping: DatabaseSettings, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "_OLDEST", 2)
    monkeypatch.setattr(cursors, "_OLDEST_OF_ALL", 2)
    async with await connect_worker(keeping, "test") as connection:
        key = await begun(connection, str(uuid4()))
        for offset in range(5):
            await apply(connection, key, offset, record(b"kept"))

    async with await connect_worker(database, "test") as connection:
        if how == "by a batch":
            await apply(connection, key, 5)
        else:
            await cursors.mark_published(connection, key, 4)

        assert await offsets(connection) == [2, 3, 4]
