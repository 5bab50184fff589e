"""The real trace goes through Kafka, PostgreSQL and the workers with exact totals, also while workers are killed."""

import csv
import gzip
from itertools import islice
from pathlib import Path

import pytest

from sandbox.kafka import available
from sandbox.trace import read_trace
from tests.system.trace.replayed import ReplayedTrace, replay
from tests.system.trace.test_trace import TRACE, sell_by_hand

NO_KAFKA = available()
pytestmark = pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or "")

EVERY_TYPE_HAS_1000_ROOMS = {
    "refused_no_night": 715,
    "refused_negative_rate": 1,
    "sold_out": 0,
    "reserved": 118_674,
    "cancelled": 44_189,
    "kept": 74_485,
    "revenue_minor": 25_996_324_21,
    "fullest_night": 217,
    "room_nights": 255_030,
}
EVERY_TYPE_HAS_100_ROOMS = {
    "refused_no_night": 715,
    "refused_negative_rate": 1,
    "sold_out": 16_566,
    "reserved": 102_108,
    "cancelled": 37_921,
    "kept": 64_187,
    "revenue_minor": 22_586_015_71,
    "fullest_night": 100,
    "room_nights": 219_666,
}


def first_rows(count: int, folder: Path) -> Path:
    """Write the beginning of the trace to a file of its own."""
    with gzip.open(TRACE, "rt", encoding="utf-8", newline="") as lines:
        rows = list(islice(csv.reader(lines), count + 1))
    file = folder / "some.csv"
    with file.open("w", encoding="utf-8", newline="") as some:
        csv.writer(some).writerows(rows)
    return file


@pytest.mark.system
def test_a_few_thousand_guests_get_what_selling_by_hand_gives(tmp_path: Path) -> None:
    file = first_rows(3000, tmp_path)
    expected = sell_by_hand(read_trace(file, rooms=8), 8)

    result = replay(file, "--rooms", "8", "--workers", "2")

    assert expected["sold_out"] > 100
    assert result == {"rooms": 8, "workers": 2, "kills": 0, **expected, "seconds": result["seconds"], "audit": "ok"}


@pytest.mark.trace
@pytest.mark.timeout(1800)
def test_119390_real_guests_get_the_known_totals(replayed_trace: ReplayedTrace) -> None:
    result = replayed_trace.result

    assert {key: result[key] for key in EVERY_TYPE_HAS_1000_ROOMS} == EVERY_TYPE_HAS_1000_ROOMS
    assert (result["workers"], result["kills"], result["audit"]) == (3, 0, "ok")


@pytest.mark.trace
@pytest.mark.timeout(1800)
def test_119390_real_guests_get_the_known_totals_while_workers_are_killed() -> None:
    result = replay(TRACE, "--rooms", "100", "--kill-every", "3")

    assert {key: result[key] for key in EVERY_TYPE_HAS_100_ROOMS} == EVERY_TYPE_HAS_100_ROOMS
    assert result["kills"] > 0
    assert result["audit"] == "ok"
