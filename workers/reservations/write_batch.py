"""The bookings and nights that a batch of messages touches: read together, changed in memory, written together.

A reservations worker uses it for the events that it decides, a restore for the events that the log has. Only
`evolve` defines what an event does to a booking and to nights.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.errors import SerializationFailure, UniqueViolation
from psycopg.types.json import Jsonb

from storage import bookings, documents, inventory, sale_terms
from storage.ledger import LEDGER, LedgerStatements
from storage.sale_terms import BlockKey
from topics.messages.events import (
    BookingEvent,
    ChangeEnded,
    ChangeHeld,
    ChangeRejected,
    Event,
    GuestsAdded,
    GuestsChanged,
    InventoryOpened,
    StayChanged,
)
from topics.messages.sale import CodeTerms, SaleTerms
from topics.messages.values import (
    BlockReason,
    DocumentKind,
)
from workers.booking_rows import booking_of, row_of
from workers.decisions import Block, Booking, Night, State, evolve
from workers.decisions.state import Code, CodeUse, Document

#: The events that change a stay, or the changes of it that a booking remembers.
_CHANGING_STAYS: Final = frozenset((ChangeHeld, ChangeEnded, ChangeRejected, StayChanged))
_NAMING_GUESTS: Final = (GuestsAdded, GuestsChanged)

#: The primary key of `booking`.
_KEY_OF_BOOKINGS: Final = "booking_pkey"
_encode: Final = msgspec.json.Encoder().encode

T = TypeVar("T")

NightKey: TypeAlias = tuple[int, date]
"""A room's id and a night."""
UseKey: TypeAlias = tuple[int, UUID]
"""The ids of a promo code and of the booking that uses it."""
Series: TypeAlias = tuple[int, DocumentKind]
"""A hotel's id and a kind of documents, which are numbered together."""


class _BookingEntry(msgspec.Struct):
    """A booking of a batch, with the times at which this batch made and changed it; None: it did not."""

    booking: Booking
    made_at: datetime | None = None
    changed_at: datetime | None = None
    has_changed_stay: bool = False


class WriteBatch:
    """Bookings and nights in memory between one read and one write of the ledger, each in a few bulk statements.

    The caller holds the fence of every room in the batch, so nobody else changes these rows meanwhile.
    """

    def __init__(
        self,
        nights: dict[NightKey, Night | None],
        terms: dict[int, SaleTerms | None] | None = None,
        ledger: LedgerStatements = LEDGER,
    ) -> None:
        """Begin without bookings.

        Args:
            nights: kept by the caller from batch to batch and updated here; None: the night is not open.
            terms: likewise the sale terms of rooms; None: the room has none.
            ledger: the statements that read and write.
        """
        self._ledger = ledger
        self._nights = nights
        self._terms: dict[int, SaleTerms | None] = {} if terms is None else terms
        self._blocks: dict[BlockKey, Block] = {}
        self._changed_terms: set[int] = set()
        self._changed_blocks: set[BlockKey] = set()
        self._bookings: dict[UUID, _BookingEntry] = {}
        self._guests: dict[UUID, Sequence[int]] = {}
        self._codes: dict[int, Code] = {}
        self._uses: dict[UseKey, CodeUse] = {}
        self._account_uses: dict[tuple[int, int], int] = {}
        self._changed_codes: set[int] = set()
        self._changed_uses: set[UseKey] = set()
        self._documents: dict[UUID, Document] = {}
        self._documents_of: dict[UUID | None, set[UUID]] = {}
        self._last_numbers: dict[Series, int] = {}
        self._issued: dict[UUID, datetime] = {}
        self._credited: set[UUID] = set()
        self._opened: set[NightKey] = set()
        self._counted: set[NightKey] = set()
        self._managed: set[NightKey] = set()

    async def load_bookings(self, connection: AsyncConnection, ids: Iterable[UUID]) -> None:
        """Read the bookings that exist among `ids`."""
        for row in await self._ledger.load_bookings(connection, ids):
            booking = booking_of(row)
            self._bookings[booking.id] = _BookingEntry(booking)

    async def load_nights(self, connection: AsyncConnection, keys: Iterable[NightKey]) -> None:
        """Read the nights that were not read before."""
        wanted = set(keys) - self._nights.keys()
        if wanted:
            self._nights.update(dict.fromkeys(wanted))
            for row in await self._ledger.load_nights(connection, wanted):
                # A row is its key, and then the fields of a night in their order.
                self._nights[row[0], row[1]] = Night(*row[2:])

    async def load_sale_terms(self, connection: AsyncConnection, room_ids: Iterable[int]) -> None:
        """Read the sale terms of rooms that were not read before."""
        wanted = set(room_ids) - self._terms.keys()
        if wanted:
            self._terms.update(dict.fromkeys(wanted))
            for room_id, terms in await self._ledger.load_sale_terms(connection, wanted):
                self._terms[room_id] = msgspec.convert(terms, SaleTerms)

    async def load_blocks(self, connection: AsyncConnection, keys: Iterable[BlockKey]) -> None:
        """Read the blocks that exist among `keys`."""
        wanted = set(keys)
        if wanted:
            for row in await self._ledger.load_blocks(connection, wanted):
                fields: dict[str, Any] = dict(zip(sale_terms.BLOCK_COLUMNS, row, strict=True))
                block = Block(**{**fields, "reason": BlockReason(fields["reason"])})
                self._blocks[block.room_id, block.id] = block

    async def load_codes(
        self, connection: AsyncConnection, keys: Iterable[UseKey], accounts: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Read codes, their uses by bookings, and the numbers of their uses by accounts."""
        wanted, counted = set(keys), set(accounts)
        if not wanted:
            return
        for id, hotel_id, _, terms, used_count in await self._ledger.load_codes(connection, {id for id, _ in wanted}):
            self._codes[id] = Code(
                id=id, hotel_id=hotel_id, terms=msgspec.convert(terms, CodeTerms), used_count=used_count
            )
        for code_id, booking_id, user_id, returned in await self._ledger.load_uses(connection, wanted):
            use = CodeUse(code_id=code_id, booking_id=booking_id, user_id=user_id, returned=returned)
            self._uses[code_id, booking_id] = use
        if counted:
            for code_id, user_id, count in await self._ledger.count_uses(connection, counted):
                self._account_uses[code_id, user_id] = count

    async def load_documents(
        self,
        connection: AsyncConnection,
        ids: Iterable[UUID],
        series: Iterable[Series],
        booking_ids: Iterable[UUID] = (),
    ) -> None:
        """Read the documents that exist among `ids` and those of bookings, and the newest numbers of the series."""
        wanted, numbered = set(ids), set(series)
        if wanted:
            for row in await self._ledger.load_documents(connection, wanted, set(booking_ids)):
                fields: dict[str, Any] = dict(zip(documents.DOCUMENT_COLUMNS, row, strict=True))
                self._keep_document(msgspec.convert(fields, Document))
        if numbered:
            rows = await self._ledger.last_numbers(connection, [(hotel_id, kind.value) for hotel_id, kind in numbered])
            self._last_numbers.update({(hotel_id, DocumentKind(kind)): number for hotel_id, kind, number in rows})

    def code_state(self, key: UseKey, user_id: int | None) -> State:
        """Return a promo code, its use by a booking, and the number of its uses by an account."""
        uses = 0 if user_id is None else self._account_uses.get((key[0], user_id), 0)
        return State(None, {}, code=self._codes.get(key[0]), code_use=self._uses.get(key), account_uses=uses)

    def document_state(
        self, hotel_id: int, id: UUID, corrects_id: UUID | None = None, booking_id: UUID | None = None
    ) -> State:
        """Return a document, the one that it corrects, the newest numbers of its hotel, and a booking's documents.

        `booking_id` is needed for decisions alone.
        """
        return State(
            None,
            {},
            document=self._documents.get(id),
            corrected=None if corrects_id is None else self._documents.get(corrects_id),
            last_numbers={kind: self._last_numbers.get((hotel_id, kind), 0) for kind in DocumentKind},
            documents=self._documents_of_booking(booking_id),
        )

    def _documents_of_booking(self, booking_id: UUID | None) -> tuple[Document, ...]:
        of_booking = map(self._documents.__getitem__, self._documents_of.get(booking_id, ()))
        return tuple(sorted(of_booking, key=lambda each: (each.kind, each.number)))

    def terms_of(self, room_id: int) -> SaleTerms | None:
        """Return the sale terms of a room after the events so far; None: it has none, or they were not loaded."""
        return self._terms.get(room_id)

    def block(self, key: BlockKey) -> Block | None:
        """Return a block after the events so far; None: there is none, or it was not loaded."""
        return self._blocks.get(key)

    def booking(self, id: UUID) -> Booking | None:
        """Return a booking after the events so far; None: there is none, or it was not loaded."""
        entry = self._bookings.get(id)
        return None if entry is None else entry.booking

    def nights(self, keys: Iterable[NightKey]) -> dict[date, Night]:
        """Return the open ones of some nights, all of one room, after the events so far."""
        known = self._nights
        return {key[1]: night for key in keys if (night := known.get(key)) is not None}

    def state(self, booking_id: UUID | None, keys: Iterable[NightKey]) -> State:
        """Return a booking and the open ones of some nights, all of one room, after the events so far."""
        return State(None if booking_id is None else self.booking(booking_id), self.nights(keys))

    def apply(self, state: State, event: Event, time: datetime) -> State:
        """Apply an event to a state of this batch, note its changes as of `time` (UTC), and return the new state.

        Raises:
            workers.decisions.states.IllegalTransition: the event cannot have happened in this state.
            KeyError: the event changes a night that was never opened.
        """
        after = evolve(state, event)
        booking = after.booking
        if booking is not None:
            self._note_booking(booking, event, time)
        if after.code is not None or after.code_use is not None:
            return self._noted_code(state, after)
        if after.document is not None:
            return self._noted_document(state, after, time)
        if after.sale_terms is not None:
            self._terms[event.key] = after.sale_terms
            self._changed_terms.add(event.key)
            state = msgspec.structs.replace(state, sale_terms=after.sale_terms)
        if after.block is not None:
            key = (after.block.room_id, after.block.id)
            self._blocks[key] = after.block
            self._changed_blocks.add(key)
            state = msgspec.structs.replace(state, block=after.block)
        if not after.nights:
            return msgspec.structs.replace(state, booking=booking)
        keys = [(event.key, day) for day in after.nights]
        self._nights.update(zip(keys, after.nights.values(), strict=True))
        if isinstance(event, BookingEvent):
            self._counted.update(keys)
        elif isinstance(event, InventoryOpened):
            self._opened.update(keys)
        else:
            self._managed.update(keys)
        return msgspec.structs.replace(state, booking=booking, nights={**state.nights, **after.nights})

    async def write(self, connection: AsyncConnection) -> None:
        """Write everything that is new or changed."""
        made = [entry for entry in self._bookings.values() if entry.made_at is not None]
        changed = [entry for entry in self._bookings.values() if entry.made_at is None and entry.changed_at is not None]
        if made:
            await self._add_bookings(connection, made)
        if self._opened:
            await self._ledger.add_nights(connection, self._night_rows(self._opened))
        async with connection.pipeline():
            if changed:
                times = [at for entry in changed if (at := entry.changed_at) is not None]
                await self._ledger.change_bookings(connection, _booking_rows(changed), times)
            if changed_stays := [entry for entry in changed if entry.has_changed_stay]:
                await self._ledger.change_stays(connection, _booking_rows(changed_stays))
            if self._guests:
                await self._ledger.name_guests(connection, self._guests)
            if counted := self._counted - self._opened - self._managed:
                await self._ledger.count_nights(connection, self._night_rows(counted))
            if managed := self._managed - self._opened:
                await self._ledger.change_nights(connection, self._night_rows(managed))
            if self._changed_terms:
                await self._ledger.save_sale_terms(connection, self._sale_terms_rows())
            if self._changed_blocks:
                await self._ledger.save_blocks(connection, self._block_rows())
            await self._write_codes(connection)
            await self._write_documents(connection)

    async def _add_bookings(self, connection: AsyncConnection, made: Sequence[_BookingEntry]) -> None:
        """Insert new bookings.

        Raises:
            psycopg.errors.SerializationFailure: the worker of another room's partition has made one of them meanwhile.
        """
        created = [at for entry in made if (at := entry.made_at) is not None]
        changed = [at for entry in made if (at := entry.changed_at) is not None]
        try:
            await self._ledger.add_bookings(connection, _booking_rows(made), created, changed)
        except UniqueViolation as error:
            if error.diag.constraint_name != _KEY_OF_BOOKINGS:
                raise
            # Two requests with one Idempotency-Key, whose row was lost, are decided at the same time. The batch is
            # tried again, and then the second request is refused.
            raise SerializationFailure("another room's worker has made a booking of this batch") from error

    def _noted_code(self, state: State, after: State) -> State:
        """Note a code and its use as they are after an event; return the new state."""
        code, use, account_uses = after.code, after.code_use, state.account_uses
        if code is not None:
            self._codes[code.id] = code
            self._changed_codes.add(code.id)
        if use is not None:
            self._uses[use.code_id, use.booking_id] = use
            self._changed_uses.add((use.code_id, use.booking_id))
            if use.user_id is not None:
                key = (use.code_id, use.user_id)
                account_uses = self._account_uses[key] = self._account_uses.get(key, 0) + (-1 if use.returned else 1)
        return msgspec.structs.replace(
            state, code=code or state.code, code_use=use or state.code_use, account_uses=account_uses
        )

    def _noted_document(self, state: State, after: State, time: datetime) -> State:
        """Note a document that was issued, and the one that it corrects; return the new state."""
        document, corrected = after.document, after.corrected
        assert document is not None
        self._keep_document(document)
        self._issued[document.id] = time
        self._last_numbers[document.hotel_id, document.kind] = document.number
        if corrected is not None:
            self._keep_document(corrected)
            self._credited.add(corrected.id)
        return msgspec.structs.replace(
            state,
            document=document,
            corrected=corrected,
            last_numbers={**state.last_numbers, document.kind: document.number},
            documents=self._documents_of_booking(document.booking_id),
        )

    def _keep_document(self, document: Document) -> None:
        self._documents[document.id] = document
        self._documents_of.setdefault(document.booking_id, set()).add(document.id)

    async def _write_codes(self, connection: AsyncConnection) -> None:
        if self._changed_codes:
            codes = [self._codes[id] for id in self._changed_codes]
            await self._ledger.save_codes(
                connection,
                [
                    (code.id, code.hotel_id, code.terms.version, Jsonb(code.terms, dumps=_encode), code.used_count)
                    for code in codes
                ],
            )
        if self._changed_uses:
            uses = [self._uses[key] for key in self._changed_uses]
            await self._ledger.save_uses(
                connection, [(use.code_id, use.booking_id, use.user_id, use.returned) for use in uses]
            )

    async def _write_documents(self, connection: AsyncConnection) -> None:
        if self._issued:
            rows = []
            for id, time in self._issued.items():
                row = msgspec.structs.asdict(self._documents[id])
                row["lines"] = Jsonb(row["lines"], dumps=_encode)
                rows.append((*(row[name] for name in documents.DOCUMENT_COLUMNS), time))
            await self._ledger.add_documents(connection, rows)
        if credited := self._credited - self._issued.keys():
            await self._ledger.credit_invoices(
                connection, [(id, self._documents[id].credited_minor) for id in credited]
            )

    def _sale_terms_rows(self) -> list[tuple[int, int, Jsonb]]:
        rows = []
        for room_id in self._changed_terms:
            terms = self._terms[room_id]
            assert terms is not None
            rows.append((room_id, terms.version, Jsonb(terms, dumps=_encode)))
        return rows

    def _block_rows(self) -> list[sale_terms.BlockRow]:
        return [
            (
                block.room_id,
                block.id,
                block.first_night,
                block.end_night,
                block.rooms_count,
                block.reason.value,
                block.released,
            )
            for block in map(self._blocks.__getitem__, self._changed_blocks)
        ]

    def _note_booking(self, booking: Booking, event: Event, time: datetime) -> None:
        entry = self._bookings.get(booking.id)
        if entry is None:
            entry = self._bookings[booking.id] = _BookingEntry(booking, made_at=time)
        elif entry.booking is booking:
            return
        entry.booking, entry.changed_at = booking, time
        kind = type(event)
        if kind in _CHANGING_STAYS or booking.pending_change is not None or booking.legs:
            entry.has_changed_stay = True
        if kind in _NAMING_GUESTS:
            assert isinstance(event, GuestsAdded | GuestsChanged)
            self._guests[booking.id] = event.guest_ids

    def _night_rows(self, keys: Iterable[NightKey]) -> list[inventory.NightRow]:
        rows = []
        for room_id, day in keys:
            night = self._nights[room_id, day]
            assert night is not None
            rows.append((room_id, day, *msgspec.structs.astuple(night)))
        return rows


def _booking_rows(entries: Iterable[_BookingEntry]) -> list[bookings.BookingRow]:
    return [row_of(entry.booking) for entry in entries]
