"""Commands about bookings that the ledger has: sent once for each request, and answered with what they led to."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.models import BookingState
from ingress.bookings.quick_models import QuickPendingStay
from ingress.bookings.representation import raise_if_refused, state_of
from ingress.database import Database
from ingress.http.deadlines import otherwise
from ingress.http.models import NoBody
from ingress.http.preferences import PREFER
from ingress.http.responses import Response
from ingress.http.waiting import accepted
from ingress.log.commands import Commands, new_command_id
from ingress.log.idempotency import IDEMPOTENCY_KEY, IdempotencyKeys, Ids
from ingress.operations import RequestContext
from storage.reads.bookings import BookingFacts
from topics.envelope import format_id
from topics.messages.commands import BookingCommand
from topics.messages.message import Message

Context: TypeAlias = RequestContext[Any, Any]
FindBooking: TypeAlias = Callable[[AsyncConnection], Awaitable[BookingFacts | None]]

#: The request headers by which a client waits for a decision and repeats a request safely.
STEERING: Final = (PREFER, IDEMPOTENCY_KEY)


class BookingCommands:
    """Sends commands about bookings that the ledger has."""

    def __init__(
        self, database: Database, keys: IdempotencyKeys, commands: Commands, *, for_hotel: bool = False
    ) -> None:
        """Make it; `for_hotel`: managers send the commands."""
        self._for_hotel = for_hotel
        self._database = database
        self._keys = keys
        self._commands = commands

    async def send(
        self,
        context: Context,
        booking: BookingFacts,
        command: Callable[[str], Awaitable[BookingCommand]],
        accept: Callable[[], Awaitable[None]] | None = None,
    ) -> Message | None:
        """Send a command about a booking; return the event that answers it if the request waited for it.

        Args:
            context: the request.
            booking: the booking, which the caller may change.
            command: makes the command of this id.
            accept: raises a problem for a new request that makes no sense.

        Raises:
            Problem: 409 for a refused command; as `IdempotencyKeys.ids`, `command` and `Commands.send_command`.
        """
        ids = await self._keys.ids(
            context.request,
            context.caller.user_id,
            None if isinstance(context.body, NoBody) else context.body,
            lambda seed: Ids(new_command_id() if seed is None else seed.hex(), booking.id),
            accept,
        )
        message = await command(ids.command_id)
        event = await self._commands.send_command(message, context.wait_seconds, command_id=ids.command_id)
        otherwise(lambda: accepted_response(context, BookingState(**state_of(booking))))
        raise_if_refused(event, booking.status, for_hotel=self._for_hotel)
        return event

    async def state_after_wait(self, context: Context, booking: BookingFacts, find: FindBooking) -> BookingState:
        """Return the booking's state after a request that was not answered in time.

        The command may be decided by then, although no event that answers it was seen: its state is read again.
        """
        if not context.wait_seconds:
            return BookingState(**state_of(booking))
        async with self._database.reading() as connection:
            return BookingState(**state_of(await find(connection) or booking))


def accepted_response(
    context: Context, body: BookingState | QuickPendingStay, status_path: str | None = None
) -> Response:
    """Return 202; `status_path` is where the decision can be read, if not at the booking's status."""
    return accepted(context, body, status_path or f"/bookings/{format_id(body.id)}/status")
