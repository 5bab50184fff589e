"""The statements that workers send to PostgreSQL, as values: a process may have others (ADR 0044).

A worker's code calls them through one of these values; each has a function of this package in every field unless it is
given another. The simulation gives functions of its own, which keep rows in memory.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from storage import bookings, cursors, documents, holds, inventory, pauses, promo_codes, sale_terms
from storage.bookings import BookingRow, UnpaidSearch
from storage.cursors import Cursor, CursorKey
from storage.holds import DueHold
from storage.inventory import NightRow
from storage.pauses import Pause
from storage.promo_codes import CodeRow, UseRow
from storage.sale_terms import BlockKey, BlockRow
from topics.envelope import Outgoing

_Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class CursorStatements:
    """The statements of `storage.cursors` that process batches."""

    generation: Callable[[AsyncConnection, str, str], Awaitable[int]] = cursors.generation
    create: Callable[[AsyncConnection, CursorKey, int], Awaitable[None]] = cursors.create
    lock: Callable[[AsyncConnection, Iterable[CursorKey]], Awaitable[dict[CursorKey, Cursor]]] = cursors.lock
    save: Callable[
        [AsyncConnection, Sequence[Cursor], Sequence[tuple[Cursor, Sequence[Outgoing]]]], Awaitable[None]
    ] = cursors.save
    unpublished: Callable[[AsyncConnection, CursorKey], Awaitable[list[Outgoing]]] = cursors.unpublished
    mark_published: Callable[[AsyncConnection, CursorKey, int], Awaitable[None]] = cursors.mark_published
    record_dead_letter: Callable[[AsyncConnection, CursorKey, int, str], Awaitable[int]] = cursors.record_dead_letter


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerStatements:
    """The statements by which the ledger is read and written, a batch at a time."""

    load_bookings: Callable[[AsyncConnection, Iterable[UUID]], Awaitable[list[BookingRow]]] = bookings.load_bookings
    load_unpaid: Callable[[AsyncConnection, Iterable[UnpaidSearch]], Awaitable[list[BookingRow]]] = bookings.load_unpaid
    add_bookings: Callable[
        [AsyncConnection, Sequence[BookingRow], Sequence[datetime], Sequence[datetime]], Awaitable[None]
    ] = bookings.add_bookings
    change_bookings: Callable[[AsyncConnection, Sequence[BookingRow], Sequence[datetime]], Awaitable[None]] = (
        bookings.change_bookings
    )
    change_stays: Callable[[AsyncConnection, Sequence[BookingRow]], Awaitable[None]] = bookings.change_stays
    name_guests: Callable[[AsyncConnection, dict[UUID, Sequence[int]]], Awaitable[None]] = bookings.name_guests
    load_nights: Callable[[AsyncConnection, Iterable[inventory.NightKey]], Awaitable[list[NightRow]]] = (
        inventory.load_nights
    )
    add_nights: Callable[[AsyncConnection, Sequence[NightRow]], Awaitable[None]] = inventory.add_nights
    count_nights: Callable[[AsyncConnection, Sequence[NightRow]], Awaitable[None]] = inventory.count_nights
    change_nights: Callable[[AsyncConnection, Sequence[NightRow]], Awaitable[None]] = inventory.change_nights
    load_sale_terms: Callable[[AsyncConnection, Iterable[int]], Awaitable[list[tuple[int, dict[str, Any]]]]] = (
        sale_terms.load_sale_terms
    )
    save_sale_terms: Callable[[AsyncConnection, Sequence[tuple[int, int, Jsonb]]], Awaitable[None]] = (
        sale_terms.save_sale_terms
    )
    load_blocks: Callable[[AsyncConnection, Iterable[BlockKey]], Awaitable[list[BlockRow]]] = sale_terms.load_blocks
    save_blocks: Callable[[AsyncConnection, Sequence[BlockRow]], Awaitable[None]] = sale_terms.save_blocks
    load_codes: Callable[[AsyncConnection, Iterable[int]], Awaitable[list[CodeRow]]] = promo_codes.load_codes
    load_uses: Callable[[AsyncConnection, Iterable[tuple[int, UUID]]], Awaitable[list[UseRow]]] = promo_codes.load_uses
    count_uses: Callable[[AsyncConnection, Iterable[tuple[int, int]]], Awaitable[list[tuple[int, int, int]]]] = (
        promo_codes.count_uses
    )
    save_codes: Callable[[AsyncConnection, Sequence[tuple[int, int, int, Jsonb, int]]], Awaitable[None]] = (
        promo_codes.save_codes
    )
    save_uses: Callable[[AsyncConnection, Sequence[UseRow]], Awaitable[None]] = promo_codes.save_uses
    load_documents: Callable[[AsyncConnection, Iterable[UUID], Iterable[UUID]], Awaitable[list[tuple[Any, ...]]]] = (
        documents.load_documents
    )
    last_numbers: Callable[[AsyncConnection, Iterable[tuple[int, str]]], Awaitable[list[tuple[int, str, int]]]] = (
        documents.last_numbers
    )
    add_documents: Callable[[AsyncConnection, _Rows], Awaitable[None]] = documents.add_documents
    credit_invoices: Callable[[AsyncConnection, Sequence[tuple[UUID, int]]], Awaitable[None]] = (
        documents.credit_invoices
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldStatements:
    """The statements by which the expiry timer finds holds that are over."""

    due_holds: Callable[[AsyncConnection, DueHold, float], Awaitable[list[DueHold]]] = holds.due_holds
    pause_of: Callable[[AsyncConnection, str], Awaitable[Pause | None]] = pauses.of


#: The statements of every process in production.
CURSORS: Final = CursorStatements()
LEDGER: Final = LedgerStatements()
HOLDS: Final = HoldStatements()
