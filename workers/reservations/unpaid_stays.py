"""The rooms that accounts hold without having paid, which the share of an account is compared with."""

from collections.abc import Iterable
from datetime import date
from typing import TypeAlias
from uuid import UUID

from psycopg import AsyncConnection

from storage.bookings import UnpaidSearch
from storage.ledger import LEDGER, LedgerStatements
from topics.messages.commands import ChangeStay, ReserveStay
from topics.messages.events import RoomsHeld
from topics.messages.values import nights_of
from workers.decisions import Booking, unpaid_rooms

AccountRoom: TypeAlias = tuple[int | None, int]
"""The ids of an account's user and of a room."""


class UnpaidStays:
    """The unpaid rooms of those accounts and rooms for which a batch of commands names a share.

    They are read once and then follow the events of the batch: a stay that was reserved earlier in it counts, and one
    that ended earlier in it does not. The rooms that a change holds until it is paid count like those of a stay.
    """

    def __init__(self, ledger: LedgerStatements = LEDGER) -> None:
        self._ledger = ledger
        self._stays: dict[AccountRoom, dict[UUID, tuple[RoomsHeld, ...]]] = {}

    async def load(self, connection: AsyncConnection, commands: Iterable[ReserveStay | ChangeStay]) -> None:
        """Read the stays in one query; without a command that names a share, nothing is read."""
        searches: dict[AccountRoom, UnpaidSearch] = {}
        for command in commands:
            if command.account_share_percent is None or command.user_id is None:
                continue
            key = command.user_id, command.room_id
            known = searches.get(key)
            first, end = command.check_in, command.check_out
            if known is not None:
                first, end = min(first, known.first), max(end, known.end)
            searches[key] = UnpaidSearch(*key, first, end)
        if not searches:
            return
        self._stays = {key: {} for key in searches}
        for user_id, room_id, id, first_night, end_night, rooms_count in await self._ledger.load_unpaid(
            connection, searches.values()
        ):
            rooms = RoomsHeld(first_night=first_night, end_night=end_night, rooms_count=rooms_count)
            stays = self._stays[user_id, room_id]
            stays[id] = (*stays.get(id, ()), rooms)

    def apply(self, booking: Booking | None) -> None:
        """Take a booking's present state."""
        if booking is None or not self._stays:
            return
        stays = self._stays.get((booking.user_id, booking.room_id))
        if stays is None:
            return
        rooms = unpaid_rooms(booking)
        if rooms:
            stays[booking.id] = rooms
        else:
            stays.pop(booking.id, None)

    def rooms(self, command: ReserveStay | ChangeStay) -> dict[date, int]:
        """Return how many rooms the account holds already, for nights of the stay that a command asks for.

        Without a share of the account in the command nothing depends on them, and there are none.
        """
        if not self._stays or command.account_share_percent is None or command.user_id is None:
            return {}
        rooms: dict[date, int] = {}
        for held in self._stays.get((command.user_id, command.room_id), {}).values():
            for each in held:
                first, end = max(each.first_night, command.check_in), min(each.end_night, command.check_out)
                if first < end:
                    for day in nights_of(first, end):
                        rooms[day] = rooms.get(day, 0) + each.rooms_count
        return rooms
