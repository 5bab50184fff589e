"""A batch loads every night that `decide` reads, and no more."""

from tests.support.scenario import NOON
from tests.workers.decisions.words import (
    CANCEL,
    CANCELLED,
    EXPIRED,
    LATER,
    OPEN,
    OPENED,
    RESERVE,
    RESERVED,
    ROOM,
    but,
    march,
    repeated,
)
from topics.messages.values import BookingStatus
from workers.reservations.handler import CommandBatch


def batch() -> CommandBatch:
    nights = {(ROOM, march(day)): None for day in range(10, 15)}
    return CommandBatch({**nights})


def test_the_nights_of_a_new_stay_are_those_it_asks_for() -> None:
    decided = batch()
    assert decided.decide(OPEN, NOON) == (OPENED,)
    assert decided.decide(RESERVE, NOON) == (RESERVED,)
    assert decided.decide(CANCEL, NOON) == (CANCELLED,)


def test_a_request_that_comes_again_with_other_dates_ends_the_hold_that_is_over() -> None:
    decided = batch()
    decided.decide(OPEN, NOON)
    decided.decide(RESERVE, NOON)
    again = but(RESERVE, check_in=march(13), check_out=march(14))
    assert decided.decide(again, LATER) == (EXPIRED, repeated(again, BookingStatus.EXPIRED))
