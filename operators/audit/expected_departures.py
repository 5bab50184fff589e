"""Computes the amount that a hotel keeps of a stay that a guest cancels, and of one whose guests leave early."""

from collections.abc import Iterator
from fractions import Fraction

from operators.audit.amounts import rounded, shares_of_nights
from operators.audit.expected_rows import Booking, Event, days_of, milliseconds
from operators.audit.expected_sales import costs_of_changes, instant_ms, steps_of
from topics.zones import ZONE_DATA_VERSION


def kept_of_early_departure(booking: Booking, freed_from: str) -> tuple[int, int | None]:
    """Return what is kept of the amount if the nights from `freed_from` on are left unused, and the percentage of it.

    A guest who leaves early pays no less than the cheapest cancellation of the stay, which has no percentage here.
    """
    if booking.sale is None:
        return booking.amount, 100
    costs = costs_of_changes(booking)
    price = booking.amount - costs
    amounts = shares_of_nights(price, booking.night_amounts) if costs else booking.night_amounts
    days = days_of(booking.check_in, booking.check_out)
    unused = sum(amount for day, amount in zip(days, amounts, strict=False) if day >= freed_from)
    percent = booking.sale["early_departure_percent"]
    kept = costs + min(price, rounded(price - unused + Fraction(unused * percent, 100), booking.currency))
    least = min(step.kept for step in steps_of(booking.sale))
    return (kept, percent) if kept >= least else (least, None)


def faults_of_cancellation(booking: Booking, sale: Event, policy: Event | None, now_ms: int) -> Iterator[str]:
    """Yield what a guest's cancellation of a sold stay applied otherwise than the stay's sale, in words."""
    steps = steps_of(sale)
    costs = [(step.kept, step.percent) for step in steps]
    if policy is None:
        yield f"cancelled by the guest without its policy, which keeps {costs}"
        return
    applied = (policy["kept_minor"], policy.get("percent"))
    if applied not in costs:
        yield f"cancelled by the guest, and {policy} is kept of {costs}"
        return
    if booking.stay_times is None or policy.get("zone_data") != ZONE_DATA_VERSION:
        # The event has neither the hotel's times nor the clock that they were read with.
        return
    time_zone = booking.stay_times["time_zone"]
    ends = [None if step.until is None else instant_ms(step.until, time_zone) for step in steps]
    number = next(number for number, end in enumerate(ends) if end is None or now_ms < end)
    if (*applied, milliseconds(policy.get("until"))) != (*costs[number], ends[number]):
        yield f"cancelled by the guest, and {policy} is kept, by its policy {costs[number][0]} at that time"
