"""Keeps commands back that a worker of an older release could not decide, as long as one may run."""

import logging
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from telemetry import metrics
from topics.messages.commands import BookingCommand, Command
from topics.messages.releases import Release, can_decide

Commands = Sequence[tuple[str, BookingCommand]]
"""Commands about bookings, each after its id."""

C = TypeVar("C", bound=Command)

_logged: Final[set[str]] = set()

log = logging.getLogger(__name__)


def readable(release: Release, commands: Sequence[tuple[str, C]]) -> Iterator[tuple[str, C]]:
    """Yield the commands that every worker from `release` on can decide; the others are counted.

    `innkeeper reconcile` finds after the rollout what those about money would have recorded.
    """
    for command_id, command in commands:
        if can_decide(release, command):
            yield command_id, command
            continue
        kind = command.message_type
        metrics.WITHHELD_COMMANDS.add(1, kind)
        if kind not in _logged:
            _logged.add(kind)
            log.warning("%s is not sent while LOG_READABLE_BY is %s; reconcile after the rollout", kind, release)
