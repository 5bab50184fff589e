"""The read model of every night of every room: its price, its taken and blocked rooms, and each hotel's lowest price.

The changes of a batch of events to a night are added up first, and written once. Only the worker to which a room's
partition is assigned writes the room's nights. Every worker that changed a room of a hotel writes the hotel's lowest
prices, one worker after the other.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from pricing.charges import step_minor
from pricing.stays import NO_SURGE_MILLI, night_price_minor
from storage.projections import night_changes
from storage.projections.first_stay import FIRST_STAY
from storage.projections.night_changes import ChangedNights
from storage.projections.positioned_event import PositionedEvent
from topics.messages.events import (
    BlockReleased,
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    Event,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    InventoryChanged,
    InventoryOpened,
    NightsBlocked,
    StayChanged,
)
from topics.messages.values import nights_of


class NightNotOpened(Exception):
    """An event changes a night that no earlier event opened: the log lacks events."""


class StayNotInLedger(Exception):
    """An event ends or renews a stay that the ledger does not have: log and ledger do not belong together."""


class NightsEvent(NamedTuple):
    """An event that may change nights. `position` is its sequence in its partition."""

    event: Event
    partition: int
    position: int


class _Stay(NamedTuple):
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int


class _Stays(NamedTuple):
    """A booking's stay before any change of it, and its present one; None: a leg has it, in another room."""

    first: _Stay
    present: _Stay | None


async def apply(connection: AsyncConnection, events: Sequence[PositionedEvent]) -> None:
    """Apply events to the nights they name, as `apply_to_nights` does. A room's events are all in one partition."""
    await apply_to_nights(connection, [NightsEvent(each.event, each.partition, each.sequence) for each in events])


async def apply_to_nights(connection: AsyncConnection, events: Iterable[NightsEvent]) -> None:
    """Apply events to the nights they name, in their order, in the caller's transaction (read committed).

    Raises:
        NightNotOpened: an event changes an unknown night.
        StayNotInLedger: an event ends a stay that the ledger does not have.
    """
    applied = [each for each in events if type(each.event) in _APPLY]
    stays = await _stays(connection, applied)
    changes: _Changes = {}
    changed_nights: list[ChangedNights] = []
    for event, partition, position in applied:
        if isinstance(event, BookingEvent) and _needs_stay(event) and event.booking_id not in stays:
            # A trip has no nights: its legs have them.
            continue
        nights = _APPLY[type(event)](changes, event, stays)
        if nights:
            changed_nights.append(ChangedNights(partition, position, event.key, min(nights), max(nights) + _ONE_DAY))
    if not changes:
        return
    await night_changes.add(connection, changed_nights)
    await _write_opened(connection, {key: change for key, change in changes.items() if change.opened is not None})
    before = {key: change for key, change in changes.items() if change.opened is None}
    await _write_changed(connection, {key: change for key, change in before.items() if change.by_the_hotel})
    await _write_taken(connection, {key: change for key, change in before.items() if not change.by_the_hotel})
    await _refresh_prices(connection, sorted(key for key, change in changes.items() if change.of_a_price))


_ONE_DAY: Final = timedelta(days=1)


# The changes of a batch to each night.

_Key = tuple[int, date]


@dataclass(slots=True)
class _Change:
    """The changes to one night; None where a value stays. Opening a night replaces the row that was there."""

    opened: InventoryOpened | None = None
    taken: int = 0
    blocked: int = 0
    total_count: int | None = None
    allowance_count: int | None = None
    price_minor: int | None = None
    surge_milli: int | None = None
    closed: bool | None = None

    @property
    def of_a_price(self) -> bool:
        return self.price_minor is not None or self.surge_milli is not None or self.closed is not None

    @property
    def by_the_hotel(self) -> bool:
        return self.of_a_price or self.blocked != 0 or self.total_count is not None or self.allowance_count is not None


_Changes = dict[_Key, _Change]
_StaysById = Mapping[UUID, _Stays]


def _open_nights(changes: _Changes, event: Any, _: _StaysById) -> Sequence[date]:
    nights = nights_of(event.first_night, event.end_night)
    for night in nights:
        changes[event.room_id, night] = _Change(
            opened=event,
            total_count=event.total_count,
            allowance_count=0,
            price_minor=event.price_minor,
            surge_milli=NO_SURGE_MILLI,
            closed=False,
        )
    return nights


def _change_nights(changes: _Changes, event: Any, _: _StaysById) -> Sequence[date]:
    values = {
        name: value
        for name in ("total_count", "allowance_count", "price_minor", "surge_milli", "closed")
        if (value := getattr(event, name)) is not None
    }
    for night in event.nights:
        change = _change_of(changes, (event.room_id, night))
        for name, value in values.items():
            setattr(change, name, value)
    nights: Sequence[date] = event.nights
    return nights


def _take_reserved(changes: _Changes, event: Any, _: _StaysById) -> Sequence[date]:
    return _take(changes, _Stay(event.room_id, event.check_in, event.check_out, event.rooms_count), 1)


def _give_back(changes: _Changes, event: Any, stays: _StaysById) -> Sequence[date]:
    # A hold ends before the stay can be changed.
    return _take(changes, stays[event.booking_id].first, -1)


def _give_back_cancelled(changes: _Changes, event: BookingCancelled, stays: _StaysById) -> Sequence[date]:
    return _free_from(changes, stays[event.booking_id].present, event.freed_from)


def _give_back_unused(changes: _Changes, event: Any, stays: _StaysById) -> Sequence[date]:
    return () if event.freed_from is None else _free_from(changes, stays[event.booking_id].present, event.freed_from)


def _free_from(changes: _Changes, stay: _Stay | None, freed_from: date | None) -> Sequence[date]:
    if stay is None:
        return ()
    # The nights before `freed_from` are past: they stay taken, as the ledger has them booked.
    if freed_from is not None:
        stay = stay._replace(check_in=max(stay.check_in, freed_from))
    return _take(changes, stay, -1)


def _block(changes: _Changes, event: Any, _: _StaysById) -> Sequence[date]:
    return _add_blocked(changes, event, 1)


def _release(changes: _Changes, event: Any, _: _StaysById) -> Sequence[date]:
    return _add_blocked(changes, event, -1)


def _add_blocked(changes: _Changes, event: NightsBlocked | BlockReleased, sign: int) -> Sequence[date]:
    nights = nights_of(event.first_night, event.end_night)
    for night in nights:
        _change_of(changes, (event.room_id, night)).blocked += sign * event.rooms_count
    return nights


def _take_confirmed(changes: _Changes, event: Any, stays: _StaysById) -> Sequence[date]:
    # A stay confirmed in time was counted when it was reserved; a late one was given back when its hold ended.
    return _take(changes, stays[event.booking_id].first, 1) if event.late else ()


def _hold(changes: _Changes, event: Any, _: _StaysById) -> Sequence[date]:
    return _take_held(changes, event, 1)


def _give_back_held(changes: _Changes, event: Any, _: _StaysById) -> Sequence[date]:
    return _take_held(changes, event, -1)


def _take_held(changes: _Changes, event: ChangeHeld | ChangeEnded | StayChanged, sign: int) -> Sequence[date]:
    stays = (_Stay(event.room_id, held.first_night, held.end_night, held.rooms_count) for held in event.held)
    return [night for stay in stays for night in _take(changes, stay, sign)]


def _change_stay(changes: _Changes, event: StayChanged, _: _StaysById) -> Sequence[date]:
    before = event.before
    given_back = (
        *_take_held(changes, event, -1),
        *_take(changes, _Stay(event.room_id, before.check_in, before.check_out, before.rooms_count), -1),
    )
    if event.to_room_id is not None:
        # The leg took the nights of the other room when it was reserved.
        return given_back
    return (*given_back, *_take(changes, _Stay(event.room_id, event.check_in, event.check_out, event.rooms_count), 1))


def _take(changes: _Changes, stay: _Stay, sign: int) -> Sequence[date]:
    nights = nights_of(stay.check_in, stay.check_out)
    for night in nights:
        _change_of(changes, (stay.room_id, night)).taken += sign * stay.rooms_count
    return nights


def _change_of(changes: _Changes, key: _Key) -> _Change:
    change = changes.get(key)
    if change is None:
        change = changes[key] = _Change()
    return change


#: How each event changes nights; each function returns the nights that it changes.
_APPLY: Final[Mapping[type[Event], Callable[[_Changes, Any, _StaysById], Sequence[date]]]] = {
    InventoryOpened: _open_nights,
    InventoryChanged: _change_nights,
    BookingReserved: _take_reserved,
    BookingCancelled: _give_back_cancelled,
    BookingExpired: _give_back,
    BookingConfirmed: _take_confirmed,
    GuestsCheckedOut: _give_back_unused,
    GuestsDidNotArrive: _give_back_unused,
    NightsBlocked: _block,
    BlockReleased: _release,
    ChangeHeld: _hold,
    StayChanged: _change_stay,
    ChangeEnded: _give_back_held,
}
#: The events that may change nights; `apply` leaves out all others.
EVENTS_APPLIED: Final = tuple(_APPLY)


# A stay is committed before any event about it is published, and the ledger may be ahead of the events.
_STAYS: Final = f"""
select id, legs is not null, earlier_stays is not null, room_id,
       coalesce(first_stay.check_in, booking.check_in), coalesce(first_stay.check_out, booking.check_out),
       coalesce(first_stay.rooms_count, booking.rooms_count), booking.check_in, booking.check_out, booking.rooms_count
from booking {FIRST_STAY} where id = any(%b)
"""  # noqa: S608 - the join is a constant


async def _stays(connection: AsyncConnection, events: Iterable[NightsEvent]) -> _StaysById:
    """Return the stays of events that name only their booking, from the ledger; a trip has none.

    A hold ends, and a late payment arrives, before any change of the stay; the end of a stay comes after all of them.
    So the first stay and the present one are enough, however far the ledger is ahead. A booking that moved to another
    room is a trip in the ledger, and had nights of its own before.
    """
    ids = {each.event.booking_id for each in events if isinstance(each.event, BookingEvent) and _needs_stay(each.event)}
    if not ids:
        return {}
    found = await (await connection.execute(_STAYS, (list(ids),))).fetchall()
    if unknown := ids - {id for id, *_ in found}:
        raise StayNotInLedger(f"not in the ledger: {', '.join(map(str, sorted(unknown)))}")
    return {
        id: _Stays(_Stay(room_id, *fields[:3]), None if has_legs else _Stay(room_id, *fields[3:]))
        for id, has_legs, was_changed, room_id, *fields in found
        if not has_legs or was_changed
    }


def _needs_stay(event: BookingEvent) -> bool:
    if isinstance(event, GuestsCheckedOut | GuestsDidNotArrive):
        return event.freed_from is not None
    return isinstance(event, BookingCancelled | BookingExpired) or (isinstance(event, BookingConfirmed) and event.late)


# Statements. Arrays travel in binary form (%b): encoding them as text costs the worker several times as much.

# A row exists already if the log is read again over existing rows: then a night starts from its opening.
_OPEN_NIGHTS: Final = """
insert into room_night (room_id, date, hotel_id, currency, total_count, allowance_count, taken_count, blocked_count,
                        price_minor, surge_milli, closed)
select * from unnest(%b::bigint[], %b::date[], %b::bigint[], %b::text[],
                     %b::int[], %b::int[], %b::int[], %b::int[], %b::bigint[], %b::int[], %b::bool[])
on conflict (room_id, date) do update
set hotel_id = excluded.hotel_id, currency = excluded.currency, total_count = excluded.total_count,
    allowance_count = excluded.allowance_count, taken_count = excluded.taken_count,
    blocked_count = excluded.blocked_count, price_minor = excluded.price_minor, surge_milli = excluded.surge_milli,
    closed = excluded.closed
"""

_CHANGE_VALUES: Final = """
update room_night as night
set taken_count = night.taken_count + new.taken,
    blocked_count = night.blocked_count + new.blocked,
    total_count = coalesce(new.total_count, night.total_count),
    allowance_count = coalesce(new.allowance_count, night.allowance_count),
    price_minor = coalesce(new.price_minor, night.price_minor),
    surge_milli = coalesce(new.surge_milli, night.surge_milli),
    closed = coalesce(new.closed, night.closed)
from unnest(%b::bigint[], %b::date[], %b::int[], %b::int[], %b::int[], %b::int[], %b::bigint[], %b::int[], %b::bool[])
     as new (room_id, date, taken, blocked, total_count, allowance_count, price_minor, surge_milli, closed)
where night.room_id = new.room_id and night.date = new.date
"""

_PRICE_COLUMNS: Final = ("price_minor", "surge_milli", "closed")

_COUNT_TAKEN: Final = """
update room_night as night
set taken_count = night.taken_count + new.taken
from unnest(%b::bigint[], %b::date[], %b::int[]) as new (room_id, date, taken)
where night.room_id = new.room_id and night.date = new.date
"""


async def _write_opened(connection: AsyncConnection, changes: _Changes) -> None:
    if not changes:
        return
    opened = [change.opened for change in changes.values() if change.opened is not None]
    await connection.execute(
        _OPEN_NIGHTS,
        (
            *_key_columns(changes),
            [event.hotel_id for event in opened],
            [event.currency for event in opened],
            *_columns(changes.values(), "total_count", "allowance_count", "taken", "blocked", *_PRICE_COLUMNS),
        ),
    )


async def _write_changed(connection: AsyncConnection, changes: _Changes) -> None:
    values = _columns(changes.values(), "taken", "blocked", "total_count", "allowance_count", *_PRICE_COLUMNS)
    await _update(connection, _CHANGE_VALUES, changes, values)


async def _write_taken(connection: AsyncConnection, changes: _Changes) -> None:
    await _update(connection, _COUNT_TAKEN, changes, _columns(changes.values(), "taken"))


async def _update(
    connection: AsyncConnection, statement: str, changes: _Changes, values: Sequence[list[object]]
) -> None:
    if not changes:
        return
    updated = await connection.execute(statement.encode(), (*_key_columns(changes), *values))
    if updated.rowcount != len(changes):
        raise NightNotOpened(await _first_unknown(connection, changes))


async def _first_unknown(connection: AsyncConnection, changes: _Changes) -> str:
    room_ids, nights = _key_columns(changes)
    found = await connection.execute(
        "select room_id, date from unnest(%b::bigint[], %b::date[]) as wanted (room_id, date)"
        " where not exists (select from room_night as n where n.room_id = wanted.room_id and n.date = wanted.date)"
        " order by room_id, date",
        (room_ids, nights),
    )
    unknown = await found.fetchall()
    room_id, night = unknown[0]
    return f"{len(unknown)} of {len(changes)} nights were never opened; the first is {night} of room {room_id}"


def _key_columns(keys: Iterable[_Key]) -> tuple[list[int], list[date]]:
    keys = list(keys)
    return [room_id for room_id, _ in keys], [night for _, night in keys]


def _columns(changes: Collection[_Change], *names: str) -> list[list[object]]:
    return [[getattr(change, name) for change in changes] for name in names]


# The lowest price of each hotel's nights.

# The rooms of one hotel are in several partitions, so several workers write them. Each writes its own rooms' prices
# without waiting; then the workers take turns, so that the second sees the commit of the first. Tables that are being
# rebuilt are in a schema of their own, whose lock no worker waits for.
_TAKE_TURNS: Final = """
select pg_advisory_xact_lock(key)
from (select distinct hashtextextended(current_schema() || '.hotel_min_price', hotel_id) as key
      from room_night join unnest(%b::bigint[], %b::date[]) as touched (room_id, date) using (room_id, date)
      order by key) as hotels
"""

# All open nights of the hotels on the changed dates, the rooms in order; one row of nulls where none is open.
_OFFERS: Final = """
select hotel_id, date, night.currency, night.price_minor, night.surge_milli
from (select distinct hotel_id, date
      from room_night join unnest(%b::bigint[], %b::date[]) as changed (room_id, date) using (room_id, date)) as touched
     left join (select * from room_night where not closed) as night using (hotel_id, date)
order by night.room_id
"""

_DELETE_PRICES: Final = """
delete from hotel_min_price as price
using unnest(%b::bigint[], %b::date[]) as closed (hotel_id, date)
where (price.hotel_id, price.date) = (closed.hotel_id, closed.date)
"""

_SAVE_PRICES: Final = """
insert into hotel_min_price (hotel_id, date, min_price_minor, currency)
select * from unnest(%b::bigint[], %b::date[], %b::bigint[], %b::text[])
on conflict (hotel_id, date) do update
set min_price_minor = excluded.min_price_minor, currency = excluded.currency
where (hotel_min_price.min_price_minor, hotel_min_price.currency)
      is distinct from (excluded.min_price_minor, excluded.currency)
"""


async def _refresh_prices(connection: AsyncConnection, nights: Sequence[_Key]) -> None:
    if not nights:
        return
    columns = _key_columns(nights)
    await connection.execute(_TAKE_TURNS, columns)
    # In binary form: as text, a year of a hotel's prices costs several times as much to read.
    async with connection.cursor(binary=True) as cursor:
        offers = await (await cursor.execute(_OFFERS, columns)).fetchall()
    cheapest: dict[_Key, tuple[int, str]] = {}
    for hotel_id, night, currency, price_minor, surge_milli in offers:
        if currency is None:
            continue
        price = night_price_minor(price_minor, surge_milli, step_minor(currency))
        known = cheapest.get((hotel_id, night))
        if known is None or price < known[0]:
            cheapest[hotel_id, night] = price, currency
    if closed := {(hotel_id, night) for hotel_id, night, *_ in offers} - cheapest.keys():
        await connection.execute(_DELETE_PRICES, _key_columns(sorted(closed)))
    if cheapest:
        # In the order of their key, so that workers never wait for each other in a circle.
        of_hotels = sorted(cheapest.items())
        prices = [price for _, (price, _) in of_hotels], [currency for _, (_, currency) in of_hotels]
        await connection.execute(_SAVE_PRICES, (*_key_columns(key for key, _ in of_hotels), *prices))
