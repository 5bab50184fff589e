"""Responses of requests that waited for the decision about a booking."""

from uuid import UUID

from ingress.bookings.models import BookingOut
from ingress.bookings.rejections import Rejections
from ingress.bookings.representation import booking_fields
from ingress.bookings.sending import Context
from ingress.database import Database, snapshot
from ingress.http.responses import Response, json_response
from ingress.http.waiting import waited_headers
from storage.reads import bookings
from topics.messages.values import BookingStatus


class BookingResponses:
    """Makes responses from the ledger."""

    def __init__(self, database: Database, rejections: Rejections, merchant_name: str) -> None:
        self._database = database
        self._rejections = rejections
        self._merchant_name = merchant_name

    async def booking(self, booking_id: UUID, status: int, context: Context) -> Response:
        """Return a response with the caller's booking as it is in the ledger, which has it.

        Raises:
            Problem: 409 with the reason if the booking was rejected.
        """
        async with self._database.reading() as connection, snapshot(connection):
            booking = await bookings.own_booking(connection, booking_id, context.caller.user_id)
            if booking is None:
                # Events are published after the transaction that wrote the booking.
                raise LookupError(f"booking {booking_id} was decided and is not in the ledger")
            if booking.status != BookingStatus.REJECTED:
                shown = BookingOut(**await booking_fields(connection, booking, self._merchant_name))
                return json_response(status, shown, waited_headers(context))
        # A second connection is taken after the first was given back, lest requests wait for each other's.
        raise await self._rejections.problem(booking.rejection or "", booking_id, booking.user_id, booking)
