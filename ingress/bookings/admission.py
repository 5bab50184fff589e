"""Requests for stays and trips: each gets its ids, counts as an unpaid booking of its account, and is sent once."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from ingress.bookings.ids import BookingIds
from ingress.bookings.unpaid import UnpaidCap
from ingress.http.deadlines import otherwise
from ingress.http.problems import NothingDone, Problem
from ingress.http.responses import Response
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys, Ids
from ingress.operations import RequestContext
from topics.envelope import format_id
from topics.messages.commands import Command
from topics.messages.events import CodeUnchanged
from topics.messages.message import Message


class Admission:
    """Admits requests for stays and trips."""

    def __init__(
        self, *, booking_ids: BookingIds, keys: IdempotencyKeys, commands: Commands, unpaid: UnpaidCap
    ) -> None:
        self._booking_ids = booking_ids
        self._keys = keys
        self._commands = commands
        self._unpaid = unpaid

    async def ids(self, context: RequestContext[Any, Any], accept: Callable[[], Awaitable[None]]) -> Ids:
        """Return the ids of a request, which counts as an unpaid booking of its account if it is a new one.

        Args:
            context: the request.
            accept: raises a problem for a new request that makes no sense.

        Raises:
            Problem: as `IdempotencyKeys.ids` and `accept`; 429 at the account's cap.
        """
        user_id = context.caller.user_id
        request_id, admitted = UUID(int=0), False

        def new_ids(seed: bytes | None) -> Ids:
            nonlocal request_id
            if seed is None:
                booking_id = request_id = self._booking_ids.issue(user_id)
            else:
                # The booking counts apart from the requests for it, of which several may be accepted at the same time.
                booking_id, request_id = self._booking_ids.of_request(user_id, seed), UUID(bytes=seed)
            # One command alone reserves a booking, so the booking's id can be the command's too.
            return Ids(format_id(booking_id), booking_id)

        async def admit() -> None:
            nonlocal admitted
            await accept()
            await self._unpaid.admit(user_id, request_id)
            admitted = True

        ids = None
        try:
            ids = await self._keys.ids(context.request, user_id, context.body, new_ids, admit, makes_booking=True)
        finally:
            if admitted and ids is not None and not ids.is_repeated:
                self._unpaid.accepted(user_id, request_id, ids.booking_id)
            elif admitted:
                # The request is refused, or a repeated one, which was counted before.
                self._unpaid.withdraw(user_id, request_id)
        return ids

    async def send(
        self, context: RequestContext[Any, Any], command: Command, ids: Ids, accepted: Callable[[], Response]
    ) -> Message | None:
        """Send the command of a request; return the event that answers it if the request waited for it.

        A request whose command was not sent counts no more.

        Args:
            context: the request.
            command: its command.
            ids: its ids.
            accepted: makes the response for when the database does not answer any more.

        Raises:
            Problem: as `Commands.send_command` and `IdempotencyKeys.must_be_same`.
        """
        user_id = context.caller.user_id
        try:
            event = await self._commands.send_command(command, context.wait_seconds, command_id=ids.command_id)
        except NothingDone:
            self._unpaid.forget(user_id, ids.booking_id)
            raise
        except Problem:
            self._unpaid.unanswered(user_id, ids.booking_id)
            raise
        otherwise(accepted)
        if isinstance(event, CodeUnchanged):
            # The code knows the booking that uses it, and not the request that made it.
            await self._keys.must_be_same(ids)
        return event
