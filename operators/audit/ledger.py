"""Reads the ledger's tables in one snapshot, and checks them against each other."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import dict_row

from operators.audit.read_models import ReadModels, lock_tables, read_models
from operators.audit.report import Check, Report
from storage.database import connect
from storage.settings import DatabaseSettings

#: The id of the refund of a payment in full that 0.1.0 recorded without its id.
UNKNOWN_REFUND: Final = ""


class LedgerNight(NamedTuple):
    """One row of `inventory`."""

    hotel_id: int
    total_count: int
    booked_count: int
    reserved_count: int
    price_minor: int
    surge_milli: int
    closed: bool
    currency: str
    allowance_count: int
    blocked_count: int


class LedgerBlock(NamedTuple):
    """One row of `room_block`."""

    first_night: str
    end_night: str
    rooms_count: int
    reason: str
    released: bool


class LedgerTerms(NamedTuple):
    """One row of `room_sale_terms`."""

    version: int
    terms: dict[str, Any]


class LedgerChange(NamedTuple):
    """A change of a stay that is not paid, in the column `pending_change` of `booking`; `held` are its rooms.

    `is_open`: another room, `to_room_id`, decides it.
    """

    id: str
    stay: dict[str, Any]
    extra_minor: int
    held: list[dict[str, Any]]
    attempt: int
    to_room_id: int | None
    is_open: bool


class LedgerCode(NamedTuple):
    """One row of `promo_code` with its uses: the account and whether it was given back, by booking."""

    hotel_id: int
    version: int
    terms: dict[str, Any]
    used_count: int
    uses: dict[str, tuple[int | None, bool]]


class LedgerDocument(NamedTuple):
    """One row of `hotel_document`; `issued_at` is in milliseconds since 1970."""

    hotel_id: int
    kind: str
    number: int
    reason: str
    booking_id: str
    amount_minor: int
    currency: str
    lines: list[dict[str, Any]]
    corrects_id: str | None
    credited_minor: int
    booking_version: int
    issued_at: int


class LedgerPayment(NamedTuple):
    """A payment in the column `payments` of `booking`; amounts in minor units.

    `policy` is kept of it by the booking's policy, and `retained` is what is left of that. `refunds`: (amount, whether
    a person made it by hand) by the refund's id. `failed` has the ids of refunds that failed. `disputes`: (amount,
    state) by the dispute's id.
    """

    amount: int
    state: str
    due: int
    closed: int
    retained: int
    policy: int
    refunds: dict[str, tuple[int, bool]]
    failed: tuple[str, ...]
    disputes: dict[str, tuple[int, str]]


class LedgerBooking(NamedTuple):
    """One row of `booking` with its guests, without the columns that no event determines.

    `hold_expires_at` is in milliseconds since 1970. `payments` has the payments by payment intent. `earlier_stays` are
    the ids of changes, each with the stay before it, and `ended_changes` those of changes without effect.
    """

    room_id: int
    hotel_id: int
    user_id: int | None
    check_in: str
    check_out: str
    rooms_count: int
    terms: str
    status: str
    amount_minor: int
    currency: str
    rejection: str | None
    hold_expires_at: int | None
    payment_attempt: int
    session_id: str | None
    cancel_reason: str | None
    guest_list_id: str | None
    earlier_guest_list_ids: tuple[str, ...]
    night_amounts: tuple[int, ...]
    stay_times: dict[str, str] | None
    freed_from: str | None
    sale: dict[str, Any] | None
    policy: dict[str, Any] | None
    pending_change: LedgerChange | None
    earlier_stays: tuple[tuple[str, dict[str, Any]], ...]
    ended_changes: tuple[str, ...]
    accepted_terms: str | None
    legs: tuple[dict[str, Any], ...]
    trip_id: str | None
    trip_room_id: int | None
    request_hash: str | None
    payments: dict[str, LedgerPayment]
    guest_ids: tuple[int, ...]


#: The row of a code that has uses and no row.
_NO_CODE: Final = LedgerCode(0, 0, {}, 0, {})


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The tables in one snapshot. `sequences`: the last event decided, by partition of `booking.commands`.

    `applied` are the offsets of the last commands decided, by partition.
    `blocks` are by room and id, `terms` by room, and `codes` and `documents` by id.
    """

    sequences: dict[int, int]
    applied: dict[int, int]
    bookings: dict[str, LedgerBooking]
    nights: dict[tuple[int, str], LedgerNight]
    blocks: dict[tuple[int, str], LedgerBlock]
    terms: dict[int, LedgerTerms]
    codes: dict[int, LedgerCode]
    documents: dict[str, LedgerDocument]
    read_models: ReadModels


# The generations of a topic continue one sequence, so the highest of them is the last.
_SEQUENCES = """
select partition, max(sequence) from log_cursor
where consumer = 'reservations' and topic = %s group by partition
"""

_APPLIED = """
select distinct on (partition) partition, applied from log_cursor
where consumer = 'reservations' and topic = %s order by partition, generation desc
"""

# An event counts once the broker has all commands that follow from it.
_FOLLOWED = """
select distinct on (partition) partition, sequence from log_cursor
where consumer = 'coordination' and topic = %s and published = applied order by partition, generation desc
"""

_BOOKINGS = """
select id::text, room_id, hotel_id, user_id, check_in::text, check_out::text, rooms_count, terms, status,
       amount_minor, currency, rejection, round(extract(epoch from hold_expires_at) * 1000)::bigint,
       payment_attempt, session_id, cancel_reason, guest_list_id::text, earlier_guest_list_ids,
       night_amounts_minor, stay_times, freed_from::text, sale, policy, pending_change, earlier_stays,
       ended_change_ids, accepted_terms, legs, trip_id::text, trip_room_id, request_hash,
       payments,
       (select coalesce(array_agg(guest_id order by guest_id), '{}') from booking_guest where booking_id = id)
from booking
"""

_NIGHTS = """
select room_id, date::text, hotel_id, total_count, booked_count, reserved_count, price_minor, surge_milli,
       closed, currency, allowance_count, blocked_count
from inventory
"""

_BLOCKS = """
select room_id, id::text, first_night::text, end_night::text, rooms_count, reason, released from room_block
"""

_TERMS = "select room_id, version, terms from room_sale_terms"

_CODES = "select id, hotel_id, version, terms, used_count from promo_code"
_CODE_USES = "select code_id, booking_id::text, user_id, returned from promo_code_use"

_DOCUMENTS = """
select id::text, hotel_id, kind, number, reason, booking_id::text, amount_minor, currency, lines, corrects_id::text,
       credited_minor, booking_version, round(extract(epoch from issued_at) * 1000)::bigint
from hotel_document
"""

# Every night of every stay that takes rooms, summed, beside what the inventory counts. A stay that ended early keeps
# the nights before the first that is on sale again. A change that is not paid holds rooms beside those of its stay.
# A trip has no rooms: its legs have them.
_DIFFERENT_SUMS = """
with stay as (
    select room_id, status in ('RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING') as is_unpaid, rooms_count, check_in,
           case when status in ('CANCELLED', 'CHECKED_OUT', 'NO_SHOW') then least(freed_from, check_out)
                else check_out end as check_out
    from booking
    where legs is null
      and (status in ('RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING')
           or status in ('CONFIRMED', 'CHECKED_IN', 'CHECKED_OUT', 'NO_SHOW')
           or status = 'CANCELLED' and freed_from > check_in)
    union all
    select room_id, true, (held ->> 'rooms_count')::int, (held ->> 'first_night')::date,
           (held ->> 'end_night')::date
    from booking cross join lateral jsonb_array_elements(pending_change -> 'held') as held
), taken as (
    select room_id, check_in + night as date,
           sum(rooms_count) filter (where not is_unpaid) as booked,
           sum(rooms_count) filter (where is_unpaid) as reserved
    from stay cross join lateral generate_series(0, check_out - check_in - 1) as night
    group by 1, 2
)
select room_id, date::text as date, inventory.room_id is not null as open, booked_count, reserved_count,
       coalesce(booked, 0) as booked, coalesce(reserved, 0) as reserved
from inventory full join taken using (room_id, date)
where (booked_count, reserved_count) is distinct from (coalesce(booked, 0), coalesce(reserved, 0))
order by room_id, date
"""

_DIFFERENT_BLOCKS = """
with blocked as (
    select room_id, first_night + night as date, sum(rooms_count) as blocked
    from room_block cross join lateral generate_series(0, end_night - first_night - 1) as night
    where not released group by 1, 2
)
select room_id, date::text as date, coalesce(blocked_count, 0) as blocked_count, coalesce(blocked, 0) as blocked
from inventory full join blocked using (room_id, date)
where coalesce(blocked_count, 0) <> coalesce(blocked, 0)
order by room_id, date
"""

_OVERSOLD = """
select room_id, date::text as date, booked_count, reserved_count, blocked_count,
       total_count + allowance_count as limit_count
from inventory
where least(booked_count, reserved_count, blocked_count, allowance_count) < 0
   or booked_count + reserved_count + blocked_count > total_count + allowance_count
order by room_id, date
"""

_OVERDUE = """
select id::text as id, room_id, status, extract(epoch from now() - hold_expires_at)::bigint as overdue_seconds
from booking
where status in ('RESERVING', 'RESERVED', 'GUESTS_ADDED', 'PAYMENTS_PENDING', 'CONFIRMED')
  and hold_expires_at < now() - interval '10 seconds'
order by hold_expires_at
"""


# An erasure of a guest would blank the list and keep its row. Legs have the list of their trip.
_GUEST_LISTS = """
select booking.id::text as id, room_id, guest_list_id::text as list, guest_list.booking_id::text as other,
       guest_list.id is null as missing,
       guest_list.booking_id not in (booking.id, coalesce(booking.trip_id, booking.id)) as of_another
from booking left join guest_list on guest_list.id = booking.guest_list_id
where guest_list_id is not null
  and (guest_list.id is null or guest_list.booking_id not in (booking.id, coalesce(booking.trip_id, booking.id))
       or guest_list.guests is null and guest_list.erased_at is null)
order by booking.id
"""


async def read_ledger(database: DatabaseSettings, commands: str, events: str, report: Report, *, holds: bool) -> Ledger:
    """Return the tables in one snapshot, and report where they contradict each other."""
    async with await connect(database, "innkeeper audit", autocommit=False) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        await lock_tables(connection)
        ledger = Ledger(
            sequences=await _sequences(connection, commands),
            applied=dict(await (await connection.execute(_APPLIED, [commands])).fetchall()),
            bookings=await _bookings(connection),
            nights=await _nights(connection),
            blocks=await _blocks(connection),
            terms=await _terms(connection),
            codes=await _codes(connection),
            documents=await _documents(connection),
            read_models=await read_models(connection, events),
        )
        await _report_sums(connection, report)
        await _report_oversold(connection, report)
        await _report_guest_lists(connection, report)
        if holds:
            await _report_overdue(connection, report)
    return ledger


async def decided_sequences(database: DatabaseSettings, commands: str) -> dict[int, int]:
    """Return, by partition, the sequence of the last event that the ledger has decided by now."""
    async with await connect(database, "innkeeper audit") as connection:
        return await _sequences(connection, commands)


async def followed_sequences(database: DatabaseSettings, events: str) -> dict[int, int]:
    """Return, by partition of `events`, the last event of which all commands of coordination are on the log."""
    async with await connect(database, "innkeeper audit") as connection:
        return dict(await (await connection.execute(_FOLLOWED, [events])).fetchall())


async def _sequences(connection: psycopg.AsyncConnection[Any], commands: str) -> dict[int, int]:
    cursor = await connection.execute(_SEQUENCES, [commands])
    return {partition: sequence async for partition, sequence in cursor}


async def _bookings(connection: psycopg.AsyncConnection[Any]) -> dict[str, LedgerBooking]:
    cursor = await connection.execute(_BOOKINGS)
    return {row[0]: _booking(*row[1:]) async for row in cursor}


def _booking(*columns: Any) -> LedgerBooking:
    *others, earlier_lists, night_amounts, stay_times, freed_from, sale, policy, change, earlier_stays = columns[:-8]
    ended_changes, accepted_terms, legs, trip_id, trip_room_id, request_hash, payments, guest_ids = columns[-8:]
    return LedgerBooking._make(
        (
            *others,
            tuple(earlier_lists or ()),
            tuple(night_amounts or ()),
            stay_times,
            freed_from,
            sale,
            policy,
            None if change is None else _change(change),
            tuple((each["change_id"], each["stay"]) for each in earlier_stays or ()),
            tuple(ended_changes or ()),
            accepted_terms,
            tuple(legs or ()),
            trip_id,
            trip_room_id,
            request_hash,
            _payments(payments),
            tuple(guest_ids),
        )
    )


def _change(column: dict[str, Any]) -> LedgerChange:
    held, attempt = column.get("held", []), column.get("attempt", 0)
    to_room_id, is_open = column.get("to_room_id"), column.get("is_open", False)
    return LedgerChange(column["id"], column["stay"], column["extra_minor"], held, attempt, to_room_id, is_open)


def _payments(column: list[dict[str, Any]] | None) -> dict[str, LedgerPayment]:
    return {paid["payment_intent"]: _payment(paid) for paid in column or ()}


def _payment(paid: dict[str, Any]) -> LedgerPayment:
    """Return a payment; where 0.1.0 wrote it, its sums follow from its state: all of it is due, or all went back."""
    amount, state = paid["amount_minor"], paid["state"]
    refunds = {id: (minor, by_hand) for id, minor, by_hand in paid.get("refunds", ())}
    due, closed, disputes = paid.get("due_minor", 0), paid.get("closed_minor", 0), paid.get("disputes", ())
    retained, policy = paid.get("retained_minor", 0), paid.get("policy_minor", 0)
    has_sums = bool(refunds or due or closed or policy or disputes)
    if not has_sums and state == "refund_requested":
        due = amount
    if not has_sums and state == "refunded":
        refunds = {UNKNOWN_REFUND: (amount, False)}
    return LedgerPayment(
        amount=amount,
        state=state,
        due=due,
        closed=closed,
        retained=retained,
        policy=policy,
        refunds=refunds,
        failed=tuple(paid.get("failed_refund_ids", ())),
        disputes={id: (minor, dispute) for id, minor, dispute in disputes},
    )


async def _nights(connection: psycopg.AsyncConnection[Any]) -> dict[tuple[int, str], LedgerNight]:
    cursor = await connection.execute(_NIGHTS)
    return {(row[0], row[1]): LedgerNight(*row[2:]) async for row in cursor}


async def _blocks(connection: psycopg.AsyncConnection[Any]) -> dict[tuple[int, str], LedgerBlock]:
    cursor = await connection.execute(_BLOCKS)
    return {(row[0], row[1]): LedgerBlock(*row[2:]) async for row in cursor}


async def _terms(connection: psycopg.AsyncConnection[Any]) -> dict[int, LedgerTerms]:
    cursor = await connection.execute(_TERMS)
    return {room_id: LedgerTerms(version, terms) async for room_id, version, terms in cursor}


async def _codes(connection: psycopg.AsyncConnection[Any]) -> dict[int, LedgerCode]:
    codes = {row[0]: LedgerCode(row[1], row[2], row[3], row[4], {}) async for row in await connection.execute(_CODES)}
    async for code_id, booking_id, user_id, returned in await connection.execute(_CODE_USES):
        codes.setdefault(code_id, _NO_CODE._replace(uses={})).uses[booking_id] = (user_id, returned)
    return codes


async def _documents(connection: psycopg.AsyncConnection[Any]) -> dict[str, LedgerDocument]:
    return {row[0]: LedgerDocument(*row[1:]) async for row in await connection.execute(_DOCUMENTS)}


async def _report_sums(connection: psycopg.AsyncConnection[Any], report: Report) -> None:
    for row in await _rows(connection, _DIFFERENT_SUMS):
        night = f"room {row['room_id']}, night {row['date']}"
        sums = f"bookings sum to {row['booked']} booked and {row['reserved']} reserved"
        if row["open"]:
            counts = f"{row['booked_count']} booked and {row['reserved_count']} reserved"
            report.add(Check.COUNTS_MATCH_BOOKINGS, f"{night}: inventory counts {counts}, {sums}")
        else:
            report.add(Check.COUNTS_MATCH_BOOKINGS, f"{night}: not in the inventory, {sums}")
    for row in await _rows(connection, _DIFFERENT_BLOCKS):
        report.add(
            Check.COUNTS_MATCH_BOOKINGS,
            f"room {row['room_id']}, night {row['date']}: inventory counts {row['blocked_count']} blocked, "
            f"blocks sum to {row['blocked']}",
        )


async def _report_oversold(connection: psycopg.AsyncConnection[Any], report: Report) -> None:
    for row in await _rows(connection, _OVERSOLD):
        report.add(
            Check.NO_OVERSOLD_NIGHT,
            f"room {row['room_id']}, night {row['date']}: the inventory counts {row['booked_count']} booked, "
            f"{row['reserved_count']} reserved and {row['blocked_count']} blocked of {row['limit_count']}",
        )


async def _report_guest_lists(connection: psycopg.AsyncConnection[Any], report: Report) -> None:
    for row in await _rows(connection, _GUEST_LISTS):
        if row["missing"]:
            problem = f"its guest list {row['list']} is not stored"
        elif row["of_another"]:
            problem = f"its guest list {row['list']} is that of booking {row['other']}"
        else:
            problem = f"its guest list {row['list']} is blank, and was not erased"
        report.add(Check.GUEST_LISTS_ARE_STORED, f"booking {row['id']} of room {row['room_id']}: {problem}")


async def _report_overdue(connection: psycopg.AsyncConnection[Any], report: Report) -> None:
    for row in await _rows(connection, _OVERDUE):
        report.add(
            Check.HOLDS_END_ON_TIME,
            f"booking {row['id']} of room {row['room_id']}: {row['status']} and its hold is overdue "
            f"by {row['overdue_seconds']} s",
        )


async def _rows(connection: psycopg.AsyncConnection[Any], query: str) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()
