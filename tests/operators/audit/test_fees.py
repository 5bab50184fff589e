"""The auditor's report of stays that ended early: nights that stay sold, and what the hotel keeps of the others."""

import pytest

from operators.audit.read_models import Reads
from tests.operators.audit.test_read_models import expected
from tests.storage.projections.log import on_the_log
from tests.workers.decisions.words import (
    CANCELLED,
    CONFIRMED_FREE,
    HOTEL,
    OPENED,
    PAID,
    REFUNDED,
    REFUNDED_BY_HAND,
    but,
    march,
)
from tests.workers.decisions.words_at_hotel import ARRIVED, AT_HOTEL, DID_NOT_ARRIVE, LEFT, SOLD_ON_TERMS, kept
from topics.messages.events import Event

FIRST, SECOND = (f"hotel {HOTEL}, night {march(day)}" for day in (10, 11))
SOLD = (OPENED, SOLD_ON_TERMS, PAID)
PAID_THERE = (OPENED, but(AT_HOTEL, night_amounts_minor=(120_00, 80_00)), CONFIRMED_FREE)


def report(*events: Event) -> Reads:
    """Return arrivals, stays, rooms, revenue, fees and currency of each night."""
    return expected(on_the_log(events))["daily_report"]


@pytest.mark.parametrize(
    ("ends", "nights"),
    [
        ((ARRIVED, LEFT), {FIRST: (1, 1, 1, 120_00, 0), SECOND: (0, 1, 1, 80_00, 0)}),
        (
            (ARRIVED, but(LEFT, freed_from=march(11), policy=kept(160_00, 50))),
            {FIRST: (1, 1, 1, 120_00, 0), SECOND: (0, 0, 0, 0, 40_00)},
        ),
        ((but(DID_NOT_ARRIVE, policy=kept(120_00)),), {FIRST: (0, 0, 0, 0, 120_00)}),
        (
            (but(DID_NOT_ARRIVE, freed_from=march(12), policy=kept(120_00)),),
            {FIRST: (1, 1, 1, 72_00, 0), SECOND: (0, 1, 1, 48_00, 0)},
        ),
        ((but(DID_NOT_ARRIVE, policy=kept(0)),), {}),
        ((but(CANCELLED, policy=kept(50_00)),), {FIRST: (0, 0, 0, 0, 50_00)}),
        ((but(CANCELLED, freed_from=march(11)),), {}),
    ],
)
def test_nights_that_stay_sold_and_fees_sum_to_what_the_hotel_keeps(
    ends: tuple[Event, ...], nights: dict[str, tuple[int, ...]]
) -> None:
    assert report(*SOLD, *ends) == {night: (*values, "EUR") for night, values in nights.items()}


def test_the_refund_by_the_policy_takes_nothing_of_what_is_kept_and_one_by_hand_does() -> None:
    ended = (*SOLD, but(DID_NOT_ARRIVE, policy=kept(120_00)), but(REFUNDED, amount_minor=80_00))
    assert report(*ended) == {FIRST: (0, 0, 0, 0, 120_00, "EUR")}
    assert report(*ended, but(REFUNDED_BY_HAND, amount_minor=20_00)) == {FIRST: (0, 0, 0, 0, 100_00, "EUR")}


@pytest.mark.parametrize(
    ("ends", "nights"),
    [
        ((ARRIVED, but(LEFT, freed_from=march(11), policy=kept(160_00, 50))), {FIRST: (1, 1, 1, 120_00, 0)}),
        ((but(DID_NOT_ARRIVE, policy=kept(120_00)),), {}),
        ((but(CANCELLED, policy=kept(50_00)),), {}),
    ],
)
def test_of_a_stay_that_is_paid_at_the_hotel_the_nights_count_that_guests_stayed(
    ends: tuple[Event, ...], nights: dict[str, tuple[int, ...]]
) -> None:
    assert report(*PAID_THERE, *ends) == {night: (*values, "EUR") for night, values in nights.items()}
