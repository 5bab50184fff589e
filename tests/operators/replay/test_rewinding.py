"""Each consumer of events has a known effect of reading them again."""

from operators.replay.rewinding import EVENT_CONSUMERS, REWIND_EFFECTS
from storage.projections.rebuildable import PROJECTIONS
from topics.catalogue import BOOKING_EVENTS
from topics.consumers import CONSUMERS


def test_every_consumer_of_events_has_an_effect_and_no_other_name_has_one() -> None:
    consumers = {each.name for each in CONSUMERS if BOOKING_EVENTS in each.topics}

    assert set(EVENT_CONSUMERS) == set(REWIND_EFFECTS) == consumers


def test_an_effect_is_either_described_or_refused() -> None:
    for name, effect in REWIND_EFFECTS.items():
        assert bool(effect.description) != (effect.blocked_reason is not None), name


def test_a_consumer_that_is_refused_is_one_that_can_be_rebuilt_instead() -> None:
    for name, effect in REWIND_EFFECTS.items():
        if effect.blocked_reason is not None:
            assert name in PROJECTIONS
            assert f"innkeeper rebuild {name}" in effect.blocked_reason
