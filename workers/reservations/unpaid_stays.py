"""The rooms that accounts hold without having paid, which the share of an account is compared with."""

from collections.abc import Iterable
from datetime import date
from typing import TypeAlias
from uuid import UUID

from psycopg import AsyncConnection

from storage.bookings import UnpaidSearch, load_unpaid
from topics.messages.commands import Command, ReserveStay
from topics.messages.values import nights_of
from workers.decisions import Booking, unpaid

AccountRoom: TypeAlias = tuple[int | None, int]
"""The ids of an account's user and of a room."""
Stay: TypeAlias = tuple[date, date, int]
"""Check-in, check-out and the number of rooms."""


class UnpaidStays:
    """The unpaid stays of those accounts and rooms for which a batch of commands names a share.

    They are read once and then follow the events of the batch: a stay that was reserved earlier in it counts, and one
    that ended earlier in it does not.
    """

    def __init__(self) -> None:
        self._stays: dict[AccountRoom, dict[UUID, Stay]] = {}

    async def load(self, connection: AsyncConnection, commands: Iterable[Command]) -> None:
        """Read the stays in one query; without a command that names a share, nothing is read."""
        searches: dict[AccountRoom, UnpaidSearch] = {}
        for command in commands:
            if not isinstance(command, ReserveStay) or command.account_share_percent is None:
                continue
            if command.user_id is None:
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
        for user_id, room_id, id, *stay in await load_unpaid(connection, searches.values()):
            check_in, check_out, rooms_count = stay
            self._stays[user_id, room_id][id] = check_in, check_out, rooms_count

    def apply(self, booking: Booking | None) -> None:
        """Take a booking's present state."""
        if booking is None or not self._stays:
            return
        stays = self._stays.get((booking.user_id, booking.room_id))
        if stays is None:
            return
        if unpaid(booking):
            stays[booking.id] = booking.check_in, booking.check_out, booking.rooms_count
        else:
            stays.pop(booking.id, None)

    def rooms(self, command: Command) -> dict[date, int]:
        """Return how many rooms the account holds already, for nights of the stay that a command asks for."""
        if not self._stays or not isinstance(command, ReserveStay) or command.account_share_percent is None:
            return {}
        rooms: dict[date, int] = {}
        for check_in, check_out, rooms_count in self._stays.get((command.user_id, command.room_id), {}).values():
            first, end = max(check_in, command.check_in), min(check_out, command.check_out)
            if first < end:
                for day in nights_of(first, end):
                    rooms[day] = rooms.get(day, 0) + rooms_count
        return rooms
