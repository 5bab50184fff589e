"""The costs of a cancellation, a no-show and an early departure, by the steps of a policy on the hotel's clock."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from pricing.policy import (
    cancellation_steps,
    early_departure_kept_minor,
    kept_minor,
    no_show_kept_minor,
)
from tests.pricing.offers import FIRST, Stay, stays, wall_time
from topics.messages.sale import CancellationPolicy, CancellationStep, Kept, PolicyStep, RatePlan

HALF, ALL = Kept(percent=50), Kept(percent=100)
NIGHTS = (120_00, 80_00)


def policy(*steps: tuple[int, Kept]) -> RatePlan:
    """Return a plan whose cancellation costs this, from so many hours before check-in on."""
    return RatePlan(
        id="standard",
        name="Standard",
        policy=CancellationPolicy(
            id="policy", steps=tuple(PolicyStep(hours_before=hours, kept=cost) for hours, cost in steps)
        ),
    )


def steps_of(plan: RatePlan, check_in: date = FIRST, check_in_time: time = time(15)) -> tuple[CancellationStep, ...]:
    """Return the steps of a stay of 200.00."""
    return cancellation_steps(plan, 200_00, NIGHTS, check_in=check_in, check_in_time=check_in_time, currency="EUR")


@pytest.mark.parametrize(
    ("kept", "currency", "amount_minor"),
    [
        (Kept(percent=0), "EUR", 0),
        (Kept(percent=33), "EUR", 66_00),
        (Kept(percent=100), "EUR", 200_00),
        (Kept(nights=0), "EUR", 0),
        (Kept(nights=1), "EUR", 120_00),
        (Kept(nights=2), "EUR", 200_00),
        (Kept(nights=1000), "EUR", 200_00),
        (Kept(amount_minor=0), "EUR", 0),
        (Kept(amount_minor=50_00), "EUR", 50_00),
        (Kept(amount_minor=500_00), "EUR", 200_00),
    ],
)
def test_a_part_of_a_price_is_kept_and_never_more_than_all(kept: Kept, currency: str, amount_minor: int) -> None:
    assert kept_minor(kept, 200_00, NIGHTS, currency) == amount_minor


@pytest.mark.parametrize(
    ("percent", "amount_minor", "currency", "kept"),
    [
        (50, 1, "EUR", 1),
        (33, 10_01, "EUR", 3_30),  # 3.3033
        (35, 10_10, "EUR", 3_54),  # 3.535
        (33, 12_340, "KWD", 4_070),  # 4.0722 dinars, by steps of 0.010
        (50, 12_350, "KWD", 6_180),  # 6.175
        (33, 101, "JPY", 33),
        (50, 101, "ISK", 51),
        (33, 100_00, "MGA", 33_00),
        (50, 1_00, "MGA", 1_00),
    ],
)
def test_a_percentage_is_rounded_half_up_to_what_can_be_refunded(
    percent: int, amount_minor: int, currency: str, kept: int
) -> None:
    assert kept_minor(Kept(percent=percent), amount_minor, (amount_minor,), currency) == kept


def test_a_cancellation_is_free_before_the_first_step_and_each_step_ends_at_a_wall_time() -> None:
    assert steps_of(policy((48, HALF), (6, ALL))) == (
        CancellationStep(until=wall_time(date(2026, 12, 22), 15), kept_minor=0, percent=0),
        CancellationStep(until=wall_time(date(2026, 12, 24), 9), kept_minor=100_00, percent=50),
        CancellationStep(kept_minor=200_00, percent=100),
    )


def test_without_steps_a_cancellation_is_free_until_check_in() -> None:
    assert steps_of(policy()) == (CancellationStep(kept_minor=0, percent=0),)


def test_a_plan_that_is_not_refundable_keeps_all_with_any_policy() -> None:
    plan = replace(policy((48, HALF)), refundable=False)

    assert steps_of(plan) == (CancellationStep(kept_minor=200_00, percent=100),)
    assert no_show_kept_minor(replace(plan, policy=replace(plan.policy, no_show=HALF)), 200_00, NIGHTS, "EUR") == 200_00


def test_neighbouring_steps_of_the_same_cost_are_one() -> None:
    assert steps_of(policy((72, Kept(percent=0)), (48, HALF), (24, HALF), (6, ALL))) == (
        CancellationStep(until=wall_time(date(2026, 12, 22), 15), kept_minor=0, percent=0),
        CancellationStep(until=wall_time(date(2026, 12, 24), 9), kept_minor=100_00, percent=50),
        CancellationStep(kept_minor=200_00, percent=100),
    )


def test_steps_by_nights_and_by_amounts_name_no_percentage() -> None:
    free, night, amount = steps_of(policy((48, Kept(nights=1)), (24, Kept(amount_minor=150_00))))

    assert (free.percent, night.percent, amount.percent) == (0, None, None)
    assert (night.kept_minor, amount.kept_minor) == (120_00, 150_00)


def test_the_hours_are_counted_on_the_wall_clock_whatever_the_season() -> None:
    """Clocks in Vancouver go forward on 8 March 2026: 48 hours before 15:00 are 47 hours before by a stopwatch."""
    first, _ = steps_of(policy((48, HALF)), check_in=date(2026, 3, 9))

    assert first.until == wall_time(date(2026, 3, 7), 15)


def test_a_check_in_time_with_an_offset_gives_wall_times_without_one() -> None:
    first, _ = steps_of(policy((24, HALF)), check_in_time=time(15, tzinfo=UTC))

    assert first.until == wall_time(date(2026, 12, 23), 15)
    assert first.until.tzinfo is None


def test_hours_before_the_first_day_of_the_calendar_end_there() -> None:
    first, _ = steps_of(policy((48, HALF)), check_in=date.min)

    assert first.until == wall_time(date.min, 0)


@settings(max_examples=50)
@given(stays())
def test_the_steps_of_every_policy_are_in_order_of_time_and_the_last_has_no_end(case: Stay) -> None:
    sale = case.price().sale
    assert sale is not None
    *earlier, last = sale.steps
    ends = [step.until for step in earlier if step.until is not None]

    assert last.until is None
    assert len(ends) == len(earlier)
    assert ends == sorted(set(ends))
    assert all(end <= datetime.combine(FIRST, case.check_in_time) for end in ends)
    costs = [(step.kept_minor, step.percent) for step in sale.steps]
    assert all(one != other for one, other in pairwise(costs))


@pytest.mark.parametrize(
    ("unused_minor", "percent", "currency", "kept"),
    [
        (80_00, 100, "EUR", 200_00),
        (80_00, 50, "EUR", 160_00),
        (80_00, 0, "EUR", 120_00),
        (200_00, 0, "EUR", 0),
        (80_01, 50, "EUR", 160_00),  # 159.995
        (6_667, 0, "MGA", 13_300),  # 133.33 ariary, in steps of one
    ],
)
def test_an_early_departure_keeps_what_was_used_and_a_part_of_the_rest(
    unused_minor: int, percent: int, currency: str, kept: int
) -> None:
    assert early_departure_kept_minor(200_00, unused_minor, percent, currency) == kept


def test_a_no_show_costs_what_the_policy_keeps() -> None:
    plan = policy()
    for cost, kept in ((ALL, 200_00), (Kept(nights=1), 120_00), (Kept(amount_minor=30_00), 30_00)):
        priced = replace(plan, policy=replace(plan.policy, no_show=cost))
        assert no_show_kept_minor(priced, 200_00, NIGHTS, "EUR") == kept


def test_a_promise_on_the_wall_clock_has_no_zone() -> None:
    """Its instant is derived when it is needed, with the zone data of that day."""
    first, _ = steps_of(policy((24, HALF)))

    assert first.until is not None
    assert first.until.tzinfo is None
    assert first.until + timedelta(hours=24) == datetime.combine(FIRST, time(15))
