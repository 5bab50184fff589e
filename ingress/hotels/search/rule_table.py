"""The rules of rate plans in columns, to sort out the plans that cannot be sold for a stay before any price.

It has the same rules as `pricing.sale.rules_rejection`, which a decision uses.
"""

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from topics.messages.sale import SaleTerms

#: The number of days of which a table remembers the restrictions: most searches are for a few days.
_MAX_CACHED_DAYS: Final = 32
_MANY: Final = 2**31 - 1
_FIELDS: Final = 8

#: The rules of one room, a row each: the place of the plan in its terms, the first and the end day (ordinals), the
#: least and the most nights, the days in advance, whether arrivals and whether departures are excluded.
PackedRules = NDArray[np.int32]
_Ints = NDArray[np.int32]
_Bools = NDArray[np.bool]
_Indices = NDArray[np.intp]


def packed_rules(terms: SaleTerms) -> PackedRules:
    """Return the rules of all plans of a room."""
    rows = [
        (
            place,
            rule.first_day.toordinal(),
            rule.end_day.toordinal(),
            rule.min_nights or 0,
            _MANY if rule.max_nights is None else rule.max_nights,
            rule.advance_days or 0,
            rule.closed_to_arrival or rule.stop_sell,
            rule.closed_to_departure,
        )
        for place, plan in enumerate(terms.plans)
        for rule in plan.rules
    ]
    return np.array(rows, np.int32).reshape(-1, _FIELDS)


class _Arrival(NamedTuple):
    """The restrictions of stays that arrive on one day, by plan."""

    least_nights: _Ints
    most_nights: _Ints
    advance_days: _Ints
    closed: _Bools


class RuleTable:
    """The rules of the plans of many rooms."""

    def __init__(self, rules: Sequence[PackedRules], begins: _Indices, plans_count: int) -> None:
        """Put the rules of rooms together; `begins` has the number of each room's first plan."""
        self._plans_count = plans_count
        columns = np.concatenate([*rules, np.zeros((0, _FIELDS), np.int32)]).T.copy()
        self._plans = columns[0] + begins.repeat(np.array([len(of_room) for of_room in rules], np.intp))
        self._first_days, self._end_days = columns[1], columns[2]
        self._least_nights, self._most_nights, self._advance_days = columns[3], columns[4], columns[5]
        self._closed_to_arrival, self._closed_to_departure = columns[6] > 0, columns[7] > 0
        self._on_arrival = lru_cache(_MAX_CACHED_DAYS)(self._read_arrival)
        self._on_departure = lru_cache(_MAX_CACHED_DAYS)(self._read_departure)

    def sold(self, plans: _Indices, check_in: date, check_out: date, todays: _Ints) -> _Bools:
        """Return which plans no rule excludes; `todays` has the date (ordinal) at the hotel of each."""
        if not len(self._plans):
            return np.ones(len(plans), np.bool)
        arrival, nights = self._on_arrival(check_in.toordinal()), (check_out - check_in).days
        fit: _Bools = (arrival.least_nights[plans] <= nights) & (nights <= arrival.most_nights[plans])
        fit &= check_in.toordinal() - todays >= arrival.advance_days[plans]
        fit &= ~(arrival.closed[plans] | self._on_departure(check_out.toordinal())[plans])
        return fit

    def _read_arrival(self, day: int) -> _Arrival:
        rules = self._in_force(day)
        plans = self._plans[rules]
        least_nights, advance_days = np.zeros((2, self._plans_count), np.int32)
        most_nights = np.full(self._plans_count, _MANY, np.int32)
        closed = np.zeros(self._plans_count, np.bool)
        np.maximum.at(least_nights, plans, self._least_nights[rules])
        np.minimum.at(most_nights, plans, self._most_nights[rules])
        np.maximum.at(advance_days, plans, self._advance_days[rules])
        closed[plans[self._closed_to_arrival[rules]]] = True
        return _Arrival(least_nights, most_nights, advance_days, closed)

    def _read_departure(self, day: int) -> _Bools:
        rules = self._in_force(day)
        closed = np.zeros(self._plans_count, np.bool)
        closed[self._plans[rules[self._closed_to_departure[rules]]]] = True
        return closed

    def _in_force(self, day: int) -> _Indices:
        rules: _Indices = ((self._first_days <= day) & (day < self._end_days)).nonzero()[0]
        return rules
