"""The cache of rooms' facts, while many requests need many rooms at once."""

import asyncio
from collections.abc import Generator, Mapping

from ingress.bookings.rooms import Rooms
from ingress.database import Database
from storage.reads.bookings import RoomFacts
from storage.settings import DatabaseSettings


class OneTurn:
    """Awaited, it lets everybody else of the loop run once."""

    def __await__(self) -> Generator[None, None, None]:
        """Give way."""
        yield


async def test_guests_who_ask_while_rooms_are_being_read_are_all_answered(database: DatabaseSettings) -> None:
    pool = Database(database, pool_size=2)
    rooms = Rooms(pool, seconds=0.05)

    async def ask(number: int) -> object:
        # Each guest comes a few turns of the loop after the one before, so that some meet a reading that just ended.
        for _ in range(number):
            await OneTurn()
        return await rooms.facts(number)

    answers = await asyncio.gather(*(ask(number) for number in range(400)))

    assert answers == [None] * 400
    await pool.close()


class Slow(Rooms):
    """Rooms of a machine that looks away for too long, once, when it has just read."""

    looks_away = True

    def _remember(self, read: Mapping[int, RoomFacts | None], *, fresh: bool) -> None:
        super()._remember(read, fresh=fresh)
        if self.looks_away:
            self.looks_away = False
            self._good_until = 0.0


async def test_a_guest_is_answered_although_what_was_read_was_too_old_when_the_machine_came_back(
    database: DatabaseSettings,
) -> None:
    pool = Database(database, pool_size=2)
    rooms = Slow(pool, seconds=600)

    async with asyncio.timeout(60):
        assert await rooms.facts(1) is None

    await pool.close()
