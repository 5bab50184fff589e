"""Commands of a hotel's managers about its bookings: the booking is found, and the command has the hotel's times."""

from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.models import BookingState
from ingress.bookings.representation import state_of
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import BookingCommands, Context, accepted_response
from ingress.database import Database
from ingress.http.deadlines import otherwise
from ingress.http.problems import existing
from ingress.http.responses import Response
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys
from storage.reads import bookings
from storage.reads.bookings import AgreedBooking
from topics.messages.commands import BookingCommand
from topics.messages.events import TripCancelRequested
from topics.messages.message import Message


class HotelCommands:
    """Sends commands about the booking and the hotel that a request's path names."""

    def __init__(self, database: Database, *, rooms: Rooms, keys: IdempotencyKeys, commands: Commands) -> None:
        self._database = database
        self._rooms = rooms
        self._sending = BookingCommands(database, keys, commands, for_hotel=True)

    async def find(self, connection: AsyncConnection, context: Context) -> AgreedBooking:
        """Return the booking. Raises `Problem` 404 if the caller's hotel has no such one."""
        return existing(await self._found(connection, context), "booking")

    async def send(self, context: Context, make: Callable[..., BookingCommand], **fields: object) -> Response | None:
        """Send a command about the booking; return 202 if it was not answered in time, None if it was.

        The end of a paid trip, whose legs are cancelled one by one, is 202 too.

        Args:
            context: the request.
            make: the command's type, which has `stay_times` for a booking from before it kept its own.
            fields: the command's other fields.

        Raises:
            Problem: as `find` and `BookingCommands.send`.
        """

        async def command(booking: AgreedBooking, _: str) -> BookingCommand:
            facts = await self._rooms.facts(booking.room_id)
            stay_times = None if facts is None else facts.stay_times
            return make(room_id=booking.room_id, booking_id=booking.id, stay_times=stay_times, **fields)

        booking, event = await self.send_made(context, command)
        if event is not None and not isinstance(event, TripCancelRequested):
            return None
        state = await self.state_after_wait(context, booking)
        return accepted_response(context, state, bookings_path(context))

    async def send_made(
        self,
        context: Context,
        command: Callable[[AgreedBooking, str], Awaitable[BookingCommand]],
        accept: Callable[[AgreedBooking], Awaitable[None]] | None = None,
    ) -> tuple[AgreedBooking, Message | None]:
        """Send a command about the booking; return the booking and, if the request waited for it, the event.

        Args:
            context: the request.
            command: makes the command of this id.
            accept: raises a problem for a new request that makes no sense.

        Raises:
            Problem: as `find` and `BookingCommands.send`.
        """
        async with self._database.reading() as connection:
            booking = await self.find(connection, context)
        event = await self._sending.send(
            context, booking, partial(command, booking), None if accept is None else partial(accept, booking)
        )
        otherwise(lambda: accepted_response(context, BookingState(**state_of(booking)), bookings_path(context)))
        return booking, event

    async def state_after_wait(self, context: Context, booking: AgreedBooking) -> BookingState:
        """Return the booking's state after a command that was not answered in time."""
        return await self._sending.state_after_wait(
            context, booking, lambda connection: self._found(connection, context)
        )

    async def _found(self, connection: AsyncConnection, context: Context) -> AgreedBooking | None:
        path = context.path
        return await bookings.booking_of_hotel(connection, path["booking_id"], path["hotel_id"], context.caller.user_id)


def bookings_path(context: Context) -> str:
    """Return the path of the bookings of the hotel that a request's path names."""
    return f"/admin/hotels/{context.path['hotel_id']}/bookings"
