"""Tells which operator sent a record again, from what operators' commands wrote down. Pure.

The replay of a dead letter notes where the record stands now. The replay of a stretch notes the stretch, and when it
began and ended; it sends each id once. So where just one record of an id came meanwhile, it is the replay's. Where a
client or Stripe sent the same at the same time, nobody can tell which is whose, and nothing is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from operators.explain.life import Sender, Step
from operators.explain.told import Row

#: How far the clocks of the database, which dates actions, and of the broker may be apart.
_CLOCKS: Final = timedelta(seconds=1)
_LETTER: Final = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Replay:
    """A replay that came to its end: by partition, the first and the last offset that were sent again."""

    sender: Sender
    ended: datetime
    topic: str
    offsets: Mapping[int, tuple[int, int]]
    type: str | None

    def has(self, step: Step) -> bool:
        """Tell whether a record is one of those that were sent again."""
        if step.place is None or step.place.topic != self.topic or step.place.partition not in self.offsets:
            return False
        first, last = self.offsets[step.place.partition]
        return first <= step.place.offset <= last and (self.type is None or fnmatchcase(step.what, self.type))

    def came_meanwhile(self, step: Step) -> bool:
        """Tell whether a record came to the topic while this one sent."""
        is_there = step.place is not None and step.place.topic == self.topic
        return is_there and self.sender.at - _CLOCKS <= step.at <= self.ended + _CLOCKS


def signed(steps: Sequence[Step], actions: Sequence[Row]) -> Iterator[Step]:
    """Yield the steps, with the operator's name where one sent it again; `actions` in the order of their ids."""
    letters = {row["details"]["stands_at"]: row for row in actions if row["action"] == "dead-letters replay"}
    replays = list(_replays(actions))
    for step in steps:
        sender = None
        if step.sent_again and step.place is not None:
            sender = _by_letter(step, letters.get(str(step.place))) or _by_replay(step, steps, replays)
        yield step if sender is None else replace(step, sent_by=sender)


def _replays(actions: Sequence[Row]) -> Iterator[_Replay]:
    """Yield the replays of stretches with their ends: the next of the same operator's at the same topic."""
    begun: dict[tuple[str, str], Row] = {}
    for row in actions:
        key = (row["who"], row["target"])
        if row["action"] == "replay" and "ranges" in row["details"]:
            begun[key] = row
        elif row["action"] == "replay ended" and (began := begun.pop(key, None)) is not None:
            ranges, reached = began["details"]["ranges"], row["details"]["reached"]
            yield _Replay(
                sender=_sender(began),
                ended=row["at"],
                topic=row["target"],
                offsets={int(part): (ranges[part][0], last) for part, last in reached.items()},
                type=began["details"]["type"],
            )


def _by_letter(step: Step, row: Row | None) -> Sender | None:
    is_it = row is not None and abs(row["at"] - step.at) < _LETTER
    return _sender(row) if row is not None and is_it else None


def _by_replay(step: Step, steps: Sequence[Step], replays: Sequence[_Replay]) -> Sender | None:
    same = [each for each in steps if (each.kind, each.id) == (step.kind, step.id)]
    for replay in replays:
        # What it sent stands behind what it read: that may be as young, and is not what came.
        read = [each for each in same if replay.has(each)]
        if read and [each for each in same if replay.came_meanwhile(each) and each not in read] == [step]:
            return replay.sender
    return None


def _sender(row: Row) -> Sender:
    return Sender(who=row["who"], action=row["action"], at=row["at"])
