"""`GET /hotels/search`: checks the query, and makes the response from the hits of a finder."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Protocol

from msgspec import Meta

from ingress.hotels.search.models import Found, Hit, HotelHit, HotelSearch, SortPosition, earliest_today, latest_today
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody
from ingress.http.paging import NEXT_PAGE, Cursors, link_to_next
from ingress.http.responses import Response, json_response
from ingress.offers import due_at_hotel_minor, free_until, is_refundable, whole_minor
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.rates.exchange_rates import ExchangeRates
from ingress.stays import HORIZON, accept_people, accept_stay
from pricing.conversion import RateTable, converted_minor
from pricing.currencies import decimal
from pricing.sale import PricedStay
from topics.messages.sale import NO_SALE_TERMS, Sale
from topics.messages.values import Terms

#: A cache between clients and the ingress may answer the same search for a second.
_CACHE_CONTROL: Final = "public, max-age=1"
#: The fields of the plan by which a room without sale terms is sold.
_STANDARD_FIELDS: Final = {
    "plan_id": NO_SALE_TERMS.plans[0].id,
    "plan_name": NO_SALE_TERMS.plans[0].name,
    "meals": NO_SALE_TERMS.plans[0].meals,
}
_Number = Annotated[int, Meta(ge=-(2**62), le=2**62)]
_order: Final = Cursors(tuple[_Number, _Number])


class Finder(Protocol):
    """Finds hotels, such as the search index."""

    async def find(self, query: HotelSearch, after: SortPosition | None, rates: RateTable | None = None, /) -> Found:
        """Return a page of hits; `after` is the last hit of the page before, if one is given.

        `rates` compare prices across currencies.
        """
        ...


class Search:
    """The operation that searches for hotels."""

    def __init__(self, finder: Finder, exchange_rates: ExchangeRates) -> None:
        self._finder = finder
        self._exchange_rates = exchange_rates

    @operation(
        "GET /hotels/search",
        access=Access.ANYBODY,
        summary="Look for a hotel",
        responses={200: ResponseSpec(list[HotelHit], "Sorted as wanted, then by id.", NEXT_PAGE)},
        example=Example(
            query={
                "city": "Lisbon",
                "check_in_date": "2026-12-24",
                "check_out_date": "2026-12-27",
                "rooms_count": 1,
                "sort": "price",
            }
        ),
        links={
            "info": {"hotel_id": "$response.body#/0/id"},
            "init": {
                "hotel_id": "$response.body#/0/id",
                "room_id": "$response.body#/0/room_id",
                "check_in_date": "$request.query.check_in_date",
                "check_out_date": "$request.query.check_out_date",
            },
        },
    )
    async def search(self, context: RequestContext[NoBody, HotelSearch]) -> Response:
        """Find active hotels with a room type that is free in every night of a stay.

        `city` is the whole name, in any case; `near` (latitude, longitude, kilometres) may replace it or be
        beside it. All of `amenities` must be there, and `stars` at least. Where the installation has a table of
        exchange rates, prices in different currencies are compared by it, and `currency` shows each price in that
        currency too, as `approximate`: a booking is charged in the hotel's own. Without a table they are compared as
        numbers, in major units, and only the hotels that charge `currency` are found. A room whose price for the stay
        is less or more than can be charged is left out; `init` refuses it as `not_chargeable`. A hit shows the rate
        plan that is the cheapest for the party, with all taxes and fees; `init` charges the same if it names that plan
        and party. Plans that their rules exclude, and rooms that are too small for the party, are left out. Without
        `adults`, a hit shows the plan of an `init` that names none, for the adults that its price covers. The next page
        is named in `Link`: by `page` if the request has one, else by `cursor`, which new hotels do not shift.
        """
        query = context.query
        _accept(query)
        position = _order.read(query.cursor)
        rates = self._exchange_rates.table
        found = await self._finder.find(query, None if position is None else SortPosition(*position), rates)
        now = datetime.now(UTC)
        unversioned = context.mount.unversioned
        hits = [_hit(hit, query.check_in_date, now, unversioned=unversioned) for hit in found.hits]
        if rates is not None and query.currency is not None:
            for shown, hit in zip(hits, found.hits, strict=True):
                if hit.hotel.currency.upper() != query.currency:
                    shown["approximate"] = _approximate(hit, query.currency, rates)
        return json_response(200, hits, _next(context, found), keep=_CACHE_CONTROL)


def _accept(query: HotelSearch) -> None:
    """Check a search's parameters beside each other.

    Raises:
        Problem: 422, with the rule that is broken.
    """
    if query.city is None and query.near is None:
        raise refused_field("city", "is needed, unless near is given")
    if query.sort == "distance" and query.near is None:
        raise refused_field("sort", "distance is measured from near, which is missing")
    accept_people(query.adults, query.children)
    if query.page is not None and query.cursor is not None:
        raise refused_field("cursor", "cannot be combined with page")
    # The stay suits some hotel's today, if any; the finder compares it with that of each hotel.
    suits_best = max(earliest_today(), query.check_in_date - HORIZON + timedelta(days=1))
    accept_stay(query.check_in_date, query.check_out_date, min(suits_best, latest_today()))


def _next(context: RequestContext[NoBody, HotelSearch], found: Found) -> Mapping[str, str]:
    """Return the headers that name the next page, by number or by cursor as the request did."""
    if found.more and context.query.page is not None:
        return {"Link": f'<{context.address_with(page=context.query.page + 1)}>; rel="next"'}
    return link_to_next(context.address_with, found.hits[-1] if found.more else None, _cursor)


def _cursor(hit: Hit) -> str:
    return _order.write((hit.key, hit.hotel.id))


def _approximate(hit: Hit, currency: str, rates: RateTable) -> dict[str, Any]:
    """Return the prices of a hit in another currency, as an `ApproximatePrice`."""
    due_minor = 0 if hit.priced is None else due_at_hotel_minor(hit.priced)
    average, total, due_at_hotel = (
        decimal(converted_minor(rates, amount_minor, hit.hotel.currency.upper(), currency), currency)
        for amount_minor in (hit.average_minor, hit.total_minor, due_minor)
    )
    return {
        "currency": currency,
        "min_price": average,
        "total": total,
        "due_at_hotel": due_at_hotel,
        "rate_date": rates.on,
        "rate_source": rates.source,
    }


def _hit(hit: Hit, check_in: date, now: datetime, *, unversioned: bool) -> dict[str, Any]:
    """Return a `HotelHit`; made directly, as a page of them costs more than finding it.

    Clients without a version know no `due_at_hotel`: their `total` is the whole price.
    """
    hotel = hit.hotel
    priced = hit.priced or PricedStay(hotel.currency, Terms.PREPAID, hit.total_minor, (), None)
    times = hotel.stay_times
    return {
        "id": hotel.id,
        "name": hotel.name,
        "city": hotel.city,
        "photos": hotel.photos,
        "amenities": hotel.amenities,
        "stars": hotel.stars,
        "latitude": hotel.latitude,
        "longitude": hotel.longitude,
        "distance_km": None if hit.distance_m is None else hit.distance_m / 1000,
        "currency": hotel.currency,
        "min_price": decimal(hit.average_minor, hotel.currency),
        "total": decimal(whole_minor(priced) if unversioned else hit.total_minor, hotel.currency),
        "room_id": hit.room_id,
        "room_type": hit.room_type,
        "rooms_left": hit.rooms_left,
        **(_STANDARD_FIELDS if priced.sale is None else _plan_fields(priced.sale)),
        "payment": priced.terms,
        "due_at_hotel": decimal(due_at_hotel_minor(priced), hotel.currency),
        "refundable": is_refundable(priced, check_in=check_in, stay_times=times, now=now),
        "free_until": free_until(priced, check_in=check_in, stay_times=times, now=now),
    }


def _plan_fields(sale: Sale) -> dict[str, Any]:
    return {"plan_id": sale.plan_id, "plan_name": sale.plan_name, "meals": sale.meals}
