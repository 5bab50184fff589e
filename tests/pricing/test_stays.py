"""Prices of nights and stays, and averages: exact, for all that a manager can set."""

import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.stays import NO_SURGE_MILLI, average_minor, night_price_minor, stay_amount_minor
from topics.messages.values import MAX_NIGHTS, MAX_PRICE_MINOR, MAX_ROOMS, MAX_SURGE_MILLI

PRICES = st.integers(0, MAX_PRICE_MINOR)
SURGES = st.integers(1, MAX_SURGE_MILLI)


def half_up(exact: Decimal) -> int:
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


@pytest.mark.parametrize(
    ("price_minor", "surge_milli", "costs_minor"),
    [
        (12_000, 1000, 12_000),
        (12_000, 1250, 15_000),
        (9_999, 1500, 14_999),  # 14,998.5
        (1, 499, 0),
        (1, 500, 1),
        (3, 500, 2),  # 1.5; to even it would be 2 as well,
        (5, 500, 3),  # and 2.5 would be 2.
        (0, 10_000, 0),
    ],
)
def test_half_a_minor_unit_is_rounded_up(price_minor: int, surge_milli: int, costs_minor: int) -> None:
    assert night_price_minor(price_minor, surge_milli) == costs_minor


@given(PRICES, SURGES)
def test_a_night_costs_its_price_times_its_surge(price_minor: int, surge_milli: int) -> None:
    assert night_price_minor(price_minor, surge_milli) == half_up(Decimal(price_minor) * surge_milli / 1000)


@given(PRICES)
def test_a_night_without_a_surge_costs_its_price(price_minor: int) -> None:
    assert night_price_minor(price_minor, NO_SURGE_MILLI) == price_minor


@given(st.lists(st.tuples(PRICES, SURGES), max_size=50))
def test_many_nights_at_once_cost_what_each_costs_by_itself(nights: list[tuple[int, int]]) -> None:
    prices, surges = (np.array([night[column] for night in nights], np.int64) for column in (0, 1))

    assert night_price_minor(prices, surges).tolist() == [night_price_minor(*night) for night in nights]


def test_a_stay_costs_all_its_nights_in_every_room() -> None:
    assert stay_amount_minor([12_000, 15_000, 15_000], 2) == 84_000
    assert stay_amount_minor(iter([500]), 1) == 500


def test_the_dearest_stay_that_can_be_set_fits_64_bits() -> None:
    dearest = night_price_minor(MAX_PRICE_MINOR, MAX_SURGE_MILLI)

    assert stay_amount_minor([dearest] * MAX_NIGHTS, MAX_ROOMS) < 2**63


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
