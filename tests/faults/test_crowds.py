"""The checks of crowds can fail."""

import random
from collections import Counter

from tests.faults.rows.crowds import (
    MAX_OVERDUE_SECONDS,
    hold_seconds,
    neither_nor,
    overdue,
    pause_seconds,
    strange_decisions,
)
from tests.support.client import Answer


def test_a_payment_without_an_end_or_with_another_one_is_found() -> None:
    assert neither_nor(Counter({"confirmed": 1, "gone back": 2}), 3) == []
    assert neither_nor(Counter({"confirmed": 2}), 3)
    assert neither_nor(Counter({"confirmed": 2, "both": 1}), 3)


def test_a_stay_that_is_not_decided_or_twice_or_refused_for_another_reason_is_found() -> None:
    assert strange_decisions(Counter({"reserved": 1, "sold_out": 9}), 10) == []
    assert strange_decisions(Counter({"reserved": 1, "sold_out": 8}), 10)
    assert strange_decisions(Counter({"reserved": 1, "sold_out": 10}), 10)
    assert strange_decisions(Counter({"reserved": 1, "sold_out": 8, "closed": 1}), 10)


def test_holds_of_different_moments_end_in_the_same_second() -> None:
    ends = {int(now + hold_seconds(now, 1_030)) for now in (1_000.0, 1_000.999, 1_004.5)}

    assert ends == {1_030}


def test_a_hold_that_ends_late_or_not_at_all_is_found() -> None:
    assert overdue(10, 10, MAX_OVERDUE_SECONDS) == []
    assert overdue(9, 10, 0.0)
    assert overdue(10, 10, MAX_OVERDUE_SECONDS + 0.1)


def test_a_guest_who_may_try_again_waits_about_as_long_as_the_answer_asks_and_longer_each_time() -> None:
    answer, chance = Answer(503, None, {"Retry-After": "2"}), random.Random(1)

    pauses = [pause_seconds(answer, tries, chance) for tries in (0, 3, 100)]

    assert 1.0 <= pauses[0] <= 3.0
    assert all(8.0 <= pause <= 24.0 for pause in pauses[1:])
