"""The price of a changed stay: nights that stay in the booking keep their price, and what is given up costs by policy.

A decision, a preview and the page of a booking compute it with the same function.
"""

from collections.abc import Sequence
from datetime import date, time
from typing import Final, NamedTuple

from msgspec.structs import replace

from pricing.charges import can_be_charged, step_minor
from pricing.codes import has_nights
from pricing.rounding import half_up
from pricing.sale import PricedStay, price_stay
from pricing.shares import shares_minor
from topics.messages.events import StayBefore
from topics.messages.sale import (
    NO_SALE_TERMS,
    CancellationStep,
    Collected,
    LineKind,
    Moved,
    Party,
    PriceLine,
    QuotedChange,
    RatePlan,
    Sale,
    SaleTerms,
)
from topics.messages.values import MAX_AMOUNT_MINOR, MAX_CHANGES, MAX_PAYMENTS_ASKED, Terms, nights_of

#: The id and the name of the line of a price that has the costs of changes.
CHANGE_LINE_ID: Final = "change"
CHANGE_LINE_NAME: Final = "Costs of changes"


class WantedStay(NamedTuple):
    """The stay that a change asks for; `party` None: the people of the booking."""

    check_in: date
    check_out: date
    rooms_count: int
    party: Party | None = None


class PricedChange(NamedTuple):
    """The price of a stay after a change, and what the change costs or gives back, in minor units.

    `extra_minor` is what the stay becomes dearer by. `back_minor` is what it becomes cheaper by after the policy kept
    `kept_minor` of that. One of the first two is 0. A stay that is paid at the hotel has them too, but nothing is paid
    or sent back for them.
    """

    price: PricedStay
    extra_minor: int
    back_minor: int
    kept_minor: int

    @property
    def stays_unpaid(self) -> bool:
        """Whether its rooms are held, or bought, without a payment in advance: they count for the account's share."""
        return self.price.terms is not Terms.PREPAID or self.extra_minor > 0 or self.price.amount_minor == 0

    @property
    def can_be_paid(self) -> bool:
        """Whether the difference can be charged, where it is paid in advance, and all amounts fit a ledger."""
        price = self.price
        at_hotel_minor = 0 if price.sale is None else price.sale.at_hotel_minor
        if max(price.amount_minor, at_hotel_minor) > MAX_AMOUNT_MINOR:
            return False
        return price.terms is not Terms.PREPAID or can_be_charged(self.extra_minor, price.currency)


def is_changed_too_often(earlier_count: int, payment_attempt: int) -> bool:
    """Return whether a booking is changed no more: many changes took place, or its payment was asked for often."""
    return earlier_count >= MAX_CHANGES or payment_attempt >= MAX_PAYMENTS_ASKED


def plan_of(before: StayBefore, terms: SaleTerms | None) -> RatePlan | None:
    """Return the plan of a booking in the present terms of its room; None: it is not sold any more, or there is none.

    `terms` None: the hotel has set none.
    """
    return None if before.sale is None else (terms or NO_SALE_TERMS).plan(before.sale.plan_id)


def plan_of_rules(before: StayBefore, terms: SaleTerms | None, *, is_more: bool) -> RatePlan | None:
    """Return the plan whose rules count for a change; None: no rules count.

    A booking that was sold without terms has no plan: the room's standard one, or the first, rules nights and rooms
    that are sold to it now (`is_more`).
    """
    if before.sale is None:
        return (terms or NO_SALE_TERMS).plan(None) if is_more else None
    return plan_of(before, terms)


def code_counts(before: StayBefore, wanted: WantedStay) -> bool:
    """Return whether the promo code of a booking, if it has one, counts for all nights of the wanted stay."""
    discount = None if before.sale is None else before.sale.discount
    return discount is None or has_nights(discount, wanted.check_in, wanted.check_out)


def party_of(before: StayBefore, wanted: WantedStay) -> Party | None:
    """Return the people of the stay after a change; None: nobody named them, and they are the default party.

    A party that the guest named, or that the price depends on, stays the same in another number of rooms.
    """
    if wanted.party is not None or before.sale is None:
        return wanted.party
    return before.sale.party if before.sale.party_binding else None


def price_change(
    before: StayBefore,
    wanted: WantedStay,
    night_prices_minor: Sequence[int],
    *,
    currency: str,
    payment: Terms,
    terms: SaleTerms | None,
    check_in_time: time,
    kept_now_minor: int,
    by_guest: bool,
) -> PricedChange:
    """Return the price of a changed stay, and what the change costs.

    Of a night that was in the stay, the rooms that were in it keep the price that was agreed; more rooms, and other
    nights, cost today's. The booking keeps its plan, in the room's present terms, and the discount of its promo code.

    A guest whose stay becomes cheaper gives up the difference like a part of the stay: the policy keeps the same share
    of it as a cancellation at the moment would keep of the whole. That is added to the costs of earlier changes, which
    every later end of the booking keeps in full. A later cancellation, a no-show or an early departure costs no less
    than a cancellation at the moment of the change, so that nobody moves a stay away from its policy. A change by the
    hotel costs nothing and keeps that floor.

    Args:
        before: the booking's present stay.
        wanted: the stay that is asked for.
        night_prices_minor: today's price, in minor units, of each night of the wanted stay in one room, with its surge
            (`pricing.stays.night_price_minor`); those of nights whose rooms all keep their price do not count.
        currency: that of the booking and of the prices.
        payment: how the booking is paid.
        terms: those of the room at present; None: its hotel has set none. They have the booking's plan (`plan_of`).
        check_in_time: that of the booking, from which the hours of its policy are counted back.
        kept_now_minor: the costs, in minor units, of a cancellation by the guest at the moment: the `kept_minor` of the
            step in force (`pricing.policy.step_in_force`), costs of earlier changes included.
        by_guest: the guest asks for the change, not the hotel.
    """
    step = step_minor(currency)
    if before.sale is None:
        return _by_nights_alone(before, wanted, night_prices_minor, currency, payment)
    plan = plan_of(before, terms)
    assert plan is not None
    price = price_stay(
        terms or NO_SALE_TERMS,
        plan if plan.terms is payment else replace(plan, terms=payment),
        party_of(before, wanted),
        _agreed_prices(before, wanted, night_prices_minor, step),
        check_in=wanted.check_in,
        check_in_time=check_in_time,
        rooms_count=wanted.rooms_count,
        currency=currency,
        discount=before.sale.discount,
    )
    return _changed_to(price, moved_stay(before, kept_now_minor, by_guest=by_guest))


def moved_stay(before: StayBefore, kept_now_minor: int, *, by_guest: bool) -> Moved:
    """Return what the costs of a change depend on, beside the price of the changed stay.

    Args:
        before: the booking's present stay.
        kept_now_minor: as of `price_change`.
        by_guest: the guest asks for the change, not the hotel.
    """
    if before.sale is None:
        return Moved(amount_minor=before.amount_minor)
    costs_minor = before.sale.change_costs_minor
    return Moved(
        amount_minor=before.amount_minor,
        costs_minor=costs_minor,
        kept_now_minor=kept_now_minor if by_guest else costs_minor,
        floor_minor=kept_now_minor if by_guest else least_kept_minor(before.sale),
    )


def price_move(price: PricedStay, moved: Moved) -> PricedStay | None:
    """Return the price of a stay in another room type, with the costs of the change; None: its plan cannot keep them.

    The other room sells all nights at today's price. The policy counts as for any change (`price_change`).

    Args:
        price: that of the stay in the other room type.
        moved: the stay that moves.
    """
    if price.sale is None:
        return None if moved.floor_minor or moved.costs_minor or moved.kept_now_minor else price
    return _changed_to(price, moved).price


def _changed_to(price: PricedStay, moved: Moved) -> PricedChange:
    """Return the price of a stay that takes the place of another, with what the policy keeps of the difference."""
    present_minor = moved.amount_minor - moved.costs_minor
    less_minor = present_minor - price.amount_minor
    kept_minor = 0
    if less_minor > 0:
        share_minor = moved.kept_now_minor - moved.costs_minor
        kept_minor = min(less_minor, half_up(less_minor * share_minor, present_minor, step_minor(price.currency)))
    changed = _with_costs(price, moved.costs_minor + kept_minor, moved.floor_minor)
    return PricedChange(changed, max(0, -less_minor), max(0, less_minor - kept_minor), kept_minor)


def quoted_change(before: StayBefore, quoted: QuotedChange) -> PricedChange:
    """Return a change at the price of its quote, which has the costs that the policy keeps in its amount already."""
    price = PricedStay(quoted.currency, quoted.terms, quoted.amount_minor, quoted.night_amounts_minor, quoted.sale)
    dearer_minor = quoted.amount_minor - before.amount_minor
    kept_minor = costs_of_changes(quoted.sale) - costs_of_changes(before.sale)
    return PricedChange(price, max(0, dearer_minor), max(0, -dearer_minor), kept_minor)


def _by_nights_alone(
    before: StayBefore, wanted: WantedStay, night_prices_minor: Sequence[int], currency: str, payment: Terms
) -> PricedChange:
    """Return the price of a stay that was sold without plan and policy: all that it becomes cheaper by goes back."""
    step, days = step_minor(currency), nights_of(before.check_in, before.check_out)
    amounts_minor = before.night_amounts_minor or shares_minor(before.amount_minor, [1] * len(days))
    agreed = dict(zip(days, amounts_minor, strict=False))
    same_rooms, more_rooms = _rooms_of_night(before, wanted)
    new_minor = tuple(
        price_minor * wanted.rooms_count
        if (amount_minor := agreed.get(day)) is None
        else half_up(amount_minor * same_rooms, before.rooms_count, step) + price_minor * more_rooms
        for day, price_minor in zip(nights_of(wanted.check_in, wanted.check_out), night_prices_minor, strict=True)
    )
    price = PricedStay(currency, payment, sum(new_minor), new_minor, None)
    dearer_minor = price.amount_minor - before.amount_minor
    return PricedChange(price, max(0, dearer_minor), max(0, -dearer_minor), 0)


def _rooms_of_night(before: StayBefore, wanted: WantedStay) -> tuple[int, int]:
    """Return how many rooms of a night that stays in the booking keep their price, and how many cost today's."""
    return min(before.rooms_count, wanted.rooms_count), max(0, wanted.rooms_count - before.rooms_count)


def _agreed_prices(before: StayBefore, wanted: WantedStay, night_prices_minor: Sequence[int], step: int) -> list[int]:
    """Return the price of each night of the wanted stay in one room: as agreed, or today's, or the mean of both."""
    assert before.sale is not None
    days = nights_of(before.check_in, before.check_out)
    agreed = dict(zip(days, before.sale.night_prices_minor, strict=False))
    wanted_days = nights_of(wanted.check_in, wanted.check_out)
    same_rooms, more_rooms = _rooms_of_night(before, wanted)
    return [
        price
        if (agreed_minor := agreed.get(day)) is None
        else agreed_minor
        if not more_rooms
        else half_up(agreed_minor * same_rooms + price * more_rooms, wanted.rooms_count, step)
        for day, price in zip(wanted_days, night_prices_minor, strict=True)
    ]


def _with_costs(price: PricedStay, costs_minor: int, floor_minor: int) -> PricedStay:
    """Return the price with the costs of changes, and no cancellation or no-show cheaper than `floor_minor`."""
    sale = price.sale
    assert sale is not None
    amount_minor = price.amount_minor + costs_minor
    floor_minor = min(floor_minor, amount_minor)
    sale = replace(
        sale,
        steps=_steps(sale.steps, costs_minor, floor_minor),
        no_show_kept_minor=max(sale.no_show_kept_minor + costs_minor, floor_minor),
    )
    if not costs_minor:
        return price._replace(sale=sale)
    prepaid = price.terms is Terms.PREPAID
    line = PriceLine(
        kind=LineKind.CHANGE,
        id=CHANGE_LINE_ID,
        name=CHANGE_LINE_NAME,
        amount_minor=costs_minor,
        collected=Collected.NOW if prepaid else Collected.AT_HOTEL,
    )
    nights_minor = price.night_amounts_minor
    changed = replace(
        sale,
        lines=(*sale.lines, line),
        at_hotel_minor=sale.at_hotel_minor if prepaid else sale.at_hotel_minor + costs_minor,
        change_costs_minor=costs_minor,
    )
    weights = nights_minor if any(nights_minor) else [1] * len(nights_minor)
    return price._replace(
        amount_minor=amount_minor, night_amounts_minor=shares_minor(amount_minor, weights), sale=changed
    )


def _steps(steps: Sequence[CancellationStep], costs_minor: int, floor_minor: int) -> tuple[CancellationStep, ...]:
    """Return the steps of a policy with the costs of changes in each, none cheaper than `floor_minor`.

    Neighbouring steps of the same cost are one. A step whose cost is the floor has no percentage.
    """
    raised: list[CancellationStep] = []
    for step in steps:
        kept_minor, percent = step.kept_minor + costs_minor, step.percent
        if kept_minor < floor_minor:
            kept_minor, percent = floor_minor, None
        if raised and (raised[-1].kept_minor, raised[-1].percent) == (kept_minor, percent):
            raised.pop()
        raised.append(CancellationStep(until=step.until, kept_minor=kept_minor, percent=percent))
    return tuple(raised)


def least_kept_minor(sale: Sale) -> int:
    """Return the least costs of a cancellation by the guest, in minor units: of no end of the stay is less kept."""
    return min(step.kept_minor for step in sale.steps)


def costs_of_changes(sale: Sale | None) -> int:
    """Return the costs of changes in the amount of a stay, in minor units."""
    return 0 if sale is None else sale.change_costs_minor
