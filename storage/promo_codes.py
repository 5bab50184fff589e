"""The bulk reads and writes of promo codes and their uses, in the way of `storage.bookings`."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

CodeRow = tuple[int, int, int, Any, int]
"""A code's id, its hotel, the version of its terms, the terms, and the number of its uses."""
UseRow = tuple[int, UUID, int | None, bool]
"""A code's id, the booking and the account that use it, and whether the use was given back."""

_LOAD_CODES = "select id, hotel_id, version, terms, used_count from promo_code where id = any(%b::int8[])"
_LOAD_USES = """
    select code_id, booking_id, user_id, returned
    from promo_code_use join unnest(%b::int8[], %b::uuid[]) as wanted (code_id, booking_id) using (code_id, booking_id)
"""
_COUNT_USES = """
    select code_id, user_id, count(*)
    from promo_code_use join unnest(%b::int8[], %b::int8[]) as wanted (code_id, user_id) using (code_id, user_id)
    where not returned group by code_id, user_id
"""
_SAVE_CODES = """
    insert into promo_code (id, hotel_id, version, terms, used_count)
    select * from unnest(%b::int8[], %b::int8[], %b::int8[], %b::jsonb[], %b::int4[])
    on conflict (id) do update
    set hotel_id = excluded.hotel_id, version = excluded.version, terms = excluded.terms,
        used_count = excluded.used_count
"""
_SAVE_USES = """
    insert into promo_code_use (code_id, booking_id, user_id, returned)
    select * from unnest(%b::int8[], %b::uuid[], %b::int8[], %b::bool[])
    on conflict (code_id, booking_id) do update set returned = excluded.returned
"""


async def load_codes(connection: AsyncConnection, ids: Iterable[int]) -> list[CodeRow]:
    """Return the codes that exist among `ids`."""
    return await (await connection.execute(_LOAD_CODES, (list(ids),))).fetchall()


async def load_uses(connection: AsyncConnection, keys: Iterable[tuple[int, UUID]]) -> list[UseRow]:
    """Return the uses that exist among pairs of code and booking."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    return await (await connection.execute(_LOAD_USES, columns)).fetchall()


async def count_uses(connection: AsyncConnection, keys: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return, of pairs of code and account, those with uses that were not given back, and the number of these."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    return await (await connection.execute(_COUNT_USES, columns)).fetchall()


async def save_codes(connection: AsyncConnection, rows: Sequence[tuple[int, int, int, Jsonb, int]]) -> None:
    """Write codes that are new or changed."""
    await connection.execute(_SAVE_CODES, [list(column) for column in zip(*rows, strict=True)])


async def save_uses(connection: AsyncConnection, rows: Sequence[UseRow]) -> None:
    """Write uses that are new or were given back."""
    await connection.execute(_SAVE_USES, [list(column) for column in zip(*rows, strict=True)])
