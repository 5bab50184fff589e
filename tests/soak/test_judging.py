"""Made series: leaks are found, noise, saw-teeth, restarts and faults are not."""

import random
from collections.abc import Callable

import pytest

from tests.soak.judging import Below, Flat, Growth, PerBooking, Point, judge

EVERY = 15 / 3600
MEMORY = Flat(per_hour=8.0)


def series(
    value: Callable[[float], float], hours: float = 1.0, process: Callable[[float], str] = lambda _: "1"
) -> list[Point]:
    """Return a sample every 15 s of a function of the hours, with 18,000 bookings an hour."""
    times = [number * EVERY for number in range(round(hours / EVERY))]
    return [Point(time, value(time), process(time), round(time * 18_000)) for time in times]


def noise(seed: int, size: float) -> Callable[[], float]:
    """Return a source of noise that is the same in each run."""
    chance = random.Random(seed)
    return lambda: chance.gauss(0.0, size)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not_growth(seed: int) -> None:
    wild = noise(seed, 3.0)

    assert judge(series(lambda _: 90 + wild()), MEMORY).growth is Growth.NO


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_in_noise_is_found(seed: int) -> None:
    wild = noise(seed, 3.0)
    judgement = judge(series(lambda hours: 90 + 30 * hours + wild()), MEMORY)

    assert judgement.growth is Growth.GROWS
    assert judgement.slope == pytest.approx(30, abs=4)


def test_growth_below_the_limit_is_none() -> None:
    assert judge(series(lambda hours: 90 + 7 * hours), MEMORY).growth is Growth.NO
    assert judge(series(lambda hours: 90 + 9 * hours), MEMORY).growth is Growth.GROWS


def test_a_slope_within_the_noise_is_not_called_growth_and_the_judgement_names_what_it_can_notice() -> None:
    wild = noise(1, 30.0)
    judgement = judge(series(lambda hours: 90 + 9 * hours + wild()), MEMORY)

    assert judgement.growth is Growth.NO
    assert judgement.notices == pytest.approx(2 * judgement.noise / 0.5, rel=0.1)
    assert judgement.notices is not None
    assert judgement.notices > MEMORY.per_hour


@pytest.mark.parametrize("minutes", [1, 3, 7])
def test_saw_teeth_are_not_growth(minutes: float) -> None:
    period = minutes / 60

    assert judge(series(lambda hours: 90 + 40 * (hours % period) / period), MEMORY).growth is Growth.NO


def test_a_leak_under_saw_teeth_is_found() -> None:
    period = 3 / 60
    leaky = series(lambda hours: 90 + 60 * hours + 10 * (hours % period) / period)

    assert judge(leaky, MEMORY).growth is Growth.GROWS


def test_caches_that_fill_up_in_the_first_half_are_not_growth() -> None:
    assert judge(series(lambda hours: 90 + 40 * min(hours, 0.4)), MEMORY).growth is Growth.NO


def test_the_minutes_of_faults_do_not_count() -> None:
    assert judge(series(lambda hours: 500 if (hours * 60) % 5 < 1 else 90), MEMORY).growth is Growth.NO


def test_a_leak_is_found_although_the_process_is_killed_every_ten_minutes() -> None:
    def hours_old(hours: float) -> float:
        return hours % (1 / 6)

    leaky = series(lambda hours: 90 + 60 * hours_old(hours), process=lambda hours: str(hours // (1 / 6)))

    assert judge(leaky, MEMORY).growth is Growth.GROWS


def test_processes_that_are_killed_and_fill_their_caches_again_do_not_grow() -> None:
    def minutes_old(hours: float) -> float:
        return (hours * 60) % 10

    restarted = series(
        lambda hours: 60 + 10 * min(minutes_old(hours), 2.5), process=lambda hours: str(hours // (1 / 6))
    )

    assert judge(restarted, MEMORY).growth is Growth.NO


def test_one_descriptor_more_is_no_leak_and_one_more_every_few_minutes_is() -> None:
    descriptors = Flat(per_hour=3.0, grain=2.0)

    assert judge(series(lambda hours: 24 + (hours > 0.7)), descriptors).growth is Growth.NO
    assert judge(series(lambda hours: 24 + hours * 60 // 2, hours=0.5), descriptors).growth is Growth.GROWS
    assert judge(series(lambda hours: 24 + hours * 60 // 6), descriptors).growth is Growth.GROWS


def test_a_run_that_is_too_short_is_not_judged() -> None:
    assert judge(series(lambda _: 90, hours=0.05), MEMORY).growth is Growth.UNKNOWN
    assert judge([], MEMORY).growth is Growth.UNKNOWN
    assert judge(series(lambda _: 90, hours=0.05), PerBooking(limit=1.0)).growth is Growth.UNKNOWN
    assert judge([], Below(ceiling=1.0)).growth is Growth.UNKNOWN


def test_a_table_whose_rows_are_of_one_size_grows_with_bookings_alone() -> None:
    judgement = judge(series(lambda hours: 8192e-6 * (18_000 * hours * 900 // 8192)), PerBooking(limit=2_000e-6))

    assert judgement.growth is Growth.NO
    assert judgement.slope == pytest.approx(900e-6, rel=0.02)


def test_a_table_that_is_too_large_for_its_bookings_is_found() -> None:
    assert judge(series(lambda hours: 18_000 * hours * 2_100e-6), PerBooking(limit=2_000e-6)).growth is Growth.GROWS


def test_bookings_that_become_dearer_are_found() -> None:
    bloating = series(lambda hours: 18_000 * 900e-6 * (hours + hours**2))
    judgement = judge(bloating, PerBooking(limit=20_000e-6))

    assert judgement.growth is Growth.GROWS
    assert judgement.before is not None
    assert judgement.slope > 1.5 * judgement.before


def test_a_bound_that_is_passed_once_is_passed() -> None:
    rows = series(lambda hours: 300 if round(hours / EVERY) == 200 else 20)

    assert judge(rows, Below(ceiling=299)).growth is Growth.GROWS
    assert judge(rows, Below(ceiling=300)).growth is Growth.NO
