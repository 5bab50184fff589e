"""The comparison of two checkouts: its interval, its verdict, and how it reads an older release's output."""

import json
import math

import pytest

from benchmarks.interval import ratio_interval
from benchmarks.pair import PARTS, Block, costs, summary, verdict
from benchmarks.stage import BenchmarkFailed


def test_the_interval_is_students_t_on_the_logarithms() -> None:
    interval = ratio_interval([math.exp(value) for value in (0.01, 0.03, 0.02)])

    # The mean is 0.02, the deviation 0.01, and t of two degrees of freedom is 4.303.
    reach = 4.303 * 0.01 / math.sqrt(3)
    assert interval.middle == pytest.approx(math.exp(0.02))
    assert interval.low == pytest.approx(math.exp(0.02 - reach))
    assert interval.high == pytest.approx(math.exp(0.02 + reach))


def test_ten_equal_ratios_have_an_interval_without_width() -> None:
    interval = ratio_interval([1.05] * 10)

    assert [interval.low, interval.high] == pytest.approx([1.05, 1.05])


def test_many_ratios_use_the_last_value_of_the_table() -> None:
    logs = [0.01 * (-1) ** number for number in range(100)]

    interval = ratio_interval([math.exp(value) for value in logs])

    deviation = math.sqrt(sum(value**2 for value in logs) / 99)
    assert math.log(interval.high) == pytest.approx(2.042 * deviation / 10)


def test_one_ratio_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two ratios or more"):
        ratio_interval([1.0])


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.04, 1.0401, 1.0402], "worse"),
        ([1.02, 1.0201, 1.0202], "not worse"),
        ([0.9, 0.9001, 0.9002], "not worse"),
        # The interval begins below the limit: a loss is likely, and not shown.
        ([1.03, 1.04, 1.05], "not worse; the interval of 5.0 % is wider than the limit of 3 %"),
        ([1.5, 1.52, 1.54], "worse; the interval of 9.9 % is wider than the limit of 3 %"),
    ],
)
def test_worse_means_that_the_whole_interval_is_beyond_the_limit(ratios: list[float], expected: str) -> None:
    assert verdict(ratio_interval(ratios), 3.0) == expected


def test_a_block_compares_its_own_measurements_alone() -> None:
    slow, quick = dict.fromkeys(PARTS, 200.0), dict.fromkeys(PARTS, 100.0)
    # The machine was twice as slow during the second block: both checkouts felt it.
    blocks = [Block(older=[quick, quick], newer=[quick, quick]), Block(older=[slow, slow], newer=[slow, slow])]

    lines = list(summary(blocks, 3.0))

    assert [line.part for line in lines] == list(PARTS)
    assert {(line.older_us, line.newer_us, line.low, line.high, line.verdict) for line in lines} == {
        (150.0, 150.0, 1.0, 1.0, "not worse")
    }


def test_the_costs_are_read_from_the_lines_of_hot() -> None:
    values = {"worker": 150.5, "ingress": 200.0, "kafka": 50.0, "postgres": 80.0, "wrk": 10.0, "worker.faust": 30.0}
    lines = [json.dumps({"switched_off": ["rate limits"]})]
    lines += [json.dumps({"benchmark": f"hot.cpu.{part}", "value": value}) for part, value in values.items()]

    assert costs("hot", lines) == {"ingress": 200.0, "worker": 150.5, "kafka": 50.0, "postgres": 80.0, "sum": 350.5}


def test_a_part_that_is_missing_is_named() -> None:
    with pytest.raises(BenchmarkFailed, match="no CPU time of ingress, kafka, postgres"):
        costs("hot", [json.dumps({"benchmark": "hot.cpu.worker", "value": 1.0})])
