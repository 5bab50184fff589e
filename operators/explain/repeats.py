"""Marks what was sent again: commands and webhooks whose id stood on the log already, and the events that came of them.

A client that repeats its request, Stripe, and an operator's replay all do so. Pure: steps in, steps out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from operators.explain.life import Kind, Step
from topics.messages.commands import ExpireHold
from topics.messages.events import BookingExpired, CommandRefused, CommandRepeated

#: The room's owner's answers that change nothing.
ANSWERS: Final = frozenset({CommandRefused.message_type, CommandRepeated.message_type})


def marked(steps: Sequence[Step], decided: Mapping[str, datetime]) -> Iterator[Step]:
    """Yield the steps, those that were sent again marked as such.

    Args:
        steps: commands and webhooks in the order of the log.
        decided: by the event's id, the time of the command that it came of.
    """
    again = {*_records_again(steps), *_events_again(steps, decided)}
    yield from (replace(step, sent_again=True) if step in again else step for step in steps)


def _records_again(steps: Sequence[Step]) -> Iterator[Step]:
    met = set()
    for step in steps:
        if step.kind in {Kind.COMMAND, Kind.WEBHOOK} and step.id is not None:
            if (step.kind, step.id) in met:
                yield step
            met.add((step.kind, step.id))


def _events_again(steps: Sequence[Step], decided: Mapping[str, datetime]) -> Iterator[Step]:
    expiring = {step.id for step in steps if step.what == ExpireHold.message_type}
    events = defaultdict[str | None, list[Step]](list)
    for step in sorted(steps, key=lambda step: step.sequence or 0):
        if step.kind is Kind.EVENT:
            events[step.cause].append(step)
    events.pop(None, None)
    for cause, of_one in events.items():
        is_again = False
        for before, event in pairwise(of_one):
            is_again = is_again or _is_another_decision(before, event, decided, expires=cause in expiring)
            if is_again:
                yield event


def _is_another_decision(before: Step, event: Step, decided: Mapping[str, datetime], *, expires: bool) -> bool:
    """Whether two events that follow from the same command's id are not of the same record of it."""
    assert before.id is not None
    assert event.id is not None
    if before.what in ANSWERS or decided[before.id] < decided[event.id]:
        return True
    # A hold that is over ends before the command is refused: that is one decision, unless to end it was the command.
    return event.what in ANSWERS and (before.what != BookingExpired.message_type or expires)
