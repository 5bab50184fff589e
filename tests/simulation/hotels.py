"""The hotels of the simulation, and the words about bookings for the payment page."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import msgspec

from storage.payments import Stay, StayChange
from tests.simulation.cursor_statements import of
from tests.simulation.database import Transaction
from tests.simulation.statements import column
from topics.messages.sale import CancellationPolicy, Kept, PolicyStep, RatePlan, Sale, SaleTerms, Tax

INSTALLATION: Final = UUID("0b7c1a52-65a4-4d5e-8a3e-3f1f4d1a2b90")
HOTELS: Final = {1: (11, 12, 13, 14), 2: (21, 22, 23, 24)}
#: The hotel that sells by rate plans and taxes; the other one sets none.
WITH_TERMS: Final = 2
_A_YEAR_IN_HOURS: Final = 366 * 24
_HALF: Final = CancellationPolicy(
    id="half",
    steps=(PolicyStep(hours_before=_A_YEAR_IN_HOURS, kept=Kept(percent=50)),),
    no_show=Kept(nights=1),
    early_departure_percent=50,
)
#: The plans of that hotel. They keep nothing, a half or all of a stay that its guest cancels.
PLANS: Final = (
    RatePlan(id="standard", name="Standard"),
    RatePlan(id="half", name="Half", policy=_HALF, times_milli=900),
    RatePlan(id="saver", name="Saver", refundable=False, times_milli=800),
)
_HOTEL_OF: Final = {room_id: hotel_id for hotel_id, rooms in HOTELS.items() for room_id in rooms}


def name_of(hotel_id: int) -> str:
    """Return a hotel's name."""
    return f"Hotel {hotel_id}"


def type_of(room_id: int) -> str:
    """Return the type of a room."""
    return f"Room {room_id}"


def sale_terms(version: int) -> SaleTerms:
    """Return the sale terms of a version; each version has another city tax."""
    return SaleTerms(
        version=version,
        plans=PLANS,
        taxes=(
            Tax(id="vat", name="VAT", percent_milli=7_000),
            Tax(id="city", name="City tax", amount_minor=100 + 10 * (version % 5), per_night=True, per_person=True),
        ),
        capacity=3,
    )


async def stays(connection: Any, booking_ids: Sequence[UUID]) -> dict[UUID, Stay]:
    """As `storage.payments.stays`."""

    def effect(rows: Transaction) -> dict[UUID, Stay]:
        found = {}
        for id in booking_ids:
            booking = rows.get("booking", id)
            if booking is None:
                continue
            stay = _stay(rows, booking)
            ids = [UUID(leg["booking_id"]) for leg in column(booking, "legs") or ()]
            legs = [rows.get("booking", leg) for leg in ids]
            if legs and None not in legs:
                known = tuple(_stay(rows, leg) for leg in legs)
                stay = replace(stay, legs=known, rooms_count=sum(leg.rooms_count for leg in known))
            found[id] = stay
        return found

    return await of(connection).run("stays", (list(booking_ids),), effect)


def _stay(rows: Transaction, booking: Any) -> Stay:
    room_id, sale, change = (column(booking, name) for name in ("room_id", "sale", "pending_change"))
    times = column(booking, "stay_times") or {}
    return Stay(
        hotel=name_of(_HOTEL_OF[room_id]),
        room_type=type_of(room_id),
        check_in=column(booking, "check_in"),
        check_out=column(booking, "check_out"),
        rooms_count=column(booking, "rooms_count"),
        time_zone=times.get("time_zone") or "UTC",
        sale=None if sale is None else msgspec.convert(sale, Sale),
        amount_minor=column(booking, "amount_minor"),
        change=None if change is None else _change(rows, change),
    )


def _change(rows: Transaction, change: dict[str, Any]) -> StayChange:
    other, moved = change.get("to_room_id"), rows.get("booking", UUID(change["id"]))
    sale = None if moved is None else column(moved, "sale")
    fields = {
        **change["stay"],
        "attempt": change.get("attempt", 0),
        "room_type": None if other is None else type_of(other),
        "sale": sale or change["stay"].get("sale"),
    }
    return msgspec.convert(fields, StayChange)
