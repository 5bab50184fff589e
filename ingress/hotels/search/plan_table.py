"""The rate plans of rooms in columns, for a price that is not above that of the cheapest plan that is sold.

A plan's exact price takes much longer than a sum of nights, so a search computes it for the hotels of its page alone,
and finds them in the order of these lower bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingress.hotels.search.rule_table import PackedRules, RuleTable
from ingress.stays import today_at
from pricing.charges import step_minor
from topics.messages.sale import Party, SaleTerms, Tax

#: The price of a room that is not sold: higher than that of any stay.
NEVER: Final = 2**60
_MILLI: Final = 1000
_WHOLE_PERCENT_MILLI: Final = 100_000
#: The space of a room whose capacity is not known.
_ENOUGH: Final = 2**31

_Ints = NDArray[np.int64]
_Indices = NDArray[np.intp]


class RoomPlans(NamedTuple):
    """A room with sale terms: its number in a hotel table, and what its hotel adds to the terms."""

    number: int
    terms: SaleTerms
    rules: PackedRules
    currency: str
    time_zone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanTable:
    """Rooms that have sale terms, in ascending order of their numbers in a hotel table, and their plans.

    `begins` and `counts` index each room's plans. `taxes_milli` is the sum of the percentages (thousandths) that each
    stay in a room pays on top, `taxes_counts` their number, and `steps_minor` the step of its currency. One room has
    space for `capacities` people, and those up to `infants_up_to` years take none. `zone_numbers` index `time_zones`.
    """

    rooms: _Indices
    terms: Sequence[SaleTerms]
    begins: _Indices
    counts: _Indices
    times_milli: _Ints
    plus_minor: _Ints
    taxes_milli: _Ints
    taxes_counts: _Ints
    steps_minor: _Ints
    capacities: _Ints
    infants_up_to: _Ints
    rules: RuleTable
    time_zones: Sequence[str]
    zone_numbers: _Indices

    def have_space(self, indices: _Indices, party: Party, rooms_count: int) -> NDArray[np.bool]:
        """Return in which of some rooms people have space, as `pricing.sale.party_rejection`."""
        ages = np.array(sorted(party.child_ages), np.int64)
        counts = party.adults + len(ages) - ages.searchsorted(self.infants_up_to[indices], side="right")
        fit: NDArray[np.bool] = counts <= self.capacities[indices] * rooms_count
        return fit

    def least_minor(
        self, indices: _Indices, stays_minor: _Ints, check_in: date, check_out: date, rooms_count: int
    ) -> _Ints:
        """Return for some of the rooms an amount that no plan sold for the stay is below, in all rooms of a stay.

        It is `NEVER` where no plan is sold.

        Args:
            indices: the rooms, by their places in the table.
            stays_minor: the sum of the prices of the stay's nights in one room, for each of them.
            check_in: the first night.
            check_out: the day of departure.
            rooms_count: the number of rooms.
        """
        counts = self.counts[indices]
        ends = counts.cumsum()
        begins = ends - counts
        plans = (self.begins[indices] - begins).repeat(counts) + np.arange(ends[-1])
        sold = self.rules.sold(plans, check_in, check_out, self._todays()[self.zone_numbers[indices]].repeat(counts))
        # A night is rounded down by less than a step; people and amounts of taxes only add.
        steps_minor = self.steps_minor[indices]
        of_plans = stays_minor.repeat(counts) * self.times_milli[plans] // _MILLI
        of_plans += (check_out - check_in).days * (self.plus_minor[plans] - steps_minor.repeat(counts))
        cheapest_minor = np.minimum.reduceat(np.where(sold, of_plans, NEVER), begins)
        is_sold = np.logical_or.reduceat(sold, begins)
        least = np.where(is_sold, np.maximum(cheapest_minor, 0), 0) * rooms_count
        taxes = least * self.taxes_milli[indices] // _WHOLE_PERCENT_MILLI - self.taxes_counts[indices] * steps_minor
        bounds: _Ints = np.where(is_sold, least + np.maximum(taxes, 0), NEVER)
        return bounds

    def _todays(self) -> NDArray[np.int32]:
        return np.array([today_at(zone).toordinal() for zone in self.time_zones], np.int32)


def plan_table(rooms: Sequence[RoomPlans]) -> PlanTable:
    """Return the table of rooms, which are in ascending order of their numbers."""
    terms = [room.terms for room in rooms]
    counts = np.array([len(of_room.plans) for of_room in terms], np.intp)
    begins = counts.cumsum() - counts
    added = [[tax.percent_milli or 0 for tax in of_room.taxes if _is_always_added(tax)] for of_room in terms]
    infants = [of_room.infant_max_age for of_room in terms]
    zones = {zone: number for number, zone in enumerate(dict.fromkeys(room.time_zone for room in rooms))}
    return PlanTable(
        rooms=np.array([room.number for room in rooms], np.intp),
        terms=terms,
        begins=begins,
        counts=counts,
        times_milli=np.array([plan.times_milli for of_room in terms for plan in of_room.plans], np.int64),
        plus_minor=np.array([plan.plus_minor for of_room in terms for plan in of_room.plans], np.int64),
        taxes_milli=np.array([sum(percentages) for percentages in added], np.int64),
        taxes_counts=np.array([len(percentages) for percentages in added], np.int64),
        steps_minor=np.array([step_minor(room.currency) for room in rooms], np.int64),
        capacities=np.array([_ENOUGH if each.capacity is None else each.capacity for each in terms], np.int64),
        infants_up_to=np.array([-1 if age is None else age for age in infants], np.int64),
        rules=RuleTable([room.rules for room in rooms], begins, int(counts.sum())),
        time_zones=list(zones),
        zone_numbers=np.array([zones[room.time_zone] for room in rooms], np.intp),
    )


def _is_always_added(tax: Tax) -> bool:
    """Return whether every night pays a percentage on top of its price."""
    return tax.percent_milli is not None and not tax.included and tax.first_night is None and tax.end_night is None
