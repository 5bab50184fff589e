"""Checks that the backup has the accounts, guests, hotels and rooms that the log names.

Events have their ids only; the rows come from a backup, which may be missing or older than the log.
"""

from dataclasses import dataclass
from typing import Final

from psycopg import AsyncConnection, sql

from operators.restore.target import NotRestored, has_rows
from storage.operator_log import id_of_actor
from topics.messages.events import BookingRejected, BookingReserved, GuestsAdded, InventoryOpened
from topics.messages.message import Message

#: The tables, and the word for their rows in reports.
_TABLES: Final = {"app_user": "accounts", "guest": "guests", "hotel": "hotels", "room": "rooms"}
#: These tables have rows wherever anything was ever on sale; guests need not have been named.
_NEVER_EMPTY: Final = ("app_user", "hotel", "room")
_MAX_EXAMPLES: Final = 5

_MISSING: Final = """
select named.id
from unnest(%s::bigint[]) as named (id) left join {table} on {table}.id = named.id
where {table}.id is null
order by 1
"""


@dataclass(frozen=True, kw_only=True)
class BackupCheck:
    """The check of one table.

    Attributes:
        rows: `accounts`, `guests`, `hotels` or `rooms`.
        named: how many of them the log names.
        missing: how many of those the database does not have.
        examples: the ids of the first few that are missing.
    """

    rows: str
    named: int
    missing: int
    examples: tuple[int, ...]


class NamedIds:
    """The ids that events name, by the table whose rows have them; `last_action` is the highest id of an action."""

    def __init__(self) -> None:
        self.last_action = 0
        self._ids: dict[str, set[int]] = {table: set() for table in _TABLES}

    def add(self, event: Message | None) -> None:
        """Add the ids that an event names."""
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

    def add_actor(self, actor: str | None) -> None:
        """Add the id of an operator's action, if that is the actor of an event's envelope."""
        if actor is not None and (id := id_of_actor(actor)) is not None:
            self.last_action = max(self.last_action, id)

    async def check(self, connection: AsyncConnection) -> tuple[BackupCheck, ...]:
        """Compare the ids with the rows of the database."""
        return tuple([await self._check(connection, table, rows) for table, rows in _TABLES.items()])

    async def _check(self, connection: AsyncConnection, table: str, rows: str) -> BackupCheck:
        ids = self._ids[table]
        found = await connection.execute(sql.SQL(_MISSING).format(table=sql.Identifier(table)), (list(ids),))
        missing = [id for (id,) in await found.fetchall()]
        return BackupCheck(rows=rows, named=len(ids), missing=len(missing), examples=tuple(missing[:_MAX_EXAMPLES]))


async def require_backup(connection: AsyncConnection) -> None:
    """Refuse a database into which no backup was loaded.

    Raises:
        NotRestored: tables are empty although the log has events; the text names them.
    """
    empty = [table for table in _NEVER_EMPTY if not await has_rows(connection, table)]
    if empty:
        *others, last = empty
        tables = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        raise NotRestored(
            f"The backup was not loaded: {tables} empty, and the log has events that name their rows. Load it first,"
            " as a restore numbers new accounts and rooms behind it. If there is none, use --without-backup: bookings"
            " come back, and no guest can ask for them."
        )
