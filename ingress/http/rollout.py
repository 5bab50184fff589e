"""Requests that have to wait for the end of a rollout: processes of an older release would do something else."""

from typing import Final

from ingress.http.problems import NOTHING_DONE, NothingDone
from pricing.charges import has_another_unit
from topics.messages.commands import Command
from topics.messages.releases import Release, can_decide

_RETRY_SECONDS: Final = 60


class Rollout:
    """Refuses requests during a rollout; `readable_by` is the oldest release of which a process still runs."""

    def __init__(self, readable_by: Release) -> None:
        self._readable_by = readable_by

    def must_be_decidable(self, command: Command) -> None:
        """Check that all workers that run know the command. Raises `Problem` 503 during a rollout."""
        if not can_decide(self._readable_by, command):
            raise _rolling_out("older workers do not know this request yet")

    def must_be_charged_right(self, currency: str) -> None:
        """Check that no worker that runs charges another sum than this. Raises `Problem` 503 during a rollout.

        0.1.0 sends minor units of ISO 4217 to Stripe, which counts some currencies in another unit.
        """
        if self._readable_by is Release.V0_1_0 and has_another_unit(currency):
            raise _rolling_out(f"older workers cannot charge {currency} yet")

    def recordable_terms(self, version: str) -> str:
        """Return the version of the general terms to require: none during a rollout, while no booking can have one."""
        return "" if self._readable_by is Release.V0_1_0 else version


def _rolling_out(reason: str) -> NothingDone:
    return NothingDone(
        503,
        f"a new release is being rolled out, and {reason}; {NOTHING_DONE} after the rollout",
        headers={"Retry-After": str(_RETRY_SECONDS)},
        more={"reason": "release_rolling_out"},
    )
