"""What the log names and only a backup describes (accounts, guests, hotels, rooms), and which of it is not there."""

from dataclasses import dataclass
from typing import Final

from psycopg import AsyncConnection, sql

from operators.restore.target import NotRestored, has_rows
from topics.messages.events import BookingRejected, BookingReserved, GuestsAdded, InventoryOpened
from topics.messages.message import Message

#: The tables, and what their rows are to an operator.
_TABLES: Final = {"app_user": "accounts", "guest": "guests", "hotel": "hotels", "room": "rooms"}
#: None of them is empty where anything was ever on sale; guests need not have been named.
_NEVER_EMPTY: Final = ("app_user", "hotel", "room")
_EXAMPLES: Final = 5

_MISSING: Final = """
select named.id
from unnest(%s::bigint[]) as named (id) left join {table} on {table}.id = named.id
where {table}.id is null
order by 1
"""


@dataclass(frozen=True, kw_only=True)
class Described:
    """How many accounts, guests, hotels or rooms (`what`) the log names, how many of them the database does not know.

    `examples`: the numbers of the first few that are missing.
    """

    what: str
    named: int
    missing: int
    examples: tuple[int, ...]


class Named:
    """The numbers that events name, by the table that describes them."""

    def __init__(self) -> None:
        self._ids: dict[str, set[int]] = {table: set() for table in _TABLES}

    def hear(self, event: Message | None) -> None:
        """Keep the numbers that an event is the first to name."""
        ids = self._ids
        if isinstance(event, BookingReserved | BookingRejected):
            ids["room"].add(event.room_id)
            ids["hotel"].add(event.hotel_id)
            if event.user_id is not None:
                ids["app_user"].add(event.user_id)
        elif isinstance(event, GuestsAdded):
            ids["guest"].update(event.guest_ids)
        elif isinstance(event, InventoryOpened):
            ids["room"].add(event.room_id)
            ids["hotel"].add(event.hotel_id)

    async def described(self, connection: AsyncConnection) -> tuple[Described, ...]:
        """Compare with what the database describes."""
        return tuple([await self._described(connection, table, what) for table, what in _TABLES.items()])

    async def _described(self, connection: AsyncConnection, table: str, what: str) -> Described:
        ids = self._ids[table]
        found = await connection.execute(sql.SQL(_MISSING).format(table=sql.Identifier(table)), (list(ids),))
        missing = [id for (id,) in await found.fetchall()]
        return Described(what=what, named=len(ids), missing=len(missing), examples=tuple(missing[:_EXAMPLES]))


async def check_backup(connection: AsyncConnection) -> None:
    """Refuse a database that no backup was loaded into.

    Raises:
        NotRestored: which tables are empty, though the log has events.
    """
    empty = [table for table in _NEVER_EMPTY if not await has_rows(connection, table)]
    if empty:
        *others, last = empty
        tables = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        raise NotRestored(
            f"The backup was not loaded: {tables} empty, and the log has events that name their rows. Load it first,"
            " as a restore numbers new accounts and rooms behind it. If there is none, say --without-backup: what was"
            " booked comes back, and nobody can ask for it."
        )
