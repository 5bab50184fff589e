"""The rate plans by which a room is sold for a stay: those that nothing excludes, and the price of each.

Search and the description of a hotel use the same functions as a decision (`pricing.sale`), so that `init` charges what
they show.
"""

from collections.abc import Iterator, Sequence
from datetime import date, time
from typing import NamedTuple

from ingress.offers import whole_minor
from pricing.sale import PricedStay, can_be_paid, party_rejection, price_stay, rules_rejection
from topics.messages.sale import Party, SaleTerms


class StayRequest(NamedTuple):
    """A stay in some rooms; without people, of as many adults as a plan's price covers."""

    check_in: date
    check_out: date
    rooms_count: int
    people: Party | None


class RoomOnSale(NamedTuple):
    """The sale terms of a room, the price of each night of the stay in one room, in minor units, and its check-in."""

    terms: SaleTerms
    night_prices_minor: Sequence[int]
    currency: str
    check_in_time: time


def offers(room: RoomOnSale, stay: StayRequest, today: date) -> Iterator[PricedStay]:
    """Yield the prices by the plans that are sold for the stay, in their order; `today` is the date at the hotel."""
    if stay.people is not None and party_rejection(room.terms, stay.people, stay.rooms_count) is not None:
        return
    for plan in room.terms.plans:
        if rules_rejection(plan, stay.check_in, stay.check_out, today) is not None:
            continue
        priced = price_stay(
            room.terms,
            plan,
            stay.people,
            room.night_prices_minor,
            check_in=stay.check_in,
            check_in_time=room.check_in_time,
            rooms_count=stay.rooms_count,
            currency=room.currency,
        )
        if can_be_paid(priced):
            yield priced


def cheapest(room: RoomOnSale, stay: StayRequest, today: date) -> PricedStay | None:
    """Return the price by the plan that costs the least in all, the first of equal ones; None: there is none.

    Without people it is the price by the plan of a booking that names none: a client that knows no plans is charged
    what it was shown.
    """
    found = offers(room, stay, today)
    if stay.people is None:
        standard = room.terms.plan(None)
        found = (each for each in found if standard and each.sale and each.sale.plan_id == standard.id)
    return min(found, key=whole_minor, default=None)
