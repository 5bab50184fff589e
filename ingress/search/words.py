"""What a search asks for, and what it finds, whoever looks for it."""

from datetime import date
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from ingress.acceptance import RoomsCount, today_at
from ingress.models import Currency, Day, Line, MoneyIn, MoneyOut, Query, Several, Shown
from ingress.paging import Limit, PageCursor
from storage.search_reads import HotelFacts

MOST_PAGES: Final = 10_000
EARTH_RADIUS_M: Final = 6_371_008.8
#: Half the way round the earth: everywhere.
FARTHEST_KM: Final = 20_040


class StartedAnew(Exception):
    """The nights in the database are no continuation of those that were copied: they must be copied anew."""


class Near(NamedTuple):
    """A circle on the map, in degrees and kilometres."""

    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
    km: Annotated[float, Field(gt=0, le=FARTHEST_KM, allow_inf_nan=False)]


def _near(given: object) -> object:
    parts = given.split(",") if isinstance(given, str) else ()
    if len(parts) != 3:
        raise ValueError("must be latitude,longitude,kilometres")
    return tuple(parts)


_NUMBER: Final = r"-?\d{1,5}(\.\d{1,9})?"
_NearText = Annotated[str, Field(pattern=f"^{_NUMBER},{_NUMBER},{_NUMBER}$")]


class HotelSearch(Query):
    """Which hotels, for which stay. Prices are of one night, in major units of the hotel's currency."""

    city: Line | None = None
    check_in_date: Day
    check_out_date: Day
    rooms_count: RoomsCount = 1
    guests: Annotated[int, Field(ge=1, le=1000)] | None = None
    min_price: MoneyIn | None = None
    max_price: MoneyIn | None = None
    amenities: Annotated[Several[Line], Field(max_length=20)] = Field(default_factory=list)
    stars: Annotated[int, Field(ge=1, le=5)] | None = None
    near: Annotated[Near, BeforeValidator(_near, json_schema_input_type=_NearText)] | None = None
    currency: Currency | None = None
    sort: Literal["price", "stars", "distance"] = "price"
    limit: Limit = 20
    page: Annotated[int, Field(ge=1, le=MOST_PAGES)] | None = None
    cursor: PageCursor | None = None

    @property
    def nights(self) -> int:
        """How many nights the stay has."""
        return (self.check_out_date - self.check_in_date).days


class InOrder(NamedTuple):
    """Where a hotel stands in the order of a search: by `key`, then by its id."""

    key: int
    hotel_id: int


class Hit(NamedTuple):
    """A hotel that has what is asked for, and its cheapest room type. `key` is what the search is sorted by.

    `average_minor` is of one room's nights, `total_minor` of the whole stay in all rooms, as a booking would cost.
    """

    hotel: HotelFacts
    room_id: int
    room_type: str
    average_minor: int
    total_minor: int
    rooms_left: int
    distance_m: int | None
    key: int


class Found(NamedTuple):
    """One page of hits in order, and whether there are more."""

    hits: list[Hit]
    more: bool


class HotelHit(Shown):
    """A hotel with a room type that is free for the whole stay: the cheapest one, with what it costs.

    `min_price` is the average of a night, `total` what a booking of this room type would cost: all nights and rooms.
    """

    id: int
    name: str
    city: str
    photos: list[str]
    amenities: list[str]
    stars: int | None
    latitude: float | None
    longitude: float | None
    distance_km: float | None
    currency: str
    min_price: MoneyOut
    total: MoneyOut
    room_id: int
    room_type: str
    rooms_left: int


def written_alike(name: str) -> str:
    """Return what all ways of writing a name have in common: neither case nor blanks around it matter."""
    return name.strip().casefold()


def earliest_today() -> date:
    """Return which day it is where it is the earliest."""
    return today_at("Etc/GMT+12")


def latest_today() -> date:
    """Return which day it is where it is the latest."""
    return today_at("Etc/GMT-14")
