"""A stay of the daily report, as far as the events have come: its payments, its deductions, the amounts of its nights.

Pure; `storage.projections.daily_report` explains the rules.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple
from uuid import UUID

from pricing.revenue import LegWorth, leg_deductions_minor, taxes_at_hotel_minor, without_taxes_at_hotel
from pricing.shares import shares_minor
from storage.projections.report_changes import Deduction, DeductionKind, End
from topics.messages.events import StayChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStay:
    """A stay as it is counted so far, with the changes of this batch.

    `payments` are the amounts of the payments that pay it, by payment intent, once it was changed; empty before.
    `leg_deducted_minor` is what left of its amount, if it is a leg of a trip.
    """

    booking_id: UUID
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    night_amounts_minor: Sequence[int] | None
    prepaid: bool
    payment_intent: str | None
    payments: Mapping[str, int]
    deductions: Mapping[str, int]
    kept_minor: int | None
    freed_from: date | None
    refunds: Mapping[str, int]
    closings: Mapping[str, int]
    leg_deducted_minor: int

    @property
    def amounts_minor(self) -> Sequence[int]:
        """The amount of each night; an even share for a stay without amounts by night."""
        return self.night_amounts_minor or shares_minor(self.amount_minor, (1,) * (self.check_out - self.check_in).days)

    @property
    def paying(self) -> Collection[str | None]:
        """The payment intents of the payments that pay the stay."""
        return self.payments.keys() or {self.payment_intent}


def without_taxes(known: KnownStay, taxes_minor: int) -> KnownStay:
    """Return the stay without the taxes in its amount that the hotel collects whatever the plan is."""
    if not taxes_minor:
        return known
    amount_minor, by_night = without_taxes_at_hotel(known.amount_minor, known.amounts_minor, taxes_minor)
    return replace(known, amount_minor=amount_minor, night_amounts_minor=by_night)


def changed_stay(known: KnownStay, change: StayChanged) -> KnownStay:
    """Return the stay after a change."""
    payments = dict(known.payments)
    if not payments and known.prepaid and known.payment_intent is not None:
        payments[known.payment_intent] = change.before.amount_minor
    if change.payment_intent is not None:
        payments[change.payment_intent] = change.extra_minor
    changed = replace(
        known,
        check_in=change.check_in,
        check_out=change.check_out,
        rooms_count=change.rooms_count,
        amount_minor=change.amount_minor,
        night_amounts_minor=change.night_amounts_minor or None,
        payments=payments,
    )
    return without_taxes(changed, taxes_at_hotel_minor(change.sale))


class LeftMoney(NamedTuple):
    """The money that left the payments of a stay: all, the part by refunds of this product, and what was closed."""

    deductions: dict[str, int]
    refunds: dict[str, int]
    closings: dict[str, int]


def money_left(known: KnownStay, deductions: Sequence[Deduction]) -> LeftMoney:
    """Return what left the payments of the stay after the deductions; those of other payments do not count."""
    left = LeftMoney(dict(known.deductions), dict(known.refunds), dict(known.closings))
    for each in deductions:
        if each.payment_intent not in known.paying:
            continue
        match each.kind:
            case DeductionKind.CLOSED:
                left.closings[each.id] = each.amount_minor
            case DeductionKind.FAILED:
                left.deductions.pop(each.id, None)
                left.refunds.pop(each.id, None)
            case DeductionKind.REFUND:
                left.deductions[each.id] = left.refunds[each.id] = each.amount_minor
            case DeductionKind.TAKEN:
                left.deductions[each.id] = each.amount_minor
    return left


def held_minor(known: KnownStay, end: End, freed_from: date) -> int:
    """Return what the hotel has of a stay that ended early, before deductions."""
    if known.prepaid:
        return end.kept_minor
    return sum(known.amounts_minor[: _sold_count(known, freed_from)]) if end.departed else 0


def _sold_count(known: KnownStay, freed_from: date) -> int:
    """Return how many nights of the stay stay sold."""
    return min(max(0, (freed_from - known.check_in).days), len(known.amounts_minor))


def deducted_minor(known: KnownStay, left: LeftMoney, kept_minor: int | None) -> int:
    """Return what left of the stay's amount: not what left because changes made the stay cheaper.

    Of a leg, what it gave up at its end and what left of the rest.
    """
    if known.leg_deducted_minor:
        return known.leg_deducted_minor + (0 if kept_minor is None else known.amount_minor - kept_minor)
    refunded_minor = sum(left.refunds.values())
    [gone_minor] = leg_deductions_minor(
        [LegWorth(known.amount_minor)],
        paid_minor=sum(known.payments.values()) or known.amount_minor,
        refunded_minor=refunded_minor,
        taken_minor=sum(left.deductions.values()) - refunded_minor,
        closed_minor=sum(left.closings.values()),
    )
    return gone_minor


def night_deductions_minor(
    known: KnownStay, deducted_minor: int, kept_minor: int | None, freed_from: date | None
) -> list[int] | None:
    """Return by how much the amount of each night is more than what counts of it; None: all of it counts.

    The nights that were freed share the fee, if there is one.
    """
    amounts = known.amounts_minor
    amount_minor = sum(amounts)
    if freed_from is None:
        return list(shares_minor(min(deducted_minor, amount_minor), amounts)) if deducted_minor else None
    count = _sold_count(known, freed_from)
    left_minor = max(0, min(kept_minor or 0, amount_minor - deducted_minor))
    earned_minor = min(left_minor, sum(amounts[:count]))
    counted = (
        *shares_minor(earned_minor, amounts[:count]),
        *shares_minor(left_minor - earned_minor, amounts[count:]),
    )
    return [amount - counts for amount, counts in zip(amounts, counted, strict=True)]
