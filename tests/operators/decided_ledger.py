"""The tables of a real ledger, written as a decided log leaves them, and changed behind the owner's back."""

from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from storage.settings import DatabaseSettings
from tests.operators.decided_log import T0, DecidedLog
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings
from workers.decisions import Booking


async def write_ledger(kafka: KafkaSettings, database: DatabaseSettings, history: DecidedLog) -> None:
    """Write what became of the hotel into the tables."""
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        for (room_id, day), night in history.nights.items():
            await _insert(connection, "inventory", {"room_id": room_id, "date": day, **msgspec.structs.asdict(night)})
        for block in history.blocks.values():
            await _insert(connection, "room_block", msgspec.structs.asdict(block))
        for room_id, terms in history.terms.items():
            row = {"room_id": room_id, "version": terms.version, "terms": Jsonb(msgspec.to_builtins(terms))}
            await _insert(connection, "room_sale_terms", row)
        await history.rows.write(connection)
        for booking in history.bookings.values():
            fields = msgspec.structs.asdict(booking)
            guests = fields.pop("guest_ids")
            times = {"created_at": T0, "updated_at": T0}
            await _insert(connection, "booking", {**fields, **times, **_in_columns(booking)})
            for guest_id in guests:
                await _insert(connection, "booking_guest", {"booking_id": booking.id, "guest_id": guest_id})
            if booking.guest_list_id is not None and booking.trip_id is None:
                stored = {"id": booking.guest_list_id, "booking_id": booking.id, "user_id": 7}
                await _insert(connection, "guest_list", stored | {"guests": Jsonb([{"name": "Ana", "age": 33}])})
    await write_cursors(kafka, database, history)


def _in_columns(booking: Booking) -> dict[str, Any]:
    """Return the values that need another form in the table."""
    return {
        "payments": Jsonb(msgspec.to_builtins(booking.payments)),
        "legs": Jsonb(msgspec.to_builtins(booking.legs)) if booking.legs else None,
        "earlier_stays": Jsonb(msgspec.to_builtins(booking.earlier_stays)) if booking.earlier_stays else None,
        "ended_change_ids": Jsonb(msgspec.to_builtins(booking.ended_change_ids)) if booking.ended_change_ids else None,
        "earlier_guest_list_ids": Jsonb(msgspec.to_builtins(booking.earlier_guest_list_ids)),
        "night_amounts_minor": list(booking.night_amounts_minor) or None,
        **{
            name: None if (value := getattr(booking, name)) is None else Jsonb(msgspec.to_builtins(value))
            for name in ("stay_times", "sale", "policy", "pending_change")
        },
    }


async def write_cursors(kafka: KafkaSettings, database: DatabaseSettings, history: DecidedLog) -> None:
    """Write that every event of the hotel's log was decided."""
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        for partition in {logged.partition for logged in history.events}:
            await _insert(
                connection,
                "log_cursor",
                {
                    "consumer": "reservations",
                    "topic": kafka.topic(BOOKING_COMMANDS),
                    "partition": partition,
                    "generation": 1,
                    "sequence": history.last(partition),
                },
            )


async def empty_ledger(database: DatabaseSettings) -> None:
    """Forget everything that was written."""
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        tables = (
            "inventory", "room_block", "room_sale_terms", "booking", "booking_guest", "guest_list", "log_cursor",
            "promo_code", "promo_code_use", "hotel_document",
        )  # fmt: skip
        for table in tables:
            await connection.execute(f"delete from {table}".encode())


async def until_all_have_left(database: DatabaseSettings) -> None:
    """Wait until no process of ours is connected: a closed connection is still seen there for a moment."""
    async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:

        async def left() -> bool:
            found = await connection.execute(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and application_name like 'innkeeper%'"
            )
            return await found.fetchone() == (0,)

        await wait_until(left)


async def change_ledger(database: DatabaseSettings, *statements: str) -> None:
    """Change the tables behind the owner's back."""
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        for statement in statements:
            changed = await connection.execute(statement.encode())
            assert changed.rowcount != 0, statement


async def _insert(connection: AsyncConnection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    places = ", ".join(f"%({name})s" for name in row)
    await connection.execute(f"insert into {table} ({names}) values ({places})".encode(), row)
