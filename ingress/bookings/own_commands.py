"""Commands of guests about their own bookings: the booking is found, or its id is known as one that waits."""

from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.ids import BookingIds
from ingress.bookings.models import BookingState
from ingress.bookings.sending import BookingCommands, Context, accepted_response
from ingress.bookings.undecided import UndecidedBookings
from ingress.database import Database
from ingress.http.responses import Response
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys
from storage.reads import bookings
from storage.reads.bookings import BookingRow
from topics.messages.commands import BookingCommand
from topics.messages.message import Message


class OwnCommands:
    """Sends commands about the caller's booking that a request's path names."""

    def __init__(
        self, database: Database, *, booking_ids: BookingIds, keys: IdempotencyKeys, commands: Commands
    ) -> None:
        self._database = database
        self.undecided = UndecidedBookings(database, booking_ids)
        self._sending = BookingCommands(database, keys, commands)

    async def booking(self, context: Context) -> BookingRow:
        """Return the booking. Raises `Problem`: 404 for none of the caller's, 409 for one that is not decided yet."""
        async with self._database.reading() as connection:
            booking = await self.find(context, connection)
        if booking is None:
            await self.undecided.refuse(context.caller.user_id, context.path["booking_id"])
        return booking

    async def send(
        self,
        context: Context,
        command: Callable[[BookingRow, str], Awaitable[BookingCommand]],
        accept: Callable[[BookingRow], Awaitable[None]] | None = None,
    ) -> tuple[BookingRow, Message | None]:
        """Send a command about the caller's booking; return the booking and, if the request waited for it, the event.

        Args:
            context: the request.
            command: makes the command of this id.
            accept: raises a problem for a new request that makes no sense.

        Raises:
            Problem: as `booking` and `BookingCommands.send`.
        """
        booking = await self.booking(context)
        event = await self._sending.send(
            context, booking, partial(command, booking), None if accept is None else partial(accept, booking)
        )
        return booking, event

    async def find(self, context: Context, connection: AsyncConnection) -> BookingRow | None:
        """Return the booking; None: the ledger has none of the caller's by that id."""
        return await bookings.own_booking(connection, context.path["booking_id"], context.caller.user_id)

    async def accepted(self, context: Context, booking: BookingRow) -> Response:
        """Return 202 with the booking's state, after a command that was not answered in time."""
        return accepted_response(context, await self.state_after_wait(context, booking))

    async def state_after_wait(self, context: Context, booking: BookingRow) -> BookingState:
        """Return the booking's state after a command that was not answered in time."""
        return await self._sending.state_after_wait(context, booking, partial(self.find, context))
