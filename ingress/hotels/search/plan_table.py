"""The rate plans of rooms in columns, for a price that is not above the cheapest plan's.

A plan's exact price takes much longer than a sum of nights, so a search computes it for the hotels of its page alone,
and finds them in the order of these lower bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.charges import step_minor
from topics.messages.sale import SaleTerms, Tax

_MILLI: Final = 1000
_WHOLE_PERCENT_MILLI: Final = 100_000

_Ints = NDArray[np.int64]
_Indices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanTable:
    """Rooms that have sale terms, in ascending order of their numbers in a hotel table, and their plans.

    `begins` and `counts` index each room's plans. `taxes_milli` is the sum of the percentages (thousandths) that each
    stay in a room pays on top, `taxes_counts` their number, and `steps_minor` the step of its currency.
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

    def least_minor(self, indices: _Indices, stays_minor: _Ints, nights: int, rooms_count: int) -> _Ints:
        """Return for some of the rooms an amount that no plan of the room is below, in all rooms of a stay.

        Args:
            indices: the rooms, by their places in the table.
            stays_minor: the sum of the prices of the stay's nights in one room, for each of them.
            nights: the number of nights.
            rooms_count: the number of rooms.
        """
        counts = self.counts[indices]
        ends = counts.cumsum()
        begins = ends - counts
        plans = (self.begins[indices] - begins).repeat(counts) + np.arange(ends[-1])
        # A night is rounded down by less than a step; people and amounts of taxes only add.
        steps_minor = self.steps_minor[indices]
        of_plans = stays_minor.repeat(counts) * self.times_milli[plans] // _MILLI
        of_plans += nights * (self.plus_minor[plans] - steps_minor.repeat(counts))
        least = np.maximum(np.minimum.reduceat(of_plans, begins), 0) * rooms_count
        taxes = least * self.taxes_milli[indices] // _WHOLE_PERCENT_MILLI - self.taxes_counts[indices] * steps_minor
        bounds: _Ints = least + np.maximum(taxes, 0)
        return bounds


def plan_table(rooms: Sequence[tuple[int, SaleTerms, str]]) -> PlanTable:
    """Return the table of rooms: the number, the terms and the currency of each, in ascending order of the numbers."""
    terms = [of_room for _, of_room, _ in rooms]
    counts = np.array([len(of_room.plans) for of_room in terms], np.intp)
    added = [[tax.percent_milli or 0 for tax in of_room.taxes if _is_always_added(tax)] for of_room in terms]
    return PlanTable(
        rooms=np.array([number for number, _, _ in rooms], np.intp),
        terms=terms,
        begins=counts.cumsum() - counts,
        counts=counts,
        times_milli=np.array([plan.times_milli for of_room in terms for plan in of_room.plans], np.int64),
        plus_minor=np.array([plan.plus_minor for of_room in terms for plan in of_room.plans], np.int64),
        taxes_milli=np.array([sum(percentages) for percentages in added], np.int64),
        taxes_counts=np.array([len(percentages) for percentages in added], np.int64),
        steps_minor=np.array([step_minor(currency) for _, _, currency in rooms], np.int64),
    )


def _is_always_added(tax: Tax) -> bool:
    """Return whether every night pays a percentage on top of its price."""
    return tax.percent_milli is not None and not tax.included and tax.first_night is None and tax.end_night is None
