"""Prices of nights and stays, and averages: exact, for all that a manager can set."""

import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.stays import MAX_ROOMS_OF_A_BOOKING, MAX_STAY_NIGHTS
from pricing.charges import step_minor
from pricing.currencies import CURRENCIES
from pricing.stays import NO_SURGE_MILLI, average_minor, night_price_minor, stay_amount_minor
from topics.messages.values import MAX_PRICE_MINOR, MAX_SURGE_MILLI

PRICES = st.integers(0, MAX_PRICE_MINOR)
SURGES = st.integers(1, MAX_SURGE_MILLI)
STEPS = st.sampled_from(sorted({step_minor(currency) for currency in CURRENCIES}))


def half_up(exact: Decimal, step: int = 1) -> int:
    return int((exact / step).quantize(Decimal(1), ROUND_HALF_UP)) * step


@pytest.mark.parametrize(
    ("price_minor", "surge_milli", "step", "costs_minor"),
    [
        (12_000, 1000, 1, 12_000),
        (12_000, 1250, 1, 15_000),
        (9_999, 1500, 1, 14_999),  # 14,998.5
        (1, 499, 1, 0),
        (1, 500, 1, 1),
        (3, 500, 1, 2),  # 1.5; to even it would be 2 as well,
        (5, 500, 1, 3),  # and 2.5 would be 2.
        (0, 10_000, 1, 0),
        (12_345, 1000, 10, 12_350),  # 12.345 dinars
        (12_344, 1000, 10, 12_340),
        (34_449, 100, 10, 3_440),  # 3,444.9; in two roundings, to 3,445 first, it would be 3,450.
        (500_050, 1000, 100, 500_100),  # 5,000.50 ariary
        (500_049, 1000, 100, 500_000),
    ],
)
def test_half_a_step_is_rounded_up(price_minor: int, surge_milli: int, step: int, costs_minor: int) -> None:
    assert night_price_minor(price_minor, surge_milli, step) == costs_minor


@given(PRICES, SURGES, STEPS)
def test_a_night_costs_its_price_times_its_surge(price_minor: int, surge_milli: int, step: int) -> None:
    assert night_price_minor(price_minor, surge_milli, step) == half_up(Decimal(price_minor) * surge_milli / 1000, step)


@given(PRICES, STEPS)
def test_a_chargeable_night_without_a_surge_costs_its_price(price_minor: int, step: int) -> None:
    price_minor -= price_minor % step

    assert night_price_minor(price_minor, NO_SURGE_MILLI, step) == price_minor


@given(st.lists(st.tuples(PRICES, SURGES), max_size=50), STEPS)
def test_many_nights_at_once_cost_what_each_costs_by_itself(nights: list[tuple[int, int]], step: int) -> None:
    prices, surges = (np.array([night[column] for night in nights], np.int64) for column in (0, 1))

    assert night_price_minor(prices, surges, step).tolist() == [night_price_minor(*night, step) for night in nights]


@given(st.lists(st.tuples(PRICES, SURGES), min_size=1, max_size=30), st.integers(1, 10), STEPS)
def test_every_stay_costs_a_multiple_of_the_step(nights: list[tuple[int, int]], rooms_count: int, step: int) -> None:
    assert stay_amount_minor((night_price_minor(*night, step) for night in nights), rooms_count) % step == 0


def test_a_stay_costs_all_its_nights_in_every_room() -> None:
    assert stay_amount_minor([12_000, 15_000, 15_000], 2) == 84_000
    assert stay_amount_minor(iter([500]), 1) == 500


@pytest.mark.parametrize("step", [1, 10, 100])
def test_the_dearest_stay_that_can_be_asked_for_fits_64_bits_as_does_its_average_in_thousandths(step: int) -> None:
    # A search computes them for nights that nobody could pay, too, before it leaves those out.
    prices, surges = (np.array([value] * MAX_STAY_NIGHTS) for value in (MAX_PRICE_MINOR, MAX_SURGE_MILLI))
    dearest = night_price_minor(prices, surges, step)

    assert dearest.tolist() == [MAX_PRICE_MINOR * MAX_SURGE_MILLI // 1000] * MAX_STAY_NIGHTS
    stay_minor = stay_amount_minor(dearest.tolist(), MAX_ROOMS_OF_A_BOOKING)
    assert stay_minor < 2**63
    assert stay_minor * 1000 < 2**63


@given(PRICES, st.integers(1, 1000))
def test_an_average_is_rounded_half_up(amount_minor: int, count: int) -> None:
    assert average_minor(amount_minor, count) == half_up(Decimal(amount_minor) / count)


@given(st.lists(PRICES, max_size=50), st.integers(1, 60))
def test_many_averages_at_once_are_those_of_each(amounts_minor: list[int], count: int) -> None:
    averages = average_minor(np.array(amounts_minor, np.int64), count)

    assert averages.tolist() == [average_minor(amount, count) for amount in amounts_minor]


@pytest.mark.process
def test_a_process_that_decides_does_not_load_numpy() -> None:
    source = "import sys, workers.decisions, pricing.currencies; sys.exit('numpy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
