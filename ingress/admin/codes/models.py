"""The bodies and responses of operations on promo codes.

Amounts are in major units of the hotel's currency. Percentages are of 100: a `percent` of 7.5 is 7.5 %. Ranges of
nights include both ends.
"""

from datetime import date, datetime
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from ingress.http.models import (
    Body,
    BodyDay,
    Id,
    Instant,
    MoneyIn,
    MoneyOut,
    OutModel,
    PlainDecimal,
    in_words,
    number_schema,
)
from pricing.codes import MAX_CODE_ROOMS, MAX_CODE_USES

CodeText = Annotated[
    str,
    StringConstraints(
        pattern=in_words(
            r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$",
            "must have 1 to 40 letters, digits, hyphens and underscores, and begin with a letter or a digit",
        )
    ),
]
Uses = Annotated[int, Field(ge=1, le=MAX_CODE_USES)]
DiscountPercent = Annotated[
    PlainDecimal,
    Field(gt=0, le=100),
    number_schema(
        exclusiveMinimum=0, maximum=100, description="Of the nights' price, above 0 and at most 100, such as 12.5."
    ),
]
DiscountAmount = Annotated[
    MoneyIn,
    Field(gt=0),
    number_schema(exclusiveMinimum=0, description="For the whole stay, above 0, and up to the price of its nights."),
]


class CodeIn(Body, title="CodeWanted"):
    """The terms of a promo code, whole: a percentage of the nights' price, or an amount off it.

    It counts for bookings made from `valid_from` until before `valid_until`, and for stays all of whose nights are from
    `start_date` to `end_date`. Without `room_ids` it counts for all rooms of the hotel. `max_uses` is for all accounts
    together, `max_account_uses` for each of them; left out, there is no limit. One that is not `active` is refused.
    """

    percent: DiscountPercent | None = None
    amount: DiscountAmount | None = None
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    start_date: BodyDay | None = None
    end_date: BodyDay | None = None
    room_ids: Annotated[list[Id], Field(max_length=MAX_CODE_ROOMS)] = Field(default_factory=list)
    max_uses: Uses | None = None
    max_account_uses: Uses | None = None
    active: bool = True

    @model_validator(mode="after")
    def _is_one_discount(self) -> Self:
        if (self.percent is None) == (self.amount is None):
            raise ValueError("a code has a percent or an amount")
        return self

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if self.valid_from is not None and self.valid_until is not None and self.valid_from >= self.valid_until:
            raise ValueError("valid_until must be after valid_from")
        if self.start_date is not None and self.end_date is not None and self.start_date > self.end_date:
            raise ValueError("end_date must not be before start_date")
        return self


class NewCodeIn(CodeIn, title="NewCode"):
    """A promo code and its terms. Guests may write it in capital or small letters."""

    code: CodeText


class CodeTermsOut(OutModel, title="CodeTerms"):
    """The terms of a promo code that are in force."""

    percent: str | None
    amount: MoneyOut | None
    currency: str | None = Field(description="That of the amount.")
    valid_from: datetime | None
    valid_until: datetime | None
    start_date: date | None
    end_date: date | None
    room_ids: list[int]
    max_uses: int | None
    max_account_uses: int | None
    active: bool


class CodeOut(OutModel, title="PromoCode"):
    """A promo code of a hotel. `version_in_force` is 0 until the first terms are in force; a lower one lags.

    `used_count` counts the bookings that use it, without those that gave their use back.
    """

    code: str
    hotel_id: int
    version: int
    version_in_force: int
    used_count: int
    terms: CodeTermsOut | None
    created_at: datetime
