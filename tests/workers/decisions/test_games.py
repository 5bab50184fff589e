"""Tests of how games are played: the same ones in each run of CI, and new ones in all others."""

from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.workers.decisions.games import play


def played(*, fixed: bool) -> list[int]:
    """Return the numbers that a small game draws."""
    drawn: list[int] = []

    class Numbers(RuleBasedStateMachine):
        @rule(number=st.integers(0, 2**64))
        def a_number_comes(self, number: int) -> None:
            drawn.append(number)

    play(Numbers, 5, steps=5, fixed=fixed)
    return drawn


@pytest.fixture
def profile(request: pytest.FixtureRequest) -> Iterator[None]:
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.load_profile(request.param)
    yield
    hypothesis.settings.load_profile(before)


@pytest.mark.parametrize("profile", ["repeatable"], indirect=True)
@pytest.mark.usefixtures("profile")
def test_the_games_of_ci_are_the_same_in_each_run() -> None:
    assert played(fixed=False) == played(fixed=False)


@pytest.mark.parametrize("profile", ["slow"], indirect=True)
@pytest.mark.usefixtures("profile")
def test_all_other_runs_play_new_games_unless_a_test_asks_for_the_same_ones() -> None:
    assert played(fixed=False) != played(fixed=False)
    assert played(fixed=True) == played(fixed=True)
