"""`GET /hotels/search`: the search as clients ask for it, whoever finds the hotels."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Protocol

from aiohttp import web
from msgspec import Meta

from ingress.hotels.search.words import Found, Hit, HotelHit, HotelSearch, InOrder, earliest_today, latest_today
from ingress.http.answers import Answer, answer
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody
from ingress.http.paging import NEXT_PAGE, Cursors, link_to_next
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.stays import HORIZON, accept_stay
from pricing.currencies import decimal

#: Whoever asks the same within a second may be answered from somewhere between us and them.
_KEPT: Final = "public, max-age=1"
_Number = Annotated[int, Meta(ge=-(2**62), le=2**62)]
_order: Final = Cursors(tuple[_Number, _Number])


class Finder(Protocol):
    """Whoever finds hotels."""

    async def find(self, wanted: HotelSearch, after: InOrder | None) -> Found:
        """Return a page of hits; `after` is the last hit of the page before, if one is given."""
        ...


class Search:
    """Answers those who look for a hotel."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    @operation(
        "GET /hotels/search",
        access=Access.ANYBODY,
        summary="Look for a hotel",
        answers={200: Reply(list[HotelHit], "Sorted as wanted, then by id.", NEXT_PAGE)},
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
    async def search(self, asked: Asked[NoBody, HotelSearch]) -> Answer:
        """Find active hotels with a room type that is free in every night of a stay.

        `city` is the whole name, in any case; `near` (latitude, longitude, kilometres) may stand in its place or
        beside it. All of `amenities` must be there, and `stars` at least. Prices in different currencies are compared
        as numbers, in major units: say `currency` to see those in one of them alone. The next page is named in `Link`:
        by `page` if the request said one, else by `cursor`, which new hotels do not shift.
        """
        wanted = asked.query
        _accept(wanted)
        place = _order.read(wanted.cursor)
        found = await self._finder.find(wanted, None if place is None else InOrder(*place))
        shown = [_shown(hit) for hit in found.hits]
        return answer(200, shown, _next(asked.request, wanted, found), keep=_KEPT)


def _accept(wanted: HotelSearch) -> None:
    """Check what a search's parameters have to do with each other.

    Raises:
        Problem: 422, with the rule that is broken.
    """
    if wanted.city is None and wanted.near is None:
        raise refused_field("city", "is needed, unless near says where")
    if wanted.sort == "distance" and wanted.near is None:
        raise refused_field("sort", "distance needs near to say from where")
    if wanted.page is not None and wanted.cursor is not None:
        raise refused_field("cursor", "cannot stand beside page")
    # Some hotel's today suits the stay, if any does; which hotels they are is seen when they are found.
    suits_best = max(earliest_today(), wanted.check_in_date - HORIZON + timedelta(days=1))
    accept_stay(wanted.check_in_date, wanted.check_out_date, min(suits_best, latest_today()))


def _next(request: web.Request, wanted: HotelSearch, found: Found) -> Mapping[str, str]:
    """Return the headers that name the next page, in the way in which this one was asked for."""
    if found.more and wanted.page is not None:
        return {"Link": f'<{request.rel_url.update_query(page=wanted.page + 1)}>; rel="next"'}
    return link_to_next(request, found.hits[-1] if found.more else None, _cursor)


def _cursor(hit: Hit) -> str:
    return _order.write((hit.key, hit.hotel.id))


def _shown(hit: Hit) -> dict[str, Any]:
    """Return a `HotelHit`; made directly, as a page of them costs more than finding it."""
    hotel = hit.hotel
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
        "total": decimal(hit.total_minor, hotel.currency),
        "room_id": hit.room_id,
        "room_type": hit.room_type,
        "rooms_left": hit.rooms_left,
    }
