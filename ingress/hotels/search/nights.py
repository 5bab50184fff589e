"""Every night of every room in two tables of numbers: how many rooms are free, and the price of one."""

from collections.abc import Collection, Mapping
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.stays import night_price_minor
from storage.reads.search import PackedNights

#: How many days the tables have: those that can be searched for in any time zone, and three weeks more, so that the
#: same tables can be used for three weeks.
DAYS: Final = 420


class Nights:
    """The nights of [first, end), a row a day, a column a room: rooms free (int32) and prices in minor units (int64).

    A night that was not opened, or is closed, has nothing free. Rooms that are read together should be added together:
    the numbers of a day are beside each other in memory then.
    """

    def __init__(self, first: date) -> None:
        self.first = first
        self.end = first + timedelta(days=DAYS)
        self._columns: dict[int, int] = {}
        # The rooms' ids in their order, and the column of each.
        self._ids = np.empty(0, np.int64)
        self._columns_by_id = np.empty(0, np.intp)
        # The step of the prices in each column, and the steps that are not 1, which few currencies have.
        self._steps_minor = np.ones(0, np.int64)
        self._other_steps: set[int] = set()
        self._free = np.zeros((DAYS, 0), np.int32)
        self._prices_minor = np.zeros((DAYS, 0), np.int64)

    def __contains__(self, room_id: int) -> bool:
        return room_id in self._columns

    def add(self, steps_minor: Mapping[int, int]) -> None:
        """Give rooms a column each, in the order of the mapping: the step of each room's prices by the room's id."""
        for room_id in steps_minor:
            self._columns.setdefault(room_id, len(self._columns))
        self._ids = np.array(sorted(self._columns), np.int64)
        self._columns_by_id = self.columns(self._ids.tolist())
        count = len(self._columns)
        self._steps_minor = np.pad(self._steps_minor, (0, count - len(self._steps_minor)), constant_values=1)
        self._steps_minor[self.columns(steps_minor)] = list(steps_minor.values())
        self._other_steps |= set(steps_minor.values()) - {1}
        if count > self._free.shape[1]:
            # Some columns more, so that not every new room copies the tables.
            more = ((0, 0), (0, count + count // 8 + 8 - self._free.shape[1]))
            self._free, self._prices_minor = np.pad(self._free, more), np.pad(self._prices_minor, more)

    def update(self, packed: PackedNights) -> None:
        """Write the nights of rooms that have a column; ignore others."""
        room_ids = np.frombuffer(packed.room_ids, ">i8")
        if not len(room_ids) or not len(self._ids):
            return
        indices = np.minimum(self._ids.searchsorted(room_ids), len(self._ids) - 1)
        known = self._ids[indices] == room_ids
        columns, days = self._columns_by_id[indices[known]], np.frombuffer(packed.days, ">i4")[known]
        self._free[days, columns] = np.frombuffer(packed.free, ">i4")[known]
        prices_minor = np.frombuffer(packed.prices_minor, ">i8")[known].astype(np.int64)
        surges_milli = np.frombuffer(packed.surges_milli, ">i4")[known].astype(np.int64)
        costs_minor = night_price_minor(prices_minor, surges_milli, 1)
        for step in self._other_steps:
            stepped = self._steps_minor[columns] == step
            costs_minor[stepped] = night_price_minor(prices_minor[stepped], surges_milli[stepped], step)
        self._prices_minor[days, columns] = costs_minor

    def columns(self, room_ids: Collection[int]) -> NDArray[np.intp]:
        """Return the columns of rooms."""
        return np.fromiter((self._columns[room_id] for room_id in room_ids), np.intp, len(room_ids))

    def stay(
        self, columns: NDArray[np.intp], check_in: date, check_out: date
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return for each of the columns how many rooms are free in all nights, and the price of one for the stay."""
        begin, end = (check_in - self.first).days, (check_out - self.first).days
        free = self._free[begin:end].take(columns, axis=1)
        prices_minor = self._prices_minor[begin:end].take(columns, axis=1)
        return free.min(axis=0), prices_minor.sum(axis=0)

    def prices_minor(self, columns: NDArray[np.intp], check_in: date, check_out: date) -> list[list[int]]:
        """Return for each of the columns the price of each night of a stay in one room."""
        begin, end = (check_in - self.first).days, (check_out - self.first).days
        prices: list[list[int]] = self._prices_minor[begin:end].take(columns, axis=1).T.tolist()
        return prices
