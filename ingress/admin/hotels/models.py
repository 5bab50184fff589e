"""The bodies and responses of operations on hotels."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ingress.admin.models import Amenities, Photos
from ingress.admin.money import ChargeableCurrency
from ingress.http.models import Body, Changes, Email, Line, OutModel, in_words, left_out
from topics.zones import zone_names


def _known_time_zone(time_zone: str) -> str:
    if time_zone not in zone_names():
        raise ValueError("is no time zone of the IANA database, such as Europe/Lisbon")
    return time_zone


Phone = Annotated[Line, StringConstraints(max_length=50)]
TaxId = Annotated[Line, StringConstraints(max_length=50)]
Stars = Annotated[int, Field(ge=1, le=5)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
TimeZone = Annotated[
    str, StringConstraints(max_length=64), AfterValidator(_known_time_zone), Field(examples=["Europe/Lisbon"])
]
ClockTime = Annotated[
    str,
    StringConstraints(pattern=in_words(r"^([01][0-9]|2[0-3]):[0-5][0-9]$", "must be a time of the day, such as 15:00")),
]

#: A booking whose whole payment a person refunds at Stripe is cancelled, or kept as goodwill.
OnFullRefund = Literal["cancel", "keep"]


class ContactIn(Body, title="ContactWanted"):
    """How to reach a hotel."""

    phone: Phone | None = None
    email: Email | None = None
    address: Line | None = None


class _Placed(Body):
    """A body with both coordinates or none."""

    @model_validator(mode="after")
    def _has_both_or_none(self) -> Self:
        sent = {"latitude", "longitude"} & self.model_fields_set
        place = [getattr(self, "latitude", None), getattr(self, "longitude", None)]
        if len(sent) == 1 or place.count(None) == 1:
            raise ValueError("latitude and longitude come together")
        return self


class HotelIn(_Placed, title="HotelWanted"):
    """A hotel, whole. A `currency` or `on_full_refund` that is left out stays the same; at first: USD, `cancel`."""

    name: Line
    city: Line
    photos: Photos = Field(default_factory=list)
    amenities: Amenities = Field(default_factory=list)
    contact_info: ContactIn | None = None
    stars: Stars | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    time_zone: TimeZone = "UTC"
    currency: ChargeableCurrency | None = None
    check_in_time: ClockTime = "15:00"
    check_out_time: ClockTime = "11:00"
    on_full_refund: OnFullRefund = left_out()
    legal_name: Line | None = Field(default=None, description="The seller on invoices; left out, the hotel's name.")
    tax_id: TaxId | None = None


class ContactChanges(Changes):
    """Changes to a hotel's contact; null clears a field."""

    phone: Phone | None = None
    email: Email | None = None
    address: Line | None = None


class HotelChanges(Changes, _Placed):
    """Changes to a hotel; null clears a field that may be empty."""

    name: Line = left_out()
    city: Line = left_out()
    photos: Photos = left_out()
    amenities: Amenities = left_out()
    contact_info: ContactChanges | None = None
    stars: Stars | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    time_zone: TimeZone = left_out()
    currency: ChargeableCurrency = left_out()
    check_in_time: ClockTime = left_out()
    check_out_time: ClockTime = left_out()
    on_full_refund: OnFullRefund = left_out()
    legal_name: Line | None = None
    tax_id: TaxId | None = None


class ManagedContact(OutModel):
    """How to reach a hotel."""

    phone: str | None
    email: str | None
    address: str | None


class ManagedHotel(OutModel):
    """A hotel as its manager sees it. Guests see it when it is active."""

    id: int
    active: bool
    owner_id: int
    name: str
    city: str
    photos: list[str]
    amenities: list[str]
    contact_info: ManagedContact
    contact_phone: str | None
    contact_email: str | None
    contact_address: str | None
    stars: int | None
    latitude: float | None
    longitude: float | None
    time_zone: str
    currency: str
    check_in_time: str
    check_out_time: str
    on_full_refund: str
    legal_name: str | None
    tax_id: str | None
    created_at: datetime
    updated_at: datetime
