"""The index that searches are answered from: loaded whole, then updated. Imported only where it is loaded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.hotels.search.finding import find
from ingress.hotels.search.hotel_tables import HotelTables
from ingress.hotels.search.models import Found, HotelSearch, IndexOutdated, SortPosition, earliest_today, latest_today
from ingress.hotels.search.nights import Nights
from ingress.stays import HORIZON, MAX_STAY_NIGHTS
from pricing.conversion import RateTable
from storage.projections.night_changes import KEPT_POSITIONS
from storage.reads import search
from storage.reads.search import IndexPosition, RoomTypeFacts

#: A change has the time at which its transaction began, and is visible when the transaction ends: at most this much
#: later, because the database ends idle transactions before.
_OVERLAP: Final = timedelta(seconds=60)
_FACTS_AT_ONCE: Final = 1000
#: The nights of this many rooms, or in this many pages, or of this many events of each partition, are about a megabyte,
#: which keeps the event loop busy for some milliseconds.
_ROOMS_AT_ONCE: Final = 100
_PAGES_AT_ONCE: Final = 512
_EVENTS_AT_ONCE: Final = 5000
#: With fewer days left the index is loaded anew, which takes seconds.
_ENOUGH_DAYS: Final = 7


class SearchIndex:
    """The hotels, rooms and nights that searches need, as of a moment not long ago."""

    def __init__(self, topic: str) -> None:
        """Make an empty index; `topic` is the name of the events on the broker."""
        self._topic = topic
        self._nights = Nights(earliest_today())
        self._tables = HotelTables(self._nights)
        self._positions: Mapping[int, IndexPosition] = {}
        self._facts_as_of = datetime(1970, 1, 1, tzinfo=UTC)

    async def find(self, query: HotelSearch, after: SortPosition | None, rates: RateTable | None = None) -> Found:
        """Return a page of hits; `after` is the last hit of the page before, if one is given."""
        return await find(self._tables.of(query.city), self._nights, query, after, rates)

    @property
    def covers_today(self) -> bool:
        """Whether every stay that can be asked for today is within the nights of the index."""
        return self._days_left() >= 0

    @property
    def nearly_over(self) -> bool:
        """Whether it is time to load a new index."""
        return self._days_left() < _ENOUGH_DAYS

    def _days_left(self) -> int:
        # The last stay begins the day before the horizon, and its last night ends on the day after.
        return (self._nights.end - latest_today() - HORIZON).days - MAX_STAY_NIGHTS

    @property
    def _window(self) -> tuple[date, date]:
        return self._nights.first, self._nights.end

    async def load(self, connection: AsyncConnection) -> None:
        """Load everything as of one moment, in a transaction of its own."""
        await search.begin_whole(connection)
        delta = await search.delta(connection, self._topic, self._facts_as_of)
        self._positions, self._facts_as_of = delta.nights, delta.time
        last = 0
        while hotels := await search.hotels_after(connection, last, _FACTS_AT_ONCE):
            self._tables.update_hotels(hotels)
            last = hotels[-1].id
        rooms: list[RoomTypeFacts] = []
        while more := await search.rooms_after(connection, rooms[-1].id if rooms else 0, _FACTS_AT_ONCE):
            rooms += more
        self._nights.add(self._tables.in_neighbourhood(rooms))
        self._tables.update_rooms(rooms)
        last = 0
        while terms := await search.terms_after(connection, last, _FACTS_AT_ONCE):
            self._tables.update_terms(terms)
            last = max(terms)
        for page in range(0, await search.pages_of_nights(connection), _PAGES_AT_ONCE):
            self._nights.update(await search.nights_of_pages(connection, page, page + _PAGES_AT_ONCE, *self._window))

    async def refresh(self, connection: AsyncConnection) -> None:
        """Apply everything that was committed before this call.

        Raises:
            IndexOutdated: it is no continuation of what the index has.
        """
        since = self._facts_as_of - _OVERLAP
        delta = await search.delta(connection, self._topic, since)
        await self._refresh_nights(connection, delta.nights)
        if delta.of_hotels:
            self._tables.update_hotels(await search.hotels_changed_since(connection, since))
        if delta.of_rooms:
            await self._update_rooms(connection, await search.rooms_changed_since(connection, since))
        if delta.of_terms:
            self._tables.update_terms(await search.terms_changed_since(connection, since))
        self._facts_as_of = delta.time

    async def _refresh_nights(self, connection: AsyncConnection, now: Mapping[int, IndexPosition]) -> None:
        if not _continues(self._positions, now):
            raise IndexOutdated
        # The changes of a partition are committed in the order of their positions: none before these is missing.
        for positions in _steps(self._positions, now):
            self._nights.update(await search.nights_changed(connection, positions, *self._window))
        self._positions = now

    async def _update_rooms(self, connection: AsyncConnection, rooms: Sequence[RoomTypeFacts]) -> None:
        """Update rooms; load the nights of those that are new."""
        new = [room for room in rooms if room.id not in self._nights]
        for part in _parts(new, _ROOMS_AT_ONCE):
            packed = await search.nights_of_rooms(connection, [room.id for room in part], *self._window)
            self._nights.add(self._tables.in_neighbourhood(part))
            self._nights.update(packed)
        self._tables.update_rooms(rooms)


def _continues(before: Mapping[int, IndexPosition], now: Mapping[int, IndexPosition]) -> bool:
    """Whether every partition is where it was or further on, in the same table and generation of its topic.

    A rebuild of the nights replaces the table, or removes the cursors with the rows; a topic that is made anew begins
    another generation. Of a partition that is very much further on, the changes between are deleted.
    """
    is_further = all(
        partition in now
        and now[partition]._replace(sequence=seen.sequence) == seen
        and now[partition].sequence >= seen.sequence
        for partition, seen in before.items()
    )
    return is_further and all(begin + KEPT_POSITIONS >= end for begin, end in _between(before, now).values())


def _steps(
    before: Mapping[int, IndexPosition], now: Mapping[int, IndexPosition]
) -> Iterator[dict[int, tuple[int, int]]]:
    """Yield the steps from one position to the other: by partition, after which sequence and up to which."""
    remaining = _between(before, now)
    while remaining := {partition: (begin, end) for partition, (begin, end) in remaining.items() if begin < end}:
        yield {partition: (begin, min(begin + _EVENTS_AT_ONCE, end)) for partition, (begin, end) in remaining.items()}
        remaining = {partition: (begin + _EVENTS_AT_ONCE, end) for partition, (begin, end) in remaining.items()}


def _between(before: Mapping[int, IndexPosition], now: Mapping[int, IndexPosition]) -> dict[int, tuple[int, int]]:
    """Return both sequences by partition."""
    return {
        partition: (before[partition].sequence if partition in before else 0, seen.sequence)
        for partition, seen in now.items()
    }


def _parts(rooms: Sequence[RoomTypeFacts], size: int) -> Iterable[Sequence[RoomTypeFacts]]:
    return (rooms[begin : begin + size] for begin in range(0, len(rooms), size))
