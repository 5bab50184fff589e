"""The price of a stay by the sale terms of its room: plan, people, taxes and fees, line by line."""

from collections.abc import Sequence
from datetime import date, time
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec.structs import replace

from pricing.charges import can_be_charged, can_be_charged_in_part, step_minor
from pricing.codes import discount_minor, discounted_nights
from pricing.policy import cancellation_steps, no_show_kept_minor
from pricing.rounding import half_up
from pricing.shares import shares_minor
from topics.messages.sale import (
    NO_SALE_TERMS,
    Collected,
    Discount,
    LineKind,
    Party,
    PriceLine,
    RatePlan,
    Sale,
    SaleTerms,
    Tax,
)
from topics.messages.values import MAX_AMOUNT_MINOR, Rejection, Terms

_MILLI: Final = 1000
_WHOLE_PERCENT_MILLI: Final = 100_000
#: The number of prices that a process remembers: the same stays are asked for again and again. A price holds no terms.
_MAX_CACHED_PRICES: Final = 4_096
_MAX_CACHED_CAPACITIES: Final = 128
#: The arrival for which prices are remembered; the steps of a policy are at most a year before it.
_FIRST_DAY: Final = date(1970, 1, 1)


class PricedStay(NamedTuple):
    """The price of a stay in all its rooms, in minor units.

    `amount_minor` is the booking's: charged in advance on terms of prepayment, otherwise paid at the hotel.
    `night_amounts_minor` is the share of each night in it, and sums to it. `sale` is None where a room has no sale
    terms.
    """

    currency: str
    terms: Terms
    amount_minor: int
    night_amounts_minor: tuple[int, ...]
    sale: Sale | None


def price_stay(
    terms: SaleTerms,
    plan: RatePlan,
    party: Party | None,
    night_prices_minor: Sequence[int],
    *,
    check_in: date,
    check_in_time: time,
    rooms_count: int,
    currency: str,
    discount: Discount | None = None,
    at_desk: bool = False,
) -> PricedStay:
    """Return the price of a stay and its conditions.

    Args:
        terms: those of the room.
        plan: one of them.
        party: the people of the stay, in all rooms together; None: nobody is named, and they are the default party.
        night_prices_minor: the price of each night in one room, with its surge (`pricing.stays.night_price_minor`).
        check_in: the first night.
        check_in_time: the hotel's, from which the hours of its policy are counted back.
        rooms_count: the number of rooms.
        currency: that of the prices.
        discount: that of a promo code; it is taken off the nights, before taxes.
        at_desk: a manager books: all of the price is paid at the hotel, also that of a prepaid plan.
    """
    # Without dated taxes the dates change the times of the policy's steps alone: stays of equal prices share a price.
    is_by_date = terms.has_dated_taxes or check_in < _FIRST_DAY
    prices_minor, arrival = tuple(night_prices_minor), check_in if is_by_date else _FIRST_DAY
    stay = (party, prices_minor, arrival, check_in_time, rooms_count, currency, discount, at_desk)
    key = (terms.identity, plan.identity, stay)
    priced = _prices.get(key)
    if priced is None:
        priced = _price(terms, plan, _Stay(*stay))
        if len(_prices) >= _MAX_CACHED_PRICES:
            _prices.clear()
        _prices[key] = priced
    return priced if is_by_date else _arriving(priced, check_in)


class _Stay(NamedTuple):
    """All that the price of a stay depends on beside the terms; see `price_stay`."""

    party: Party | None
    night_prices_minor: tuple[int, ...]
    check_in: date
    check_in_time: time
    rooms_count: int
    currency: str
    discount: Discount | None
    at_desk: bool


#: Prices by the identities of terms and plan, and by the fields of the stay.
_prices: Final[dict[tuple[object, object, tuple[object, ...]], PricedStay]] = {}


def _price(terms: SaleTerms, plan: RatePlan, stay: _Stay) -> PricedStay:
    step = step_minor(stay.currency)
    party = stay.party or default_party(terms, plan, stay.rooms_count)
    people_minor = half_up(_people_minor(plan, party, stay.rooms_count), 1, step)
    nights_minor: Sequence[int] = [
        _night_minor(plan, price_minor, step) * stay.rooms_count + people_minor
        for price_minor in stay.night_prices_minor
    ]
    off_minor = 0 if stay.discount is None else discount_minor(stay.discount, nights_minor, stay.currency)
    nights_minor = discounted_nights(nights_minor, off_minor)
    payment = Terms.AT_HOTEL if stay.at_desk else plan.terms
    prepaid = payment is Terms.PREPAID
    collected = Collected.NOW if prepaid else Collected.AT_HOTEL
    line = PriceLine(
        kind=LineKind.STAY, id=plan.id, name=plan.name, amount_minor=sum(nights_minor), collected=collected
    )
    taxes = [_tax_line(tax, stay, party, nights_minor, collected) for tax in terms.taxes]
    lines = (line, *(tax for tax in taxes if tax.amount_minor))
    total_minor = sum(line.amount_minor for line in lines if not line.included)
    later_minor = sum(line.amount_minor for line in lines if not line.included and line.collected is Collected.AT_HOTEL)
    amount_minor = total_minor - later_minor if prepaid else total_minor
    amounts_minor = shares_minor(amount_minor, nights_minor if any(nights_minor) else [1] * len(nights_minor))
    sale = Sale(
        terms_version=terms.version,
        plan_id=plan.id,
        plan_name=plan.name,
        meals=plan.meals,
        party=party,
        lines=lines,
        at_hotel_minor=later_minor,
        steps=cancellation_steps(
            plan,
            amount_minor,
            amounts_minor,
            check_in=stay.check_in,
            check_in_time=stay.check_in_time,
            currency=stay.currency,
        ),
        no_show_kept_minor=no_show_kept_minor(plan, amount_minor, amounts_minor, stay.currency),
        early_departure_percent=plan.policy.early_departure_percent if plan.refundable else 100,
        party_binding=stay.party is not None or _depends_on_people(terms, plan, lines),
        night_prices_minor=stay.night_prices_minor,
        discount=stay.discount,
        discount_minor=off_minor,
        at_hotel_taxes_minor=0 if prepaid else _at_hotel_anyway_minor(terms.taxes, taxes),
    )
    return PricedStay(stay.currency, payment, amount_minor, amounts_minor, sale)


def _arriving(priced: PricedStay, check_in: date) -> PricedStay:
    """Return the price of a stay from `_FIRST_DAY` on as that of one which arrives on another day."""
    sale = priced.sale
    assert sale is not None
    if len(sale.steps) == 1:
        return priced
    later = check_in - _FIRST_DAY
    steps = [step if step.until is None else replace(step, until=step.until + later) for step in sale.steps]
    return PricedStay(*priced[:-1], replace(sale, steps=tuple(steps)))


def _night_minor(plan: RatePlan, price_minor: int, step: int) -> int:
    """Return the price of a night in one room for the adults whose price is in it: rounded once, and not below zero."""
    return half_up(max(0, price_minor * plan.times_milli + plan.plus_minor * _MILLI), _MILLI, step)


def _people_minor(plan: RatePlan, party: Party, rooms_count: int) -> int:
    """Return the price of a night for the adults beyond those of the rooms, and for the children."""
    extra_adults = max(0, party.adults - plan.included_adults * rooms_count)
    return extra_adults * plan.extra_adult_minor + sum(_child_minor(plan, age) for age in party.child_ages)


def _child_minor(plan: RatePlan, age: int) -> int:
    return next((band.nightly_minor for band in plan.child_bands if age <= band.up_to_age), 0)


def _depends_on_people(terms: SaleTerms, plan: RatePlan, lines: Sequence[PriceLine]) -> bool:
    """Return whether more people in the same rooms would pay a higher price."""
    if plan.extra_adult_minor or any(band.nightly_minor for band in plan.child_bands):
        return True
    by_person = {tax.id for tax in terms.taxes if tax.per_person and tax.amount_minor}
    return any(line.kind is not LineKind.STAY and line.id in by_person for line in lines)


def _tax_line(tax: Tax, stay: _Stay, party: Party, nights_minor: Sequence[int], collected: Collected) -> PriceLine:
    """Return the line of a tax, which may be of nothing; `collected` is when the price of the stay is."""
    step = step_minor(stay.currency)
    counted = _counted(tax, stay.check_in, len(nights_minor))
    if tax.percent_milli is not None:
        of_minor = sum(amount for amount, counts in zip(nights_minor, counted, strict=True) if counts)
        whole = _WHOLE_PERCENT_MILLI + (tax.percent_milli if tax.included else 0)
        amount_minor = half_up(of_minor * tax.percent_milli, whole, step)
    else:
        units = sum(counted) if tax.per_night else int(counted[0])
        if tax.per_person:
            units *= party.adults + sum(1 for age in party.child_ages if age >= tax.min_age)
        if tax.per_room:
            units *= stay.rooms_count
        amount_minor = half_up(units * (tax.amount_minor or 0), 1, step)
    return PriceLine(
        kind=tax.kind,
        id=tax.id,
        name=tax.name,
        amount_minor=min(amount_minor, sum(nights_minor)) if tax.included else amount_minor,
        included=tax.included,
        collected=collected if tax.included or collected is Collected.AT_HOTEL else tax.collected,
    )


def _at_hotel_anyway_minor(taxes: Sequence[Tax], lines: Sequence[PriceLine]) -> int:
    """Return the sum of the lines, in the order of the taxes, of those that a hotel collects itself on any plan."""
    return sum(
        line.amount_minor
        for tax, line in zip(taxes, lines, strict=True)
        if tax.collected is Collected.AT_HOTEL and not tax.included
    )


def _counted(tax: Tax, check_in: date, nights_count: int) -> Sequence[bool]:
    """Return for each night of a stay whether the tax counts for it."""
    if tax.first_night is None and tax.end_night is None:
        return (True,) * nights_count
    first, end = tax.first_night or date.min, tax.end_night or date.max
    days = (date.fromordinal(check_in.toordinal() + number) for number in range(nights_count))
    return [first <= day < end for day in days]


def can_be_paid(price: PricedStay, *, in_trip: bool = False) -> bool:
    """Return whether the price can be paid on its terms: in advance and at the hotel, and all amounts fit a ledger.

    `in_trip`: it is that of a leg, which is charged with the other legs of its trip.
    """
    at_hotel_minor = 0 if price.sale is None else price.sale.at_hotel_minor
    if max(price.amount_minor, at_hotel_minor) > MAX_AMOUNT_MINOR:
        return False
    if price.terms is not Terms.PREPAID:
        return True
    check = can_be_charged_in_part if in_trip else can_be_charged
    return check(price.amount_minor, price.currency)


@lru_cache(maxsize=_MAX_CACHED_CAPACITIES)
def standard_terms(capacity: int) -> SaleTerms:
    """Return the terms of a room whose hotel has set none: a party must fit into it all the same."""
    return replace(NO_SALE_TERMS, capacity=capacity)


def default_party(terms: SaleTerms, plan: RatePlan, rooms_count: int) -> Party:
    """Return the people of a request that names none: the adults that the plan's price covers and the rooms hold."""
    covered = plan.included_adults if terms.capacity is None else min(plan.included_adults, terms.capacity)
    return Party(adults=max(1, covered) * rooms_count)


def party_rejection(terms: SaleTerms, party: Party, rooms_count: int) -> Rejection | None:
    """Return the reason why the people cannot stay in so many rooms, if there is one."""
    if party.adults < 1:
        return Rejection.NO_ADULT
    if terms.capacity is None:
        return None
    infants_up_to = -1 if terms.infant_max_age is None else terms.infant_max_age
    count = party.adults + sum(1 for age in party.child_ages if age > infants_up_to)
    return Rejection.PARTY_TOO_LARGE if count > terms.capacity * rooms_count else None


def rules_rejection(plan: RatePlan, check_in: date, check_out: date, today: date | None) -> Rejection | None:
    """Return the first reason, in the order of `Rejection`, why the plan's rules exclude a stay, if there is one.

    `today` is the date at the hotel; None: the advance purchase is not checked.
    """
    if not plan.rules:
        return None
    arriving = [rule for rule in plan.rules if rule.first_day <= check_in < rule.end_day]
    nights = (check_out - check_in).days
    ahead = None if today is None else (check_in - today).days
    checks = (
        (Rejection.STOP_SELL, any(rule.stop_sell for rule in arriving)),
        (Rejection.CLOSED_TO_ARRIVAL, any(rule.closed_to_arrival for rule in arriving)),
        (
            Rejection.CLOSED_TO_DEPARTURE,
            any(rule.closed_to_departure and rule.first_day <= check_out < rule.end_day for rule in plan.rules),
        ),
        (Rejection.MIN_STAY, any(rule.min_nights is not None and nights < rule.min_nights for rule in arriving)),
        (Rejection.MAX_STAY, any(rule.max_nights is not None and nights > rule.max_nights for rule in arriving)),
        (
            Rejection.ADVANCE_PURCHASE,
            ahead is not None and any(rule.advance_days is not None and ahead < rule.advance_days for rule in arriving),
        ),
    )
    return next((reason for reason, excludes in checks if excludes), None)


def is_stopped(plan: RatePlan, check_in: date) -> bool:
    """Return whether the plan is not sold for stays that arrive on this day."""
    return any(rule.stop_sell and rule.first_day <= check_in < rule.end_day for rule in plan.rules)


def needs_today(terms: SaleTerms, plan_id: str | None) -> bool:
    """Return whether the plan has a rule of advance purchase, which depends on the date at the hotel."""
    plan = terms.plan(plan_id)
    if plan is None or not plan.rules:
        return False
    return any(rule.advance_days is not None for rule in plan.rules)
