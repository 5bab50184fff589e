"""Computes the trips that the ledger should have, from the events alone: stays of several rooms, all or none."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from operators.audit.expected_bookings import LIVE, KnownBookings
from operators.audit.expected_moves import faults_of_legs
from operators.audit.expected_rows import Booking, Event, has_ended, kept_by, milliseconds

MAX_LEGS: Final = 5
#: The statuses of a leg that was bought, whether or not it has ended since.
_BOUGHT: Final = frozenset({"CONFIRMED", "CHECKED_IN", "CHECKED_OUT", "NO_SHOW", "CANCELLED"})
#: The states, in its trip, of a leg that ended after it was bought.
_OVER: Final = frozenset({"cancelled", "ended"})


class ExpectedTrips:
    """The trips after the events so far; `appliers` has the function that applies an event, by its type."""

    def __init__(self, known: KnownBookings) -> None:
        self._known = known
        self.appliers: dict[str, Callable[[Event], None]] = {
            "booking.trip_opened.v1": self._on_opened,
            "booking.leg_held.v1": self._on_leg_held,
            "booking.trip_reserved.v1": self._on_reserved,
            "booking.trip_rejected.v1": self._on_rejected,
            "booking.trip_cancel_requested.v1": self._on_cancel_requested,
            "booking.leg_ended.v1": self._on_leg_ended,
        }

    def _on_opened(self, event: Event) -> None:
        trip = self._new(event, "RESERVING")
        if trip is None:
            return
        trip.hold_until = milliseconds(event["hold_expires_at"])
        if not 1 <= len(set(trip.legs) - {event["booking_id"]}) == len(event["legs"]) <= MAX_LEGS:
            self._known.fault(event, f"a trip of the legs {[leg['booking_id'] for leg in event['legs']]}")

    def _new(self, event: Event, status: str) -> Booking | None:
        known = self._known.by_id.get(event["booking_id"])
        if known is not None:
            self._known.illegal(event, known)
            return None
        trip = self._known.by_id[event["booking_id"]] = Booking({**event, "rooms_count": 0}, status, [])
        trip.legs = {
            leg["booking_id"]: {
                "booking_id": leg["booking_id"],
                "room_id": leg["room_id"],
                "rooms_count": leg.get("rooms_count", 1),
            }
            for leg in event["legs"]
        }
        return trip

    def _on_leg_held(self, event: Event) -> None:
        trip = self._known.changing(event, {"RESERVING"})
        leg = None if trip is None else self._leg(event, trip, "requested")
        if leg is not None:
            leg["state"] = "held"
            leg |= {name: event[name] for name in ("amount_minor", "night_amounts_minor", "currency") if event[name]}
            room = self._known.by_id.get(event["leg_id"])
            if room is not None and (room.amount, room.currency) != (event["amount_minor"], event["currency"]):
                self._known.fault(
                    event, f"leg {event['leg_id']} is held for {event['amount_minor']}, not {room.amount}"
                )

    def _leg(self, event: Event, trip: Booking, state: str) -> Event | None:
        """Return the event's leg of a trip; report it if the trip has none in this state."""
        leg = trip.legs.get(event["leg_id"])
        if leg is None or leg.get("state", "requested") != state:
            was = "none of the trip" if leg is None else leg.get("state", "requested")
            self._known.fault(event, f"leg {event['leg_id']} was {was}")
            return None
        return leg

    def _on_reserved(self, event: Event) -> None:
        trip = self._known.changing(event, {"RESERVING"})
        if trip is None:
            return
        legs = trip.legs.values()
        amounts = [leg.get("night_amounts_minor", []) for leg in legs]
        right = (sum(leg.get("amount_minor", 0) for leg in legs), [sum(night) for night in zip(*amounts, strict=False)])
        if any(leg.get("state") != "held" or leg.get("currency") != event["currency"] for leg in legs):
            self._known.fault(event, f"reserved in {event['currency']} with the legs {list(legs)}")
        if (event["amount_minor"], event["night_amounts_minor"]) != right:
            self._known.fault(event, f"it costs {event['amount_minor']}, and its legs {right[0]}")
        trip.status = "RESERVED"
        trip.amount, trip.currency = event["amount_minor"], event["currency"]
        trip.night_amounts = tuple(event["night_amounts_minor"])

    def _on_rejected(self, event: Event) -> None:
        if event["booking_id"] not in self._known.by_id:
            trip = self._new(event, "REJECTED")
        else:
            trip = self._known.changing(event, {"RESERVING"})
        if trip is not None:
            trip.status, trip.rejection, trip.hold_until = "REJECTED", event["reason"], None

    def _on_cancel_requested(self, event: Event) -> None:
        trip = self._known.changing(event, {"CONFIRMED"})
        if trip is not None and not trip.legs:
            self._known.fault(event, "it has no legs")

    def _on_leg_ended(self, event: Event) -> None:
        trip = self._known.changing(event, {"CONFIRMED"})
        leg = None if trip is None else self._leg(event, trip, "held")
        if trip is None or leg is None:
            return
        amount, kept = leg.get("amount_minor", 0), event["kept_minor"]
        if not 0 <= kept <= amount:
            self._known.fault(event, f"{kept} is kept of leg {event['leg_id']}, which cost {amount}")
        leg["state"] = "ended" if event.get("cancel_reason") is None else "cancelled"
        if kept:
            leg["kept_minor"] = kept
        trip.back += max(0, amount - kept)

    def check_release(self, event: Event, leg: Booking) -> None:
        """Check that a leg that is held ends by its trip, and no other booking does."""
        if (event["reason"] == "trip_ended") != (leg.trip_id is not None and leg.status in LIVE):
            self._known.fault(event, f"{leg.status}, cancelled {event['reason']}, of trip {leg.trip_id}")

    def check_end(self, event: Event, trip: Booking) -> None:
        """Check the cancellation of a trip that was paid: it ends with its last leg, and keeps what the legs keep."""
        kept = sum(leg.get("kept_minor", 0) for leg in trip.legs.values())
        states = [leg.get("state") for leg in trip.legs.values()]
        if event.get("reason") != "refunded_by_hand" and (
            event.get("policy") != {"kept_minor": kept} or set(states) != {"cancelled"}
        ):
            self._known.fault(event, f"{event.get('policy')} is kept, of legs that keep {kept} and are {states}")


def worth(trip: Booking) -> int:
    """Return what the legs of a paid trip cost, or what is kept of those that ended."""
    return sum(
        leg.get("amount_minor", 0) if leg.get("state") == "held" else leg.get("kept_minor", 0)
        for leg in trip.legs.values()
    )


def faults_of_trips(bookings: Mapping[str, Booking], sequences: Mapping[int, int]) -> Iterator[str]:
    """Yield, in words, each leg that differs from its trip: a trip is bought as a whole, or not at all.

    A change to another room type is compared with its leg, too.

    A decision in one partition reaches another a moment later. So a trip or a leg is compared once all commands that
    follow from its events have been decided, which are those up to `sequences`, by partition.
    """

    def is_followed(booking: Booking) -> bool:
        partition, sequence = booking.position
        return sequence <= sequences.get(partition, 0)

    for id_, trip in bookings.items():
        legs = {leg_id: bookings.get(leg_id) for leg_id in trip.legs}
        if is_followed(trip):
            for leg_id, leg in legs.items():
                if not _may_be(trip, leg):
                    yield f"booking {id_}: {trip.status}, and its leg {leg_id} is {_status(leg)}"
        known = [leg for leg in legs.values() if leg is not None and is_followed(leg)]
        if trip.status == "RESERVING" and len(known) == len(legs):
            yield f"booking {id_}: RESERVING, and the rooms have decided all its legs"
        if trip.status == "CONFIRMED":
            yield from _faults_of_ends(id_, trip, {leg_id: leg for leg_id, leg in legs.items() if leg in known})
    yield from faults_of_legs(bookings, {id_ for id_, booking in bookings.items() if is_followed(booking)})


def _may_be(trip: Booking, leg: Booking | None) -> bool:
    """Return whether a leg may be as it is after its trip was bought, or after it ended unpaid."""
    if trip.status == "CONFIRMED" or (trip.status == "CANCELLED" and _was_bought(trip)):
        return leg is not None and leg.status in _BOUGHT and leg.cancel_reason != "trip_ended"
    if trip.status in {"REJECTED", "EXPIRED", "CANCELLED"}:
        return leg is None or leg.status == "REJECTED" or leg.cancel_reason == "trip_ended"
    return True


def _was_bought(trip: Booking) -> bool:
    return trip.cancel_reason == "refunded_by_hand" or any(leg.get("state") in _OVER for leg in trip.legs.values())


def _status(leg: Booking | None) -> str:
    if leg is None:
        return "unknown"
    return leg.status if leg.cancel_reason is None else f"{leg.status} ({leg.cancel_reason})"


def _faults_of_ends(id_: str, trip: Booking, followed: Mapping[str, Booking | None]) -> Iterator[str]:
    """Yield each leg of a trip that ended for one of them alone, or of which they keep different amounts."""
    for leg_id, leg in followed.items():
        known = trip.legs[leg_id]
        in_trip = known.get("kept_minor", 0) if known.get("state") in _OVER else None
        in_room = kept_by(leg) if leg is not None and has_ended(leg) else None
        if in_trip != in_room:
            yield f"booking {id_}: {in_trip} is kept of its leg {leg_id}, and by the room {in_room}"
