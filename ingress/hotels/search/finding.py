"""Finds hotels: first by their own facts, then by free rooms and prices, all in columns."""

import asyncio
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingress.hotels.plans import RoomOnSale, StayRequest, cheapest
from ingress.hotels.search.comparing import comparison
from ingress.hotels.search.hotel_tables import HotelTable, amenity_keys
from ingress.hotels.search.models import (
    EARTH_RADIUS_M,
    Found,
    Hit,
    HotelSearch,
    Near,
    SortPosition,
    earliest_today,
    latest_today,
)
from ingress.hotels.search.nights import Nights
from ingress.hotels.search.plan_table import NEVER
from ingress.offers import charged_minor, whole_minor
from ingress.stays import HORIZON, today_at
from pricing.conversion import RateTable
from pricing.sale import PricedStay
from pricing.stays import average_minor

#: The plans of so many rooms are priced in some milliseconds, after which other requests have their turn.
_PLANS_AT_ONCE: Final = 100
#: The distance of a hotel without coordinates: farther than any place on earth.
_UNKNOWN_M: Final = 2**40

_Ints = NDArray[np.int64]
_Indices = NDArray[np.intp]


async def find(
    table: HotelTable,
    nights: Nights,
    query: HotelSearch,
    after: SortPosition | None,
    rates: RateTable | None = None,
) -> Found:
    """Return a page of the hotels in the table that match.

    All numbers are read before anything else has a turn: a change of the nights meanwhile does not count.

    Args:
        table: the hotels of the query's city, or all.
        nights: the nights of their rooms.
        query: the search.
        after: the last hit before the page, if given.
        rates: exchange rates, by which prices are compared across currencies; without, they are compared as numbers.
    """
    chosen = _chosen(table, query, rates)
    distances_m = None
    if query.near is not None:
        distances_m = _distances_m(table, chosen, query.near)
        inside = distances_m <= query.near.km * 1000
        chosen, distances_m = chosen[inside], distances_m[inside]
    if not len(chosen):
        return Found([], more=False)
    return await _Offers(table, nights, query, chosen, distances_m, rates=rates).page(after)


def _chosen(table: HotelTable, query: HotelSearch, rates: RateTable | None) -> _Indices:
    """Return the hotels whose own facts match, whether they have free rooms or not."""
    fit = np.ones(len(table.hotels), np.bool)
    if query.stars is not None:
        fit &= table.stars >= query.stars
    if query.currency is not None:
        fit &= _shown_in(table, query.currency, rates)
    if query.charged_in is not None:
        fit &= table.currencies == query.charged_in
    if query.amenities:
        needed = amenity_keys(query.amenities)
        fit &= np.fromiter((needed <= there for there in table.amenities), np.bool, len(table.amenities))
    # Almost every search is for days that are neither past nor too far ahead in any time zone.
    if query.check_in_date < latest_today() or query.check_in_date >= earliest_today() + HORIZON:
        todays = (today_at(hotel.time_zone) for hotel in table.hotels)
        open_days = (today <= query.check_in_date < today + HORIZON for today in todays)
        fit &= np.fromiter(open_days, np.bool, len(table.hotels))
    return fit.nonzero()[0]


def _shown_in(table: HotelTable, currency: str, rates: RateTable | None) -> NDArray[np.bool]:
    """Return which hotels' prices can be shown in a currency: their own, and others by the rates."""
    own: NDArray[np.bool] = table.currencies == currency
    if rates is None or currency not in rates:
        return own
    return own | comparison(rates).has_rates(table.currency_numbers)


def _distances_m(table: HotelTable, chosen: _Indices, near: Near) -> _Ints:
    """Return how far away hotels are over the ground, in metres, by the haversine formula on a round earth."""
    latitude, longitude = np.radians(near.latitude), np.radians(near.longitude)
    latitudes, longitudes = table.latitudes[chosen], table.longitudes[chosen]
    squared = (
        np.sin((latitudes - latitude) / 2) ** 2
        + np.cos(latitude) * np.cos(latitudes) * np.sin((longitudes - longitude) / 2) ** 2
    )
    metres = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(squared, 1)))
    return np.where(np.isnan(metres), _UNKNOWN_M, np.rint(metres)).astype(np.int64)


class _Offers:
    """The rooms of the chosen hotels for the stay, the rooms of a hotel beside each other, the hotels by id."""

    def __init__(
        self,
        table: HotelTable,
        nights: Nights,
        query: HotelSearch,
        chosen: _Indices,
        distances_m: _Ints | None,
        *,
        rates: RateTable | None,
    ) -> None:
        self._table = table
        self._rates = rates
        self._nights = nights
        self._query = query
        self._chosen = chosen
        self._distances_m = distances_m
        self._counts = table.counts[chosen]
        ends = self._counts.cumsum()
        self._begins = ends - self._counts
        self._rooms = (table.begins[chosen] - self._begins).repeat(self._counts) + np.arange(ends[-1])
        self._free, prices_minor = nights.stay(table.columns[self._rooms], query.check_in_date, query.check_out_date)
        fit = self._free >= query.rooms_count
        people = query.people
        count = query.guests if people is None else people.adults + len(people.child_ages)
        if count is not None:
            fit &= table.capacities[self._rooms] * query.rooms_count >= count
        fit &= self._chargeable(prices_minor)
        # Of all rooms together: people and taxes do not divide by rooms.
        self._wholes_minor = np.where(fit, prices_minor * query.rooms_count, NEVER)
        # Rooms with sale terms whose price is a lower bound so far, their hotels, and the plans of those with a price.
        self._is_bound = np.zeros(len(self._rooms), np.bool)
        self._is_open = np.zeros(len(chosen), np.bool)
        self._chosen_plans: dict[int, PricedStay] = {}
        # The prices of the nights of the rooms with bounds, a row each, and the numbers of these rooms.
        self._bounded = np.zeros(0, np.intp)
        self._night_prices_minor = np.zeros((0, query.nights), np.int64)
        self._plans_since_pause = 0
        if len(table.plans.rooms):
            self._bound_plans(prices_minor)
        self._compare()

    def _compare(self) -> None:
        """Find the cheapest room of each hotel, and the order of the hotels."""
        query = self._query
        self._cheapest_minor = np.minimum.reduceat(self._wholes_minor, self._begins)
        self._averages_minor = average_minor(self._cheapest_minor, query.nights * query.rooms_count)
        # Numbers in major units can be compared, if not added; all currencies have whole thousandths.
        self._prices_milli = self._averages_minor * self._table.scales[self._chosen]
        self._price_keys = self._compared_prices()
        self._keys = self._sort_keys()

    def _bound_plans(self, prices_minor: _Ints) -> None:
        """Give the free rooms that have sale terms a price that is not above that of their cheapest plan."""
        plans, query = self._table.plans, self._query
        numbers = np.isin(self._rooms, plans.rooms).nonzero()[0]
        self._wholes_minor[numbers] = NEVER
        fit = self._free[numbers] >= query.rooms_count
        if query.people is None and query.guests is not None:
            fit &= self._table.capacities[self._rooms[numbers]] * query.rooms_count >= query.guests
        numbers = numbers[fit]
        indices = plans.rooms.searchsorted(self._rooms[numbers])
        if query.people is not None:
            fit = plans.have_space(indices, query.people, query.rooms_count)
            numbers, indices = numbers[fit], indices[fit]
        if not len(numbers):
            return
        stay = query.check_in_date, query.check_out_date
        bounds_minor = plans.least_minor(indices, prices_minor[numbers], *stay, query.rooms_count)
        numbers, bounds_minor = numbers[bounds_minor < NEVER], bounds_minor[bounds_minor < NEVER]
        self._wholes_minor[numbers] = bounds_minor
        self._is_bound[numbers] = True
        self._is_open[self._begins.searchsorted(numbers, side="right") - 1] = True
        self._bounded = numbers
        self._night_prices_minor = self._nights.prices_minor(self._table.columns[self._rooms[numbers]], *stay)

    async def _price_exactly(self, hotels: _Indices) -> None:
        """Price the rooms of chosen hotels that have lower bounds so far."""
        for hotel in hotels.tolist():
            of_hotel = slice(self._begins[hotel], self._begins[hotel] + self._counts[hotel])
            numbers = self._begins[hotel] + self._is_bound[of_hotel].nonzero()[0]
            bounds_minor = self._wholes_minor[numbers]
            self._wholes_minor[numbers] = NEVER
            best_minor = self._wholes_minor[of_hotel].min()
            for place in bounds_minor.argsort(kind="stable").tolist():
                # The other rooms of the hotel cost more.
                if bounds_minor[place] > best_minor:
                    break
                best_minor = min(best_minor, self._price_room(int(numbers[place]), self._chosen[hotel]))
                if self._plans_since_pause >= _PLANS_AT_ONCE:
                    self._plans_since_pause = 0
                    await asyncio.sleep(0)
        self._is_open[hotels] = False

    def _price_room(self, number: int, hotel: int) -> int:
        """Price a room by its cheapest plan, and return the price; `NEVER` if no plan is sold for the stay."""
        table, query = self._table, self._query
        of_nights = self._night_prices_minor[self._bounded.searchsorted(number)].tolist()
        terms, facts = table.plans.terms[int(table.plans.rooms.searchsorted(self._rooms[number]))], table.hotels[hotel]
        self._plans_since_pause += len(terms.plans)
        on_sale = RoomOnSale(terms, of_nights, facts.currency, facts.check_in_time)
        stay = StayRequest(query.check_in_date, query.check_out_date, query.rooms_count, query.people)
        priced = cheapest(on_sale, stay, today_at(facts.time_zone))
        if priced is None:
            return NEVER
        self._wholes_minor[number] = whole_minor(priced)
        self._chosen_plans[number] = priced
        return whole_minor(priced)

    def _chargeable(self, prices_minor: _Ints) -> NDArray[np.bool]:
        """Return which rooms cost an amount for the stay that can be paid, as `pricing.charges.can_be_charged`.

        Prices are multiples of their currency's step already.
        """
        amounts_minor = prices_minor * self._query.rooms_count
        fit: NDArray[np.bool] = amounts_minor <= self._table.mosts_minor[self._rooms]
        fit &= amounts_minor >= self._table.leasts_minor[self._rooms]
        fit |= amounts_minor == 0
        return fit

    async def page(self, after: SortPosition | None) -> Found:
        """Return the hits of the page that the query names, or those after a hit.

        Lower bounds come before the prices that they stand for, so the page is right as soon as it and the hit that
        follows it have none. Each round looks further ahead, so that few rounds sort all hotels anew.
        """
        begin = 0 if self._query.page is None else (self._query.page - 1) * self._query.limit
        end = begin + self._query.limit
        ahead = 0
        while True:
            matching = self._matching(after).nonzero()[0]
            # Hotels with the same key stay in the order of their ids.
            order = matching[self._keys[matching].argsort(kind="stable")]
            first = order[: end + 1 + ahead]
            bounded = first[self._is_open[first]]
            if not self._is_open[first[: end + 1]].any():
                return Found(self._hits(order[begin:end]), more=len(order) > end)
            await self._price_exactly(bounded)
            ahead = 2 * ahead + 1
            self._compare()

    def _sort_keys(self) -> _Ints:
        if self._query.sort == "stars":
            return -self._table.stars[self._chosen]
        if self._query.sort == "distance" and self._distances_m is not None:
            return self._distances_m
        return self._price_keys

    def _compared_prices(self) -> _Ints:
        """Return numbers in the order of the prices: by the exchange rates, or as they are without any."""
        if self._rates is None:
            return self._prices_milli
        numbers = self._table.currency_numbers[self._chosen]
        return comparison(self._rates).keys(self._averages_minor, self._prices_milli, numbers)

    def _within_prices(self) -> NDArray[np.bool]:
        """Return which hotels cost what the query allows: in the currency that it names, else as numbers.

        A price that is a lower bound so far may be more, but not less.
        """
        query, rates = self._query, self._rates
        fit = np.ones(len(self._chosen), np.bool)
        if rates is not None and query.currency is not None and query.currency in rates:
            compared = comparison(rates)
            if query.min_price is not None:
                fit &= (self._price_keys >= compared.least_key(query.min_price, query.currency)) | self._is_open
            if query.max_price is not None:
                fit &= self._price_keys < compared.end_key(query.max_price, query.currency)
            return fit
        if query.min_price is not None:
            fit &= (self._prices_milli >= int(query.min_price * 1000)) | self._is_open
        if query.max_price is not None:
            fit &= self._prices_milli <= int(query.max_price * 1000)
        return fit

    def _matching(self, after: SortPosition | None) -> NDArray[np.bool]:
        query, keys = self._query, self._keys
        matching = self._cheapest_minor < NEVER
        if query.min_price is not None or query.max_price is not None:
            matching &= self._within_prices()
        if after is not None:
            ids = self._table.ids[self._chosen]
            behind = (keys > after.key) | ((keys == after.key) & (ids > after.hotel_id))
            # A price may be behind although its lower bound is not; other keys are no bounds.
            matching &= (behind | self._is_open) if query.sort == "price" else behind
        return matching

    def _hits(self, numbers: _Indices) -> list[Hit]:
        """Return the hits of chosen hotels: of rooms that cost the same, those with the lowest ids."""
        of_least = (self._wholes_minor == self._cheapest_minor.repeat(self._counts)).nonzero()[0]
        rooms = of_least[of_least.searchsorted(self._begins[numbers])]
        distances_m = [None] * len(numbers) if self._distances_m is None else self._distances_m[numbers].tolist()
        hotels, described = self._table.hotels, self._table.rooms
        offers = [self._chosen_plans.get(number) for number in rooms.tolist()]
        return [
            Hit(
                hotels[hotel],
                described[room].id,
                described[room].type,
                average_minor,
                cheapest_minor if offer is None else charged_minor(offer),
                rooms_left,
                distance_m,
                key,
                offer,
            )
            for hotel, room, offer, average_minor, cheapest_minor, rooms_left, distance_m, key in zip(
                self._chosen[numbers].tolist(),
                self._rooms[rooms].tolist(),
                offers,
                self._averages_minor[numbers].tolist(),
                self._cheapest_minor[numbers].tolist(),
                self._free[rooms].tolist(),
                distances_m,
                self._keys[numbers].tolist(),
                strict=True,
            )
        ]
