"""Follows the sequence numbers of one partition's events: the next one, a duplicate, or one beyond a gap.

Events of a partition are numbered 1, 2, 3, ... without gaps. After a crash the same events may be published once more,
and an event may be acknowledged before one that precedes it: then the later event comes again once the gap is filled.
"""

from enum import Enum, auto


class Order(Enum):
    """How a sequence number relates to those before it."""

    NEXT = auto()
    """It follows the last one directly."""
    DUPLICATE = auto()
    """It came before."""
    BEYOND_GAP = auto()
    """At least one number before it has not come yet."""


class SequenceTracker:
    """The unbroken beginning of one partition's sequence.

    Attributes:
        last: the highest number up to which every number has come; 0 before the first.
        highest: the highest number that has come at all, also beyond a gap.
    """

    __slots__ = ("highest", "last")

    def __init__(self, last: int = 0, highest: int = 0) -> None:
        """Continue after `last`; `highest` is larger when a gap is already known."""
        self.last = last
        self.highest = max(last, highest)

    def add(self, sequence: int) -> Order:
        """Return how a number relates to those before it; only the next one moves `last`."""
        if sequence <= self.last:
            return Order.DUPLICATE
        self.highest = max(self.highest, sequence)
        if sequence > self.last + 1:
            return Order.BEYOND_GAP
        self.last = sequence
        return Order.NEXT

    @property
    def has_gap(self) -> bool:
        """Whether a number is missing before the highest one."""
        return self.highest > self.last
