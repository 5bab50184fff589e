"""Rate plans, taxes and cancellation policies of a room, and those that a booking got.

A hotel's sale terms are its taxes and the rate plans of one room; a `Sale` is the result for one stay. Money is
integers in minor units of the hotel's currency; percentages are in thousandths of a percent where named so
(`percent_milli`: 7000 is 7 %). Wall times are the hotel's own and have no zone: a booking's `StayTimes` has it.
"""

from datetime import date, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final
from uuid import UUID

import msgspec

from topics.messages.message import Int32, Int64
from topics.messages.values import Terms

#: A wall time at the hotel: a date and time without a zone.
WallTime = Annotated[datetime, msgspec.Meta(tz=False)]
#: The rate plan of a request that names none, and of a room that has no other.
STANDARD_PLAN: Final = "standard"
#: The oldest age of a child; older people are adults.
MAX_CHILD_AGE: Final = 17
#: The largest number of children in one stay, in all its rooms.
MAX_CHILDREN: Final = 1_000


class Meals(StrEnum):
    """The meals that a rate plan includes."""

    NONE = "none"
    BREAKFAST = "breakfast"
    HALF_BOARD = "half_board"
    FULL_BOARD = "full_board"
    ALL_INCLUSIVE = "all_inclusive"


class Collected(StrEnum):
    """When a guest pays a tax or fee: with the booking, or at the hotel."""

    NOW = "now"
    AT_HOTEL = "at_hotel"


class LineKind(StrEnum):
    """The stay itself, a tax, a fee, or the costs of changes: the reason of a line of a price."""

    STAY = "stay"
    TAX = "tax"
    FEE = "fee"
    CHANGE = "change"


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """The people of a stay in all its rooms together: the number of adults, and the ages of the children in years."""

    adults: Int32
    child_ages: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, le=MAX_CHILD_AGE)], ...], msgspec.Meta(max_length=MAX_CHILDREN)
    ] = ()

    @property
    def people_count(self) -> int:
        """The number of people, with infants."""
        return self.adults + len(self.child_ages)


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a price that the hotel keeps; exactly one field is set.

    `percent` of the price, the price of the first `nights`, or an amount, and never more than the price.
    """

    percent: Int32 | None = None
    nights: Int32 | None = None
    amount_minor: Int64 | None = None


KEEP_NOTHING: Final = Kept(percent=0)
KEEP_ALL: Final = Kept(percent=100)


class PolicyStep(msgspec.Struct, frozen=True, kw_only=True):
    """A cancellation less than `hours_before` hours before check-in, by the hotel's clock, costs `kept`.

    The hours are counted on the wall clock: 48 hours before check-in at 15:00 is 15:00 two days before, in whatever
    season.
    """

    hours_before: Int32
    kept: Kept


class CancellationPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The costs of a cancellation by its time; it costs nothing before the first step.

    `steps` are in descending order of `hours_before`. `no_show` is kept of guests who do not arrive.
    `early_departure_percent` is kept of the nights that guests leave unused.
    """

    id: str
    steps: tuple[PolicyStep, ...] = ()
    no_show: Kept = KEEP_ALL
    early_departure_percent: Int32 = 100


class AgeBand(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a child's night, for children up to an age (inclusive)."""

    up_to_age: Int32
    nightly_minor: Int64


class ArrivalRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Restrictions of a rate plan for stays that arrive in [first_day, end_day); None is no restriction.

    `closed_to_departure` counts for stays whose check-out day is in the range. `advance_days`: the stay must be booked
    at least so many days before its arrival. `stop_sell`: the plan is not sold.
    """

    first_day: date
    end_day: date
    min_nights: Int32 | None = None
    max_nights: Int32 | None = None
    advance_days: Int32 | None = None
    closed_to_arrival: bool = False
    closed_to_departure: bool = False
    stop_sell: bool = False


class RatePlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, weakref=True, dict=True):
    """One way to buy a room: its price by a rule on the night's price, its meals, payment and cancellation policy.

    The price of a room's night is `times_milli` thousandths of the night's price with its surge, plus `plus_minor`, and
    not below zero. It covers `included_adults` adults a room; each one more costs `extra_adult_minor` a night, and each
    child the price of the first of `child_bands` (in ascending order of age) that covers its age, or nothing.
    `refundable` false: the whole price is kept from the booking on, and `policy` does not count.
    """

    id: str
    name: str
    meals: Meals = Meals.NONE
    terms: Terms = Terms.PREPAID
    refundable: bool = True
    policy: CancellationPolicy = CancellationPolicy(id="until_check_in")
    times_milli: Int32 = 1000
    plus_minor: Int64 = 0
    included_adults: Int32 = 2
    extra_adult_minor: Int64 = 0
    child_bands: tuple[AgeBand, ...] = ()
    rules: tuple[ArrivalRule, ...] = ()

    @cached_property
    def identity(self) -> object:
        """An object that is equal to that of no other plan, for caches: to compare plans by their values is slow."""
        return object()


class Tax(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tax or fee of a hotel: a percentage of the nights' price, or an amount.

    Exactly one of `percent_milli` and `amount_minor` is set. An amount is for the whole stay, or for each night, person
    and room, by the three flags. It counts for nights in [first_night, end_night); without `per_night`, for stays that
    arrive then. People younger than `min_age` are exempt from an amount per person. `included`: the nights' price
    contains it already; it is shown and not added. Such a tax is collected with the price.
    """

    id: str
    name: str
    kind: LineKind = LineKind.TAX
    percent_milli: Int32 | None = None
    amount_minor: Int64 | None = None
    per_night: bool = False
    per_person: bool = False
    per_room: bool = False
    min_age: Int32 = 0
    included: bool = False
    collected: Collected = Collected.NOW
    first_night: date | None = None
    end_night: date | None = None


class SaleTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, weakref=True, dict=True):
    """All that a room is sold by, beside the prices of its nights.

    `version` grows with every change of the hotel's. `capacity` is the number of people that one room has space for
    (None: it is not known, and not checked); children up to `infant_max_age` take no space (None: all do).
    """

    version: Int64
    plans: tuple[RatePlan, ...]
    taxes: tuple[Tax, ...] = ()
    capacity: Int32 | None = None
    infant_max_age: Int32 | None = None

    @cached_property
    def identity(self) -> object:
        """As that of a `RatePlan`."""
        return object()

    @cached_property
    def has_dated_taxes(self) -> bool:
        """Whether a tax counts for some nights alone."""
        return any(tax.first_night is not None or tax.end_night is not None for tax in self.taxes)

    def plan(self, plan_id: str | None) -> RatePlan | None:
        """Return the plan of this id, if there is one; None is the standard plan, or the first if there is none."""
        wanted = plan_id or STANDARD_PLAN
        for plan in self.plans:
            if plan.id == wanted:
                return plan
        return self.plans[0] if plan_id is None and self.plans else None


#: The terms of a room for which its hotel has set none.
NO_SALE_TERMS: Final = SaleTerms(version=0, plans=(RatePlan(id=STANDARD_PLAN, name="Standard"),))


class PriceLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a price. The total is the sum of the lines that are not `included` in another."""

    kind: LineKind
    id: str
    name: str
    amount_minor: Int64
    included: bool = False
    collected: Collected = Collected.NOW


class CancellationStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cancellation before `until` costs `kept_minor` of the amount that is charged; None: until check-in.

    `percent` is that of the policy, where it names one.
    """

    until: WallTime | None = None
    kept_minor: Int64
    percent: Int32 | None = None


class Moved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stay that a change moves to another room type, as far as the costs of the change depend on it.

    Amounts are in minor units. `amount_minor` is the stay's, costs of earlier changes included, which are
    `costs_minor`. A cancellation at the moment of the change costs `kept_now_minor` (of a change by the hotel:
    `costs_minor`), and no end of the moved stay costs less than `floor_minor`.
    """

    amount_minor: int
    costs_minor: int = 0
    kept_now_minor: int = 0
    floor_minor: int = 0


class Discount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The discount of a promo code on the nights of a stay: a percentage, or an amount in `currency` for the stay.

    All nights of the stay are in [first_night, end_night), also after a change; None is no limit.
    """

    code_id: Int64
    code: str
    percent_milli: Int32 | None = None
    amount_minor: Int64 | None = None
    currency: str | None = None
    first_night: date | None = None
    end_night: date | None = None


class CodeTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The terms of a hotel's promo code; exactly one of `percent_milli` and `amount_minor` is set.

    It counts for bookings made in [valid_from, valid_until) by the log's time (UTC), and for stays all of whose nights
    are in [first_night, end_night), of the rooms `room_ids` (none: of all). `max_uses` in all and `max_account_uses` of
    one account; None is no limit. `version` grows with every change.
    """

    version: Int64
    code: str
    percent_milli: Int32 | None = None
    amount_minor: Int64 | None = None
    currency: str | None = None
    valid_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    valid_until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    first_night: date | None = None
    end_night: date | None = None
    room_ids: tuple[Int64, ...] = ()
    max_uses: Int32 | None = None
    max_account_uses: Int32 | None = None
    active: bool = True


class Sale(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The conditions that one stay was sold on: plan, party, lines of the price, and costs of a cancellation.

    `steps` are in order of time, and the last has no `until`. `at_hotel_minor` is paid at the hotel, beside the
    booking's amount if that is prepaid. `no_show_kept_minor` is kept if nobody arrives, and `early_departure_percent`
    of the nights that are left unused. `party_binding`: no more guests can be named than the party has people, because
    the guest named it or the price depends on it; otherwise as many as the rooms hold.
    `night_prices_minor` are the prices of the nights in one room that the price was computed from: a night that stays
    in the booking keeps its price. `discount` is that of a promo code, and took `discount_minor` off the stay's line.
    `change_costs_minor` is kept of what earlier changes gave up: it is a line of the price, and is kept at every end.
    `at_hotel_taxes_minor` is the part of the amount of a stay that is paid at the hotel which the hotel would collect
    there of a prepaid stay too: taxes and fees that are no revenue in reports.
    """

    terms_version: Int64
    plan_id: str
    plan_name: str
    meals: Meals
    party: Party
    lines: tuple[PriceLine, ...]
    at_hotel_minor: Int64
    steps: tuple[CancellationStep, ...]
    no_show_kept_minor: Int64
    early_departure_percent: Int32
    party_binding: bool = False
    night_prices_minor: tuple[Int64, ...] = ()
    discount: Discount | None = None
    discount_minor: Int64 = 0
    change_costs_minor: Int64 = 0
    at_hotel_taxes_minor: Int64 = 0


class Quoted(msgspec.Struct, frozen=True, kw_only=True):
    """A price that was quoted and holds until `good_until` (UTC); the quote's signature was checked at the border."""

    good_until: Annotated[datetime, msgspec.Meta(tz=True)]
    terms: Terms
    sale: Sale
    currency: str
    amount_minor: Int64
    night_amounts_minor: tuple[Int64, ...]


class QuotedChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The price of a changed stay that was quoted and holds until `good_until` (UTC), as that of a `Quoted`.

    It counts for the stay that the booking has after `earlier_count` changes of it, and for no later one.
    `amount_minor` is the booking's after the change. `sale` is left out of a booking without sale terms.
    """

    good_until: Annotated[datetime, msgspec.Meta(tz=True)]
    earlier_count: Int32
    terms: Terms
    currency: str
    amount_minor: Int64
    night_amounts_minor: tuple[Int64, ...]
    sale: Sale | None = None


class LegRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leg of a trip: rooms of one type, which are a booking of their own; fields as those of `ReserveStay`."""

    booking_id: UUID
    room_id: Int64
    rooms_count: Int32 = 1
    plan_id: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    party: Party | None = None
    quoted: Quoted | None = None


class AppliedPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The costs of a booking's end by its policy: `kept_minor` of the payment in advance is kept.

    If the stay is paid at the hotel, that amount is due there. `percent` is that of the policy, where it names one: of
    the price or, after an early departure, of the nights left unused. `until` is the instant (UTC) at which the step of
    the policy ends, by the zone data `zone_data`; None: it has no end of its own.
    """

    kept_minor: int
    percent: int | None = None
    until: datetime | None = None
    zone_data: str | None = None
