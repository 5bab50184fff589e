"""The bodies and responses of operations on trips."""

from datetime import date, datetime
from typing import Annotated

from pydantic import Field

from ingress.bookings.models import (
    AcceptedTerms,
    AppliedPolicyOut,
    BookingState,
    InitBooking,
    LegOut,
    PlanId,
    PromoCode,
    QuoteToken,
    RefundOut,
    StayingGuest,
)
from ingress.http.models import Body, BodyDay, Id, MoneyOut
from ingress.offers import OfferOut
from ingress.stays import MAX_PEOPLE, Adults, ChildAge, RoomsCount
from topics.messages.values import MAX_LEGS


class TripLegRequest(Body, title="TripLegRequest"):
    """Rooms of one type for the days of the trip; fields that are left out are as in a request for one stay."""

    room_id: Id
    rooms_count: RoomsCount = 1
    plan_id: PlanId | None = None
    adults: Adults | None = None
    children: Annotated[list[ChildAge], Field(max_length=MAX_PEOPLE)] | None = None
    quote: QuoteToken | None = Field(default=None, description="The token of a quote of this leg.")


class TripRequest(Body, title="TripRequest"):
    """A trip: rooms of several types of one hotel, all of them or none. The check-out day is not a night."""

    hotel_id: Id
    check_in_date: BodyDay
    check_out_date: BodyDay
    legs: Annotated[list[TripLegRequest], Field(min_length=1, max_length=MAX_LEGS)]
    promo_code: PromoCode | None = Field(
        default=None,
        description="A promo code of the hotel: a percentage is taken off each leg, an amount off the first one.",
    )
    accepted_terms: AcceptedTerms | None = None

    def stays(self) -> list[InitBooking]:
        """Return the stay of each leg, as guests ask for one; the promo code is the trip's."""
        return [
            InitBooking(
                hotel_id=self.hotel_id,
                check_in_date=self.check_in_date,
                check_out_date=self.check_out_date,
                **dict(leg),
            )
            for leg in self.legs
        ]


class PendingTrip(BookingState):
    """A trip that was asked for, and whose rooms are not all reserved yet."""

    legs: list[LegOut]


class TripLegOut(BookingState, title="TripLeg"):
    """A leg of a trip. `GET /bookings/{id}` shows it as the booking that it is, once its room has decided it.

    `reason` is there if this leg is refused or cancelled, and `policy` if it was paid and ended early.
    """

    room_id: int
    rooms_count: int
    amount: MoneyOut | None = Field(default=None, description="The leg's part of the trip's amount, once it is held.")
    sale: OfferOut | None = None
    policy: AppliedPolicyOut | None = None


class TripOut(BookingState, title="Trip"):
    """A trip as its guest sees it, with its legs. `amount` is the sum of theirs, in major units, once all are held."""

    user_id: int
    hotel_id: int
    check_in_date: date
    check_out_date: date
    amount: MoneyOut | None = None
    currency: str | None = None
    hold_expires_at: datetime | None = Field(description="The time by which the trip must be paid.")
    created_at: datetime
    updated_at: datetime
    guests: list[StayingGuest] = Field(description="The people who stay, in all legs.")
    accepted_terms: str | None = None
    paid_to: str | None = None
    session_url: str | None = None
    policy: AppliedPolicyOut | None = Field(default=None, description="The sum that the hotel keeps of all legs.")
    refunds: list[RefundOut] = Field(default_factory=list)
    legs: list[TripLegOut]
