"""The money of trips in the daily report, which divides the deductions from a trip's payment among its legs.

Tables: `reported_trip`, a row a trip. The trip's events and those of its legs are in several partitions, which workers
read in any order. So the deductions of the legs follow from the row of the trip alone, whose facts are all from events
of the trip and are kept by id, and a leg follows from these and from its own events. The lock of the trip's row keeps
the workers of its legs apart; rows are locked by id, and before the nights of the report.

A booking that moved to another room type is a trip of one leg from then on, in the ledger before the events have come
so far. Its row has no payments until they have; then it has those of the stay before, and what had left them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from pricing.revenue import LegWorth, leg_deductions_minor
from storage.projections.report_changes import Changes, Deduction, DeductionKind


@dataclass(slots=True)
class LegDeductions:
    """The deductions from the payments of a batch's trips, by leg; `changed` are the legs to count anew.

    Amounts are in minor units.
    """

    minor: dict[UUID, int] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class StayMoney:
    """The money of a stay that moved to another room: its payments, and what left them, by id, in minor units."""

    payments: Mapping[str, int]
    refunds: Mapping[str, int]
    deductions: Mapping[str, int]
    closings: Mapping[str, int]


async def apply(
    connection: AsyncConnection, changes: Changes, trip_ids: Mapping[UUID, UUID], new_trips: Mapping[UUID, StayMoney]
) -> LegDeductions:
    """Write the changes of trips, whose rows stay locked, and return the deductions of their legs.

    Args:
        connection: in a transaction, which is read committed.
        changes: those of a batch.
        trip_ids: the trip of each leg of the batch, and each trip by itself.
        new_trips: the bookings that become trips in this batch.
    """
    found = LegDeductions()
    confirmed = {trip_id for booking_id, trip_id in trip_ids.items() if booking_id in changes.confirmed}
    if added := sorted(confirmed | new_trips.keys()):
        await connection.execute(_ADD, (added,))
    written = []
    for trip in await _locked(connection, sorted({*trip_ids.values(), *new_trips})):
        if trip.apply(changes, new_trips.get(trip.id)):
            written.append(trip.as_row())
            found.changed |= trip.leg_ids
        found.minor |= trip.deductions_minor()
    if written:
        await connection.cursor().executemany(_WRITE, written)
    # A leg that is counted from now on has its part of what left before.
    found.changed |= {leg_id for leg_id, minor in found.minor.items() if minor and leg_id in changes.confirmed}
    return found


_Amounts = dict[str, int]


@dataclass(slots=True)
class _Trip:
    """The row of a trip, and the amounts of its legs from the ledger, which never change once the trip is paid."""

    id: UUID
    payment_intent: str | None
    payments: _Amounts
    leg_ends: _Amounts
    refunds: _Amounts
    deductions: _Amounts
    closings: _Amounts
    legs: Sequence[Mapping[str, Any]]
    was_stay: bool

    @property
    def leg_ids(self) -> set[UUID]:
        """The bookings of its legs."""
        return {UUID(leg["booking_id"]) for leg in self.legs}

    def apply(self, changes: Changes, stay: StayMoney | None) -> bool:
        """Apply the changes of the trip, which `stay` became; return whether its row changes."""
        before = self.as_row()
        if stay is not None:
            self.payments |= stay.payments
            self.refunds |= stay.refunds
            self.deductions |= stay.deductions
            self.closings |= stay.closings
        if not self.was_stay and changes.confirmed.get(self.id) is not None:
            self.payment_intent = changes.confirmed[self.id]
        self.leg_ends |= changes.leg_ends.get(self.id, {})
        for deduction in changes.deductions.get(self.id, ()):
            if deduction.payment_intent in (self.payments or {self.payment_intent}):
                self._deduct(deduction)
        return self.as_row() != before

    def _deduct(self, deduction: Deduction) -> None:
        match deduction.kind:
            case DeductionKind.REFUND:
                self.refunds[deduction.id] = deduction.amount_minor
            case DeductionKind.TAKEN:
                self.deductions[deduction.id] = deduction.amount_minor
            case DeductionKind.CLOSED:
                self.closings[deduction.id] = deduction.amount_minor
            case DeductionKind.FAILED:
                self.refunds.pop(deduction.id, None)
                self.deductions.pop(deduction.id, None)

    def deductions_minor(self) -> dict[UUID, int]:
        """Return what left of the amount of each leg."""
        worths = [LegWorth(leg.get("amount_minor", 0), self.leg_ends.get(leg["booking_id"])) for leg in self.legs]
        parts = leg_deductions_minor(
            worths,
            paid_minor=sum(self.payments.values()) or sum(leg.amount_minor for leg in worths),
            refunded_minor=sum(self.refunds.values()),
            taken_minor=sum(self.deductions.values()),
            closed_minor=sum(self.closings.values()),
        )
        return {UUID(leg["booking_id"]): part for leg, part in zip(self.legs, parts, strict=True)}

    def as_row(self) -> Mapping[str, object]:
        """Return the row; objects are PostgreSQL's texts of them; None: empty."""
        amounts = {
            "payments": self.payments,
            "leg_ends": self.leg_ends,
            "refunds": self.refunds,
            "deductions": self.deductions,
            "closings": self.closings,
        }
        texts = {name: msgspec.json.encode(each).decode() if each else None for name, each in amounts.items()}
        return {"trip_id": self.id, "payment_intent": self.payment_intent, **texts}


async def _locked(connection: AsyncConnection, trip_ids: Collection[UUID]) -> list[_Trip]:
    rows = await connection.execute(_LOCK, (list(trip_ids),))
    return [
        _Trip(
            id=id_,
            payment_intent=payment_intent,
            payments=payments or {},
            leg_ends=leg_ends or {},
            refunds=refunds or {},
            deductions=deductions or {},
            closings=closings or {},
            legs=legs,
            was_stay=was_stay,
        )
        async for (
            id_,
            payment_intent,
            payments,
            leg_ends,
            refunds,
            deductions,
            closings,
            legs,
            was_stay,
        ) in rows
    ]


_ADD: Final = """
insert into reported_trip (trip_id) select unnest(%b::uuid[]) order by 1 on conflict (trip_id) do nothing
"""
_LOCK: Final = """
select trip.trip_id, trip.payment_intent, trip.payments, trip.leg_ends, trip.refunds, trip.deductions, trip.closings,
       booking.legs, booking.earlier_stays is not null
from reported_trip as trip join booking on booking.id = trip.trip_id
where trip.trip_id = any(%b::uuid[]) order by trip.trip_id for update of trip
"""
_WRITE: Final = """
update reported_trip set payment_intent = %(payment_intent)s, payments = %(payments)s::jsonb,
                         leg_ends = %(leg_ends)s::jsonb, refunds = %(refunds)s::jsonb,
                         deductions = %(deductions)s::jsonb, closings = %(closings)s::jsonb
where trip_id = %(trip_id)s
"""
