"""Every night of every room in two tables of numbers: how many rooms are free, and what one costs."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage.search_reads import PackedNights

#: How many days are kept: what can be searched for from any place on earth, and three weeks more, so that the same
#: tables serve for three weeks.
DAYS: Final = 420
_FIRST_ROOMS: Final = 64


class Nights:
    """The nights of [first, end), a row a room, with rooms free (int32) and prices in minor units (int64).

    A night that was not opened, or is closed, has nothing free.
    """

    def __init__(self, first: date) -> None:
        self.first = first
        self.end = first + timedelta(days=DAYS)
        self._rows: dict[int, int] = {}
        self._free = np.zeros((_FIRST_ROOMS, DAYS), np.int32)
        self._prices_minor = np.zeros((_FIRST_ROOMS, DAYS), np.int64)

    def __contains__(self, room_id: int) -> bool:
        return room_id in self._rows

    def add(self, room_ids: Iterable[int]) -> None:
        """Make place for rooms."""
        for room_id in room_ids:
            self._rows.setdefault(room_id, len(self._rows))
        if len(self._rows) > len(self._free):
            more = max(len(self._rows), 2 * len(self._free)) - len(self._free)
            self._free = np.concatenate((self._free, np.zeros((more, DAYS), np.int32)))
            self._prices_minor = np.concatenate((self._prices_minor, np.zeros((more, DAYS), np.int64)))

    def tell(self, packed: Iterable[PackedNights]) -> None:
        """Take over the nights of rooms that have a place; others are of nobody's interest."""
        for room_id, days, free, prices_minor in packed:
            row = self._rows.get(room_id)
            if row is not None:
                where = np.frombuffer(days, ">i4")
                self._free[row, where] = np.frombuffer(free, ">i4")
                self._prices_minor[row, where] = np.frombuffer(prices_minor, ">i8")

    def rows(self, room_ids: Collection[int]) -> NDArray[np.intp]:
        """Return the rows of rooms."""
        return np.fromiter((self._rows[room_id] for room_id in room_ids), np.intp, len(room_ids))

    def stay(
        self, rows: NDArray[np.intp], check_in: date, check_out: date
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return for each of the rows how many rooms are free in all nights, and what one costs altogether."""
        begin, end = (check_in - self.first).days, (check_out - self.first).days
        free = self._free[:, begin:end].take(rows, axis=0)
        prices = self._prices_minor[:, begin:end].take(rows, axis=0)
        return free.min(axis=1), prices.sum(axis=1)
