"""Checks whether a request for a booking makes sense at all. Whether a room is free is decided later, on the log."""

from collections.abc import Sequence

from ingress.bookings.models import InitBooking
from ingress.http.problems import Problem
from storage.reads.bookings import RoomFacts


def accept_room(stay: InitBooking, facts: RoomFacts | None) -> RoomFacts:
    """Check that the room exists, belongs to the hotel, and that the hotel takes bookings; return its facts.

    Raises:
        Problem: 404 for a room that the hotel does not have, 409 for a hotel that is not active.
    """
    if facts is None or facts.hotel_id != stay.hotel_id:
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
