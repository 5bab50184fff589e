"""A stay as its hotel records it: guests arrive, leave (on their day or before it), or do not arrive."""

from collections.abc import Callable
from typing import Final, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.hotel_commands import HotelCommands
from ingress.bookings.models import BookingState, StayAtHotel
from ingress.bookings.representation import refunds_out, state_of
from ingress.bookings.rooms import Rooms
from ingress.database import Database, snapshot
from ingress.http.models import NoBody, NoQuery, RefusedBooking
from ingress.http.preferences import PREFER
from ingress.http.responses import Response, json_response
from ingress.http.waiting import ACCEPTED, ACCEPTED_HEADERS, WAITED_HEADERS, waited_headers
from ingress.log.commands import Commands
from ingress.log.idempotency import IDEMPOTENCY_KEY, IdempotencyKeys
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from pricing.currencies import decimal
from storage.reads import payments, stay_ends
from storage.reads.bookings import BookingFacts
from topics.messages.commands import BookingCommand, CheckIn, CheckOut, MarkNoShow

_PATH: Final = {"hotel_id": 1, "booking_id": "01980000-0000-8000-8000-000000000000"}
_STEERING: Final = (PREFER, IDEMPOTENCY_KEY)
_RESPONSES: Final = {
    200: ResponseSpec(StayAtHotel, "Recorded: the request waited for it.", WAITED_HEADERS),
    202: ResponseSpec(BookingState, ACCEPTED, {**ACCEPTED_HEADERS, "Location": "The address of the hotel's bookings."}),
    409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
}
_EXAMPLE: Final = Example(path=_PATH, headers={"Prefer": "wait=5"})

Context: TypeAlias = RequestContext[NoBody, NoQuery]


class StaysAtHotel:
    """The operations of managers on the days of a stay."""

    def __init__(self, database: Database, *, rooms: Rooms, keys: IdempotencyKeys, commands: Commands) -> None:
        self._database = database
        self._commands = HotelCommands(database, rooms=rooms, keys=keys, commands=commands)

    @operation(
        "POST /admin/hotels/{hotel_id}/bookings/{booking_id}/check-in",
        access=Access.MANAGER,
        summary="Record that the guests have arrived",
        responses=_RESPONSES,
        example=_EXAMPLE,
        headers=_STEERING,
    )
    async def check_in(self, context: Context) -> Response:
        """Check the guests of a confirmed booking in, from their day of arrival until check-out."""
        return await self._record(context, CheckIn)

    @operation(
        "POST /admin/hotels/{hotel_id}/bookings/{booking_id}/check-out",
        access=Access.MANAGER,
        summary="Record that the guests have left",
        responses=_RESPONSES,
        example=_EXAMPLE,
        headers=_STEERING,
    )
    async def check_out(self, context: Context) -> Response:
        """Check the guests out; before their last day the nights to come are on sale again, and the policy counts."""
        return await self._record(context, CheckOut)

    @operation(
        "POST /admin/hotels/{hotel_id}/bookings/{booking_id}/no-show",
        access=Access.MANAGER,
        summary="Record that nobody arrived",
        responses=_RESPONSES,
        example=_EXAMPLE,
        headers=_STEERING,
    )
    async def no_show(self, context: Context) -> Response:
        """Record that nobody arrived: the nights to come are on sale again, and the policy counts.

        A hotel records it from its check-in time until 30 days after check-out.
        """
        return await self._record(context, MarkNoShow)

    async def _record(self, context: Context, make: Callable[..., BookingCommand]) -> Response:
        accepted = await self._commands.send(context, make)
        if accepted is not None:
            return accepted
        async with self._database.reading() as connection, snapshot(connection):
            shown = await _shown(connection, await self._commands.find(connection, context))
        return json_response(200, shown, waited_headers(context))


async def _shown(connection: AsyncConnection, booking: BookingFacts) -> StayAtHotel:
    """Return the booking with what the hotel keeps of its price and what goes back."""
    end = await stay_ends.stay_end(connection, booking.id)
    returned = await payments.returned_payments(connection, booking.id, booking.payments or (), booking.currency)
    back_minor = sum(
        payment.refunded_minor + payment.due_minor for payment in returned if payment.currency == booking.currency
    )
    if booking.trip_id is not None and end.kept_minor is not None:
        # The trip has the payment.
        back_minor = max(0, booking.amount_minor - end.kept_minor)
    fields = state_of(booking) | {"goes_back": decimal(back_minor, booking.currency), "currency": booking.currency}
    if end.freed_from is not None:
        fields["freed_from"] = end.freed_from
    if end.kept_minor is not None:
        fields["kept"] = decimal(end.kept_minor, booking.currency)
    return StayAtHotel(**fields, refunds=refunds_out(returned))
