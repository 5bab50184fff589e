"""The rate plans by which a room is sold for a stay: those that nothing excludes, and the price of each.

Search and the description of a hotel use the same functions as a decision (`pricing.sale`), so that `init` charges what
they show.
"""

from collections.abc import Iterator, Sequence
from datetime import date, time
from typing import NamedTuple

from pricing.charges import can_be_charged
from pricing.sale import (
    PricedStay,
    default_party,
    party_rejection,
    price_stay,
    rules_rejection,
    stay_lines,
    total_of,
)
from topics.messages.sale import Collected, Party, RatePlan, SaleTerms
from topics.messages.values import MAX_AMOUNT_MINOR, Terms


class StayRequest(NamedTuple):
    """A stay in some rooms; without people, of as many adults as a plan's price covers."""

    check_in: date
    check_out: date
    rooms_count: int
    people: Party | None


class RoomOnSale(NamedTuple):
    """The sale terms of a room, and the price of each night of the stay in one room, in minor units."""

    terms: SaleTerms
    night_prices_minor: Sequence[int]
    currency: str


class Choice(NamedTuple):
    """A plan for some people, and all that their stay costs in it, now and at the hotel."""

    whole_minor: int
    plan: RatePlan
    people: Party


def choices(room: RoomOnSale, stay: StayRequest, today: date) -> Iterator[Choice]:
    """Yield the plans of a room that are sold for the stay, in their order; `today` is the date at the hotel."""
    if stay.people is not None and party_rejection(room.terms, stay.people, stay.rooms_count) is not None:
        return
    for plan in room.terms.plans:
        if rules_rejection(plan, stay.check_in, stay.check_out, today) is None:
            choice = _choice(room, plan, stay)
            if choice is not None:
                yield choice


def cheapest(room: RoomOnSale, stay: StayRequest, today: date) -> Choice | None:
    """Return the plan by which the stay costs the least, the first of equal ones; None: there is none."""
    return min(choices(room, stay, today), key=lambda choice: choice.whole_minor, default=None)


def priced(room: RoomOnSale, stay: StayRequest, choice: Choice, check_in_time: time) -> PricedStay:
    """Return the price of the stay by a plan, with its conditions."""
    return price_stay(
        room.terms,
        choice.plan,
        choice.people,
        room.night_prices_minor,
        check_in=stay.check_in,
        check_in_time=check_in_time,
        rooms_count=stay.rooms_count,
        currency=room.currency,
    )


def _choice(room: RoomOnSale, plan: RatePlan, stay: StayRequest) -> Choice | None:
    """Return the plan with its price; None: the amount cannot be paid."""
    people = stay.people or default_party(room.terms, plan, stay.rooms_count)
    _, lines = stay_lines(
        room.terms,
        plan,
        people,
        room.night_prices_minor,
        check_in=stay.check_in,
        rooms_count=stay.rooms_count,
        currency=room.currency,
    )
    whole_minor = amount_minor = total_of(lines)
    if plan.terms is Terms.PREPAID:
        amount_minor -= sum(line.amount_minor for line in lines if line.collected is Collected.AT_HOTEL)
        if not can_be_charged(amount_minor, room.currency):
            return None
    return Choice(whole_minor, plan, people) if amount_minor <= MAX_AMOUNT_MINOR else None
