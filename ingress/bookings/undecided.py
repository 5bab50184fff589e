"""The state of a booking that the ledger does not have: it waits for its decision, or its request was lost.

A request that was on a log which was lost is never decided (`storage.lost_log`). Its booking's id has the time at
which it was issued; the id that an Idempotency-Key makes has none, and counts from when its key was first sent. A
request whose promo code was claimed, and a leg of a trip that the ledger has, are decided all the same.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.ids import BookingIds, issued_at
from ingress.bookings.models import BookingState
from ingress.bookings.reasons import LOST
from ingress.bookings.representation import lost_state, pending_state, refusal
from ingress.database import Database
from ingress.http.problems import Problem, no_such
from storage import lost_log

#: The ingress' clock, whose time an id has, is at most so far behind the database's, whose time the mark has. A request
#: of so long before the mark would wait for ever, but the ingress is stopped before a restore begins.
MAX_CLOCK_SKEW: Final = timedelta(seconds=5)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class UndecidedBookings:
    """Finds out whether a booking waits for its decision, or its request was lost."""

    def __init__(self, database: Database, booking_ids: BookingIds) -> None:
        self._database = database
        self._booking_ids = booking_ids
        self._lost_at: datetime | None = None

    async def state(self, user_id: int, booking_id: UUID, what: str = "booking") -> BookingState:
        """Return the state. Raises `Problem` 404: the id was not issued to the caller."""
        if not self._booking_ids.was_issued_to(user_id, booking_id):
            raise no_such(what)
        async with self._database.reading() as connection:
            since = await self._since(connection)
            is_lost = since > _NEVER and await self._is_lost(connection, user_id, booking_id, since)
        return lost_state(booking_id) if is_lost else pending_state(booking_id)

    async def refuse(self, user_id: int, booking_id: UUID) -> NoReturn:
        """Raise the `Problem` of a command about it: 404, or 409 because it is not decided yet or was lost."""
        state = await self.state(user_id, booking_id)
        raise refusal(LOST, id=booking_id) if state.reason == LOST else not_decided()

    async def desk_state(self, connection: AsyncConnection, booking_id: UUID) -> BookingState:
        """Return the state of a booking that was made at the desk."""
        since = await self._since(connection)
        is_lost = since > _NEVER and await self._is_lost_at_desk(connection, booking_id, since)
        return lost_state(booking_id) if is_lost else pending_state(booking_id)

    async def _is_lost(self, connection: AsyncConnection, user_id: int, booking_id: UUID, since: datetime) -> bool:
        issued = issued_at(booking_id)
        if issued is None:
            is_from_before = not await lost_log.was_sent_since(connection, user_id, booking_id, since)
        else:
            is_from_before = issued < since - MAX_CLOCK_SKEW
        return is_from_before and not await lost_log.will_be_decided(connection, user_id, booking_id)

    async def _is_lost_at_desk(self, connection: AsyncConnection, booking_id: UUID, since: datetime) -> bool:
        is_from_before = await lost_log.is_desk_booking_from_before(connection, booking_id, since)
        return is_from_before and not await lost_log.will_be_decided(connection, None, booking_id)

    async def _since(self, connection: AsyncConnection) -> datetime:
        """Return when a log was last lost. It is read once: a restore requires that no ingress runs."""
        if self._lost_at is None:
            self._lost_at = await lost_log.lost_at(connection) or _NEVER
        return self._lost_at


def not_decided() -> Problem:
    """Return the problem of a command about a booking that is not decided yet."""
    return Problem(409, "not decided yet, retry", headers={"Retry-After": "1"}, more={"reason": "pending"})
