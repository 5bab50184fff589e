"""Read models are the same however the log comes in batches, and when they are rebuilt, beside old rows or not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from psycopg import AsyncConnection

from storage.settings import DatabaseSettings
from tests.storage.projections.log import (
    FIRST,
    HOTEL_OF,
    PARTITIONS,
    apply,
    change_ended,
    change_held,
    changed,
    cut,
    on_the_log,
    opened,
    reserved,
    rooms_held,
    rows,
    stay_changed,
    stay_of,
)
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingRejected,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    CommandRefused,
    Event,
    GuestsAdded,
    InventoryChanged,
    InventoryOpened,
    StayChanged,
)
from topics.messages.values import CancelReason, Refusal, Rejection, nights_of

TABLES = {
    "booking_timeline": "booking_id, sequence",
    "room_night": "room_id, date",
    "room_night_change": "partition, position",
    "hotel_min_price": "hotel_id, date",
}
_SOME_SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=5)


async def everything(database: DatabaseSettings) -> list[list[tuple[Any, ...]]]:
    return [await rows(database, f"select * from {table} order by {key}") for table, key in TABLES.items()]


async def forget(database: DatabaseSettings, *tables: str) -> None:
    async with await AsyncConnection.connect(database.conninfo()) as connection:
        await connection.execute(f"truncate {', '.join(tables)}".encode())


@dataclass
class Known:
    """A booking of a log: the event that made its present stay, and the change of it that is held."""

    reserved: BookingReserved
    present: BookingReserved | StayChanged
    status: str = "held"
    pending: StayChanged | None = None


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Return events of four rooms in two hotels: nights opened once each, changed and booked as people like."""
    open_nights: dict[int, list[int]] = {room: [] for room in HOTEL_OF}
    stays: list[Known] = []
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 30))):
        room = draw(st.sampled_from(sorted(HOTEL_OF)))
        kind = draw(st.sampled_from(["open", "change", "reserve", "reserve", "move", "move", "other"]))
        nights = open_nights[room]
        if kind == "open":
            first = len(nights)
            end = draw(st.integers(first + 1, first + 4))
            nights += range(first, end)
            events.append(opened(room, first, end, draw(st.integers(0, 9_999)), draw(st.integers(0, 9))))
        elif kind == "change" and nights:
            events.append(draw(_changes(room, nights)))
        elif kind == "reserve" and nights:
            first = draw(st.sampled_from(nights))
            end = draw(st.integers(first + 1, len(nights)))
            stay = reserved(len(stays), room, first, end, draw(st.integers(1, 3)))
            stays.append(Known(stay, stay))
            events.append(stay)
        elif kind == "move" and stays:
            known = draw(st.sampled_from(stays))
            if known.status == "booked" and draw(st.booleans()):
                events.append(draw(_stay_changes(known, len(events), open_nights[known.reserved.room_id])))
                continue
            event, status = draw(st.sampled_from(_moves(known.reserved, known.status)))
            if known.pending is not None:
                # A change that is held ends before its booking does.
                events.append(change_ended(change_held(known.pending)))
                known.pending = None
            known.status = status
            if isinstance(event, BookingCancelled):
                # The first night that is free again may be any of the stay, or the day of departure.
                days = st.dates(known.present.check_in, known.present.check_out)
                event = replace(event, freed_from=draw(st.none() | days))
            events.append(event)
        else:
            events.append(draw(_of_no_night(room)))
    return events


@st.composite
def _stay_changes(draw: st.DrawFn, known: Known, number: int, nights: Sequence[int]) -> Event:
    """Return the next step of a change of a booked stay: it is held, takes place or ends."""
    if known.pending is not None:
        held, known.pending = known.pending, None
        if draw(st.booleans()):
            return change_ended(change_held(held))
        known.present = held
        return held
    first = draw(st.sampled_from(nights))
    end = draw(st.integers(first + 1, len(nights)))
    rooms_count = draw(st.integers(1, 3))
    change = stay_changed(known.present, number, first, end, rooms_count)
    if draw(st.booleans()):
        known.present = change
        return change
    days = FIRST + timedelta(days=first), FIRST + timedelta(days=end)
    known.pending = replace(change, held=rooms_held(stay_of(known.present), *days, rooms_count))
    return change_held(known.pending)


def _changes(room: int, nights: Sequence[int]) -> st.SearchStrategy[InventoryChanged]:
    return st.builds(
        changed,
        st.just(room),
        st.lists(st.sampled_from(nights), unique=True),
        price_minor=st.none() | st.integers(0, 9_999),
        surge_milli=st.none() | st.integers(1, 3_000),
        closed=st.none() | st.booleans(),
        total_count=st.none() | st.integers(0, 9),
    )


def _moves(stay: BookingReserved, status: str) -> list[tuple[Event, str]]:
    """Return what can happen to a stay next, each with its status then."""
    room, booking = stay.room_id, stay.booking_id
    cancelled = BookingCancelled(room_id=room, booking_id=booking, reason=CancelReason.BY_GUEST)
    expired = BookingExpired(room_id=room, booking_id=booking)

    def confirmed(*, late: bool) -> Event:
        return BookingConfirmed(room_id=room, booking_id=booking, amount_minor=1, currency="EUR", late=late)

    moves: dict[str, list[tuple[Event, str]]] = {
        "held": [(cancelled, "over"), (expired, "expired"), (confirmed(late=False), "booked")],
        "expired": [(confirmed(late=True), "booked")],
        "booked": [(cancelled, "over")],
        "over": [(GuestsAdded(room_id=room, booking_id=booking, guest_ids=(1, 2)), "over")],
    }
    return moves[status]


def _of_no_night(room: int) -> st.SearchStrategy[BookingEvent]:
    booking_id = UUID(int=1000 + room)
    nothing: list[BookingEvent] = [
        BookingRejected(
            room_id=room,
            booking_id=booking_id,
            hotel_id=HOTEL_OF[room],
            check_in=date(2027, 3, 1),
            check_out=date(2027, 3, 1),
            rooms_count=1,
            reason=Rejection.NO_NIGHTS,
        ),
        CommandRefused(room_id=room, booking_id=booking_id, command="booking.cancel.v1", reason=Refusal.WRONG_STATUS),
    ]
    return st.sampled_from(nothing)


# The same by hand, an event after the other.

Nights = dict[tuple[int, date], dict[str, Any]]


@dataclass
class Claims:
    """The rooms that bookings take now, and the changes of them: by booking, by night."""

    stays: dict[UUID, dict[date, int]] = field(default_factory=dict)
    held: dict[UUID, dict[date, int]] = field(default_factory=dict)
    reserved: dict[UUID, dict[date, int]] = field(default_factory=dict)

    def apply(self, event: Event) -> set[date]:
        """Apply an event; return the nights that it is about."""
        touched: set[date] = set()
        match event:
            case BookingReserved(booking_id=id):
                self.stays[id] = self.reserved[id] = _rooms(event)
                touched |= self.stays[id].keys()
            case BookingConfirmed(booking_id=id, late=True):
                self.stays[id] = self.reserved[id]
                touched |= self.stays[id].keys()
            case BookingExpired(booking_id=id):
                touched |= self.stays.pop(id).keys()
            case BookingCancelled(booking_id=id):
                touched |= {day for day in self.stays[id] if event.freed_from is None or day >= event.freed_from}
                self.stays[id] = {day: rooms for day, rooms in self.stays[id].items() if day not in touched}
            case ChangeHeld(booking_id=id):
                self.held[id] = {day: rooms for each in event.held for day, rooms in _rooms_of_range(each).items()}
                touched |= self.held[id].keys()
            case ChangeEnded(booking_id=id):
                touched |= self.held.pop(id).keys()
            case StayChanged(booking_id=id):
                touched |= self.held.pop(id, {}).keys() | self.stays[id].keys()
                self.stays[id] = _rooms(event)
                touched |= self.stays[id].keys()
        return touched


def _rooms(stay: BookingReserved | StayChanged) -> dict[date, int]:
    return dict.fromkeys(nights_of(stay.check_in, stay.check_out), stay.rooms_count)


def _rooms_of_range(held: Any) -> dict[date, int]:
    return dict.fromkeys(nights_of(held.first_night, held.end_night), held.rooms_count)


def by_hand(events: Sequence[Event]) -> tuple[Nights, list[tuple[Any, ...]]]:
    """Return the nights, and which of them each event changed."""
    nights: Nights = {}
    changes: list[tuple[Any, ...]] = []
    claims, room_of = Claims(), dict[UUID, int]()
    positions = [0] * PARTITIONS
    for event in events:
        partition = event.key % PARTITIONS
        positions[partition] += 1
        if isinstance(event, BookingEvent):
            room_of[event.booking_id] = event.room_id
            touched = claims.apply(event)
        else:
            touched = _described(nights, event)
        if touched:
            end = max(touched) + timedelta(days=1)
            changes.append((partition, positions[partition], event.key, min(touched), end))
    for claimed in (claims.stays, claims.held):
        for booking_id, rooms in claimed.items():
            for day, count in rooms.items():
                nights[room_of[booking_id], day]["taken"] += count
    return nights, sorted(changes)


def _described(nights: Nights, event: Event) -> set[date]:
    """Open or change nights; return those."""
    if isinstance(event, InventoryOpened):
        days: Sequence[date] = nights_of(event.first_night, event.end_night)
        for day in days:
            values = {"total": event.total_count, "price": event.price_minor, "surge": 1000, "closed": False}
            nights[event.room_id, day] = {"taken": 0, **values}
    else:
        assert isinstance(event, InventoryChanged)
        days = event.nights
        for day in days:
            changed_values = {
                "total": event.total_count,
                "price": event.price_minor,
                "surge": event.surge_milli,
                "closed": event.closed,
            }
            nights[event.room_id, day] |= {name: value for name, value in changed_values.items() if value is not None}
    return set(days)


def lowest_by_hand(nights: Nights) -> dict[tuple[int, date], int]:
    lowest: dict[tuple[int, date], int] = {}
    for (room, day), row in nights.items():
        cost = (row["price"] * row["surge"] + 500) // 1000
        if not row["closed"]:
            lowest[HOTEL_OF[room], day] = min(cost, lowest.get((HOTEL_OF[room], day), cost))
    return lowest


@pytest.mark.system
@given(events=logs(), sizes=_SOME_SIZES, again=_SOME_SIZES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_rebuild_gives_the_same_rows_however_the_log_comes_in_batches(
    events: list[Event], sizes: list[int], again: list[int], database: DatabaseSettings
) -> None:
    await forget(database, *TABLES, "booking")
    log = on_the_log(events)
    await apply(database, cut(log, sizes))
    first = await everything(database)
    timeline, nights, changes, lowest = first

    assert len(timeline) == sum(isinstance(event, BookingEvent) for event in events)
    expected, expected_changes = by_hand(events)
    assert {(row[0], row[1]): row[3:8] for row in nights} == {
        key: tuple(row[name] for name in ("total", "taken", "price", "surge", "closed"))
        for key, row in expected.items()
    }
    assert changes == expected_changes
    assert {(hotel_id, day): price for hotel_id, day, price, _ in lowest} == lowest_by_hand(expected)

    await forget(database, *TABLES)
    await apply(database, cut(log, again))
    assert await everything(database) == first


@pytest.mark.parametrize("sizes", [[1], [4], [100]])
async def test_nights_that_are_there_already_begin_anew_in_a_rebuild(
    sizes: list[int], database: DatabaseSettings
) -> None:
    stay = reserved(1, 1, 0, 2, 2)
    expired = BookingExpired(room_id=1, booking_id=stay.booking_id)
    log = on_the_log([opened(1, 0, 3, 9_000), stay, changed(1, [1], closed=True), expired, reserved(2, 1, 1, 3)])
    await apply(database, [log])
    before = await everything(database)

    await apply(database, cut(log, sizes))

    assert await everything(database) == before
