"""The checks of the row of two releases can fail."""

from collections import Counter

import pytest

from tests.faults.rows import releases
from tests.faults.rows.releases import NEW_EVENTS, OLD_EVENTS, SIDE_BY_SIDE
from tests.faults.scenes import empty_scene
from tests.system.pipeline.rollout import CHANGED_V1, CHANGED_V2, Rollout


def test_a_rollout_that_one_worker_made_alone_or_without_old_events_does_not_count() -> None:
    scene = empty_scene()
    releases.note(scene, Rollout(partitions=Counter({"reservations-1": 4}), events=Counter({CHANGED_V2: 1})))
    assert +scene.causes == {NEW_EVENTS: 1}

    scene, both = empty_scene(), Counter[str | None]({"reservations-1": 3, "reservations-2": 1})
    releases.note(scene, Rollout(partitions=both, events=Counter({CHANGED_V1: 2, CHANGED_V2: 1})))
    assert +scene.causes == {SIDE_BY_SIDE: 1, OLD_EVENTS: 2, NEW_EVENTS: 1}


@pytest.mark.parametrize("sentence", ["both workers have partitions", ""])
def test_a_rollout_that_did_not_hold_is_named_by_its_words_or_by_its_source(sentence: str) -> None:
    with pytest.raises(AssertionError) as raised:
        raise AssertionError(sentence)  # The source of this line.

    assert (sentence or "The source of this line") in releases.where(raised.value)


def test_a_history_without_the_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "RELEASE_BEFORE", "0" * 40)

    reason = releases.missing()

    assert reason is not None
    assert "git fetch" in reason
