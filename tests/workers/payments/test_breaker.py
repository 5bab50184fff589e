"""The circuit breaker by itself: given calls and a clock, when another call is made, then it is allowed or not."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from storage.stripe_circuits import CircuitState
from telemetry import metrics
from tests.workers.payments.desk import Clock
from workers.payments.breaker import CircuitBreaker, CircuitOpen

OPEN_SECONDS = 30


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(max_failures=5, open_seconds=OPEN_SECONDS, clock=clock)


def unanswered(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.call() as call:
            call.mark_unanswered("ReadTimeout")


def answered(breaker: CircuitBreaker) -> None:
    with breaker.call() as call:
        call.mark_answered()


def allows(breaker: CircuitBreaker) -> bool:
    """Return whether a call may be made; the call itself has no verdict."""
    try:
        with breaker.call():
            return True
    except CircuitOpen:
        return False


def test_the_fifth_call_in_a_row_without_an_answer_opens_the_circuit(breaker: CircuitBreaker) -> None:
    unanswered(breaker, 4)
    assert (breaker.state, allows(breaker)) == (CircuitState.CLOSED, True)

    unanswered(breaker)

    assert (breaker.state, allows(breaker)) == (CircuitState.OPEN, False)
    assert breaker.status.reason == "calls in a row without an answer: 5, the last: ReadTimeout"


def test_an_answer_in_between_begins_the_count_anew(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        unanswered(breaker, 4)
        answered(breaker)

    assert breaker.state is CircuitState.CLOSED


def test_an_open_circuit_allows_one_probe_after_its_time(breaker: CircuitBreaker, clock: Clock) -> None:
    unanswered(breaker, 5)
    clock.advance(OPEN_SECONDS - 0.001)
    assert not allows(breaker)
    clock.advance(0.001)
    assert breaker.status.state is CircuitState.HALF_OPEN

    with breaker.call() as probe:
        assert not allows(breaker)
        probe.mark_answered()

    assert breaker.state is CircuitState.CLOSED
    assert (breaker.status.since, breaker.status.reason) == (None, None)
    unanswered(breaker, 4)
    assert allows(breaker)


def test_a_probe_without_an_answer_opens_the_circuit_for_the_same_time(breaker: CircuitBreaker, clock: Clock) -> None:
    unanswered(breaker, 5)
    since = breaker.status.since
    for probes in range(1, 4):
        clock.advance(OPEN_SECONDS)

        unanswered(breaker)

        assert (breaker.state, allows(breaker)) == (CircuitState.OPEN, False)
        assert breaker.status.reason == f"calls in a row without an answer: {5 + probes}, the last: ReadTimeout"
    assert breaker.status.since == since


async def test_a_cancelled_call_counts_as_nothing_and_a_cancelled_probe_leaves_its_place(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    async def cancelled() -> None:
        with breaker.call():
            begun.set()
            await asyncio.Event().wait()

    async def cancel() -> None:
        begun.clear()
        task = asyncio.create_task(cancelled())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])

    begun = asyncio.Event()
    unanswered(breaker, 4)
    await cancel()
    assert breaker.state is CircuitState.CLOSED
    unanswered(breaker)
    clock.advance(OPEN_SECONDS)
    await cancel()

    assert (breaker.state, allows(breaker)) == (CircuitState.HALF_OPEN, True)
    answered(breaker)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("verdict", ["mark_answered", "mark_unanswered"])
def test_a_call_from_before_the_opening_decides_nothing(breaker: CircuitBreaker, clock: Clock, verdict: str) -> None:
    with breaker.call() as slow:
        unanswered(breaker, 5)
        clock.advance(OPEN_SECONDS)
        with breaker.call() as probe:
            _give(slow, verdict)
            with pytest.raises(CircuitOpen):
                unanswered(breaker)
            probe.mark_answered()
    assert breaker.state is CircuitState.CLOSED
    # It has ended by now, and is no failure of the closed circuit either.
    unanswered(breaker, 4)
    assert breaker.state is CircuitState.CLOSED


def test_a_slow_call_from_before_the_opening_does_not_close_the_circuit(breaker: CircuitBreaker) -> None:
    with breaker.call() as slow:
        unanswered(breaker, 5)
        slow.mark_answered()

    assert breaker.state is CircuitState.OPEN


def _give(call: object, verdict: str) -> None:
    give: Callable[..., None] = getattr(call, verdict)
    give(*(["ReadTimeout"] if verdict == "mark_unanswered" else []))


def test_one_line_is_logged_when_it_opens_and_one_when_it_closes(
    breaker: CircuitBreaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    before = metrics.STRIPE_CIRCUIT_OPENINGS.values[()]
    unanswered(breaker, 5)
    for _ in range(3):
        clock.advance(OPEN_SECONDS)
        unanswered(breaker)
    clock.advance(OPEN_SECONDS)
    answered(breaker)

    opened, closed = caplog.records
    assert (opened.levelno, closed.levelno) == (logging.WARNING, logging.WARNING)
    assert opened.getMessage().startswith("Stripe does not answer (calls in a row: 5, the last: ReadTimeout): no call")
    assert closed.getMessage().startswith("Stripe answers again after ")
    assert metrics.STRIPE_CIRCUIT_OPENINGS.values[()] - before == 1
