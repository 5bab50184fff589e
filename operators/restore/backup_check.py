"""Checks that the backup has the accounts, guests, guest lists, hotels, rooms and codes that the log names.

Events have their ids only; the rows come from a backup, which may be missing or older than the log.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection, sql

from operators.restore.target import NotRestored, has_rows
from storage.operator_log import id_of_actor
from topics.messages.events import (
    BookingRejected,
    BookingReserved,
    CodeEvent,
    GuestsAdded,
    GuestsChanged,
    InventoryOpened,
    SaleTermsChanged,
)
from topics.messages.message import Message

#: The tables, and the word for their rows in reports.
_TABLES: Final = {
    "app_user": "accounts",
    "guest": "guests",
    "hotel": "hotels",
    "room": "rooms",
    "promo_code_name": "promo codes",
}
_GUEST_LISTS: Final = "guest lists"
#: These tables have rows wherever anything was ever on sale; guests need not have been named, nor codes made.
_NEVER_EMPTY: Final = ("app_user", "hotel", "room")
_MAX_EXAMPLES: Final = 5

_MISSING: Final = """
select named.id
from unnest(%s::bigint[]) as named (id) left join {table} on {table}.id = named.id
where {table}.id is null
order by 1
"""
_MISSING_LISTS: Final = """
select named.id
from unnest(%s::uuid[]) as named (id) left join guest_list on guest_list.id = named.id
where guest_list.id is null
"""


@dataclass(frozen=True, kw_only=True)
class BackupCheck:
    """The check of one table.

    Attributes:
        rows: `accounts`, `guests`, `guest lists`, `hotels`, `rooms` or `promo codes`.
        named: how many of them the log names.
        missing: how many of those the database does not have.
        examples: the ids of the first few that are missing; of guest lists, the ids of their bookings.
    """

    rows: str
    named: int
    missing: int
    examples: tuple[int | str, ...]


class NamedIds:
    """The ids that events name, by the table whose rows have them; `last_action` is the highest id of an action."""

    def __init__(self) -> None:
        self.last_action = 0
        self._ids: dict[str, set[int]] = {table: set() for table in _TABLES}
        self._bookings_of_lists: dict[UUID, UUID] = {}

    def add(self, event: Message | None) -> None:
        """Add the ids that an event names."""
        ids = self._ids
        if isinstance(event, BookingReserved | BookingRejected):
            ids["room"].add(event.room_id)
            ids["hotel"].add(event.hotel_id)
            if event.user_id is not None:
                ids["app_user"].add(event.user_id)
            self._add_guest_list(event)
        elif isinstance(event, CodeEvent):
            ids["promo_code_name"].add(event.code_id)
        elif isinstance(event, GuestsAdded | GuestsChanged):
            ids["guest"].update(event.guest_ids)
            self._add_guest_list(event)
        elif isinstance(event, InventoryOpened | SaleTermsChanged):
            ids["room"].add(event.room_id)
            ids["hotel"].add(event.hotel_id)

    def _add_guest_list(self, event: BookingReserved | BookingRejected | GuestsAdded | GuestsChanged) -> None:
        """Add the list of guests, which a booking made at the desk has from the beginning."""
        if not isinstance(event, BookingRejected) and event.guest_list_id is not None:
            self._bookings_of_lists[event.guest_list_id] = event.booking_id

    def add_actor(self, actor: str | None) -> None:
        """Add the id of an operator's action, if that is the actor of an event's envelope."""
        if actor is not None and (id := id_of_actor(actor)) is not None:
            self.last_action = max(self.last_action, id)

    async def check(self, connection: AsyncConnection) -> tuple[BackupCheck, ...]:
        """Compare the ids with the rows of the database."""
        return (
            *[await self._check(connection, table, rows) for table, rows in _TABLES.items()],
            await self._check_guest_lists(connection),
        )

    async def _check(self, connection: AsyncConnection, table: str, rows: str) -> BackupCheck:
        ids = self._ids[table]
        found = await connection.execute(sql.SQL(_MISSING).format(table=sql.Identifier(table)), (list(ids),))
        missing = [id for (id,) in await found.fetchall()]
        return BackupCheck(rows=rows, named=len(ids), missing=len(missing), examples=tuple(missing[:_MAX_EXAMPLES]))

    async def _check_guest_lists(self, connection: AsyncConnection) -> BackupCheck:
        bookings = self._bookings_of_lists
        found = await connection.execute(_MISSING_LISTS, (list(bookings),))
        missing = [str(bookings[id]) for (id,) in await found.fetchall()]
        examples = tuple(sorted(set(missing))[:_MAX_EXAMPLES])
        return BackupCheck(rows=_GUEST_LISTS, named=len(bookings), missing=len(missing), examples=examples)


async def require_installation(connection: AsyncConnection) -> None:
    """Refuse a database that does not have exactly one id of an installation.

    Raises:
        NotRestored: the table `installation` is empty, or has the id of the new database beside that of the backup.
    """
    (count,) = await (await connection.execute("select count(*) from installation")).fetchone() or (0,)
    if count != 1:
        found = "is empty" if count == 0 else f"has {count} rows, the new database's own among them"
        raise NotRestored(
            f"The table installation {found}. Its id is in the mark of our objects at Stripe, by which payments knows"
            " them. Empty the table, and load its row from the backup again."
        )


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
