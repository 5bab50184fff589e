"""Sale terms, people and stays of all kinds, for tests with drawn values; all terms are ones that a hotel may set."""

from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

from pricing.charges import step_minor
from pricing.sale import PricedStay, price_stay
from topics.messages.sale import (
    MAX_CHILD_AGE,
    AgeBand,
    CancellationPolicy,
    Collected,
    Discount,
    Kept,
    LineKind,
    Party,
    PolicyStep,
    RatePlan,
    SaleTerms,
    Tax,
)
from topics.messages.values import Terms

#: Currencies with two, no and three digits, and steps of one, ten and a hundred minor units.
CURRENCIES = ("EUR", "JPY", "ISK", "KWD", "MGA")
FIRST = date(2026, 12, 24)


def wall_time(day: date, hour: int) -> datetime:
    """Return a time on the wall, which has no zone."""
    return datetime.combine(day, time(hour))


def amounts(currency: str, most: int = 500) -> st.SearchStrategy[int]:
    """Return amounts that can be charged: few steps, so that shares and rounding matter."""
    return st.integers(0, most).map(lambda count: count * step_minor(currency))


def kept(currency: str) -> st.SearchStrategy[Kept]:
    """Return costs of a cancellation."""
    return st.one_of(
        st.builds(Kept, percent=st.integers(0, 100)),
        st.builds(Kept, nights=st.integers(0, 5)),
        st.builds(Kept, amount_minor=amounts(currency)),
    )


@st.composite
def policies(draw: st.DrawFn, currency: str) -> CancellationPolicy:
    """Return cancellation policies."""
    hours = sorted(draw(st.sets(st.integers(0, 24 * 40), max_size=4)), reverse=True)
    return CancellationPolicy(
        id="policy",
        steps=tuple(PolicyStep(hours_before=each, kept=draw(kept(currency))) for each in hours),
        no_show=draw(kept(currency)),
        early_departure_percent=draw(st.integers(0, 100)),
    )


@st.composite
def plans(draw: st.DrawFn, currency: str) -> RatePlan:
    """Return rate plans."""
    ages = sorted(draw(st.sets(st.integers(0, MAX_CHILD_AGE), max_size=3)))
    return RatePlan(
        id="plan",
        name="Plan",
        terms=draw(st.sampled_from(Terms)),
        refundable=draw(st.booleans()),
        policy=draw(policies(currency)),
        times_milli=draw(st.integers(0, 3000)),
        plus_minor=draw(amounts(currency)) * draw(st.sampled_from((1, -1))),
        included_adults=draw(st.integers(0, 3)),
        extra_adult_minor=draw(amounts(currency)),
        child_bands=tuple(AgeBand(up_to_age=age, nightly_minor=draw(amounts(currency))) for age in ages),
    )


@st.composite
def taxes(draw: st.DrawFn, currency: str, number: int) -> Tax:
    """Return taxes and fees."""
    measure: dict[str, Any] = draw(
        st.one_of(
            st.fixed_dictionaries({"percent_milli": st.integers(1, 100_000)}),
            st.fixed_dictionaries(
                {
                    "amount_minor": amounts(currency),
                    "per_night": st.booleans(),
                    "per_person": st.booleans(),
                    "per_room": st.booleans(),
                    "min_age": st.integers(0, MAX_CHILD_AGE + 1),
                }
            ),
        )
    )
    first = draw(st.none() | st.integers(-3, 6))
    length = draw(st.none() | st.integers(1, 6))
    return Tax(
        id=f"tax {number}",
        name="Tax",
        kind=draw(st.sampled_from((LineKind.TAX, LineKind.FEE))),
        included=draw(st.booleans()),
        collected=draw(st.sampled_from(Collected)),
        first_night=None if first is None else FIRST + timedelta(days=first),
        end_night=None if length is None else FIRST + timedelta(days=(first or 0) + length),
        **measure,
    )


class Stay(NamedTuple):
    """A stay that somebody asks for, and the terms of its room."""

    terms: SaleTerms
    party: Party | None
    night_prices_minor: tuple[int, ...]
    rooms_count: int
    currency: str
    check_in_time: time = time(15)
    discount: Discount | None = None
    at_desk: bool = False

    @property
    def plan(self) -> RatePlan:
        """The only plan."""
        return self.terms.plans[0]

    @property
    def check_out(self) -> date:
        """The day after the last night."""
        return FIRST + timedelta(days=len(self.night_prices_minor))

    def price(self) -> PricedStay:
        """Return its price."""
        return price_stay(
            self.terms,
            self.plan,
            self.party,
            self.night_prices_minor,
            check_in=FIRST,
            check_in_time=self.check_in_time,
            rooms_count=self.rooms_count,
            currency=self.currency,
            discount=self.discount,
            at_desk=self.at_desk,
        )


def discounts(currency: str) -> st.SearchStrategy[Discount]:
    """Return discounts of a promo code: percentages, and amounts that may be more than a stay costs."""
    return st.one_of(
        st.builds(Discount, code_id=st.just(1), code=st.just("CODE"), percent_milli=st.integers(1, 100_000)),
        st.builds(
            Discount,
            code_id=st.just(1),
            code=st.just("CODE"),
            amount_minor=amounts(currency, 20_000).filter(bool),
            currency=st.just(currency),
        ),
    )


@st.composite
def stays(draw: st.DrawFn) -> Stay:
    """Return stays of all kinds."""
    currency = draw(st.sampled_from(CURRENCIES))
    return Stay(
        terms=SaleTerms(
            version=1,
            plans=(draw(plans(currency)),),
            taxes=tuple(draw(taxes(currency, number)) for number in range(draw(st.integers(0, 4)))),
        ),
        party=Party(
            adults=draw(st.integers(1, 6)),
            child_ages=tuple(draw(st.lists(st.integers(0, MAX_CHILD_AGE), max_size=4))),
        ),
        night_prices_minor=tuple(draw(st.lists(amounts(currency, 5_000), min_size=1, max_size=6))),
        rooms_count=draw(st.integers(1, 3)),
        currency=currency,
        check_in_time=draw(st.times()),
        discount=draw(st.none() | discounts(currency)),
        at_desk=draw(st.booleans()),
    )
