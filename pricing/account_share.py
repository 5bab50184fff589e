"""The share of a night's rooms that one account may hold unpaid.

A decision, a preview and the words of a refusal compare with the same function.
"""

from collections.abc import Iterable
from typing import NamedTuple

from topics.messages.values import ROOMS_ALWAYS_ALLOWED


class NightOfAccount(NamedTuple):
    """One night: the rooms that an account holds unpaid, those that it asks for beside them, and all of the room's."""

    held_count: int
    more_count: int
    total_count: int


def rooms_allowed(total_count: int, percent: int) -> int:
    """Return how many rooms of a night with so many rooms an account may hold unpaid, by its percentage."""
    return max(ROOMS_ALWAYS_ALLOWED, total_count * percent // 100)


def exceeds_share(percent: int | None, nights: Iterable[NightOfAccount]) -> bool:
    """Return whether the account would hold more of a night than its share; None: its share is not limited."""
    if percent is None:
        return False
    return any(night.held_count + night.more_count > rooms_allowed(night.total_count, percent) for night in nights)
