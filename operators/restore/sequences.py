"""Sees to it that no number of an account, guest, hotel or room which the log names is given to another one.

They are described by a backup, which may be older than the log: an account made after it is not there, and its bookings
are. Whoever signed up next would have its number, and so its bookings.
"""

from collections.abc import Mapping
from typing import Final

from psycopg import AsyncConnection, sql

#: An account that has no booking is named by nothing on the log, and its holder's token is good for a while.
_ACCOUNTS_LEFT_OUT: Final = 1_000_000

#: By table: the highest number that the log names, and how many are left out behind it.
_NAMED: Final[Mapping[str, tuple[str, int]]] = {
    "app_user": ("select max(user_id) from booking", _ACCOUNTS_LEFT_OUT),
    "guest": ("select max(guest_id) from booking_guest", 0),
    "hotel": ("select max(hotel_id) from inventory", 0),
    "room": ("select max(room_id) from inventory", 0),
}

_GO_ON: Final = """
select setval(numbers, last)
from (select pg_get_serial_sequence({name}, 'id')::regclass as numbers) as sequence,
     (select greatest((select max(id) from {table}), ({named})) + {left_out} as last) as known
where last >= coalesce(pg_sequence_last_value(numbers), 0)
"""


async def go_on_behind_the_log(connection: AsyncConnection) -> None:
    """Let numbering go on behind what the restored rows and the backup's name; what was given since stays given."""
    for table, (named, left_out) in _NAMED.items():
        await connection.execute(
            sql.SQL(_GO_ON).format(
                name=sql.Literal(table),
                table=sql.Identifier(table),
                named=sql.SQL(named),
                left_out=sql.Literal(left_out),
            )
        )
