"""What the ingress remembers of rooms, while many guests ask for many of them at once."""

import asyncio
from collections.abc import Generator

from ingress.bookings.rooms import Rooms
from ingress.database import Database
from storage.settings import DatabaseSettings


class OneTurn:
    """Awaited, it lets everybody else of the loop run once."""

    def __await__(self) -> Generator[None, None, None]:
        """Give way."""
        yield


async def test_guests_who_ask_while_rooms_are_being_read_are_all_answered(database: DatabaseSettings) -> None:
    ledger = Database(database, pool_size=2)
    rooms = Rooms(ledger, seconds=0.05)

    async def ask(number: int) -> object:
        # Each guest comes a few turns of the loop after the one before, so that some meet a reading that just ended.
        for _ in range(number):
            await OneTurn()
        return await rooms.facts(number)

    answers = await asyncio.gather(*(ask(number) for number in range(400)))

    assert answers == [None] * 400
    await ledger.close()
