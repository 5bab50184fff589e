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
    TripOpened,
    TripRejected,
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

#: So many ids stay in memory; the others are in tables of the connection, which end with it.
_MAX_IDS: Final = 500_000
_CREATE: Final = (
    "create temporary table named_id (kind text, id bigint)",
    "create temporary table named_list (id uuid, booking_id uuid)",
)
#: How many ids are named, how many of them the table lacks, and the first of those.
_CHECK: Final = """
with named as (select distinct id from named_id where kind = {kind}),
     missing as (select named.id from named left join {table} on {table}.id = named.id where {table}.id is null)
select (select count(*) from named), (select count(*) from missing),
       array(select id from missing order by id limit {examples})
"""
_CHECK_LISTS: Final = """
with named as (select distinct on (id) id, booking_id from named_list order by id),
     missing as (select named.booking_id from named left join guest_list using (id) where guest_list.id is null)
select (select count(*) from named), (select count(*) from missing),
       array(select distinct booking_id::text from missing order by 1 limit {examples})
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
    """The ids that events name: the newest in memory, all others in temporary tables.

    Attributes:
        last_action: the highest id of an operator's action.
        ids: by the table whose rows have them; those that are not saved yet.
        bookings_of_lists: the booking of each list of guests that is not saved yet.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        """Make it; `create_tables` comes before the first `save`."""
        self.last_action = 0
        self.ids: dict[str, set[int]] = {table: set() for table in _TABLES}
        self.bookings_of_lists: dict[UUID, UUID] = {}
        self._connection = connection

    async def create_tables(self) -> None:
        """Create the temporary tables."""
        for statement in _CREATE:
            await self._connection.execute(statement)

    async def save(self, max_ids: int = _MAX_IDS) -> None:
        """Move the ids to the tables if there are more than `max_ids` in memory."""
        if sum(map(len, self.ids.values())) + len(self.bookings_of_lists) <= max_ids:
            return
        async with self._connection.cursor() as cursor:
            async with cursor.copy("copy named_id from stdin (format binary)") as copy:
                copy.set_types(["text", "int8"])
                for table, ids in self.ids.items():
                    for id in ids:
                        await copy.write_row((table, id))
            async with cursor.copy("copy named_list from stdin (format binary)") as copy:
                copy.set_types(["uuid", "uuid"])
                for row in self.bookings_of_lists.items():
                    await copy.write_row(row)
        for ids in self.ids.values():
            ids.clear()
        self.bookings_of_lists.clear()

    def add(self, event: Message | None) -> None:
        """Add the ids that an event names."""
        ids = self.ids
        if isinstance(event, BookingReserved | BookingRejected):
            ids["room"].add(event.room_id)
            ids["hotel"].add(event.hotel_id)
            if event.user_id is not None:
                ids["app_user"].add(event.user_id)
            self._add_guest_list(event)
        elif isinstance(event, TripOpened | TripRejected):
            ids["room"].update(leg.room_id for leg in event.legs)
            ids["hotel"].add(event.hotel_id)
            ids["app_user"].add(event.user_id)
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
            self.bookings_of_lists[event.guest_list_id] = event.booking_id

    def add_actor(self, actor: str | None) -> None:
        """Add the id of an operator's action, if that is the actor of an event's envelope."""
        if actor is not None and (id := id_of_actor(actor)) is not None:
            self.last_action = max(self.last_action, id)

    async def check(self) -> tuple[BackupCheck, ...]:
        """Compare all ids with the rows of the database."""
        await self.save(max_ids=0)
        checks = [
            await self._check(
                rows,
                sql.SQL(_CHECK).format(
                    kind=sql.Literal(table), table=sql.Identifier(table), examples=sql.Literal(_MAX_EXAMPLES)
                ),
            )
            for table, rows in _TABLES.items()
        ]
        lists = sql.SQL(_CHECK_LISTS).format(examples=sql.Literal(_MAX_EXAMPLES))
        return (*checks, await self._check(_GUEST_LISTS, lists))

    async def _check(self, rows: str, query: sql.Composed) -> BackupCheck:
        named, missing, examples = await (await self._connection.execute(query)).fetchone() or (0, 0, ())
        return BackupCheck(rows=rows, named=named, missing=missing, examples=tuple(examples))


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
