"""Trips: rooms of several types of one hotel in one request, all of them or none, with one deadline and one payment.

A trip is a booking without rooms of its own, and each of its legs is a booking. `POST /trips` opens one; the operations
on bookings name its guests, pay for it and cancel it by its id. A trip counts as one unpaid booking of its account
(`ingress.bookings.unpaid`), however many legs it has; the account's share of the nights limits the rooms of its legs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.acceptance import (
    accept_offer,
    accept_party,
    accept_quote_time,
    accept_room,
    accept_terms,
    code_of,
)
from ingress.bookings.admission import Admission
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import InitBooking, LegOut
from ingress.bookings.promo_codes import PromoCodes, accept_code, claiming
from ingress.bookings.rejections import Rejections
from ingress.bookings.representation import (
    booking_fields,
    policy_out,
    raise_if_refused,
    refusal,
    sale_out,
    state_of,
    stay_times_of,
)
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import STEERING, accepted_response
from ingress.bookings.trip_models import PendingTrip, TripLegOut, TripOut, TripRequest
from ingress.bookings.undecided import UndecidedBookings
from ingress.bookings.unpaid import TooManyUnpaid
from ingress.database import Database, snapshot
from ingress.http.bodies import refused_field
from ingress.http.models import NoBody, NoQuery, Problems, RefusedBooking
from ingress.http.old_statuses import shown_status
from ingress.http.problems import Problem, no_such
from ingress.http.responses import Response, json_response
from ingress.http.rollout import Rollout
from ingress.http.waiting import ACCEPTED, WAITED_HEADERS, waited_headers
from ingress.log.idempotency import Ids
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.stays import accept_stay, today_at
from ingress.tokens import QuoteTokens
from pricing.currencies import decimal
from storage.reads import bookings
from storage.reads.bookings import BookingRow, RoomFacts
from topics.messages.commands import ReserveTrip
from topics.messages.events import CommandRefused
from topics.messages.message import Message
from topics.messages.sale import LegRequest
from topics.messages.values import BookingStatus, Rejection, StayTimes

_NEW_TRIP: Final = {"booking_id": "$response.body#/id"}
_AFTER: Final = dict.fromkeys(("add_guests", "pay", "cancel", "status", "show"), _NEW_TRIP)
_TRIP: Final = {"trip_id": "01980000-0000-8000-8000-000000000000"}
_ADDRESS: Final = {"Location": "The address of the trip.", "Retry-After": "In how many seconds to ask."}
#: The states of a trip whose legs are not all held, or never were.
_NOT_HELD: Final = (BookingStatus.RESERVING, BookingStatus.REJECTED)

#: A trip has no room type and no number of rooms of its own.
_FIELDS: Final = frozenset(TripOut.model_fields)
#: The fields of `ReserveStay` that `accept_offer` returned for a leg.
Offer: TypeAlias = Mapping[str, Any]


class Trips:
    """The operations that ask for a trip and read it."""

    def __init__(
        self,
        *,
        database: Database,
        rooms: Rooms,
        booking_ids: BookingIds,
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
        self._booking_ids = booking_ids
        self._undecided = UndecidedBookings(database, booking_ids)
        self._admission = admission
        self._rollout = rollout
        self._quote_tokens = quote_tokens
        self._rejections = rejections
        self._hold_seconds = hold_seconds
        self._account_share_percent = account_share_percent
        self._required_terms = required_terms
        self._merchant_name = merchant_name
        self._codes = PromoCodes(database)

    @operation(
        "POST /trips",
        access=Access.USER,
        summary="Ask for rooms of several types",
        responses={
            201: ResponseSpec(TripOut, "Reserved: the request waited for it.", WAITED_HEADERS),
            202: ResponseSpec(PendingTrip, ACCEPTED, _ADDRESS),
            403: ResponseSpec(Problems, "A quote was given to another account."),
            404: ResponseSpec(Problems, "The hotel has no such room."),
            409: ResponseSpec(
                RefusedBooking, "Refused, and no leg is held: `reason` is the reason, `leg_number` the leg."
            ),
            429: ResponseSpec(
                TooManyUnpaid,
                "Too many requests, or too many bookings of this account that are not paid: they are named.",
                {"Retry-After": "In how many seconds to try again."},
            ),
        },
        example=Example(
            status=201,
            headers={"Prefer": "wait=5"},
            body={
                "hotel_id": 1,
                "check_in_date": "2026-12-24",
                "check_out_date": "2026-12-27",
                "legs": [{"room_id": 1, "rooms_count": 1, "adults": 2}, {"room_id": 1, "rooms_count": 2}],
            },
        ),
        headers=STEERING,
        links=_AFTER,
    )
    async def book_trip(self, context: RequestContext[TripRequest, NoQuery]) -> Response:
        """Ask for up to five legs: 202 while their rooms are reserved; 201 with the trip, or 409, if it waits.

        One leg that is refused refuses the trip. With the trip's `id`, `/bookings/{id}/addGuests`, `/payments`,
        `/cancel` and `/status` are about all of it. Each leg has an id of its own; once the trip is paid, a leg can be
        cancelled alone, by its own policy.
        """
        trip, user_id = context.body, context.caller.user_id
        stays = trip.stays()
        offers = [
            await accept_offer(stay, user_id, self._quote_tokens, within=f"legs.{number}.")
            for number, stay in enumerate(stays)
        ]
        code_id = await self._codes.code_id(trip.hotel_id, _promo_code(trip, offers))

        async def accept() -> None:
            accept_terms(trip.accepted_terms, self._required_terms)
            for stay, offer in zip(stays, offers, strict=True):
                await self._accept_leg(stay, offer)
            accept_code(code_id)

        ids = await self._admission.ids(context, accept)
        command = self._command(context, ids, offers, await self._rooms.facts(stays[0].room_id))
        event = await self._admission.send(
            context,
            claiming(command, code_id),
            ids,
            lambda: _pending_response(context, command, BookingStatus.PENDING),
        )
        return await self._response(context, command, event)

    @operation(
        "GET /trips/{trip_id}",
        access=Access.USER,
        summary="Read a trip",
        responses={
            200: ResponseSpec(TripOut, "A trip that is not opened yet has `id` and `booking_status` alone."),
        },
        example=Example(path=_TRIP),
    )
    async def trip(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a trip with its legs, their prices and policies and, while it can be paid, the address to pay at."""
        trip_id, user_id = context.path["trip_id"], context.caller.user_id
        shown = await self._database.read(lambda connection: self._shown(connection, trip_id, user_id))
        if shown is not None:
            return json_response(200, shown)
        return json_response(200, await self._undecided.state(user_id, trip_id, "trip"))

    async def _accept_leg(self, stay: InitBooking, offer: Offer) -> None:
        """Check a leg of a new request.

        Raises:
            Problem: 404, 409 or 422 for a leg that makes no sense, and 409 for a quote that has expired.
        """
        facts = accept_room(stay, await self._rooms.facts(stay.room_id))
        accept_stay(stay.check_in_date, stay.check_out_date, today_at(facts.time_zone))
        self._rollout.must_be_charged_right(facts.currency)
        accept_party(offer.get("party"), stay.rooms_count, facts)
        accept_quote_time(offer.get("quoted"))

    def _command(
        self,
        context: RequestContext[TripRequest, NoQuery],
        ids: Ids,
        offers: Sequence[Offer],
        facts: RoomFacts | None,
    ) -> ReserveTrip:
        trip, trip_id, user_id = context.body, ids.booking_id, context.caller.user_id
        legs = tuple(
            LegRequest(
                booking_id=self._booking_ids.of_leg(user_id, trip_id, number),
                room_id=leg.room_id,
                rooms_count=leg.rooms_count,
                **{name: value for name, value in offer.items() if name != "stay_times"},
            )
            for number, (leg, offer) in enumerate(zip(trip.legs, offers, strict=True))
        )
        return ReserveTrip(
            room_id=legs[0].room_id,
            booking_id=trip_id,
            user_id=user_id,
            hotel_id=trip.hotel_id,
            check_in=trip.check_in_date,
            check_out=trip.check_out_date,
            legs=legs,
            hold_seconds=self._hold_seconds,
            stay_times=_quoted_times(offers) or (None if facts is None else facts.stay_times),
            account_share_percent=self._account_share_percent,
            accepted_terms=trip.accepted_terms,
            request_hash=ids.request_hash,
        )

    async def _response(
        self, context: RequestContext[TripRequest, NoQuery], command: ReserveTrip, event: Message | None
    ) -> Response:
        """Return the trip as it is in the ledger by now, if the request waited, and otherwise that it is pending.

        Raises:
            Problem: 409 with the reason if the trip was rejected, and with the leg that was.
        """
        if isinstance(event, CommandRefused) and event.booking_id == command.booking_id:
            raise_if_refused(event)
        status = BookingStatus.PENDING
        if context.wait_seconds:
            # The event may be about one leg, or about a request that was decided before.
            async with self._database.reading() as connection, snapshot(connection):
                trip = await bookings.own_booking(connection, command.booking_id, context.caller.user_id)
                legs = {} if trip is None else await bookings.own_legs(connection, trip)
                if trip is not None and trip.status not in _NOT_HELD:
                    return json_response(201, await self._out(connection, trip, legs), waited_headers(context))
            if trip is not None and trip.status == BookingStatus.REJECTED:
                # A second connection is taken after the first was given back, lest requests wait for each other's.
                raise await self._rejection(context, command, trip, legs)
            status = status if trip is None else BookingStatus(trip.status)
        return _pending_response(context, command, status)

    async def _rejection(
        self,
        context: RequestContext[TripRequest, NoQuery],
        command: ReserveTrip,
        trip: BookingRow,
        legs: Mapping[UUID, BookingRow],
    ) -> Problem:
        """Return the problem of a rejected trip: that of the leg which was rejected, if it was one."""
        reason = trip.rejection or ""
        for number, leg in enumerate(command.legs):
            row = legs.get(leg.booking_id)
            if row is None or row.status != BookingStatus.REJECTED or row.rejection != reason:
                continue
            plan_id = context.body.legs[number].plan_id
            problem = await self._rejections.problem(reason, trip.id, trip.user_id, row, plan_id)
            problem.detail += f" (leg {number + 1}, of room type {leg.room_id})"
            problem.more = {**problem.more, "leg_id": leg.booking_id, "leg_number": number + 1}
            return problem
        return await self._rejections.problem(reason, trip.id, trip.user_id, trip)

    async def _shown(self, connection: AsyncConnection, trip_id: UUID, user_id: int) -> TripOut | None:
        """Return the caller's trip; None: the ledger has none by that id. Raises `Problem` 404 for another booking."""
        async with snapshot(connection):
            trip = await bookings.own_booking(connection, trip_id, user_id)
            if trip is None:
                return None
            if not trip.legs:
                raise no_such("trip")
            return await self._out(connection, trip, await bookings.own_legs(connection, trip))

    async def _out(self, connection: AsyncConnection, trip: BookingRow, legs: Mapping[UUID, BookingRow]) -> TripOut:
        fields = await booking_fields(connection, trip, self._merchant_name)
        if not trip.currency:
            fields = {name: value for name, value in fields.items() if name not in ("amount", "currency")}
        shown = [await _leg_out(connection, leg, legs.get(leg.booking_id)) for leg in trip.trip_legs]
        return TripOut(**{name: value for name, value in fields.items() if name in _FIELDS} | {"legs": shown})


async def _leg_out(connection: AsyncConnection, leg: bookings.TripLeg, booking: BookingRow | None) -> TripLegOut:
    """Return a leg; one that its room has not decided yet is pending."""
    fields: dict[str, Any] = {"room_id": leg.room_id, "rooms_count": leg.rooms_count}
    if booking is None:
        return TripLegOut(id=leg.booking_id, booking_status=BookingStatus.PENDING, **fields)
    if booking.currency:
        fields["amount"] = decimal(booking.amount_minor, booking.currency)
    stay_times = None if booking.sale is None else await stay_times_of(connection, booking)
    if stay_times is not None:
        fields["sale"] = sale_out(booking, stay_times)
    if booking.policy is not None:
        fields["policy"] = policy_out(booking.policy, booking.currency)
    return TripLegOut(**state_of(booking), **fields)


def _pending_response(
    context: RequestContext[TripRequest, NoQuery], command: ReserveTrip, status: BookingStatus
) -> Response:
    body = PendingTrip(
        id=command.booking_id,
        booking_status=shown_status(status),
        legs=[LegOut(id=leg.booking_id, room_id=leg.room_id) for leg in command.legs],
    )
    return accepted_response(context, body, f"/trips/{command.booking_id}")


def _promo_code(trip: TripRequest, offers: Sequence[Offer]) -> str | None:
    """Return the one promo code of a trip, which the request or its quotes name.

    Raises:
        Problem: 422 for several codes, and for an amount off in the quote of another leg than the first.
    """
    quotes = [offer.get("quoted") for offer in offers]
    for number, quoted in enumerate(quotes[1:], start=1):
        discount = None if quoted is None else quoted.sale.discount
        if discount is not None and discount.amount_minor is not None:
            raise refused_field(f"legs.{number}.quote", "has an amount off, which counts for the first leg alone")
    named = [code for code in (trip.promo_code, *map(code_of, quotes)) if code is not None]
    if len({code.lower() for code in named}) > 1:
        raise refused_field("promo_code", "is not that of the quotes")
    return next(iter(named), None)


def _quoted_times(offers: Sequence[Offer]) -> StayTimes | None:
    """Return the hotel's times in the quotes; None: there are none.

    Raises:
        Problem: 409 for quotes from before and from after a change of the hotel's times.
    """
    times = {offer["stay_times"] for offer in offers if offer.get("stay_times") is not None}
    if len(times) > 1:
        raise refusal(Rejection.QUOTE_EXPIRED)
    return next(iter(times), None)
