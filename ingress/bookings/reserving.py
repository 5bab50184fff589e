"""`POST /bookings/init`: a request for a stay becomes a command of the room, and the room's worker decides."""

from typing import Any, Final
from uuid import UUID

import msgspec

from ingress.bookings.acceptance import accept_offer, accept_party, accept_quote_time, accept_room, accept_terms
from ingress.bookings.admission import Admission
from ingress.bookings.models import BookingOut, InitBooking, PendingStay
from ingress.bookings.promo_codes import PromoCodes, accept_code, claiming
from ingress.bookings.quick_models import QuickInitBooking, QuickPendingStay
from ingress.bookings.rejections import Rejections
from ingress.bookings.representation import raise_if_refused, reserved_booking
from ingress.bookings.responses import BookingResponses
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import STEERING, accepted_response
from ingress.bookings.unpaid import TooManyUnpaid
from ingress.database import Database
from ingress.http.models import NoQuery, Problems, RefusedBooking
from ingress.http.old_statuses import shown_status
from ingress.http.responses import Response, json_response
from ingress.http.rollout import Rollout
from ingress.http.waiting import ACCEPTED, ACCEPTED_HEADERS, WAITED_HEADERS, waited_headers
from ingress.operations import Access, Example, RequestContext, ResponseSpec, Unversioned, operation
from ingress.stays import accept_stay, today_at
from ingress.tokens import QuoteTokens
from storage.reads import bookings
from storage.reads.bookings import RoomFacts
from topics.messages.commands import ReserveStay
from topics.messages.events import BookingRejected, BookingReserved, CodeUnchanged
from topics.messages.message import Message
from topics.messages.values import BookingStatus

_NEW_BOOKING: Final = {"booking_id": "$response.body#/id"}
_AFTER_INIT: Final = ("add_guests", "pay", "cancel", "status", "show")


class NewBookings:
    """The operation that asks for a stay."""

    def __init__(
        self,
        *,
        database: Database,
        rooms: Rooms,
        admission: Admission,
        rollout: Rollout,
        quote_tokens: QuoteTokens,
        rejections: Rejections,
        hold_seconds: int,
        account_share_percent: int | None,
        required_terms: str,
        merchant_name: str,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._admission = admission
        self._rollout = rollout
        self._quote_tokens = quote_tokens
        self._rejections = rejections
        self._hold_seconds = hold_seconds
        self._account_share_percent = account_share_percent
        self._required_terms = required_terms
        self._merchant_name = merchant_name
        self._codes = PromoCodes(database)
        self._responses = BookingResponses(database, rejections, merchant_name)

    @operation(
        "POST /bookings/init",
        access=Access.USER,
        quick=msgspec.json.Decoder(QuickInitBooking),
        summary="Ask for a stay",
        responses={
            201: ResponseSpec(BookingOut, "Reserved: the request waited for it.", WAITED_HEADERS),
            202: ResponseSpec(PendingStay, ACCEPTED, ACCEPTED_HEADERS),
            404: ResponseSpec(Problems, "The hotel has no such room."),
            403: ResponseSpec(Problems, "The quote was given to another account."),
            409: ResponseSpec(
                RefusedBooking,
                "Refused: `reason` is the reason. If the account itself holds rooms of these nights without paying, "
                "`unpaid_bookings` are its bookings: pay for them, cancel them, or let them end.",
            ),
            429: ResponseSpec(
                TooManyUnpaid,
                "Too many requests, or too many bookings of this account that are not paid: they are named.",
                {"Retry-After": "In how many seconds to try again."},
            ),
        },
        example=Example(
            status=202,
            body={
                "hotel_id": 1,
                "room_id": 1,
                "check_in_date": "2026-12-24",
                "check_out_date": "2026-12-27",
                "rooms_count": 1,
            },
        ),
        headers=STEERING,
        links=dict.fromkeys(_AFTER_INIT, _NEW_BOOKING),
        unversioned=Unversioned(statuses={201: 200}),
    )
    async def init(self, context: RequestContext[InitBooking, NoQuery]) -> Response:
        """Ask for a stay: 202 PENDING. A request that waits (`Prefer: wait=5`) gets 201 with the booking, or 409.

        With an `Idempotency-Key` the same request can be sent again, and stays one booking. A `quote` of `POST /quotes`
        is decided at its price, as long as it is valid. A `promo_code` is used by the booking, or the booking is
        refused; one that is refused, or ends unpaid, gives its use back.
        """
        stay, user_id = context.body, context.caller.user_id
        offer = await accept_offer(stay, user_id, self._quote_tokens)
        quoted = offer.get("quoted")
        code_id = None
        if stay.promo_code is not None or quoted is not None:
            code_id = await self._codes.code_id(stay.hotel_id, stay.promo_code, quoted)

        facts = await self._rooms.facts(stay.room_id)

        async def accept() -> None:
            self._accept(stay, facts, offer, code_id)

        ids = await self._admission.ids(context, accept)
        agreed = {"stay_times": None if facts is None else facts.stay_times, **offer}
        reserve = ReserveStay(
            room_id=stay.room_id,
            booking_id=ids.booking_id,
            user_id=user_id,
            hotel_id=stay.hotel_id,
            check_in=stay.check_in_date,
            check_out=stay.check_out_date,
            rooms_count=stay.rooms_count,
            hold_seconds=self._hold_seconds,
            account_share_percent=self._account_share_percent,
            # A quickly decoded request has UNSET for a field that is left out.
            accepted_terms=stay.accepted_terms or None,
            request_hash=ids.request_hash,
            **agreed,
        )
        pending = _pending_stay(ids.booking_id, user_id, stay)
        event = await self._admission.send(
            context, claiming(reserve, code_id), ids, lambda: accepted_response(context, pending)
        )
        if not context.wait_seconds:
            return accepted_response(context, pending)
        if event is not None and not await self._is_undecided(event, ids.booking_id, user_id):
            return await self._stay_response(event, ids.booking_id, context)
        return accepted_response(context, await self._status_after_wait(pending))

    def _accept(self, stay: InitBooking, known: RoomFacts | None, offer: dict[str, Any], code_id: int | None) -> None:
        """Check a new request for a stay.

        Args:
            stay: the request.
            known: the facts about its room, None for a room that no hotel has.
            offer: the plan, the people and the quote that `accept_offer` returned.
            code_id: the id of the promo code, as `PromoCodes.code_id` returned it.

        Raises:
            Problem: 404, 409 or 422 for a stay that makes no sense, and 409 for a quote that has expired or for an
                unknown code.
        """
        facts = accept_room(stay, known)
        accept_stay(stay.check_in_date, stay.check_out_date, today_at(facts.time_zone))
        self._rollout.must_be_charged_right(facts.currency)
        accept_party(offer.get("party"), stay.rooms_count, facts)
        accept_terms(stay.accepted_terms or None, self._required_terms)
        accept_code(code_id)
        accept_quote_time(offer.get("quoted"))

    async def _status_after_wait(self, pending: QuickPendingStay) -> QuickPendingStay:
        """Return the stay of a request that waited for its decision in vain with the status that it has by now."""
        async with self._database.reading() as connection:
            row = await bookings.booking_status(connection, pending.id, pending.user_id)
        return pending if row is None else msgspec.structs.replace(pending, booking_status=shown_status(row[0]))

    async def _is_undecided(self, event: Message, booking_id: UUID, user_id: int) -> bool:
        """Return whether a repeated request had its promo code's use before, and its stay is not decided yet."""
        if not isinstance(event, CodeUnchanged):
            return False
        async with self._database.reading() as connection:
            return await bookings.booking_status(connection, booking_id, user_id) is None

    async def _stay_response(
        self, event: Message, booking_id: UUID, context: RequestContext[InitBooking, NoQuery]
    ) -> Response:
        if isinstance(event, BookingRejected):
            user_id, plan_id = context.caller.user_id, context.body.plan_id
            raise await self._rejections.problem(event.reason, booking_id, user_id, event, plan_id)
        raise_if_refused(event)
        # Clients without a version expect the row's times, which only the ledger has.
        is_whole = isinstance(event, BookingReserved) and (event.sale is None or event.stay_times is not None)
        if isinstance(event, BookingReserved) and is_whole and not context.mount.unversioned:
            return json_response(
                201, reserved_booking(event, context.caller.user_id, self._merchant_name), waited_headers(context)
            )
        # The command may also be one that was decided before: the ledger has the booking as it is now.
        return await self._responses.booking(booking_id, 201, context)


def _pending_stay(booking_id: UUID, user_id: int, stay: InitBooking) -> QuickPendingStay:
    return QuickPendingStay(
        id=booking_id,
        booking_status=BookingStatus.PENDING,
        user_id=user_id,
        hotel_id=stay.hotel_id,
        room_id=stay.room_id,
        check_in_date=stay.check_in_date,
        check_out_date=stay.check_out_date,
        rooms_count=stay.rooms_count,
    )
