"""The limits of each part, computed from measured costs."""

import pytest

from benchmarks.capacity import SPREAD, Costs, busiest_share, rate_of_core, rate_of_workers

pytestmark = pytest.mark.unit


def test_a_single_worker_decides_all() -> None:
    assert busiest_share(rooms=1_000, partitions=12, workers=1) == 1


def test_one_room_keeps_one_worker_busy_however_many_there_are() -> None:
    assert busiest_share(rooms=1, partitions=12, workers=12) == 1
    assert rate_of_workers(SPREAD, rooms=1, partitions=48, workers=24) == rate_of_core(SPREAD.worker)


def test_workers_beyond_the_partitions_decide_nothing() -> None:
    assert busiest_share(rooms=1_000, partitions=4, workers=9) == busiest_share(rooms=1_000, partitions=4, workers=4)


def test_no_worker_has_less_than_its_part_of_the_most_popular_room() -> None:
    most_popular = 1 / sum(1 / rank for rank in range(1, 10_001))

    assert busiest_share(rooms=10_000, partitions=48, workers=48) > most_popular
    assert busiest_share(rooms=10_000, partitions=48, workers=4) > 1 / 4


def test_a_core_is_used_to_seven_tenths() -> None:
    costs = Costs(ingress=100, worker=70, kafka=1, postgres=1)

    assert rate_of_core(costs.worker) == pytest.approx(10_000)
    assert rate_of_core(costs.ingress) == pytest.approx(7_000)
