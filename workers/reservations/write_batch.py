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
from psycopg.types.json import Jsonb

from storage import bookings, documents, inventory, promo_codes, sale_terms
from storage.sale_terms import BlockKey
from topics.messages.events import (
    BookingEvent,
    ChangeEnded,
    ChangeHeld,
    ChangeRejected,
    DocumentIssued,
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
_CHANGING_STAYS: Final = (ChangeHeld, ChangeEnded, ChangeRejected, StayChanged)

_encode: Final = msgspec.json.Encoder().encode

T = TypeVar("T")

NightKey: TypeAlias = tuple[int, date]
"""A room's id and a night."""
UseKey: TypeAlias = tuple[int, UUID]
"""The ids of a promo code and of the booking that uses it."""
Series: TypeAlias = tuple[int, DocumentKind]
"""A hotel's id and a kind of documents, which are numbered together."""


class WriteBatch:
    """Bookings and nights in memory between one read and one write of the ledger, each in a few bulk statements.

    The caller holds the fence of every room in the batch, so nobody else changes these rows meanwhile.
    """

    def __init__(self, nights: dict[NightKey, Night | None], terms: dict[int, SaleTerms | None] | None = None) -> None:
        """Begin without bookings.

        Args:
            nights: kept by the caller from batch to batch and updated here; None: the night is not open.
            terms: likewise the sale terms of rooms; None: the room has none.
        """
        self._nights = nights
        self._terms: dict[int, SaleTerms | None] = {} if terms is None else terms
        self._blocks: dict[BlockKey, Block] = {}
        self._changed_terms: set[int] = set()
        self._changed_blocks: set[BlockKey] = set()
        self._bookings: dict[UUID, Booking] = {}
        self._created: dict[UUID, datetime] = {}
        self._updated: dict[UUID, datetime] = {}
        self._guests: dict[UUID, Sequence[int]] = {}
        self._changed_stays: set[UUID] = set()
        self._codes: dict[int, Code] = {}
        self._uses: dict[UseKey, CodeUse] = {}
        self._account_uses: dict[tuple[int, int], int] = {}
        self._changed_codes: set[int] = set()
        self._changed_uses: set[UseKey] = set()
        self._documents: dict[UUID, Document] = {}
        self._documents_of: dict[UUID | None, set[UUID]] = {}
        self._last_numbers: dict[Series, int] = {}
        self._issued: dict[UUID, tuple[DocumentIssued, datetime]] = {}
        self._credited: set[UUID] = set()
        self._opened: set[NightKey] = set()
        self._counted: set[NightKey] = set()
        self._managed: set[NightKey] = set()

    async def load_bookings(self, connection: AsyncConnection, ids: Iterable[UUID]) -> None:
        """Read the bookings that exist among `ids`."""
        for row in await bookings.load_bookings(connection, ids):
            booking = booking_of(row)
            self._bookings[booking.id] = booking

    async def load_nights(self, connection: AsyncConnection, keys: Iterable[NightKey]) -> None:
        """Read the nights that were not read before."""
        wanted = set(keys) - self._nights.keys()
        if wanted:
            self._nights.update(dict.fromkeys(wanted))
            for row in await inventory.load_nights(connection, wanted):
                # A row is its key, and then the fields of a night in their order.
                self._nights[row[0], row[1]] = Night(*row[2:])

    async def load_sale_terms(self, connection: AsyncConnection, room_ids: Iterable[int]) -> None:
        """Read the sale terms of rooms that were not read before."""
        wanted = set(room_ids) - self._terms.keys()
        if wanted:
            self._terms.update(dict.fromkeys(wanted))
            for room_id, terms in await sale_terms.load_sale_terms(connection, wanted):
                self._terms[room_id] = msgspec.convert(terms, SaleTerms)

    async def load_blocks(self, connection: AsyncConnection, keys: Iterable[BlockKey]) -> None:
        """Read the blocks that exist among `keys`."""
        wanted = set(keys)
        if wanted:
            for row in await sale_terms.load_blocks(connection, wanted):
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
        for id, hotel_id, _, terms, used_count in await promo_codes.load_codes(connection, {id for id, _ in wanted}):
            self._codes[id] = Code(
                id=id, hotel_id=hotel_id, terms=msgspec.convert(terms, CodeTerms), used_count=used_count
            )
        for code_id, booking_id, user_id, returned in await promo_codes.load_uses(connection, wanted):
            use = CodeUse(code_id=code_id, booking_id=booking_id, user_id=user_id, returned=returned)
            self._uses[code_id, booking_id] = use
        if counted:
            for code_id, user_id, count in await promo_codes.count_uses(connection, counted):
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
            for row in await documents.load_documents(connection, wanted, set(booking_ids)):
                fields: dict[str, Any] = dict(zip(documents.DOCUMENT_COLUMNS, row, strict=True))
                document = Document(**{**fields, "kind": DocumentKind(fields["kind"])})
                self._keep_document(document)
        if numbered:
            rows = await documents.last_numbers(connection, [(hotel_id, kind.value) for hotel_id, kind in numbered])
            self._last_numbers.update({(hotel_id, DocumentKind(kind)): number for hotel_id, kind, number in rows})

    def code_state(self, key: UseKey, user_id: int | None) -> State:
        """Return a promo code, its use by a booking, and the number of its uses by an account."""
        uses = 0 if user_id is None else self._account_uses.get((key[0], user_id), 0)
        return State(None, {}, code=self._codes.get(key[0]), code_use=self._uses.get(key), account_uses=uses)

    def document_state(
        self, series: Series, id: UUID, corrects_id: UUID | None, booking_id: UUID | None = None
    ) -> State:
        """Return a document, the one that its command names, its series' newest number, and open invoices.

        `booking_id` is needed for decisions alone: those are the invoices of this booking, in their order.
        """
        of_booking = map(self._documents.__getitem__, self._documents_of.get(booking_id, ()))
        invoices = (each for each in of_booking if each.kind is DocumentKind.INVOICE and each.left_minor)
        return State(
            None,
            {},
            document=self._documents.get(id),
            corrected=None if corrects_id is None else self._documents.get(corrects_id),
            last_number=self._last_numbers.get(series, 0),
            open_invoices=tuple(sorted(invoices, key=lambda each: each.number)),
        )

    def terms_of(self, room_id: int) -> SaleTerms | None:
        """Return the sale terms of a room after the events so far; None: it has none, or they were not loaded."""
        return self._terms.get(room_id)

    def block(self, key: BlockKey) -> Block | None:
        """Return a block after the events so far; None: there is none, or it was not loaded."""
        return self._blocks.get(key)

    def booking(self, id: UUID) -> Booking | None:
        """Return a booking after the events so far; None: there is none, or it was not loaded."""
        return self._bookings.get(id)

    def state(self, booking_id: UUID | None, keys: Iterable[NightKey]) -> State:
        """Return a booking and the open ones of some nights, all of one room, after the events so far."""
        known = self._nights
        nights = {key[1]: night for key in keys if (night := known.get(key)) is not None}
        return State(None if booking_id is None else self._bookings.get(booking_id), nights)

    def apply(self, state: State, event: Event, time: datetime) -> State:
        """Apply an event to a state of this batch, note its changes as of `time` (UTC), and return the new state.

        Raises:
            workers.decisions.states.IllegalTransition: the event cannot have happened in this state.
            KeyError: the event changes a night that was never opened.
        """
        after = evolve(state, event)
        booking = after.booking
        if booking is not None and booking is not self._bookings.get(booking.id):
            self._note_booking(booking, event, time)
        if after.code is not None or after.code_use is not None:
            return self._noted_code(state, after)
        if after.document is not None:
            return self._noted_document(state, after, event, time)
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
        changed = [id for id in self._updated if id not in self._created]
        if self._created:
            await bookings.add_bookings(
                connection,
                self._booking_rows(self._created),
                list(self._created.values()),
                updated=[self._updated[id] for id in self._created],
            )
        if self._opened:
            await inventory.add_nights(connection, self._night_rows(self._opened))
        async with connection.pipeline():
            if changed:
                times = [self._updated[id] for id in changed]
                await bookings.change_bookings(connection, self._booking_rows(changed), times)
            if changed_stays := self._changed_stays - self._created.keys():
                await bookings.change_stays(connection, self._booking_rows(changed_stays))
            if self._guests:
                await bookings.name_guests(connection, self._guests)
            if counted := self._counted - self._opened - self._managed:
                await inventory.count_nights(connection, self._night_rows(counted))
            if managed := self._managed - self._opened:
                await inventory.change_nights(connection, self._night_rows(managed))
            if self._changed_terms:
                await sale_terms.save_sale_terms(connection, self._sale_terms_rows())
            if self._changed_blocks:
                await sale_terms.save_blocks(connection, self._block_rows())
            await self._write_codes(connection)
            await self._write_documents(connection)

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

    def _noted_document(self, state: State, after: State, event: Event, time: datetime) -> State:
        """Note a document that was issued, and the invoice that it corrects; return the new state."""
        document, corrected = after.document, after.corrected
        assert document is not None
        assert isinstance(event, DocumentIssued)
        self._keep_document(document)
        self._issued[document.id] = (event, time)
        self._last_numbers[document.hotel_id, document.kind] = document.number
        if corrected is not None:
            self._keep_document(corrected)
            self._credited.add(corrected.id)
        return msgspec.structs.replace(state, document=document, corrected=corrected, last_number=document.number)

    def _keep_document(self, document: Document) -> None:
        self._documents[document.id] = document
        self._documents_of.setdefault(document.booking_id, set()).add(document.id)

    async def _write_codes(self, connection: AsyncConnection) -> None:
        if self._changed_codes:
            codes = [self._codes[id] for id in self._changed_codes]
            await promo_codes.save_codes(
                connection,
                [
                    (code.id, code.hotel_id, code.terms.version, Jsonb(code.terms, dumps=_encode), code.used_count)
                    for code in codes
                ],
            )
        if self._changed_uses:
            uses = [self._uses[key] for key in self._changed_uses]
            await promo_codes.save_uses(
                connection, [(use.code_id, use.booking_id, use.user_id, use.returned) for use in uses]
            )

    async def _write_documents(self, connection: AsyncConnection) -> None:
        if self._issued:
            rows = []
            for id, (event, time) in self._issued.items():
                row = msgspec.structs.asdict(self._documents[id])
                columns = [row[name] for name in documents.DOCUMENT_COLUMNS]
                rows.append((*columns, event.reason.value, Jsonb(event.lines, dumps=_encode), time))
            await documents.add_documents(connection, rows)
        if credited := self._credited - self._issued.keys():
            await documents.credit_invoices(connection, [(id, self._documents[id].credited_minor) for id in credited])

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
        id = booking.id
        if id not in self._bookings:
            self._created[id] = time
        self._updated[id] = time
        self._bookings[id] = booking
        if isinstance(event, _CHANGING_STAYS) or booking.pending_change is not None or booking.legs:
            self._changed_stays.add(id)
        if isinstance(event, GuestsAdded | GuestsChanged):
            self._guests[id] = event.guest_ids

    def _booking_rows(self, ids: Iterable[UUID]) -> list[bookings.BookingRow]:
        return [row_of(self._bookings[id]) for id in ids]

    def _night_rows(self, keys: Iterable[NightKey]) -> list[inventory.NightRow]:
        rows = []
        for room_id, day in keys:
            night = self._nights[room_id, day]
            assert night is not None
            rows.append((room_id, day, *msgspec.structs.astuple(night)))
        return rows
