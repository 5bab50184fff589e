"""The costs of a cancellation, of a no-show and of an early departure, by the policy of a rate plan."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Final

from pricing.charges import step_minor
from pricing.rounding import half_up
from topics.messages.sale import KEEP_ALL, KEEP_NOTHING, CancellationStep, Kept, RatePlan, WallTime

_WHOLE_PERCENT: Final = 100


def kept_minor(kept: Kept, amount_minor: int, night_amounts_minor: Sequence[int], currency: str) -> int:
    """Return the part of a stay's amount that is kept: never more than all, a multiple of the currency's step.

    The price of the first nights is their share in the whole amount, taxes included.
    """
    if kept.percent is not None:
        part, divisor = amount_minor * kept.percent, _WHOLE_PERCENT
    elif kept.nights is not None:
        part, divisor = sum(night_amounts_minor[: kept.nights]), 1
    else:
        part, divisor = kept.amount_minor or 0, 1
    return min(amount_minor, half_up(part, divisor, step_minor(currency)))


def cancellation_steps(
    plan: RatePlan,
    amount_minor: int,
    night_amounts_minor: Sequence[int],
    *,
    check_in: date,
    check_in_time: time,
    currency: str,
) -> tuple[CancellationStep, ...]:
    """Return what a cancellation of the stay costs, by wall times at the hotel; the last step has no end.

    Neighbouring steps of the same cost are one.
    """
    if not plan.refundable:
        return (CancellationStep(kept_minor=amount_minor, percent=_WHOLE_PERCENT),)
    arrival = datetime.combine(check_in, check_in_time.replace(tzinfo=None))
    ends = [*(_before(arrival, each.hours_before) for each in plan.policy.steps), None]
    costs = [KEEP_NOTHING, *(each.kept for each in plan.policy.steps)]
    steps: list[CancellationStep] = []
    for end, cost in zip(ends, costs, strict=True):
        amount = kept_minor(cost, amount_minor, night_amounts_minor, currency)
        if steps and (steps[-1].kept_minor, steps[-1].percent) == (amount, cost.percent):
            steps.pop()
        steps.append(CancellationStep(until=end, kept_minor=amount, percent=cost.percent))
    return tuple(steps)


def step_in_force(
    steps: Sequence[CancellationStep], ends: Sequence[datetime | None], now: datetime
) -> tuple[CancellationStep, datetime | None]:
    """Return the step of a policy that counts at `now`, and the instant (UTC) at which it ends; None: it has no end.

    `ends` are the instants at which the steps end, in their order; the last step has none.
    """
    in_force = ((step, end) for step, end in zip(steps, ends, strict=True) if end is None or now < end)
    return next(in_force, (steps[-1], None))


def _before(arrival: WallTime, hours: int) -> WallTime:
    """Return the wall time so many hours before the arrival, at the earliest the first that there is."""
    try:
        return arrival - timedelta(hours=hours)
    except OverflowError:
        return datetime.combine(date.min, time.min)


def no_show_kept_minor(plan: RatePlan, amount_minor: int, night_amounts_minor: Sequence[int], currency: str) -> int:
    """Return what is kept of a stay's amount if nobody arrives."""
    return kept_minor(plan.policy.no_show if plan.refundable else KEEP_ALL, amount_minor, night_amounts_minor, currency)


def early_departure_kept_minor(amount_minor: int, unused_minor: int, percent: int, currency: str) -> int:
    """Return what is kept of a stay's amount if nights of the amount `unused_minor` are left unused."""
    part = (amount_minor - unused_minor) * _WHOLE_PERCENT + unused_minor * percent
    return min(amount_minor, half_up(part, _WHOLE_PERCENT, step_minor(currency)))
