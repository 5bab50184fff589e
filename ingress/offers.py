"""Offers as responses show them: the lines of a price, and what a cancellation costs at which time.

Search, the description of a hotel, quotes and bookings show the same price, because each makes its response here from a
`PricedStay`: that of `pricing.sale.price_stay`, or the one that a booking has kept.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from itertools import zip_longest
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from ingress.http.models import MoneyOut, OutModel
from ingress.rates.exchange_rates import ExchangeRates
from pricing.currencies import decimal
from pricing.sale import PricedStay
from topics.messages.sale import Collected, LineKind, Meals, PriceLine, Sale, WallTime
from topics.messages.values import StayTimes, Terms
from topics.zones import instant, zone

_LocalTime = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d$")]
_LOCAL_FORMAT: Final = "%Y-%m-%dT%H:%M"


class PriceLineOut(OutModel, title="PriceLine"):
    """One line of a price. `included`: the amount is contained in the line of the stay, and not added to it."""

    kind: LineKind
    id: str
    name: str
    amount: MoneyOut
    included: bool
    collected: Collected = Field(description="When it is paid: with the booking, or at the hotel.")


class CancellationStepOut(OutModel, title="CancellationStep"):
    """The cost of a cancellation before `until`, and from the step before on.

    `refund` is the part of the money charged with the booking that goes back. A stay that is paid at the hotel has no
    such money, and `kept` is then due to the hotel by its policy.
    """

    until: datetime = Field(description="The instant, with the hotel's offset from UTC.")
    until_local: _LocalTime = Field(description="The hotel's wall time, which is what was promised.")
    refund: MoneyOut
    kept: MoneyOut


#: The fields of a price from which a promo code took something off.
PROMO_CODE: Final[Any] = Field(default=None, description="The promo code that is in the price; left out without one.")
DISCOUNT: Final[Any] = Field(
    default=None,
    description="The amount that the promo code took off the nights' price before taxes; left out without one.",
)


class OfferOut(OutModel, title="Offer"):
    """A price of a stay with its conditions, by one rate plan."""

    terms_version: int = Field(description="The version of the hotel's sale terms; 0 if it has set none.")
    plan_id: str
    plan_name: str
    meals: Meals
    payment: Terms = Field(description="Paid with the booking (`prepaid`), or at the hotel (`at_hotel`).")
    adults: int
    children_ages: list[int]
    currency: str
    total: MoneyOut = Field(description="Charged with the booking.")
    due_at_hotel: MoneyOut = Field(description="Paid at the hotel, beside `total`.")
    lines: list[PriceLineOut]
    promo_code: str | None = PROMO_CODE
    discount: MoneyOut | None = DISCOUNT
    refundable: bool = Field(description="Whether a cancellation costs less than everything, now or later.")
    free_until: datetime | None = Field(description="Until when a cancellation costs nothing; null: it always does.")
    cancellation: list[CancellationStepOut] = Field(
        description="In the order of time, up to check-in, after which the hotel alone can cancel."
    )
    no_show_kept: MoneyOut = Field(description="The part that the hotel keeps if nobody arrives.")
    early_departure_percent: int = Field(description="The hotel keeps this part of nights left unused.")
    time_zone: str


class ApproximateOffer(OutModel):
    """The amounts of an offer in the currency that the request names, for eyes only: the hotel charges its own.

    They follow from exchange rates of `rate_date`, published by `rate_source`, and are rounded.
    """

    currency: str
    total: MoneyOut
    due_at_hotel: MoneyOut
    rate_date: date
    rate_source: str


def charged_minor(priced: PricedStay) -> int:
    """Return what is charged with the booking: nothing, if the stay is paid at the hotel."""
    return priced.amount_minor if priced.terms is Terms.PREPAID else 0


def due_at_hotel_minor(priced: PricedStay) -> int:
    """Return what is paid at the hotel, beside what is charged with the booking."""
    if priced.sale is not None:
        return priced.sale.at_hotel_minor
    return priced.amount_minor - charged_minor(priced)


def whole_minor(priced: PricedStay) -> int:
    """Return all that the stay costs, whenever it is paid; offers are compared by it."""
    return charged_minor(priced) + due_at_hotel_minor(priced)


def lines_out(lines: Iterable[PriceLine], currency: str) -> list[PriceLineOut]:
    """Return the lines of a price."""
    return [
        PriceLineOut(
            kind=line.kind,
            id=line.id,
            name=line.name,
            amount=decimal(line.amount_minor, currency),
            included=line.included,
            collected=line.collected,
        )
        for line in lines
    ]


def discount_fields(sale: Sale, currency: str) -> dict[str, str]:
    """Return the promo code of a sale and the amount that it took off; nothing for a sale without one."""
    if sale.discount is None:
        return {}
    return {"promo_code": sale.discount.code, "discount": decimal(sale.discount_minor, currency)}


def steps_out(
    priced: PricedStay, *, check_in: date, stay_times: StayTimes, now: datetime | None = None
) -> list[CancellationStepOut]:
    """Return the costs of a cancellation; none, if no policy was agreed. Neighbours that cost the same are one step.

    Args:
        priced: the price, with its sale.
        check_in: the day of arrival.
        stay_times: the hotel's clock.
        now: leaves out the steps that have ended by then; None: none is left out.
    """
    charged = charged_minor(priced)
    steps = () if priced.sale is None else _steps_up_to(priced.sale, _arrival(check_in, stay_times), stay_times, now)
    return [
        CancellationStepOut(
            until=at.astimezone(zone(stay_times.time_zone)),
            until_local=f"{wall:{_LOCAL_FORMAT}}",
            refund=decimal(max(0, charged - kept_minor), priced.currency),
            kept=decimal(kept_minor, priced.currency),
        )
        for (wall, at, kept_minor), following in zip_longest(steps, steps[1:])
        if following is None or following[2] != kept_minor
    ]


def free_until(
    priced: PricedStay, *, check_in: date, stay_times: StayTimes, now: datetime | None = None
) -> datetime | None:
    """Return the instant (with the hotel's offset) until which a cancellation costs nothing; None: it always does.

    Without a policy a cancellation costs nothing until check-in.
    """
    arrival = _arrival(check_in, stay_times)
    steps: Sequence[_Step] = [(arrival, _instant(arrival, stay_times), 0)]
    if priced.sale is not None:
        steps = _steps_up_to(priced.sale, arrival, stay_times, now)
    free_at = None
    for _, at, kept_minor in steps:
        if kept_minor:
            break
        free_at = at.astimezone(zone(stay_times.time_zone))
    return free_at


def is_refundable(priced: PricedStay, *, check_in: date, stay_times: StayTimes, now: datetime | None = None) -> bool:
    """Return whether a cancellation at some time, from `now` on if it is given, costs less than everything."""
    if priced.sale is None:
        return True
    steps = _steps_up_to(priced.sale, _arrival(check_in, stay_times), stay_times, now)
    return any(kept_minor < priced.amount_minor or not kept_minor for _, _, kept_minor in steps)


def offer_out(priced: PricedStay, *, check_in: date, stay_times: StayTimes, now: datetime | None = None) -> OfferOut:
    """Return a price that has a sale, with its conditions; arguments as of `steps_out`."""
    sale, currency = priced.sale, priced.currency
    assert sale is not None
    return OfferOut(
        terms_version=sale.terms_version,
        plan_id=sale.plan_id,
        plan_name=sale.plan_name,
        meals=sale.meals,
        payment=priced.terms,
        adults=sale.party.adults,
        children_ages=list(sale.party.child_ages),
        currency=currency,
        total=decimal(charged_minor(priced), currency),
        due_at_hotel=decimal(due_at_hotel_minor(priced), currency),
        lines=lines_out(sale.lines, currency),
        **discount_fields(sale, currency),
        refundable=is_refundable(priced, check_in=check_in, stay_times=stay_times, now=now),
        free_until=free_until(priced, check_in=check_in, stay_times=stay_times, now=now),
        cancellation=steps_out(priced, check_in=check_in, stay_times=stay_times, now=now),
        no_show_kept=decimal(sale.no_show_kept_minor, currency),
        early_departure_percent=sale.early_departure_percent,
        time_zone=stay_times.time_zone,
    )


def approximation(priced: PricedStay, wanted: str | None, rates: ExchangeRates) -> dict[str, ApproximateOffer]:
    """Return the field `approximate` of an offer; none, unless another currency than the offer's is wanted.

    Raises:
        Problem: 422 about `currency`: there is no exchange rate.
    """
    currency = priced.currency.upper()
    if wanted is None or wanted == currency:
        return {}
    total, due_at_hotel = (
        rates.approximate(amount_minor, currency, wanted)
        for amount_minor in (charged_minor(priced), due_at_hotel_minor(priced))
    )
    shown = ApproximateOffer(
        currency=wanted,
        total=total.amount,
        due_at_hotel=due_at_hotel.amount,
        rate_date=total.rate_date,
        rate_source=total.rate_source,
    )
    return {"approximate": shown}


#: The wall time and the instant (UTC) at which a step ends, and what a cancellation before costs.
_Step = tuple[WallTime, datetime, int]


def _steps_up_to(sale: Sale, arrival: WallTime, stay_times: StayTimes, now: datetime | None) -> list[_Step]:
    """Return the steps until the arrival, without those that have ended by `now`."""
    steps: list[_Step] = []
    for step in sale.steps:
        wall = arrival if step.until is None else min(step.until, arrival)
        at = _instant(wall, stay_times)
        # Where clocks skip an hour, a later wall time may be no later instant.
        if (not steps or steps[-1][1] < at) and (now is None or now < at):
            steps.append((wall, at, step.kept_minor))
    return steps


def _arrival(check_in: date, stay_times: StayTimes) -> WallTime:
    return datetime.combine(check_in, stay_times.check_in_time)


def _instant(wall: WallTime, stay_times: StayTimes) -> datetime:
    return instant(wall.date(), wall.time(), stay_times.time_zone)
