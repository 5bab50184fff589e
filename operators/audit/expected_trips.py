"""Computes the trips that the ledger should have, from the events alone: stays of several rooms, all or none."""

from collections.abc import Callable
from typing import Final

from operators.audit.expected_bookings import LIVE, KnownBookings
from operators.audit.expected_rows import Booking, Event, milliseconds

MAX_LEGS: Final = 5


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
