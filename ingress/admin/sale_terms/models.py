"""The bodies and responses of operations on a hotel's sale terms and on rate plans.

Amounts are in major units of the hotel's currency. Percentages are of 100: a `percent` of 7.5 is 7.5 %. Ranges of dates
include both ends.
"""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from ingress.http.models import Body, BodyDay, Line, MoneyIn, MoneyOut, OutModel, PlainDecimal, in_words, number_schema
from pricing.terms import MAX_NAME_LENGTH, MAX_RULES, MAX_STEPS, MAX_TAXES, MAX_TIMES_MILLI
from topics.messages.sale import MAX_CHILD_AGE, Collected, Meals
from topics.messages.values import Terms

MAX_POLICIES: Final = 50
_HOURS_OF_A_YEAR: Final = 24 * 366
_DAYS_OF_A_YEAR: Final = 366
_MAX_ADULTS: Final = 100
_SIGNED_NUMBER: Final = re.compile(r"-?\d{1,12}(\.\d{1,3})?", re.ASCII)


def _signed_decimal(given: object) -> object:
    """Return a number or a plain string as a decimal; a float as its shortest decimal form."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Decimal(str(given))
    if isinstance(given, str) and _SIGNED_NUMBER.fullmatch(given):
        return Decimal(given)
    raise ValueError("must be a plain number, such as -10.5")


#: The id that a manager gives a plan, a tax or a policy; it is part of addresses, quotes and bookings.
GivenId = Annotated[
    str,
    StringConstraints(
        pattern=in_words(
            r"^[a-z0-9][a-z0-9_-]{0,39}$",
            "must have 1 to 40 small letters, digits, hyphens and underscores, and begin with a letter or a digit",
        )
    ),
]
Name = Annotated[Line, StringConstraints(max_length=MAX_NAME_LENGTH)]
WholePercent = Annotated[int, Field(ge=0, le=100)]
TaxPercent = Annotated[
    PlainDecimal,
    Field(gt=0, le=100),
    number_schema(
        exclusiveMinimum=0, maximum=100, description="Of the nights' price, above 0 and at most 100, such as 7.125."
    ),
]
PricePercent = Annotated[
    PlainDecimal,
    Field(le=Decimal(MAX_TIMES_MILLI) / 10, multiple_of=Decimal("0.1")),
    number_schema(
        minimum=0,
        maximum=MAX_TIMES_MILLI / 10,
        description="Of the night's price, in steps of 0.1: 90 sells the night for nine tenths of it.",
    ),
]
SignedMoneyIn = Annotated[
    Decimal,
    Field(max_digits=15, decimal_places=3, allow_inf_nan=False),
    BeforeValidator(_signed_decimal),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^-?\d{1,12}(\.\d{1,3})?$"}]}),
]
# Strict models take no text for an enumeration, so such values are read as JSON's.
MealsIn = Annotated[Meals, Field(strict=False)]
CollectedIn = Annotated[Collected, Field(strict=False)]
PaymentIn = Annotated[Terms, Field(strict=False, description="When the stay is paid.")]
TaxKind = Literal["tax", "fee"]
ChildAge = Annotated[int, Field(ge=0, le=MAX_CHILD_AGE)]


class _Dated(Body):
    """A body whose range of dates has a first and a last day in this order."""

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        start, end = getattr(self, "start_date", None), getattr(self, "end_date", None)
        if start is not None and end is not None and start > end:
            raise ValueError("end_date must not be before start_date")
        return self


class TaxIn(_Dated):
    """A tax or fee: a percentage of the nights' price, or an amount for the stay, or for each night, person or room.

    It counts for the nights from `start_date` to `end_date`; an amount that is not `per_night`, for stays that arrive
    then. `included`: the nights' price contains it already. `collected`: with the booking, or at the hotel.
    """

    id: GivenId
    name: Name
    kind: TaxKind = "tax"
    percent: TaxPercent | None = None
    amount: MoneyIn | None = None
    per_night: bool = False
    per_person: bool = False
    per_room: bool = False
    min_age: Annotated[int, Field(ge=0, le=MAX_CHILD_AGE + 1, description="Younger people are exempt.")] = 0
    included: bool = False
    collected: CollectedIn = Collected.NOW
    start_date: BodyDay | None = None
    end_date: BodyDay | None = None

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if (self.percent is None) == (self.amount is None):
            raise ValueError("a tax has a percent or an amount")
        if self.percent is not None and (self.per_night or self.per_person or self.per_room):
            raise ValueError("per_night, per_person and per_room are for an amount: a percent is of the nights' price")
        if self.min_age and not self.per_person:
            raise ValueError("min_age is for an amount per_person")
        if self.included and self.collected is Collected.AT_HOTEL:
            raise ValueError("a tax that is included in the price is collected with it")
        return self


class KeptIn(Body):
    """The part of a stay's price that the hotel keeps: a percentage, the price of the first nights, or an amount."""

    percent: WholePercent | None = None
    nights: Annotated[int, Field(ge=0, le=_DAYS_OF_A_YEAR)] | None = None
    amount: MoneyIn | None = None

    @model_validator(mode="after")
    def _is_one_of_three(self) -> Self:
        if [self.percent, self.nights, self.amount].count(None) != 2:
            raise ValueError("send one of percent, nights and amount")
        return self


class StepIn(Body):
    """A cancellation less than so many hours before check-in, by the hotel's clock, costs `kept`."""

    hours_before: Annotated[int, Field(ge=0, le=_HOURS_OF_A_YEAR)]
    kept: KeptIn


class PolicyIn(Body):
    """The costs of a cancellation by its time: nothing before the first step; the steps descend by their hours.

    `no_show` is kept of guests who do not arrive, `early_departure_percent` of the nights that guests leave unused.
    """

    id: GivenId
    steps: Annotated[list[StepIn], Field(max_length=MAX_STEPS)] = Field(default_factory=list)
    no_show: KeptIn = Field(default_factory=lambda: KeptIn(percent=100))
    early_departure_percent: WholePercent = 100


class SaleTermsIn(Body, title="SaleTermsWanted"):
    """The taxes, fees and cancellation policies of a hotel, whole; a list that is left out becomes empty."""

    taxes: Annotated[list[TaxIn], Field(max_length=MAX_TAXES)] = Field(default_factory=list)
    policies: Annotated[list[PolicyIn], Field(max_length=MAX_POLICIES)] = Field(default_factory=list)
    infant_max_age: ChildAge | None = None


class AgeBandIn(Body):
    """The price of a child's night, for children up to an age (inclusive)."""

    up_to_age: ChildAge
    price: MoneyIn


class RuleIn(_Dated):
    """Restrictions for stays that arrive from `start_date` to `end_date`.

    `closed_to_departure` counts for stays whose check-out day is in the range. `advance_days`: the stay must be booked
    at least so many days before it begins. `stop_sell`: the plan is not sold.
    """

    start_date: BodyDay
    end_date: BodyDay
    min_nights: Annotated[int, Field(ge=1, le=_DAYS_OF_A_YEAR)] | None = None
    max_nights: Annotated[int, Field(ge=1, le=_DAYS_OF_A_YEAR)] | None = None
    advance_days: Annotated[int, Field(ge=0, le=_DAYS_OF_A_YEAR)] | None = None
    closed_to_arrival: bool = False
    closed_to_departure: bool = False
    stop_sell: bool = False

    @model_validator(mode="after")
    def _restricts_something(self) -> Self:
        counts = (self.min_nights, self.max_nights, self.advance_days)
        if counts == (None, None, None) and not (self.closed_to_arrival or self.closed_to_departure or self.stop_sell):
            raise ValueError("a rule has a restriction")
        if self.min_nights is not None and self.max_nights is not None and self.min_nights > self.max_nights:
            raise ValueError("min_nights must not be above max_nights")
        return self


class RatePlanIn(Body, title="RatePlanWanted"):
    """A rate plan, whole. A room's night costs `price_percent` of its price, plus `price_plus`.

    That covers `included_adults` adults a room; each one more costs `extra_adult` a night, and each child the price of
    the first band that covers its age, or nothing. `policy_id` names a policy of the hotel; null: a cancellation is
    free until check-in. Not `refundable`: the whole price is kept from the booking on.
    """

    name: Name
    meals: MealsIn = Meals.NONE
    payment: PaymentIn = Terms.PREPAID
    refundable: bool = True
    policy_id: GivenId | None = None
    price_percent: PricePercent = Decimal(100)
    price_plus: SignedMoneyIn = Decimal(0)
    included_adults: Annotated[int, Field(ge=0, le=_MAX_ADULTS)] = 2
    extra_adult: MoneyIn = Decimal(0)
    child_bands: Annotated[list[AgeBandIn], Field(max_length=MAX_CHILD_AGE + 1)] = Field(default_factory=list)
    rules: Annotated[list[RuleIn], Field(max_length=MAX_RULES)] = Field(default_factory=list)


class RoomVersionOut(OutModel, title="RoomInForce"):
    """A room, and the version of the hotel's terms that it is sold by; 0: by no terms yet."""

    room_id: int
    type: str
    version: int


class TermsVersion(OutModel):
    """The version of a hotel's sale terms, and the version that is in force in each room: a lower one lags."""

    version: int
    rooms: list[RoomVersionOut]


class TaxOut(OutModel, title="Tax"):
    """A tax or fee of a hotel."""

    id: str
    name: str
    kind: str
    percent: str | None
    amount: MoneyOut | None
    per_night: bool
    per_person: bool
    per_room: bool
    min_age: int
    included: bool
    collected: str
    start_date: date | None
    end_date: date | None


class KeptOut(OutModel, title="Kept"):
    """The part of a stay's price that the hotel keeps; one field is there."""

    percent: int | None = None
    nights: int | None = None
    amount: MoneyOut | None = None


class StepOut(OutModel, title="PolicyStep"):
    """A cancellation less than so many hours before check-in costs `kept`."""

    hours_before: int
    kept: KeptOut


class PolicyOut(OutModel, title="CancellationPolicy"):
    """The costs of a cancellation by its time, of a no-show, and of an early departure."""

    id: str
    steps: list[StepOut]
    no_show: KeptOut
    early_departure_percent: int


class SaleTermsOut(TermsVersion, title="SaleTerms"):
    """The taxes, fees and cancellation policies of a hotel. Version 0: nobody has set any."""

    hotel_id: int
    currency: str
    taxes: list[TaxOut]
    policies: list[PolicyOut]
    infant_max_age: int | None
    updated_at: datetime | None


class AgeBandOut(OutModel, title="AgeBand"):
    """The price of a child's night, for children up to an age."""

    up_to_age: int
    price: MoneyOut


class RuleOut(OutModel, title="ArrivalRule"):
    """Restrictions for stays that arrive from `start_date` to `end_date`."""

    start_date: date
    end_date: date
    min_nights: int | None
    max_nights: int | None
    advance_days: int | None
    closed_to_arrival: bool
    closed_to_departure: bool
    stop_sell: bool


class RatePlanOut(OutModel, title="RatePlan"):
    """A rate plan of a room."""

    id: str
    room_id: int
    name: str
    meals: str
    payment: str
    refundable: bool
    policy_id: str | None
    price_percent: str
    price_plus: MoneyOut
    included_adults: int
    extra_adult: MoneyOut
    child_bands: list[AgeBandOut]
    rules: list[RuleOut]
    currency: str


class ChangedPlan(TermsVersion):
    """A rate plan after a change, with the version of the hotel's sale terms that has it."""

    plan: RatePlanOut
