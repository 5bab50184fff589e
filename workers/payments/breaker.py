"""The circuit breaker on Stripe: after some calls in a row without an answer, no call is made for a while.

    closed --- so many calls in a row without an answer ---> open
    open --- some seconds later ---> half open: one call, the probe, may be made
    half open --- the probe is answered ---> closed
    half open --- the probe is not answered ---> open

`gateway` asks it before each request; `caller` chooses rows by its state. Each payments worker has its own. Pure but
for its clock, its log lines and one counter.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.stripe_circuits import CircuitState
from telemetry import metrics

log = logging.getLogger(__name__)


class CircuitOpen(Exception):
    """The circuit is open, so that the call was not made."""


@dataclass(slots=True)
class Call:
    """One call. Without a verdict (it was cancelled) it counts neither as answered nor as failed."""

    period: int
    answered: bool | None = None
    reason: str = ""

    def mark_answered(self) -> None:
        """Note that Stripe answered, be it with a refusal."""
        self.answered = True

    def mark_unanswered(self, reason: str) -> None:
        """Note that Stripe did not answer, or answered that it does not work, and why."""
        self.answered, self.reason = False, reason


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    """The circuit as operators see it; `since` (UTC) is when it opened, `reason` why; both None while it is closed."""

    state: CircuitState
    since: datetime | None = None
    reason: str | None = None


class CircuitBreaker:
    """Counts calls without an answer, and decides whether a call may be made."""

    def __init__(self, *, max_failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`max_failures` calls in a row without an answer open the circuit; `clock` returns seconds."""
        self._max_failures = max_failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._is_probing = False
        self._probe_from: float | None = None
        self._since: datetime | None = None
        self._reason: str | None = None
        # A call that began in an earlier period does not count in this one.
        self._period = 0

    @property
    def state(self) -> CircuitState:
        """The present state."""
        if self._probe_from is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self._clock() < self._probe_from else CircuitState.HALF_OPEN

    @property
    def status(self) -> CircuitStatus:
        """The present state, since when the circuit is not closed, and why."""
        return CircuitStatus(self.state, self._since, self._reason)

    @contextmanager
    def call(self) -> Iterator[Call]:
        """Make a call in the block, and give its verdict to the yielded object.

        Raises:
            CircuitOpen: the circuit is open, or half open and another call is the probe.
        """
        state = self.state
        if state is CircuitState.OPEN or (state is CircuitState.HALF_OPEN and self._is_probing):
            raise CircuitOpen(self._reason)
        self._is_probing = state is CircuitState.HALF_OPEN
        call = Call(self._period)
        try:
            yield call
        finally:
            if call.period == self._period:
                self._apply(call)

    def _apply(self, call: Call) -> None:
        self._is_probing = False
        if call.answered is None:
            return
        if call.answered:
            self._failures = 0
            if self._probe_from is not None:
                self._close()
            return
        self._failures += 1
        if self._probe_from is not None or self._failures >= self._max_failures:
            self._open(call.reason)

    def _open(self, reason: str) -> None:
        if self._probe_from is None:
            self._since = datetime.now(UTC)
            metrics.STRIPE_CIRCUIT_OPENINGS.add()
            log.warning(
                "Stripe does not answer (calls in a row: %d, the last: %s): no call is made for %g s, then one as a"
                " probe; calls that are due wait",
                self._failures,
                reason,
                self._open_seconds,
            )
        self._reason = f"calls in a row without an answer: {self._failures}, the last: {reason}"
        self._probe_from = self._clock() + self._open_seconds
        self._period += 1

    def _close(self) -> None:
        assert self._since is not None, "a circuit that is not closed was opened"
        log.warning(
            "Stripe answers again after %.0f s: calls are made again, first refunds and the closing of sessions",
            (datetime.now(UTC) - self._since).total_seconds(),
        )
        self._probe_from = self._since = self._reason = None
        self._period += 1
