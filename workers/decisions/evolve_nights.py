"""Applies events to the nights of a room: rooms taken and freed, nights opened, and those that a manager changes.

`workers.decisions.evolve` calls it.
"""

from collections.abc import Iterable, Mapping
from datetime import date

from msgspec.structs import replace

from pricing.stays import NO_SURGE_MILLI
from topics.messages.events import (
    BookingCancelled,
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingReserved,
    ChangeEnded,
    ChangeHeld,
    GuestsCheckedOut,
    GuestsDidNotArrive,
    InventoryChanged,
    InventoryOpened,
    RoomsHeld,
    StayChanged,
)
from topics.messages.values import nights_of
from workers.decisions.state import Booking, Night, State, live


def nights_after(state: State, event: BookingEvent) -> dict[date, Night]:
    """Return the nights of the stay that the event takes, books or frees."""
    if isinstance(event, BookingReserved):
        nights = nights_of(event.check_in, event.check_out)
        return with_taken(state.nights, nights, reserved=event.rooms_count)
    booking = state.booking
    if booking is None:
        return {}
    rooms = booking.rooms_count
    if isinstance(event, BookingConfirmed):
        held = rooms if live(booking) else 0
        return with_taken(state.nights, booking.nights(), reserved=-held, booked=rooms)
    if isinstance(event, BookingCancelled | BookingExpired):
        if live(booking):
            return with_taken(state.nights, booking.nights(), reserved=-rooms)
        freed_from = event.freed_from if isinstance(event, BookingCancelled) else None
        return _with_freed(state.nights, booking, freed_from)
    if isinstance(event, ChangeHeld):
        return _with_held(state.nights, event.held, 1)
    if isinstance(event, ChangeEnded):
        return _with_held(state.nights, event.held, -1)
    if isinstance(event, StayChanged):
        return _with_other_stay(state.nights, event)
    if isinstance(event, GuestsCheckedOut | GuestsDidNotArrive) and event.freed_from is not None:
        return _with_freed(state.nights, booking, event.freed_from)
    return {}


def _with_held(nights: Mapping[date, Night], held: Iterable[RoomsHeld], sign: int) -> dict[date, Night]:
    """Return the nights of which a change holds rooms, with these rooms reserved, or given back."""
    changed: dict[date, Night] = {}
    for each in held:
        changed |= with_taken(nights, nights_of(each.first_night, each.end_night), reserved=sign * each.rooms_count)
    return changed


def _with_other_stay(nights: Mapping[date, Night], event: StayChanged) -> dict[date, Night]:
    """Return the nights of the stay before and of the stay after, and those that the change held."""
    changed = _with_held(nights, event.held, -1)
    before, after = event.before, nights_of(event.check_in, event.check_out)
    changed |= with_taken(
        {**nights, **changed}, nights_of(before.check_in, before.check_out), booked=-before.rooms_count
    )
    if event.to_room_id is not None:
        # The nights of the stay are those of another room.
        return changed
    return changed | with_taken({**nights, **changed}, after, booked=event.rooms_count)


def _with_freed(nights: Mapping[date, Night], booking: Booking, freed_from: date | None) -> dict[date, Night]:
    """Return the booked nights that are on sale again; None: all of them."""
    freed = [day for day in booking.nights() if freed_from is None or day >= freed_from]
    return with_taken(nights, freed, booked=-booking.rooms_count)


def with_taken(
    nights: Mapping[date, Night], stay: Iterable[date], *, reserved: int = 0, booked: int = 0, blocked: int = 0
) -> dict[date, Night]:
    """Return nights with these rooms more (or fewer) reserved, booked and blocked; all else stays as it is."""
    return {
        day: replace(
            night := nights[day],
            booked_count=night.booked_count + booked,
            reserved_count=night.reserved_count + reserved,
            blocked_count=night.blocked_count + blocked,
        )
        for day in stay
    }


def new_nights(event: InventoryOpened) -> dict[date, Night]:
    """Return the nights that are opened, with nothing taken."""
    night = Night(
        hotel_id=event.hotel_id,
        total_count=event.total_count,
        booked_count=0,
        reserved_count=0,
        price_minor=event.price_minor,
        surge_milli=NO_SURGE_MILLI,
        closed=False,
        currency=event.currency,
    )
    return dict.fromkeys(nights_of(event.first_night, event.end_night), night)


def with_changes(nights: Mapping[date, Night], event: InventoryChanged) -> dict[date, Night]:
    """Return the nights with the values that a manager set; the event has None for a value that stays."""
    values = {
        name: value
        for name in ("price_minor", "surge_milli", "closed", "total_count", "allowance_count")
        if (value := getattr(event, name)) is not None
    }
    return {day: replace(nights[day], **values) for day in event.nights}
