"""One short storm over the whole system, from HTTP to Stripe; `make chaos` makes longer ones."""

import logging
from pathlib import Path

import pytest

from sandbox import kafka
from tests.system.pipeline import chaos
from tests.system.pipeline.faults import schedule

SEED = 3
SECONDS = 25.0


def test_a_seed_always_brings_the_same_storm() -> None:
    assert schedule(7, 60) == schedule(7, 60)
    assert schedule(7, 60) != schedule(8, 60)


def test_a_short_storm_brings_every_kind_of_fault() -> None:
    assert {fault.family for fault in schedule(SEED, SECONDS)} == {"F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8"}


@pytest.mark.timeout(900)
@pytest.mark.system
@pytest.mark.skipif(kafka.available() is not None, reason=kafka.available() or "")
async def test_no_guest_is_forgotten_and_no_room_sold_twice_in_a_storm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The client tells at length that a broker which was killed does not answer.
    caplog.set_level(logging.CRITICAL, "aiokafka")

    verdict = await chaos.run(SEED, SECONDS, tmp_path)

    assert verdict.problems == {}, f"seed {SEED}: {verdict.as_json()}"
    assert verdict.holds
    assert verdict.promised > 50
    assert verdict.confirmed > 0
