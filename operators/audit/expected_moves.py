"""Checks changes to another room type: that room holds the stay as a leg, and then the booking becomes a trip of it."""

from collections.abc import Iterator, Mapping

from operators.audit.expected_bookings import LIVE
from operators.audit.expected_rows import Booking, Event, days_of, event_dates, milliseconds
from operators.audit.expected_sales import costs_of_changes, costs_that_move


def faults_of_opened(event: Event, booking: Booking, now_ms: int) -> Iterator[str]:
    """Yield, in words, what is wrong with a change that another room is asked to hold.

    `now_ms` is the log's time, in milliseconds since 1970.
    """
    if booking.terms != "prepaid" or event["to_room_id"] == booking.room_id:
        yield f"{booking.terms}, and moves from room {booking.room_id} to room {event['to_room_id']}"
    if event["rooms_count"] < 1 or not days_of(event["check_in"], event["check_out"]):
        yield f"changed to {event['rooms_count']} rooms from {event['check_in']} to {event['check_out']}"
    theirs = (event["user_id"], event["hotel_id"], booking.stay_times or event["stay_times"], event["accepted_terms"])
    if theirs != (booking.user_id, booking.hotel_id, event["stay_times"], booking.accepted_terms):
        yield f"it asks for {theirs}"
    stay = event["moved"]
    facts = (stay["amount_minor"], stay.get("costs_minor", 0))
    if facts != (booking.amount, costs_of_changes(booking)):
        yield f"{facts[0]} with costs of {facts[1]} move, of {booking.amount} with {costs_of_changes(booking)}"
    costs, right = (stay.get("kept_now_minor", 0), stay.get("floor_minor", 0)), costs_that_move(booking, now_ms)
    if costs not in right:
        yield f"its change keeps {costs}, by its policy {right}"


def faults_of_held_move(event: Event, booking: Booking, leg: Booking | None) -> Iterator[str]:
    """Yield, in words, what is wrong with a dearer change that another room holds, as `leg`, if the log has it yet."""
    yield from faults_of_move(event, booking, leg)
    if milliseconds(event["hold_expires_at"]) != booking.hold_until:
        yield f"change {event['change_id']} has another deadline than when it was opened"


def faults_of_move(event: Event, booking: Booking, leg: Booking | None) -> Iterator[str]:
    """Yield, in words, how an event differs from the change that is open, or its price from that of the leg."""
    change = booking.pending
    opened = None if change is None or not change.is_open else (change.id, change.to_room, event_dates(change.stay))
    to_room = event.get("to_room_id")
    here = None if to_room is None else (event["change_id"], to_room, event_dates(event))
    if here != opened:
        yield f"it moves to {here}, and {opened} was opened"
    if to_room is None:
        return
    if event["sale"] is not None or event["currency"] != booking.currency:
        yield f"its leg costs {event['currency']}, with the sale {event['sale']}"
    if leg is not None and (leg.amount, leg.currency) != (event["amount_minor"], event["currency"]):
        yield f"it costs {event['amount_minor']} after its change, and its leg {leg.amount} {leg.currency}"


def faults_of_legs(bookings: Mapping[str, Booking], followed: set[str]) -> Iterator[str]:
    """Yield, in words, each leg without its booking, and each change whose leg is not as the change left it.

    Args:
        bookings: all of them, by id.
        followed: those of whose events all commands that follow were decided.
    """
    for id_, booking in bookings.items():
        if id_ in followed:
            for change_id in booking.opened_changes:
                yield from (f"booking {id_}: {fault}" for fault in _faults_of_change(booking, change_id, bookings))
        if booking.trip_id is not None and id_ in followed:
            trip = bookings.get(booking.trip_id)
            yield from (f"booking {id_}: {fault}" for fault in _faults_of_leg(id_, booking, trip))
            if trip is not None and trip.pending is not None and trip.pending.id == id_ and trip.pending.is_open:
                yield f"booking {booking.trip_id}: its change {id_} is open, and the room has decided"


def _faults_of_change(booking: Booking, change_id: str, bookings: Mapping[str, Booking]) -> Iterator[str]:
    leg, change = bookings.get(change_id), booking.pending
    if change_id in booking.legs:
        return
    is_released = leg is not None and (leg.status == "REJECTED" or leg.cancel_reason == "trip_ended")
    if change is None or change.id != change_id:
        if not is_released:
            yield f"its change {change_id} ended, and its leg is {_status(leg)}"
    elif leg is None or (not change.is_open and leg.status not in LIVE):
        yield f"its change {change_id} is {'open' if change.is_open else 'held'}, and its leg is {_status(leg)}"


def _faults_of_leg(id_: str, leg: Booking, trip: Booking | None) -> Iterator[str]:
    """Yield, in words, how a leg is not one of its trip, or not the one that a change asked for."""
    if trip is None or (id_ not in trip.legs and id_ not in trip.opened_changes):
        yield f"{leg.status}, a leg of trip {leg.trip_id}, which has none of this id"
        return
    asked, here = trip.opened_changes.get(id_), (leg.room_id, leg.replaces)
    if leg.status != "REJECTED" and here != (asked or (leg.room_id, None)):
        yield f"in room {leg.room_id}, for the move {leg.replaces}, and {asked} was asked for"
    in_trip = trip.legs.get(id_, {})
    amount = in_trip.get("amount_minor", 0)
    if in_trip.get("state", "requested") != "requested" and leg.amount != amount:
        yield f"it costs {leg.amount}, and its trip {trip.status} has {amount} for it"


def _status(leg: Booking | None) -> str:
    if leg is None:
        return "unknown"
    return leg.status if leg.cancel_reason is None else f"{leg.status} ({leg.cancel_reason})"
