"""`GET /hotels/{hotel_id}/info`: the public description of a hotel, and the price of a stay there."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database, snapshot
from ingress.hotels.models import Contact, HotelOut, NightOut, PlanOffer, RoomOut, Stay
from ingress.hotels.plans import RoomOnSale, StayRequest, offers
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody
from ingress.http.problems import existing
from ingress.http.responses import Response, json_response
from ingress.offers import approximation, charged_minor, offer_out, whole_minor
from ingress.operations import Access, Example, RequestContext, operation
from ingress.rates.exchange_rates import ExchangeRates
from ingress.stays import accept_people, accept_stay, today_at
from pricing.currencies import decimal
from pricing.sale import PricedStay, standard_terms
from storage.reads import bookings
from storage.reads.bookings import HotelOffer, NightOffer, RoomOffer
from storage.reads.terms import terms_of_hotel
from topics.messages.sale import SaleTerms
from topics.messages.values import StayTimes

PRICES_AHEAD: Final = timedelta(days=90)


class _ForRequest(NamedTuple):
    """The parts of a response that depend on the request, as functions of a price.

    `total_minor` is the `total` of a room: clients without a version know no `due_at_hotel`, and get the whole price.
    `approximate` has the field of a price in the currency that the query names, if it names another one.
    """

    total_minor: Callable[[PricedStay], int]
    approximate: Callable[[PricedStay], Mapping[str, Any]]


class Hotels:
    """The operation that describes a hotel to everybody."""

    def __init__(self, database: Database, exchange_rates: ExchangeRates) -> None:
        self._database = database
        self._exchange_rates = exchange_rates

    @operation(
        "GET /hotels/{hotel_id}/info",
        access=Access.ANYBODY,
        summary="Read a hotel",
        responses={200: HotelOut},
        example=Example(path={"hotel_id": 1}, query={"check_in_date": "2026-12-24", "check_out_date": "2026-12-27"}),
        links={"init": {"hotel_id": "$response.body#/id", "room_id": "$response.body#/rooms/0/id"}},
    )
    async def info(self, context: RequestContext[NoBody, Stay]) -> Response:
        """Read an active hotel with its rooms, and the price of a stay in each of them by each rate plan."""
        stay, hotel_id = context.query, context.path["hotel_id"]
        first_night = today_at("UTC")
        for_request = _ForRequest(
            whole_minor if context.mount.unversioned else charged_minor,
            lambda priced: approximation(priced, stay.currency, self._exchange_rates),
        )

        async def describe(connection: AsyncConnection) -> HotelOut:
            async with snapshot(connection):
                found = await bookings.hotel_offer(connection, hotel_id, first_night, first_night + PRICES_AHEAD)
                hotel = existing(found, "hotel")
                request, nights, terms = _stay_request(stay, hotel), [], {}
                if request is not None:
                    nights = await bookings.nights_on_offer(connection, hotel_id, request.check_in, request.check_out)
                    terms = await terms_of_hotel(connection, hotel_id)
            return _hotel_out(hotel, request, nights, terms, for_request)

        return json_response(200, await self._database.read(describe))


def _stay_request(stay: Stay, hotel: HotelOffer) -> StayRequest | None:
    """Return the stay of the query, None when it names no dates.

    Raises:
        Problem: 422, with the rule that the dates or the people break.
    """
    people = accept_people(stay.adults, stay.children)
    check_in, check_out = stay.check_in_date, stay.check_out_date
    if check_in is None and check_out is None:
        return None
    if check_in is None:
        raise refused_field("check_in_date", "is needed with check_out_date")
    if check_out is None:
        raise refused_field("check_out_date", "is needed with check_in_date")
    accept_stay(check_in, check_out, today_at(hotel.time_zone))
    return StayRequest(check_in, check_out, stay.rooms_count, people)


def _hotel_out(
    hotel: HotelOffer,
    stay: StayRequest | None,
    nights: Sequence[NightOffer],
    terms: Mapping[int, SaleTerms],
    for_request: _ForRequest,
) -> HotelOut:
    by_room: defaultdict[int, list[NightOffer]] = defaultdict(list)
    for night in nights:
        by_room[night.room_id].append(night)
    rooms = [
        _room_out(
            room,
            hotel.currency,
            {}
            if stay is None
            else _stay_fields(
                by_room[room.id], stay, hotel, terms.get(room.id) or standard_terms(room.capacity), for_request
            ),
        )
        for room in hotel.rooms
    ]
    return HotelOut(
        id=hotel.id,
        name=hotel.name,
        city=hotel.city,
        currency=hotel.currency,
        photos=hotel.photos,
        amenities=hotel.amenities,
        contact=Contact(phone=hotel.contact_phone, email=hotel.contact_email, address=hotel.contact_address),
        contact_phone=hotel.contact_phone,
        contact_email=hotel.contact_email,
        stars=hotel.stars,
        latitude=hotel.latitude,
        longitude=hotel.longitude,
        time_zone=hotel.time_zone,
        check_in_time=f"{hotel.check_in_time:%H:%M}",
        check_out_time=f"{hotel.check_out_time:%H:%M}",
        rooms=rooms,
    )


def _room_out(room: RoomOffer, currency: str, stay: Mapping[str, Any]) -> RoomOut:
    cheapest = room.price_from_minor
    return RoomOut(
        id=room.id,
        type=room.type,
        capacity=room.capacity,
        total_count=room.total_count,
        base_price=decimal(room.base_price_minor, currency),
        price_from=None if cheapest is None else decimal(cheapest, currency),
        photos=room.photos,
        amenities=room.amenities,
        **stay,
    )


def _stay_fields(
    nights: Sequence[NightOffer],
    stay: StayRequest,
    hotel: HotelOffer,
    terms: SaleTerms,
    for_request: _ForRequest,
) -> dict[str, Any]:
    """Return the fields of a room type that depend on a stay."""
    nights_count = (stay.check_out - stay.check_in).days
    available = min(night.free_count for night in nights) if len(nights) == nights_count else 0
    found: Sequence[PricedStay] = ()
    if available >= stay.rooms_count:
        prices_minor = [night.price_minor for night in nights]
        room = RoomOnSale(terms, prices_minor, hotel.currency, hotel.check_in_time)
        found = list(offers(room, stay, today_at(hotel.time_zone)))
    default = terms.plan(None)
    chosen = next((each for each in found if default and each.sale and each.sale.plan_id == default.id), None)
    now = datetime.now(UTC)
    return {
        "nights": [
            NightOut(date=night.night, price=decimal(night.price_minor, hotel.currency), available=night.free_count)
            for night in nights
        ],
        "available": available,
        "total": None if chosen is None else decimal(for_request.total_minor(chosen), hotel.currency),
        "plans": [
            PlanOffer(
                **dict(offer_out(priced, check_in=stay.check_in, stay_times=_stay_times(hotel), now=now)),
                **for_request.approximate(priced),
            )
            for priced in found
        ],
    }


def _stay_times(hotel: HotelOffer) -> StayTimes:
    return StayTimes(time_zone=hotel.time_zone, check_in_time=hotel.check_in_time, check_out_time=hotel.check_out_time)
