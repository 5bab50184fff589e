"""The bulk reads and writes of rooms' sale terms and blocks, in the way of `storage.bookings`."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

#: A block's room and id.
BlockKey = tuple[int, UUID]
BlockRow = tuple[int, UUID, date, date, int, str, bool]

#: Columns of `room_block` in the order of a `BlockRow`.
BLOCK_COLUMNS = ("room_id", "id", "first_night", "end_night", "rooms_count", "reason", "released")


async def load_sale_terms(connection: AsyncConnection, room_ids: Iterable[int]) -> list[tuple[int, dict[str, Any]]]:
    """Return the rooms that have sale terms among `room_ids`, each with them."""
    found = await connection.execute(
        "select room_id, terms from room_sale_terms where room_id = any(%b::int8[])", (list(room_ids),)
    )
    return await found.fetchall()


async def save_sale_terms(connection: AsyncConnection, rows: Sequence[tuple[int, int, Jsonb]]) -> None:
    """Write the sale terms of rooms: each row is the room's id, the version, and the terms."""
    await connection.execute(
        "insert into room_sale_terms (room_id, version, terms)"
        " select * from unnest(%b::int8[], %b::int8[], %b::jsonb[])"
        " on conflict (room_id) do update"
        " set version = excluded.version, terms = excluded.terms, updated_at = excluded.updated_at",
        [list(column) for column in zip(*rows, strict=True)],
    )


_LOAD_BLOCKS = """
    select room_id, id, first_night, end_night, rooms_count, reason, released
    from room_block join unnest(%b::int8[], %b::uuid[]) as wanted (room_id, id) using (room_id, id)
"""
_SAVE_BLOCKS = """
    insert into room_block (room_id, id, first_night, end_night, rooms_count, reason, released)
    select * from unnest(%b::int8[], %b::uuid[], %b::date[], %b::date[], %b::int4[], %b::text[], %b::bool[])
    on conflict (room_id, id) do update set released = excluded.released
"""


async def load_blocks(connection: AsyncConnection, keys: Iterable[BlockKey]) -> list[BlockRow]:
    """Return the blocks that exist among `keys`."""
    rooms_and_ids = [list(column) for column in zip(*keys, strict=True)]
    return await (await connection.execute(_LOAD_BLOCKS, rooms_and_ids)).fetchall()


async def save_blocks(connection: AsyncConnection, rows: Sequence[BlockRow]) -> None:
    """Write blocks that are new or were released."""
    await connection.execute(_SAVE_BLOCKS, [list(column) for column in zip(*rows, strict=True)])
