"""The bodies, queries and responses of operations on bookings."""

from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from ingress.bookings.change_models import EarlierStayOut, PendingChangeOut
from ingress.http.models import Body, BodyDay, Currency, Day, Gender, Id, Line, MoneyOut, OutModel, Several, in_words
from ingress.http.paging import Paged
from ingress.offers import DISCOUNT, PROMO_CODE, ApproximateOffer, OfferOut, PriceLineOut
from ingress.stays import MAX_PEOPLE, Adults, ChildAge, RoomsCount
from pricing.codes import MAX_CODE_LENGTH
from pricing.terms import MAX_ID_LENGTH
from storage.reads.payments import RefundStatus
from topics.messages.sale import Meals
from topics.messages.values import BookingStatus, HotelReason, Terms

Statuses = Annotated[Several[BookingStatus], Field(max_length=len(BookingStatus))]


#: Longer than the token of a quote with the most taxes, nights and steps, and with the longest names.
MAX_QUOTE_LENGTH: Final = 60_000
QuoteToken = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUOTE_LENGTH)]
PlanId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]
PromoCode = Annotated[Line, StringConstraints(max_length=MAX_CODE_LENGTH)]
#: The version of the general terms; its characters are those that `REQUIRED_TERMS` may have.
AcceptedTerms = Annotated[
    str,
    StringConstraints(
        pattern=in_words(
            r"^[!-~]{1,100}$", "must be a version of the general terms: 1 to 100 characters of ASCII without blanks"
        )
    ),
]


def _is_none(value: object) -> bool:
    return value is None


def _optional(description: str) -> Any:
    """Return the default of a field of a body that is encoded as in older releases while it is left out."""
    return Field(default=None, exclude_if=_is_none, description=description)


class StayRequest(Body):
    """A stay. The check-out day is not a night."""

    hotel_id: Id
    room_id: Id
    check_in_date: BodyDay
    check_out_date: BodyDay
    rooms_count: RoomsCount = 1
    plan_id: PlanId | None = _optional("The rate plan.")
    adults: Adults | None = _optional(
        "The number of adults in all rooms; left out, those that the plan's price covers."
    )
    children: Annotated[list[ChildAge], Field(max_length=MAX_PEOPLE)] | None = _optional(
        "The ages of the children in all rooms."
    )
    promo_code: PromoCode | None = _optional("A promo code of the hotel, in capital or small letters.")


class QuoteRequest(StayRequest):
    """A stay whose price is asked for. Without a plan all plans are quoted that can be sold."""

    currency: Currency | None = _optional(
        "Show the prices in this currency too, if they are in another (`approximate`), by exchange rates."
    )
    in_trip: bool = Field(
        default=False,
        description="The stay is a leg of a trip: the least amount that can be charged counts for the trip alone.",
    )


class QuotedOffer(OfferOut, title="QuotedOffer"):
    """A price of the stay with its conditions. `token` holds it for `POST /bookings/init`.

    `approximate` is there if the request names another currency; nothing is charged by it.
    """

    token: str
    approximate: ApproximateOffer | None = None


class QuoteOut(OutModel, title="Quote"):
    """The prices of a stay. Each holds until `good_until` for the account that asked, if the nights are free then."""

    hotel_id: int
    room_id: int
    check_in_date: date
    check_out_date: date
    rooms_count: int
    currency: str
    good_until: datetime
    paid_to: str | None = Field(
        default=None,
        description="The business that gets what is charged with the booking; left out if it is not named.",
    )
    required_terms: str | None = Field(
        default=None,
        description=(
            "The version of the general terms that a request for the stay has to accept (`accepted_terms`); left out "
            "if none is required."
        ),
    )
    offers: list[QuotedOffer]


class InitBooking(StayRequest):
    """A stay that is asked for. The check-out day is not a night.

    Without a plan it is the room's standard plan. `quote` is the token of a quoted price, which counts for this stay:
    hotel, room, dates and the number of rooms must be those of the quote, and the plan, the people and the promo code
    too, if named.
    """

    quote: QuoteToken | None = _optional("The token of a quote.")
    accepted_terms: AcceptedTerms | None = _optional("The version of the general terms that the guest accepts.")


class GuestIds(RootModel[Annotated[list[Id], Field(min_length=1, max_length=200)]]):
    """The ids of the saved guests who will stay: a bare list."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True)


class HotelCancellation(Body):
    """The reason of a hotel that cancels a guest's booking."""

    # Strict models take no text for an enumeration, so the value is read as JSON's.
    reason: Annotated[HotelReason, Field(strict=False)]


class ChangedStay(Body):
    """Another stay in the place of the booking's. Fields that are left out stay as they are."""

    check_in_date: BodyDay | None = None
    check_out_date: BodyDay | None = None
    rooms_count: RoomsCount | None = None
    adults: Adults | None = None
    children: Annotated[list[ChildAge], Field(max_length=MAX_PEOPLE)] | None = _optional(
        "The ages of the children in all rooms; an empty list: nobody but adults."
    )
    room_id: Id | None = _optional(
        "Another room type of the hotel, in which every night costs the price of the moment; not with a `quote`."
    )
    plan_id: PlanId | None = _optional(
        "The rate plan in the other room type; left out, that of the booking. It counts only with `room_id`."
    )


class ChangeRequest(ChangedStay):
    """A change that is asked for. `quote` is the token of a quoted change of this booking, whose price counts for it.

    Fields that are left out are those of the quote, and others must be.
    """

    quote: QuoteToken | None = _optional("The token of a quoted change.")


class OwnBookings(Paged):
    """A part of one's bookings; all of them without a status."""

    status: Statuses = Field(default_factory=list)


class HotelBookings(Paged):
    """A part of a hotel's bookings: in one of these states, of this room, with a night between these dates."""

    status: Statuses = Field(default_factory=list)
    from_date: Day | None = None
    to_date: Day | None = None
    room_id: Id | None = None


class PendingStay(OutModel):
    """A stay that was asked for and is not decided yet."""

    id: UUID
    booking_status: BookingStatus = BookingStatus.PENDING
    user_id: int
    hotel_id: int
    room_id: int
    check_in_date: date
    check_out_date: date
    rooms_count: int


class LegOut(OutModel, title="Leg"):
    """A leg of a trip: the booking `id` of rooms of one type."""

    id: UUID
    room_id: int


class BookingState(OutModel):
    """The state of a booking, with the reason if it was refused, declined or cancelled.

    `detail` is the reason in words, where the reason's own words do not suffice.
    """

    id: UUID
    booking_status: BookingStatus
    reason: str | None = None
    detail: str | None = None


class ChangeAccepted(BookingState):
    """A booking whose change is not decided yet; `change_id` is the change's id in the booking and its timeline."""

    change_id: UUID


class Checkout(BookingState):
    """The address at which the booking can be paid: Stripe's page, as long as it is open."""

    session_url: str | None


class StayingGuest(OutModel):
    """Somebody who stays."""

    id: int
    name: str
    gender: Gender | None
    age: int | None


class AppliedPolicyOut(OutModel, title="AppliedPolicy"):
    """The policy that counted when the booking ended, in major units."""

    kept: MoneyOut = Field(description="The sum that the hotel keeps of the price.")
    percent: int | None = Field(
        default=None,
        description=(
            "The percentage, where the policy names one: of the price or, after an early departure, of the nights "
            "left unused."
        ),
    )
    until: datetime | None = Field(
        default=None, description="The instant at which that step of the policy ends; left out if it has no end."
    )


class RefundOut(OutModel):
    """The money of one payment that went back to the guest, or must, in major units.

    A payment that is only disputed is listed too: it has `disputed` and no `status`.
    """

    paid: MoneyOut = Field(description="The whole payment.")
    refunded: MoneyOut = Field(description="The sum of its refunds that were carried out.")
    due: MoneyOut = Field(description="The sum that must still go back.")
    retained: MoneyOut | None = Field(
        default=None, description="The sum that the hotel keeps by its policy; left out if there is none."
    )
    currency: str = Field(description="The currency of the payment (ISO 4217).")
    status: RefundStatus | None = Field(
        default=None,
        description=(
            "The state of the refund, left out if there is none: `due` (the money is being sent back), `pending` "
            "(Stripe has the refund), `failed` (the refund failed; a sum that is due is sent again), `succeeded` "
            "(`refunded` went back, and nothing is due), or `closed` (no more goes back through Stripe)."
        ),
    )
    disputed: bool = Field(
        default=False, description="True while the guest's bank examines the payment; left out otherwise."
    )


class StayAtHotel(BookingState):
    """A booking after an arrival, a departure or a no-show that its hotel recorded.

    `kept` is the part of the price that the hotel keeps by the policy, left out while nothing was decided by it.
    """

    freed_from: date | None = Field(default=None, description="The first night that is on sale again, if any is.")
    kept: MoneyOut | None = None
    goes_back: MoneyOut = Field(description="The sum that goes back, or went back, of the payments in advance.")
    currency: str
    refunds: list[RefundOut] = Field(default_factory=list)


class BookingOut(BookingState, title="BookingShown"):
    """A booking as its guest sees it. `amount` is that of the decision, in major units.

    `sale` is what was sold: plan, people, the lines of the price, what is due at the hotel, and what a cancellation
    costs from now on. It is left out of a booking without sale terms, of which everything comes back until check-in.

    A trip has `legs`, no rooms of its own, the room type of its first leg, and the money of all its legs. A leg is
    named for, paid and cancelled by its trip, `trip_id`; once that is paid, it is cancelled alone, too. A booking whose
    stay has moved to another room type is a trip with one leg.
    """

    user_id: int
    hotel_id: int
    room_id: int
    check_in_date: date
    check_out_date: date
    rooms_count: int
    amount: MoneyOut
    currency: str
    hold_expires_at: datetime | None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    guests: list[StayingGuest]
    accepted_terms: str | None = Field(
        default=None, description="The version of the general terms that the guest accepted, if any."
    )
    paid_to: str | None = Field(
        default=None,
        description=(
            "The business that gets what is charged with the booking; left out if it is not named, and for a stay that "
            "is paid at the hotel."
        ),
    )
    session_url: str | None = None
    trip_id: UUID | None = Field(default=None, description="The trip of which the booking is a leg; else left out.")
    legs: list[LegOut] = Field(default_factory=list, description="The legs of a trip; left out of other bookings.")
    sale: OfferOut | None = None
    pending_change: PendingChangeOut | None = None
    earlier_stays: list[EarlierStayOut] = Field(
        default_factory=list, description="The stays that changes replaced, oldest first; left out if there are none."
    )
    policy: AppliedPolicyOut | None = None
    refunds: list[RefundOut] = Field(default_factory=list)


class ChangedByHotel(BookingState):
    """A booking after a change by its hotel: the stay now, a change that waits for its payment, and refunds.

    `session_url` is the address at which the guest pays for `pending_change`. A stay in another room type is that of
    the one leg in `legs`, and the booking has no rooms of its own (`rooms_count` 0).
    """

    check_in_date: date
    check_out_date: date
    rooms_count: int
    amount: MoneyOut
    currency: str
    legs: list[LegOut] = Field(default_factory=list, description="The leg in another room type; else left out.")
    pending_change: PendingChangeOut | None = None
    session_url: str | None = None
    refunds: list[RefundOut] = Field(default_factory=list)


class TimelineEntry(OutModel):
    """One event of a booking's history."""

    sequence: int
    type: str
    time: datetime
    event: dict[str, Any]


class BookingWithHistory(BookingOut, title="BookingWithHistory"):
    """A booking with all that happened to it, from the log."""

    timeline: list[TimelineEntry]


class BookingListed(BookingState):
    """The fields of a booking that every list has. `user_id` is null for a booking without an account.

    `trip_id` is left out of a booking that is no leg of a trip.
    """

    user_id: int | None
    hotel_id: int
    room_id: int
    room_type: str | None
    check_in_date: date
    check_out_date: date
    rooms_count: int
    amount: MoneyOut
    currency: str
    created_at: datetime
    updated_at: datetime
    pending_change: PendingChangeOut | None = None
    trip_id: UUID | None = None


class OwnBooking(BookingListed):
    """A booking in the list of the account that made it. A trip has `legs`, which are listed too, and no rooms."""

    hotel_name: str | None
    legs: list[LegOut] = Field(default_factory=list)


class NamedGuest(OutModel):
    """Somebody who stays, as named when the guests were added; without a name when it was erased.

    `id` is null for a guest without an account, whom a manager has named.
    """

    id: int | None
    name: str | None


class ContactOut(OutModel, title="Contact"):
    """The person whom the hotel can reach about a stay that a manager booked."""

    name: str
    email: str | None
    phone: str | None


class HotelSaleOut(OutModel, title="HotelSale"):
    """The sale of a booking as its hotel sees it: plan, meals, people, lines, and the sum to collect from the guest."""

    plan_id: str
    plan_name: str
    meals: Meals
    payment: Terms = Field(description="Paid with the booking (`prepaid`), or at the hotel (`at_hotel`).")
    adults: int
    children_ages: list[int]
    due_at_hotel: MoneyOut = Field(
        description="The sum to collect from guests who stay as booked: all of it if the stay is paid at the hotel."
    )
    lines: list[PriceLineOut]
    promo_code: str | None = PROMO_CODE
    discount: MoneyOut | None = DISCOUNT


class HotelBooking(BookingListed):
    """A booking as the hotel sees it: the guests and their days, without their addresses.

    `sale` is left out of a booking without sale terms, and `policy` and `freed_from` unless the stay ended before its
    last night. `policy.kept` of a stay that is paid at the hotel is due there. `disputed`: a dispute of its payment is
    open. `refunded` is what went back to the guest. `contact` is left out of all bookings but those that a manager made
    for guests without an account, and when it was erased.
    """

    hold_expires_at: datetime | None
    guests: list[NamedGuest]
    contact: ContactOut | None = None
    accepted_terms: str | None = Field(
        default=None, description="The version of the general terms that the guest accepted, if any."
    )
    earlier_stays: list[EarlierStayOut] = Field(default_factory=list)
    sale: HotelSaleOut | None = None
    policy: AppliedPolicyOut | None = None
    freed_from: date | None = Field(default=None, description="The first night that is on sale again.")
    disputed: bool = False
    refunded: MoneyOut | None = None
