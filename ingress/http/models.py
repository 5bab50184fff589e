"""The models that many operations share: bases of bodies, queries and responses, their fields, and problems."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

MAX_ID: Final = 2**63 - 1
#: Neither control characters, which PostgreSQL cannot store or a terminal would obey, nor blanks alone.
_LINE: Final = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0][^\x00-\x1f\x7f-\x9f]*$"
_EMAIL: Final = r"^[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+\.[^@\s\x00-\x1f\x7f-\x9f]+$"
_Dated = TypeVar("_Dated", date, datetime)
_PLAIN_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PLAIN_NUMBER: Final = re.compile(r"\d{1,12}(\.\d{1,3})?", re.ASCII)
_ANY_NUMBER: Final = re.compile(r"(-?)\d+(\.\d+)?", re.ASCII)

#: The words for a text that a pattern refuses, by the pattern: people cannot read a regular expression.
words_of_patterns: Final[dict[str, str]] = {}


def in_words(pattern: str, words: str) -> str:
    """Return a field's pattern; a text that it refuses gets these words in the problem."""
    words_of_patterns[pattern] = words
    return pattern


Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Line = Annotated[
    str, StringConstraints(pattern=in_words(_LINE, "must be one line of text, and not blank"), max_length=200)
]
Email = Annotated[
    str,
    StringConstraints(pattern=in_words(_EMAIL, "must be an email address, such as ada@example.com"), max_length=254),
]
#: A web address; it is shown and never fetched.
HttpsUrl = Annotated[
    str,
    StringConstraints(
        pattern=in_words(r"^https://[!-~]+$", "must be a web address that begins with https://"), max_length=2000
    ),
]
Gender = Literal["MALE", "FEMALE"]


def _plain_decimal(given: object) -> object:
    """Return a number or a plain string as a decimal; a float as its shortest decimal form."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Decimal(str(given))
    if isinstance(given, str) and _PLAIN_NUMBER.fullmatch(given):
        return Decimal(given)
    if isinstance(given, str) and (number := _ANY_NUMBER.fullmatch(given)):
        digits = "must have at most 12 digits before the point, and three after it"
        raise ValueError("must not be negative" if number[1] else digits)
    raise ValueError("must be a plain number, such as 120.5")


def number_schema(*, description: str | None = None, maximum: float = 999_999_999_999, **bounds: float) -> Any:
    """Return the JSON Schema of a number that may be written as a string, too.

    A type that adds bounds or a description to `PlainDecimal` repeats them here, because the schema hides those of the
    check.
    """
    number = {"type": "number", **bounds, "maximum": maximum}
    schema: dict[str, Any] = {"anyOf": [number, {"type": "string", "pattern": r"^\d{1,12}(\.\d{1,3})?$"}]}
    return WithJsonSchema(schema if description is None else schema | {"description": description})


#: A number of at most 12 digits and three after the point, as a JSON number or a string.
PlainDecimal = Annotated[
    Decimal,
    Field(ge=0, max_digits=15, decimal_places=3, allow_inf_nan=False),
    BeforeValidator(_plain_decimal),
    number_schema(minimum=0),
]
#: An amount in major units, as `120.00`; how many digits it may have depends on the currency.
MoneyIn = PlainDecimal
#: An amount in major units with all the digits of its currency.
MoneyOut = Annotated[str, StringConstraints(pattern=r"^-?\d+(\.\d{1,3})?$")]
Currency = Annotated[
    str, StringConstraints(pattern=in_words(r"^[A-Z]{3}$", "must be three capital letters (ISO 4217), such as EUR"))
]


def _plain_day(given: object) -> object:
    """Return a day that is written as one; without this check pydantic would also take a moment or Unix seconds."""
    if not isinstance(given, str):
        return given
    if not _PLAIN_DAY.fullmatch(given):
        raise ValueError("must be a day, such as 2026-12-24")
    return date.fromisoformat(given)


def _storable(day: _Dated) -> _Dated:
    if not 1970 <= day.year <= 2200:
        raise ValueError("must be between 1970 and 2200")
    return day


Day = Annotated[date, BeforeValidator(_plain_day), AfterValidator(_storable)]
#: An instant in a body, with its offset from UTC; at the ends of the calendar some have no form in UTC.
Instant = Annotated[AwareDatetime, AfterValidator(_storable)]
#: The same in a body, whose types are strict already: pydantic checks it without a call into Python.
BodyDay = Annotated[date, Field(ge=date(1970, 1, 1), le=date(2200, 12, 31))]
#: A month of a calendar, such as 2026-12.
Month = Annotated[
    str,
    StringConstraints(
        pattern=in_words(
            r"^(19[7-9][0-9]|2[01][0-9]{2})-(0[1-9]|1[0-2])$", "must be a month, such as 2026-12, from 1970 to 2199"
        )
    ),
]
T = TypeVar("T")


def _split(given: object) -> object:
    return given.split(",") if isinstance(given, str) else given


#: A parameter of a query that may be given several times, or once with commas.
Several = Annotated[list[T], BeforeValidator(_split)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestHeader:
    """The documentation of a header or a cookie that an operation reads; it is declared where it is read."""

    name: str
    description: str
    example: str
    pattern: str | None = None
    is_cookie: bool = False


class Body(BaseModel):
    """The body of a request. Unknown fields are refused, and text is no number."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)


class Changes(Body):
    """A merge patch (RFC 7396): a field that is left out stays as it is, null clears one that may be empty."""

    def changed(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class NoBody(Body):
    """The body of a request that needs none; `{}` is fine too."""


class Query(BaseModel):
    """The query of a request. Unknown parameters are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class NoQuery(Query):
    """The query of an operation that takes no parameters."""


class OutModel(BaseModel):
    """The body of a response, or a part of it; `model_validate` makes it from a row."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, from_attributes=True)


class Problems(OutModel):
    """Every answer that is not a success."""

    detail: str
    reason: str | None = None
    request_id: str | None = None


class FieldProblem(OutModel):
    """One field of a request, and its fault."""

    field: str
    message: str


class InvalidRequest(Problems):
    """A request that the operation does not take."""

    errors: list[FieldProblem] | None = None


class RefusedBooking(Problems):
    """A refusal by the rules, with the booking's status.

    `unpaid_bookings` are the account's own bookings of the room that hold the nights without being paid. Of a trip that
    is refused for one of its legs, `leg_number` is that leg's place in the request, counted from 1.
    """

    id: UUID | None = None
    booking_status: str | None = None
    unpaid_bookings: list[UUID] | None = None
    leg_id: UUID | None = None
    leg_number: int | None = None


def left_out() -> Any:
    """Return the default of a field of `Changes` that may be left out, but not null."""
    return Field(default_factory=lambda: None)
