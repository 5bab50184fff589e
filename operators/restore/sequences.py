"""Moves the id sequences of accounts, guests, hotels, rooms, codes and operators' actions behind those on the log.

Their rows come from a backup, which may be older than the log: an account that was made after the backup has bookings
but no row. Without this, the next person to sign up would get that account's id, and with it its bookings; and the next
action of an operator would get the number that commands and events name as their actor.
"""

from collections.abc import Mapping
from typing import Final

from psycopg import AsyncConnection, sql

#: So many ids are skipped: accounts without a booking are not on the log, and their tokens stay valid for a while.
_ACCOUNTS_SKIPPED: Final = 1_000_000

#: By table: the query for the highest id that the log names, and how many ids are skipped behind it.
_NAMED: Final[Mapping[str, tuple[str, int]]] = {
    "app_user": ("select max(user_id) from booking", _ACCOUNTS_SKIPPED),
    "guest": ("select max(guest_id) from booking_guest", 0),
    "hotel": ("select max(hotel_id) from inventory", 0),
    "room": ("select max(room_id) from inventory", 0),
    "promo_code_name": ("select max(id) from promo_code", 0),
}

_CONTINUE: Final = """
select setval(numbers, last)
from (select pg_get_serial_sequence({name}, 'id')::regclass as numbers) as sequence,
     (select greatest((select max(id) from {table}), ({named})) + {skipped} as last) as known
where last >= coalesce(pg_sequence_last_value(numbers), 0)
"""


async def continue_after_the_log(connection: AsyncConnection, *, last_action: int) -> None:
    """Set every sequence behind the ids in the restored rows and in the backup; none is set back.

    `last_action` is the highest id of an operator's action that the log names, 0 if it names none.
    """
    actions = {"operator_action": (f"nullif({last_action:d}, 0)", 0)}
    for table, (named, skipped) in {**_NAMED, **actions}.items():
        await connection.execute(
            sql.SQL(_CONTINUE).format(
                name=sql.Literal(table),
                table=sql.Identifier(table),
                named=sql.SQL(named),
                skipped=sql.Literal(skipped),
            )
        )
