"""The copy that searches are answered from: loaded whole, then told what is new. Imported only where it is loaded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.hotels.search.finding import find
from ingress.hotels.search.nights import Nights
from ingress.hotels.search.places import Places
from ingress.hotels.search.words import Found, HotelSearch, InOrder, StartedAnew, earliest_today, latest_today
from ingress.stays import HORIZON, MAX_STAY_NIGHTS
from storage.reads import search
from storage.reads.search import RoomTypeFacts, Seen

#: A change bears the time when its transaction began, and is seen when that ends: at most so much later, for a
#: transaction that stands still has lost its connection long before.
_OVERLAP: Final = timedelta(seconds=60)
_FACTS_AT_ONCE: Final = 1000
#: The nights of so many rooms, or in so many pages, or of so many events of each partition: a megabyte or so, which
#: keeps the event loop busy for some milliseconds.
_ROOMS_AT_ONCE: Final = 100
_PAGES_AT_ONCE: Final = 512
_EVENTS_AT_ONCE: Final = 5000
#: With less than this left the copy should be made anew, which takes seconds.
_ENOUGH_DAYS: Final = 7


class Copy:
    """What searches need of hotels, rooms and nights, as it was at some moment not long ago."""

    def __init__(self, topic: str) -> None:
        """Make an empty copy; `topic` is the name of the events on the broker."""
        self._topic = topic
        self._nights = Nights(earliest_today())
        self._places = Places(self._nights)
        self._seen: Mapping[int, Seen] = {}
        self._facts_as_of = datetime(1970, 1, 1, tzinfo=UTC)

    def find(self, wanted: HotelSearch, after: InOrder | None) -> Found:
        """Return a page of hits; `after` is the last hit of the page before, if one is given."""
        return find(self._places.of(wanted.city), self._nights, wanted, after)

    @property
    def covers_today(self) -> bool:
        """Whether every stay that can be asked for today lies within the nights that are kept."""
        return self._days_left() >= 0

    @property
    def nearly_over(self) -> bool:
        """Whether it is time to make a new copy."""
        return self._days_left() < _ENOUGH_DAYS

    def _days_left(self) -> int:
        # The last stay begins the day before the horizon, and its last night ends on the day after.
        return (self._nights.end - latest_today() - HORIZON).days - MAX_STAY_NIGHTS

    @property
    def _window(self) -> tuple[date, date]:
        return self._nights.first, self._nights.end

    async def load(self, connection: AsyncConnection) -> None:
        """Copy everything as it is at one moment, in a transaction of its own."""
        await search.begin_whole(connection)
        news = await search.news(connection, self._topic, self._facts_as_of)
        self._seen, self._facts_as_of = news.nights, news.time
        last = 0
        while hotels := await search.hotels_after(connection, last, _FACTS_AT_ONCE):
            self._places.tell_hotels(hotels)
            last = hotels[-1].id
        rooms: list[RoomTypeFacts] = []
        while more := await search.rooms_after(connection, rooms[-1].id if rooms else 0, _FACTS_AT_ONCE):
            rooms += more
        self._nights.add(self._places.in_neighbourhood(rooms))
        self._places.tell_rooms(rooms)
        for page in range(0, await search.pages_of_nights(connection), _PAGES_AT_ONCE):
            self._nights.tell(await search.nights_of_pages(connection, page, page + _PAGES_AT_ONCE, *self._window))

    async def refresh(self, connection: AsyncConnection) -> None:
        """Take over all that was committed before this call.

        Raises:
            StartedAnew: it is no continuation of what was copied.
        """
        since = self._facts_as_of - _OVERLAP
        news = await search.news(connection, self._topic, since)
        await self._refresh_nights(connection, news.nights)
        if news.of_hotels:
            self._places.tell_hotels(await search.hotels_changed_since(connection, since))
        if news.of_rooms:
            await self._tell_rooms(connection, await search.rooms_changed_since(connection, since))
        self._facts_as_of = news.time

    async def _refresh_nights(self, connection: AsyncConnection, now: Mapping[int, Seen]) -> None:
        if not _continues(self._seen, now):
            raise StartedAnew
        # In a partition changes are committed in the order of their positions: nothing before is missing.
        for positions in _steps(self._seen, now):
            self._nights.tell(await search.nights_changed(connection, positions, *self._window))
        self._seen = now

    async def _tell_rooms(self, connection: AsyncConnection, rooms: Sequence[RoomTypeFacts]) -> None:
        """Take rooms over, those that are new with their nights."""
        new = [room.id for room in rooms if room.id not in self._nights]
        for ids in _parts(new, _ROOMS_AT_ONCE):
            packed = await search.nights_of_rooms(connection, ids, *self._window)
            self._nights.add(ids)
            self._nights.tell(packed)
        self._places.tell_rooms(rooms)


def _continues(before: Mapping[int, Seen], now: Mapping[int, Seen]) -> bool:
    """Tell whether every partition stands where it stood or further on, in the same table and life of its topic.

    Who rebuilds the nights puts another table in the place of the one that we know, or removes the cursors with the
    rows; and a topic that is made anew begins another life.
    """
    return all(
        partition in now
        and now[partition]._replace(sequence=seen.sequence) == seen
        and now[partition].sequence >= seen.sequence
        for partition, seen in before.items()
    )


def _steps(before: Mapping[int, Seen], now: Mapping[int, Seen]) -> Iterator[dict[int, tuple[int, int]]]:
    """Yield the way from one place to the other, in steps: by partition, beyond which sequence and up to which."""
    moved = {
        partition: (before[partition].sequence if partition in before else 0, seen.sequence)
        for partition, seen in now.items()
    }
    while moved := {partition: (begin, end) for partition, (begin, end) in moved.items() if begin < end}:
        yield {partition: (begin, min(begin + _EVENTS_AT_ONCE, end)) for partition, (begin, end) in moved.items()}
        moved = {partition: (begin + _EVENTS_AT_ONCE, end) for partition, (begin, end) in moved.items()}


def _parts(ids: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (ids[begin : begin + size] for begin in range(0, len(ids), size))
