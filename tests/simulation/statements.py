"""The statements of the ledger on rows in memory. `test_against_postgres` compares them with PostgreSQL."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

import psycopg
from psycopg.types.json import Json, Jsonb

from storage.bookings import BOOKING_COLUMNS, CHANGING_COLUMNS, STAY_COLUMNS, BookingRow, UnpaidSearch
from storage.documents import DOCUMENT_COLUMNS
from storage.inventory import CHANGING_COLUMNS as NIGHT_CHANGES
from storage.inventory import COUNT_COLUMNS, NIGHT_COLUMNS, NightKey, NightRow
from storage.ledger import LedgerStatements
from storage.promo_codes import CodeRow, UseRow
from storage.sale_terms import BlockKey, BlockRow
from tests.simulation.cursor_statements import of
from tests.simulation.database import Transaction

_AT: Final = {name: position for position, name in enumerate(BOOKING_COLUMNS)}
_CHANGED: Final = [_AT[name] for name in CHANGING_COLUMNS]
_STAY: Final = [_AT[name] for name in STAY_COLUMNS]
_NIGHT_AT: Final = {name: position for position, name in enumerate(NIGHT_COLUMNS)}
_UPDATED_AT: Final = len(BOOKING_COLUMNS) + 1
_UNPAID: Final = frozenset({"RESERVING", "RESERVED", "GUESTS_ADDED", "PAYMENTS_PENDING"})


class _Diagnostic:
    constraint_name = "booking_pkey"


class KeyTwice(psycopg.errors.UniqueViolation):
    """A booking with this id exists."""

    @property
    def diag(self) -> Any:
        """Return the part of PostgreSQL's message that names the constraint."""
        return _Diagnostic


def stored(value: Any) -> Any:
    """Return a value as PostgreSQL gives it back."""
    if isinstance(value, Json | Jsonb):
        return json.loads(value.dumps(value.obj) if value.dumps is not None else json.dumps(value.obj))
    return value


def column(booking: Sequence[Any], name: str) -> Any:
    """Return a column of a booking's row."""
    return booking[_AT[name]]


# Bookings.


async def load_bookings(connection: Any, ids: Iterable[UUID]) -> list[BookingRow]:
    """As `storage.bookings.load_bookings`."""
    listed = list(ids)

    def effect(rows: Transaction) -> list[BookingRow]:
        found = ((id, rows.get("booking", id)) for id in dict.fromkeys(listed))
        return [(*row[:-2], list(rows.get("booking_guest", id) or ())) for id, row in found if row is not None]

    return await of(connection).run("load_bookings", (listed,), effect)


async def load_unpaid(connection: Any, searches: Iterable[UnpaidSearch]) -> list[BookingRow]:
    """As `storage.bookings.load_unpaid`, for stays without a change that is not paid."""
    listed = list(searches)

    def effect(rows: Transaction) -> list[BookingRow]:
        found: list[BookingRow] = []
        for id in list(rows.keys("booking")):
            row = rows.get("booking", id)
            at = {name: row[_AT[name]] for name in ("user_id", "room_id", "check_in", "check_out", "rooms_count")}
            found += [
                (search.user_id, search.room_id, id, at["check_in"], at["check_out"], at["rooms_count"])
                for search in listed
                if (at["user_id"], at["room_id"]) == (search.user_id, search.room_id)
                and row[_AT["status"]] in _UNPAID
                and at["check_in"] < search.end
                and at["check_out"] > search.first
            ]
        return found

    return await of(connection).run("load_unpaid", (listed,), effect)


async def add_bookings(
    connection: Any, rows: Sequence[BookingRow], made: Sequence[datetime], changed: Sequence[datetime]
) -> None:
    """As `storage.bookings.add_bookings`."""
    added = [(*map(stored, row), at, later) for row, at, later in zip(rows, made, changed, strict=True)]

    def effect(into: Transaction) -> None:
        for row in added:
            if into.get("booking", row[0]) is not None:
                raise KeyTwice(f"booking_pkey: {row[0]}")
            into.put("booking", row[0], row)

    locks = sorted(("booking", row[0]) for row in added)
    await of(connection).run("add_bookings", (rows, made, changed), effect, locks=locks)


def _with(before: Sequence[Any], row: BookingRow, positions: Sequence[int]) -> list[Any]:
    after = list(before)
    for position in positions:
        after[position] = stored(row[position])
    return after


async def change_bookings(connection: Any, rows: Sequence[BookingRow], times: Sequence[datetime]) -> None:
    """As `storage.bookings.change_bookings`."""

    def effect(into: Transaction) -> None:
        for row, time in zip(rows, times, strict=True):
            if (before := into.get("booking", row[0])) is not None:
                after = _with(before, row, _CHANGED)
                after[_UPDATED_AT] = time
                into.put("booking", row[0], tuple(after))

    locks = sorted(("booking", row[0]) for row in rows)
    await of(connection).run("change_bookings", (rows, times), effect, locks=locks)


async def change_stays(connection: Any, rows: Sequence[BookingRow]) -> None:
    """As `storage.bookings.change_stays`."""

    def effect(into: Transaction) -> None:
        for row in rows:
            if (before := into.get("booking", row[0])) is not None:
                into.put("booking", row[0], tuple(_with(before, row, _STAY)))

    await of(connection).run("change_stays", (rows,), effect, locks=sorted(("booking", row[0]) for row in rows))


async def name_guests(connection: Any, guests: dict[UUID, Sequence[int]]) -> None:
    """As `storage.bookings.name_guests`."""

    def effect(rows: Transaction) -> None:
        for id, guest_ids in guests.items():
            rows.put("booking_guest", id, tuple(sorted(guest_ids)))

    await of(connection).run("name_guests", (dict(guests),), effect)


# Nights.


def _checked(row: NightRow) -> NightRow:
    """Return a night, as the table's checks let it be.

    Raises:
        psycopg.errors.CheckViolation: it is oversold, or a count is negative.
    """
    total, booked, reserved, allowed, blocked = (
        cast("int", row[_NIGHT_AT[f"{name}_count"]]) for name in ("total", "booked", "reserved", "allowance", "blocked")
    )
    if booked < 0 or reserved < 0 or allowed < 0 or blocked < 0 or booked + reserved + blocked > total + allowed:
        raise psycopg.errors.CheckViolation(f"never_oversold: {row}")
    return row


async def load_nights(connection: Any, wanted: Iterable[NightKey]) -> list[NightRow]:
    """As `storage.inventory.load_nights`."""
    listed = sorted(wanted)
    return await of(connection).run(
        "load_nights",
        (listed,),
        lambda rows: [row for key in listed if (row := rows.get("inventory", key)) is not None],
    )


async def add_nights(connection: Any, rows: Sequence[NightRow]) -> None:
    """As `storage.inventory.add_nights`."""

    def effect(into: Transaction) -> None:
        for row in rows:
            if into.get("inventory", row[:2]) is not None:
                raise psycopg.errors.UniqueViolation(f"inventory_pkey: {row[:2]}")
            into.put("inventory", row[:2], _checked(row))

    await of(connection).run("add_nights", (rows,), effect, locks=sorted(("inventory", row[:2]) for row in rows))


async def _update_nights(connection: Any, name: str, rows: Sequence[NightRow], columns: Sequence[str]) -> None:
    positions = [_NIGHT_AT[column] for column in columns]

    def effect(into: Transaction) -> None:
        for row in rows:
            before = into.get("inventory", row[:2])
            if before is not None:
                after: list[Any] = list(before)
                for position in positions:
                    after[position] = row[position]
                into.put("inventory", row[:2], _checked(cast("NightRow", tuple(after))))

    await of(connection).run(name, (rows,), effect, locks=sorted(("inventory", row[:2]) for row in rows))


async def count_nights(connection: Any, rows: Sequence[NightRow]) -> None:
    """As `storage.inventory.count_nights`."""
    await _update_nights(connection, "count_nights", rows, COUNT_COLUMNS)


async def change_nights(connection: Any, rows: Sequence[NightRow]) -> None:
    """As `storage.inventory.change_nights`."""
    await _update_nights(connection, "change_nights", rows, NIGHT_CHANGES)


# Sale terms and blocks, promo codes, documents.


def _keyed(name: str, table: str, rows: Sequence[tuple[Any, ...]], key: Callable[[Any], Any]) -> Any:
    """Return a statement that writes rows whole."""

    async def run(connection: Any) -> None:
        def effect(into: Transaction) -> None:
            for row in rows:
                into.put(table, key(row), tuple(map(stored, row)))

        await of(connection).run(name, (rows,), effect, locks=[(table, key(row)) for row in rows])

    return run


def _found(name: str, table: str, keys: Iterable[Any]) -> Any:
    """Return a statement that returns the rows that exist."""
    listed = sorted(keys)

    async def run(connection: Any) -> Any:
        return await of(connection).run(
            name, (listed,), lambda rows: [row for key in listed if (row := rows.get(table, key)) is not None]
        )

    return run


async def load_sale_terms(connection: Any, room_ids: Iterable[int]) -> list[tuple[int, dict[str, Any]]]:
    """As `storage.sale_terms.load_sale_terms`."""
    listed = sorted(room_ids)
    return await of(connection).run(
        "load_sale_terms",
        (listed,),
        lambda rows: [(id, row[2]) for id in listed if (row := rows.get("room_sale_terms", id)) is not None],
    )


async def save_sale_terms(connection: Any, rows: Sequence[tuple[int, int, Jsonb]]) -> None:
    """As `storage.sale_terms.save_sale_terms`."""
    await _keyed("save_sale_terms", "room_sale_terms", rows, lambda row: row[0])(connection)


async def load_blocks(connection: Any, keys: Iterable[BlockKey]) -> list[BlockRow]:
    """As `storage.sale_terms.load_blocks`."""
    return cast("list[BlockRow]", await _found("load_blocks", "room_block", keys)(connection))


async def save_blocks(connection: Any, rows: Sequence[BlockRow]) -> None:
    """As `storage.sale_terms.save_blocks`."""
    await _keyed("save_blocks", "room_block", rows, lambda row: row[:2])(connection)


async def load_codes(connection: Any, ids: Iterable[int]) -> list[CodeRow]:
    """As `storage.promo_codes.load_codes`."""
    return cast("list[CodeRow]", await _found("load_codes", "promo_code", ids)(connection))


async def load_uses(connection: Any, keys: Iterable[tuple[int, UUID]]) -> list[UseRow]:
    """As `storage.promo_codes.load_uses`."""
    return cast("list[UseRow]", await _found("load_uses", "promo_code_use", keys)(connection))


async def count_uses(connection: Any, keys: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """As `storage.promo_codes.count_uses`."""
    wanted = sorted(keys)

    def effect(rows: Transaction) -> list[tuple[int, int, int]]:
        uses = [rows.get("promo_code_use", key) for key in rows.keys("promo_code_use")]
        found = (
            (code, user, sum(use[0] == code and use[2] == user and not use[3] for use in uses)) for code, user in wanted
        )
        return [each for each in found if each[2]]

    return await of(connection).run("count_uses", (wanted,), effect)


async def save_codes(connection: Any, rows: Sequence[tuple[int, int, int, Jsonb, int]]) -> None:
    """As `storage.promo_codes.save_codes`."""
    await _keyed("save_codes", "promo_code", rows, lambda row: row[0])(connection)


async def save_uses(connection: Any, rows: Sequence[UseRow]) -> None:
    """As `storage.promo_codes.save_uses`."""
    await _keyed("save_uses", "promo_code_use", rows, lambda row: row[:2])(connection)


_DOCUMENT: Final = list(DOCUMENT_COLUMNS)
_CREDITED: Final = _DOCUMENT.index("credited_minor")


async def load_documents(
    connection: Any, ids: Iterable[UUID], booking_ids: Iterable[UUID] = ()
) -> list[tuple[Any, ...]]:
    """As `storage.documents.load_documents`."""
    wanted, bookings = sorted(ids), sorted(booking_ids)

    def effect(rows: Transaction) -> list[tuple[Any, ...]]:
        of_bookings = (id for booking_id in bookings for id in rows.get("documents_of", booking_id) or ())
        found = (rows.get("hotel_document", id) for id in dict.fromkeys((*wanted, *of_bookings)))
        return [row[: len(_DOCUMENT)] for row in found if row is not None]

    return await of(connection).run("load_documents", (wanted, bookings), effect)


async def last_numbers(connection: Any, series: Iterable[tuple[int, str]]) -> list[tuple[int, str, int]]:
    """As `storage.documents.last_numbers`."""
    wanted = sorted(series)
    return await of(connection).run(
        "last_numbers", (wanted,), lambda rows: [(*each, rows.get("last_number", each) or 0) for each in wanted]
    )


async def add_documents(connection: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    """As `storage.documents.add_documents`."""

    def effect(into: Transaction) -> None:
        for row in rows:
            id, hotel_id, kind, number, _, booking_id = row[:6]
            last = into.get("last_number", (hotel_id, kind)) or 0
            if into.get("hotel_document", id) is not None or number <= last:
                raise psycopg.errors.UniqueViolation(f"hotel_document: {id}, {kind} {number} after {last}")
            into.put("hotel_document", id, tuple(map(stored, row)))
            into.put("last_number", (hotel_id, kind), number)
            into.put("documents_of", booking_id, (*(into.get("documents_of", booking_id) or ()), id))

    await of(connection).run("add_documents", (rows,), effect)


async def credit_invoices(connection: Any, credited: Sequence[tuple[UUID, int]]) -> None:
    """As `storage.documents.credit_invoices`."""

    def effect(rows: Transaction) -> None:
        for id, amount in credited:
            row = list(rows.get("hotel_document", id))
            row[_CREDITED] = amount
            rows.put("hotel_document", id, tuple(row))

    await of(connection).run("credit_invoices", (credited,), effect)


LEDGER: Final = LedgerStatements(
    load_bookings=load_bookings,
    load_unpaid=load_unpaid,
    add_bookings=add_bookings,
    change_bookings=change_bookings,
    change_stays=change_stays,
    name_guests=name_guests,
    load_nights=load_nights,
    add_nights=add_nights,
    count_nights=count_nights,
    change_nights=change_nights,
    load_sale_terms=load_sale_terms,
    save_sale_terms=save_sale_terms,
    load_blocks=load_blocks,
    save_blocks=save_blocks,
    load_codes=load_codes,
    load_uses=load_uses,
    count_uses=count_uses,
    save_codes=save_codes,
    save_uses=save_uses,
    load_documents=load_documents,
    last_numbers=last_numbers,
    add_documents=add_documents,
    credit_invoices=credit_invoices,
)
