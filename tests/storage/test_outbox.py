"""The outbox gives back each record as it was put in, also a dead letter of a foreign producer's record."""

from uuid import uuid4

from storage import cursors
from storage.cursors import CursorKey
from storage.database import connect
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
