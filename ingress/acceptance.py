"""What only acceptance depends on: whether a request makes sense at all. Whether a room is free is not asked here."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Annotated, Final

import msgspec

from ingress.problems import Problem
from storage.reads import RoomFacts

MOST_NIGHTS: Final = 30
MOST_ROOMS: Final = 10
HORIZON: Final = timedelta(days=365)
# The last place on earth where a day ends: what is not yet past there may still be today at the hotel.
_LAST_TIMEZONE: Final = timezone(timedelta(hours=-12))

Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class InitBooking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/bookings/init`. The check-out day is not a night."""

    hotel_id: Id
    room_id: Id
    check_in_date: date
    check_out_date: date
    rooms_count: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROOMS)] = 1


def earliest_check_in() -> date:
    """Return the earliest day that is not over everywhere."""
    return datetime.now(_LAST_TIMEZONE).date()


def accept_stay(wanted: InitBooking, earliest: date) -> None:
    """Check the dates.

    Raises:
        Problem: 422, with the rule that is broken.
    """
    nights = (wanted.check_out_date - wanted.check_in_date).days
    if nights < 1:
        raise Problem(422, "check_out_date must be after check_in_date")
    if nights > MOST_NIGHTS:
        raise Problem(422, f"a stay is at most {MOST_NIGHTS} nights")
    if wanted.check_in_date < earliest:
        raise Problem(422, "check_in_date is in the past")
    if wanted.check_out_date > earliest + HORIZON:
        raise Problem(422, f"a stay must end within {HORIZON.days} days from now")


def accept_room(wanted: InitBooking, facts: RoomFacts | None) -> None:
    """Check that the room exists, belongs to the hotel, and that the hotel takes bookings.

    Raises:
        Problem: 404 for a room that the hotel does not have, 409 for a hotel that is not active.
    """
    if facts is None or facts.hotel_id != wanted.hotel_id:
        raise Problem(404, "the hotel has no such room")
    if not facts.hotel_active:
        raise Problem(409, "the hotel takes no bookings", more={"reason": "hotel_not_active"})


def accept_guests(guest_ids: Sequence[int], facts: RoomFacts | None, rooms_count: int) -> None:
    """Check that each guest is named once and that they fit into the rooms.

    Raises:
        Problem: 422, with the rule that is broken; 404 when the room is no longer described.
    """
    if len(set(guest_ids)) < len(guest_ids):
        raise Problem(422, "a guest is named twice")
    if facts is None:
        raise Problem(404, "the booking's room is no longer described")
    beds = facts.capacity * rooms_count
    if len(guest_ids) > beds:
        raise Problem(422, f"{len(guest_ids)} guests do not fit: there is place for {beds}")
