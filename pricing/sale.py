"""The price of a stay by the sale terms of its room: plan, people, taxes and fees, line by line."""

from collections.abc import Sequence
from datetime import date, time
from typing import Final, NamedTuple

from pricing.charges import step_minor
from pricing.policy import cancellation_steps, no_show_kept_minor
from pricing.rounding import half_up
from pricing.shares import shares_minor
from topics.messages.sale import (
    Collected,
    LineKind,
    Party,
    PriceLine,
    RatePlan,
    Sale,
    SaleTerms,
    Tax,
)
from topics.messages.values import Rejection, Terms

_MILLI: Final = 1000
_WHOLE_PERCENT_MILLI: Final = 100_000


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
    party: Party,
    night_prices_minor: Sequence[int],
    *,
    check_in: date,
    check_in_time: time,
    rooms_count: int,
    currency: str,
) -> PricedStay:
    """Return the price of a stay and its conditions.

    Args:
        terms: those of the room.
        plan: one of them.
        party: the people of the stay, in all rooms together.
        night_prices_minor: the price of each night in one room, with its surge (`pricing.stays.night_price_minor`).
        check_in: the first night.
        check_in_time: the hotel's, from which the hours of its policy are counted back.
        rooms_count: the number of rooms.
        currency: that of the prices.
    """
    step = step_minor(currency)
    people_minor = _people_minor(plan, party, rooms_count)
    nights_minor = [
        _night_minor(plan, price_minor, step) * rooms_count + people_minor for price_minor in night_prices_minor
    ]
    stay = PriceLine(kind=LineKind.STAY, id=plan.id, name=plan.name, amount_minor=sum(nights_minor))
    taxes = (
        _tax_line(tax, party, nights_minor, check_in=check_in, rooms_count=rooms_count, step=step)
        for tax in terms.taxes
    )
    lines = (stay, *(line for line in taxes if line.amount_minor))
    total_minor = sum(line.amount_minor for line in lines if not line.included)
    later_minor = sum(line.amount_minor for line in lines if line.collected is Collected.AT_HOTEL)
    prepaid = plan.terms is Terms.PREPAID
    amount_minor = total_minor - later_minor if prepaid else total_minor
    amounts_minor = shares_minor(amount_minor, nights_minor if any(nights_minor) else [1] * len(nights_minor))
    sale = Sale(
        terms_version=terms.version,
        plan_id=plan.id,
        plan_name=plan.name,
        meals=plan.meals,
        party=party,
        lines=lines,
        at_hotel_minor=later_minor if prepaid else total_minor,
        steps=cancellation_steps(
            plan, amount_minor, amounts_minor, check_in=check_in, check_in_time=check_in_time, currency=currency
        ),
        no_show_kept_minor=no_show_kept_minor(plan, amount_minor, amounts_minor, currency),
        early_departure_percent=plan.policy.early_departure_percent if plan.refundable else 100,
    )
    return PricedStay(currency, plan.terms, amount_minor, amounts_minor, sale)


def _night_minor(plan: RatePlan, price_minor: int, step: int) -> int:
    """Return the price of a night in one room for the adults whose price is in it."""
    return max(0, half_up(price_minor * plan.times_milli, _MILLI, step) + plan.plus_minor)


def _people_minor(plan: RatePlan, party: Party, rooms_count: int) -> int:
    """Return the price of a night for the adults beyond those of the rooms, and for the children."""
    extra_adults = max(0, party.adults - plan.included_adults * rooms_count)
    return extra_adults * plan.extra_adult_minor + sum(_child_minor(plan, age) for age in party.child_ages)


def _child_minor(plan: RatePlan, age: int) -> int:
    return next((band.nightly_minor for band in plan.child_bands if age <= band.up_to_age), 0)


def _tax_line(
    tax: Tax, party: Party, nights_minor: Sequence[int], *, check_in: date, rooms_count: int, step: int
) -> PriceLine:
    """Return the line of a tax, which may be of nothing."""
    days = [date.fromordinal(check_in.toordinal() + number) for number in range(len(nights_minor))]
    counted = [_counts(tax, day) for day in days]
    stay_minor = sum(nights_minor)
    if tax.percent_milli is not None:
        of_minor = sum(amount for amount, counts in zip(nights_minor, counted, strict=True) if counts)
        whole = _WHOLE_PERCENT_MILLI + (tax.percent_milli if tax.included else 0)
        amount_minor = half_up(of_minor * tax.percent_milli, whole, step)
    else:
        units = sum(counted) if tax.per_night else int(counted[0])
        if tax.per_person:
            units *= party.adults + sum(1 for age in party.child_ages if age >= tax.min_age)
        if tax.per_room:
            units *= rooms_count
        amount_minor = half_up(units * (tax.amount_minor or 0), 1, step)
    return PriceLine(
        kind=tax.kind,
        id=tax.id,
        name=tax.name,
        amount_minor=min(amount_minor, stay_minor) if tax.included else amount_minor,
        included=tax.included,
        collected=Collected.NOW if tax.included else tax.collected,
    )


def _counts(tax: Tax, day: date) -> bool:
    """Return whether the tax counts for a night."""
    return (tax.first_night is None or day >= tax.first_night) and (tax.end_night is None or day < tax.end_night)


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


def needs_today(terms: SaleTerms) -> bool:
    """Return whether a plan has a rule of advance purchase, which depends on the date at the hotel."""
    return any(rule.advance_days is not None for plan in terms.plans for rule in plan.rules)
