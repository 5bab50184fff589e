"""The hotels that guests may find, by city: their facts in columns, the rooms of one hotel next to each other."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingress.hotels.search.comparing import currency_number
from ingress.hotels.search.models import written_alike
from ingress.hotels.search.nights import Nights
from ingress.hotels.search.plan_table import PlanTable, RoomPlans, plan_table
from ingress.hotels.search.rule_table import PackedRules, packed_rules
from pricing.charges import charge_limits, is_chargeable, step_minor
from pricing.currencies import digits_of
from storage.reads.search import HotelFacts, RoomTypeFacts
from topics.messages.sale import SaleTerms

_EVERYWHERE: Final = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HotelTable:
    """Hotels by id, and their rooms by hotel and id; a hotel without rooms is left out.

    `begins` and `counts` index each hotel's rooms, `columns` the nights of each room. `plans` has the rooms with sale
    terms. `stars` 0 and coordinates (radians) that are not a number are unknown. `currency_numbers` are those of
    `Comparison`. `scales`: thousandths of a major unit in one minor unit. A stay in a room can be charged if it costs
    from `leasts_minor` to `mosts_minor`.
    """

    hotels: Sequence[HotelFacts]
    rooms: Sequence[RoomTypeFacts]
    begins: NDArray[np.intp]
    counts: NDArray[np.intp]
    columns: NDArray[np.intp]
    plans: PlanTable
    capacities: NDArray[np.int64]
    leasts_minor: NDArray[np.int64]
    mosts_minor: NDArray[np.int64]
    ids: NDArray[np.int64]
    stars: NDArray[np.int64]
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]
    currencies: NDArray[np.str_]
    currency_numbers: NDArray[np.intp]
    scales: NDArray[np.int64]
    amenities: Sequence[frozenset[str]]


class HotelTables:
    """Keeps the facts of hotels and rooms, and builds the table of a city when a search first names it."""

    def __init__(self, nights: Nights) -> None:
        self._nights = nights
        self._hotels: dict[int, HotelFacts] = {}
        self._rooms: dict[int, RoomTypeFacts] = {}
        self._terms: dict[int, SaleTerms] = {}
        self._rules: dict[int, PackedRules] = {}
        self._rooms_of: defaultdict[int, set[int]] = defaultdict(set)
        self._hotels_in: defaultdict[str, set[int]] = defaultdict(set)
        self._tables: dict[str, HotelTable] = {}

    def update_hotels(self, hotels: Iterable[HotelFacts]) -> None:
        """Write the facts of hotels."""
        for hotel in hotels:
            before = self._hotels.get(hotel.id)
            if before != hotel:
                if before is not None:
                    self._forget_tables_with(before)
                    self._hotels_in[written_alike(before.city)].discard(hotel.id)
                self._hotels[hotel.id] = hotel
                self._hotels_in[written_alike(hotel.city)].add(hotel.id)
                self._forget_tables_with(hotel)

    def in_neighbourhood(self, rooms: Sequence[RoomTypeFacts]) -> dict[int, int]:
        """Return the steps of the rooms' prices by the rooms' ids, those of a city and a hotel beside each other."""
        hotels = self._hotels
        steps = {room.id: step_minor(hotels[room.hotel_id].currency) for room in rooms if room.hotel_id in hotels}
        cities = {room.hotel_id: written_alike(hotels[room.hotel_id].city) for room in rooms if room.hotel_id in hotels}
        in_order = sorted(rooms, key=lambda room: (cities.get(room.hotel_id, ""), room.hotel_id))
        return {room.id: steps.get(room.id, 1) for room in in_order}

    def update_rooms(self, rooms: Iterable[RoomTypeFacts]) -> None:
        """Write the facts of rooms whose nights are in the index."""
        for room in rooms:
            if self._rooms.get(room.id) != room:
                self._rooms[room.id] = room
                self._rooms_of[room.hotel_id].add(room.id)
                if room.hotel_id in self._hotels:
                    self._forget_tables_with(self._hotels[room.hotel_id])

    def update_terms(self, terms: Mapping[int, SaleTerms]) -> None:
        """Write the sale terms of rooms, by the rooms' ids."""
        for room_id, terms_of_room in terms.items():
            before, room = self._terms.get(room_id), self._rooms.get(room_id)
            if before == terms_of_room:
                continue
            self._terms[room_id], self._rules[room_id] = terms_of_room, packed_rules(terms_of_room)
            if room is not None and room.hotel_id in self._hotels:
                self._forget_tables_with(self._hotels[room.hotel_id])

    def _forget_tables_with(self, hotel: HotelFacts) -> None:
        self._tables.pop(written_alike(hotel.city), None)
        self._tables.pop(_EVERYWHERE, None)

    def of(self, city: str | None) -> HotelTable:
        """Return the hotels of a city, of all cities for None."""
        key = _EVERYWHERE if city is None else written_alike(city)
        table = self._tables.get(key)
        if table is None:
            if city is not None and key not in self._hotels_in:
                return self._put_together(())
            table = self._tables[key] = self._put_together(self._hotels if city is None else self._hotels_in[key])
        return table

    def _put_together(self, hotel_ids: Iterable[int]) -> HotelTable:
        found = [
            (self._hotels[hotel_id], rooms)
            for hotel_id in sorted(hotel_ids)
            if self._hotels[hotel_id].listed and (rooms := self._listed_rooms(hotel_id))
        ]
        hotels = [hotel for hotel, _ in found]
        rooms = [room for _, rooms in found for room in rooms]
        counts = [len(rooms) for _, rooms in found]
        limits = [_charge_limits(hotel.currency) for hotel in hotels]
        leasts_minor, mosts_minor = np.array(limits, np.int64).reshape(-1, 2).repeat(counts, axis=0).T
        return HotelTable(
            hotels=hotels,
            rooms=rooms,
            begins=np.array([0, *accumulate(counts)][: len(counts)], np.intp),
            counts=np.array(counts, np.intp),
            columns=self._nights.columns([room.id for room in rooms]),
            plans=plan_table(
                [self._room_plans(number, room) for number, room in enumerate(rooms) if room.id in self._terms]
            ),
            capacities=np.array([room.capacity for room in rooms], np.int64),
            leasts_minor=leasts_minor.copy(),
            mosts_minor=mosts_minor.copy(),
            ids=np.array([hotel.id for hotel in hotels], np.int64),
            stars=np.array([hotel.stars or 0 for hotel in hotels], np.int64),
            latitudes=_radians([hotel.latitude for hotel in hotels]),
            longitudes=_radians([hotel.longitude for hotel in hotels]),
            currencies=np.array([hotel.currency.upper() for hotel in hotels], np.str_),
            currency_numbers=np.array([currency_number(hotel.currency) for hotel in hotels], np.intp),
            scales=np.array([10 ** (3 - digits_of(hotel.currency)) for hotel in hotels], np.int64),
            amenities=[amenity_keys(hotel.amenities) for hotel in hotels],
        )

    def _room_plans(self, number: int, room: RoomTypeFacts) -> RoomPlans:
        hotel = self._hotels[room.hotel_id]
        return RoomPlans(number, self._terms[room.id], self._rules[room.id], hotel.currency, hotel.time_zone)

    def _listed_rooms(self, hotel_id: int) -> list[RoomTypeFacts]:
        return [room for room_id in sorted(self._rooms_of.get(hotel_id, ())) if (room := self._rooms[room_id]).listed]


def _charge_limits(currency: str) -> tuple[int, int]:
    """Return the least and the most that a stay may cost; no amount is between them if nothing can be charged."""
    return charge_limits(currency) if is_chargeable(currency) else (1, 0)


def amenity_keys(amenities: Iterable[str]) -> frozenset[str]:
    """Return amenities without regard to how they are written."""
    return frozenset(written_alike(amenity) for amenity in amenities)


def _radians(degrees: Sequence[float | None]) -> NDArray[np.float64]:
    return np.radians(np.array([np.nan if value is None else value for value in degrees], np.float64))
