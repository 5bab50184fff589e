"""The bodies of operations at the front desk of a hotel."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from ingress.bookings.models import AcceptedTerms, PlanId, PromoCode, StayRequest
from ingress.http.models import Body, BodyDay, Email, Id, Line
from ingress.stays import MAX_PEOPLE, Adults, ChildAge, RoomsCount

_STAY_FIELDS = frozenset(StayRequest.model_fields) - {"hotel_id"}


class ContactIn(Body, title="DeskContact"):
    """The person whom the hotel can reach about the stay."""

    name: Line
    email: Email | None = None
    phone: Annotated[Line, StringConstraints(max_length=40)] | None = None


class DeskGuest(Body):
    """Somebody who stays, without an account."""

    name: Line


class DeskBooking(Body):
    """A stay that a manager books for guests without an account. The check-out day is not a night.

    Its price is that of the rate plan (left out: the room's standard plan), and all of it is paid at the hotel.
    """

    room_id: Id
    check_in_date: BodyDay
    check_out_date: BodyDay
    rooms_count: RoomsCount = 1
    plan_id: PlanId | None = None
    adults: Adults | None = None
    children: Annotated[list[ChildAge], Field(max_length=MAX_PEOPLE)] | None = None
    promo_code: PromoCode | None = None
    contact: ContactIn
    guests: Annotated[list[DeskGuest], Field(max_length=MAX_PEOPLE)] = Field(
        default_factory=list, description="The people who stay, as far as they are known."
    )
    accepted_terms: AcceptedTerms | None = None

    def stay(self, hotel_id: int) -> StayRequest:
        """Return the stay alone, as guests ask for one."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _STAY_FIELDS}
        return StayRequest(hotel_id=hotel_id, **fields)
