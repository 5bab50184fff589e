"""The read model of the lowest price of a hotel's nights, from what the events say each room costs."""

from collections.abc import Iterable, Sequence
from datetime import date

from psycopg import AsyncConnection

from topics.events import InventoryChanged, InventoryOpened
from topics.values import nights_of

PriceEvent = InventoryOpened | InventoryChanged


class NightNotOpened(Exception):
    """An event changes a night that no event before it opened: the log is not whole."""


_OPEN = """
insert into room_price (room_id, date, hotel_id, price_minor, surge_milli, closed, currency)
select %(room_id)s, night, %(hotel_id)s, %(price_minor)s, 1000, false, %(currency)s
from unnest(%(nights)b::date[]) as night
on conflict (room_id, date) do update
set hotel_id = excluded.hotel_id, price_minor = excluded.price_minor, surge_milli = excluded.surge_milli,
    closed = excluded.closed, currency = excluded.currency
"""

_CHANGE = """
update room_price
set price_minor = coalesce(%(price_minor)s, price_minor),
    surge_milli = coalesce(%(surge_milli)s, surge_milli),
    closed = coalesce(%(closed)s, closed)
where room_id = %(room_id)s and date = any(%(nights)b::date[])
"""

# One hotel's rooms lie in several partitions, and so with several workers. Each writes its own rooms'
# prices without waiting; then they take turns, so that the second sees what the first has committed.
_TAKE_TURNS = """
select pg_advisory_xact_lock(key)
from (select distinct hashtextextended('hotel_min_price', hotel_id) as key
      from room_price join unnest(%b::bigint[], %b::date[]) as touched (room_id, date) using (room_id, date)
      order by key) as hotels
"""

_REFRESH = """
with touched as (
    select distinct hotel_id, date
    from room_price join unnest(%b::bigint[], %b::date[]) as changed (room_id, date) using (room_id, date)
), cheapest as (
    select distinct on (hotel_id, date) hotel_id, date, currency,
           (price_minor * surge_milli + 500) / 1000 as min_price_minor
    from touched join room_price using (hotel_id, date)
    where not closed
    order by hotel_id, date, min_price_minor, room_id
), nothing_open as (
    delete from hotel_min_price
    using touched
    where (hotel_min_price.hotel_id, hotel_min_price.date) = (touched.hotel_id, touched.date)
      and not exists (select from cheapest where (cheapest.hotel_id, cheapest.date) = (touched.hotel_id, touched.date))
)
insert into hotel_min_price (hotel_id, date, min_price_minor, currency)
select hotel_id, date, min_price_minor, currency from cheapest
on conflict (hotel_id, date) do update
set min_price_minor = excluded.min_price_minor, currency = excluded.currency
where (hotel_min_price.min_price_minor, hotel_min_price.currency)
      is distinct from (excluded.min_price_minor, excluded.currency)
"""


async def apply(connection: AsyncConnection, events: Sequence[PriceEvent]) -> None:
    """Bring prices up to date with `events`, in their order, in the caller's transaction (read committed).

    Raises:
        NightNotOpened: an event changes a night that is unknown.
    """
    for event in events:
        if isinstance(event, InventoryOpened):
            await _open(connection, event)
        else:
            await _change(connection, event)
    touched = sorted({(event.room_id, night) for event in events for night in _nights(event)})
    if touched:
        columns = [[room_id for room_id, _ in touched], [night for _, night in touched]]
        await connection.execute(_TAKE_TURNS, columns)
        await connection.execute(_REFRESH, columns)


async def _open(connection: AsyncConnection, event: InventoryOpened) -> None:
    await connection.execute(
        _OPEN,
        {
            "room_id": event.room_id,
            "hotel_id": event.hotel_id,
            "price_minor": event.price_minor,
            "currency": event.currency,
            "nights": list(_nights(event)),
        },
    )


async def _change(connection: AsyncConnection, event: InventoryChanged) -> None:
    nights = set(event.nights)
    changed = await connection.execute(
        _CHANGE,
        {
            "room_id": event.room_id,
            "price_minor": event.price_minor,
            "surge_milli": event.surge_milli,
            "closed": event.closed,
            "nights": list(nights),
        },
    )
    if changed.rowcount != len(nights):
        raise NightNotOpened(
            f"room {event.room_id}: {len(nights)} nights change, {changed.rowcount} of them were opened before"
        )


def _nights(event: PriceEvent) -> Iterable[date]:
    if isinstance(event, InventoryOpened):
        return nights_of(event.first_night, event.end_night)
    return event.nights
