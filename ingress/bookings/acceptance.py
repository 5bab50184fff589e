"""What only acceptance depends on: whether a request makes sense at all. Whether a room is free is not asked here."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated

import msgspec

from ingress.http.models import MAX_ID, Body, BodyDay, Id
from ingress.http.problems import Problem
from ingress.stays import MAX_ROOMS_OF_A_BOOKING, RoomsCount
from storage.reads.bookings import RoomFacts


class InitBooking(Body):
    """A stay that is asked for. The check-out day is not a night."""

    hotel_id: Id
    room_id: Id
    check_in_date: BodyDay
    check_out_date: BodyDay
    rooms_count: RoomsCount = 1


class QuickInitBooking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`InitBooking` again, for the most frequent of all requests: decoded in a tenth of the time."""

    hotel_id: Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]
    room_id: Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]
    check_in_date: date
    check_out_date: date
    rooms_count: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROOMS_OF_A_BOOKING)] = 1

    def __post_init__(self) -> None:
        """Leave years that no model takes to the model."""
        if not 1970 <= self.check_in_date.year <= self.check_out_date.year <= 2200:
            raise ValueError("not between 1970 and 2200")


def accept_room(wanted: InitBooking, facts: RoomFacts | None) -> RoomFacts:
    """Check that the room exists, belongs to the hotel, and that the hotel takes bookings; return its facts.

    Raises:
        Problem: 404 for a room that the hotel does not have, 409 for a hotel that is not active.
    """
    if facts is None or facts.hotel_id != wanted.hotel_id:
        raise Problem(404, "the hotel has no such room")
    if not facts.hotel_active:
        raise Problem(409, "the hotel takes no bookings", more={"reason": "hotel_not_active"})
    return facts


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
