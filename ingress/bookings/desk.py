"""The front desk of a hotel: a manager books for guests without an account, and reads and erases their names.

The names and the contact are stored before the command is sent, and the log has their id alone. Such a booking is
confirmed at once, and ends like every other one that is paid at the hotel (`ingress.bookings.at_hotel`).
"""

from typing import Final
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.bookings.acceptance import accept_named_people, accept_party, accept_room
from ingress.bookings.desk_models import DeskBooking
from ingress.bookings.ids import BookingIds
from ingress.bookings.models import BookingState, HotelBooking
from ingress.bookings.promo_codes import PromoCodes, accept_code, claiming
from ingress.bookings.rejections import Rejections
from ingress.bookings.representation import hotel_bookings_out, pending_state, raise_if_refused
from ingress.bookings.rooms import Rooms
from ingress.bookings.sending import STEERING, Context, accepted_response
from ingress.bookings.undecided import UndecidedBookings
from ingress.database import Database, snapshot
from ingress.http.deadlines import otherwise
from ingress.http.models import NoBody, NoQuery, Problems, RefusedBooking
from ingress.http.problems import NothingDone, existing, no_such
from ingress.http.responses import Response, json_response, no_content
from ingress.http.rollout import Rollout
from ingress.http.waiting import ACCEPTED, WAITED_HEADERS, waited_headers
from ingress.log.commands import Commands
from ingress.log.idempotency import IdempotencyKeys, Ids
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.stays import accept_people, accept_stay, today_at
from storage import desk_bookings, guests
from storage.desk_bookings import Contact
from storage.reads import reports
from storage.reads.bookings import RoomFacts
from storage.reads.changes import other_rooms
from storage.reads.reports import HotelListedBooking
from topics.envelope import format_id
from topics.messages.commands import ClaimCode, ReserveStay
from topics.messages.events import BookingRejected, CodeUnchanged
from topics.messages.message import Message
from topics.messages.values import BookingStatus

_BOOKINGS: Final = "/admin/hotels/{hotel_id}/bookings"
_BOOKING_PATH: Final = {"hotel_id": 1, "booking_id": "01980000-0000-8000-8000-000000000000"}
_NEW_BOOKING: Final = {"hotel_id": "$request.path.hotel_id", "booking_id": "$response.body#/id"}
_ADDRESS: Final = "The address of the booking."
_EXAMPLE: Final = {
    "room_id": 1,
    "check_in_date": "2026-12-24",
    "check_out_date": "2026-12-27",
    "adults": 2,
    "contact": {"name": "Ada Lovelace", "phone": "+41 31 000 00 00"},
    "guests": [{"name": "Ada Lovelace"}, {"name": "Mary Somerville"}],
}


class FrontDesk:
    """The operations of managers on bookings of guests without an account."""

    def __init__(
        self,
        database: Database,
        *,
        rooms: Rooms,
        booking_ids: BookingIds,
        keys: IdempotencyKeys,
        commands: Commands,
        rollout: Rollout,
        rejections: Rejections,
    ) -> None:
        self._database = database
        self._undecided = UndecidedBookings(database, booking_ids)
        self._rooms = rooms
        self._keys = keys
        self._commands = commands
        self._rollout = rollout
        self._rejections = rejections
        self._codes = PromoCodes(database)

    @operation(
        f"POST {_BOOKINGS}",
        access=Access.MANAGER,
        summary="Book for guests without an account",
        responses={
            201: ResponseSpec(
                HotelBooking, "Confirmed: the request waited for it.", {"Location": _ADDRESS, **WAITED_HEADERS}
            ),
            202: ResponseSpec(
                BookingState, ACCEPTED, {"Location": _ADDRESS, "Retry-After": "In how many seconds to ask."}
            ),
            404: ResponseSpec(Problems, "The hotel is another account's, or has no such room."),
            409: ResponseSpec(RefusedBooking, "Refused: `reason` is the reason."),
        },
        example=Example(status=201, path={"hotel_id": 1}, headers={"Prefer": "wait=5"}, body=_EXAMPLE),
        headers=STEERING,
        links=dict.fromkeys(("hotel_booking", "erase_contact", "cancel_for_hotel"), _NEW_BOOKING),
    )
    async def book_at_desk(self, context: RequestContext[DeskBooking, NoQuery]) -> Response:
        """Book a room of one's hotel for somebody at the desk or on the phone; all of it is paid at the hotel.

        It is confirmed at once, at the price of the plan and with the taxes of the day. With an `Idempotency-Key` the
        same request can be sent again, and stays one booking. If it is refused, the names and the contact are erased.
        The general terms (`accepted_terms`) are recorded if they are named; the desk does not require them.
        """
        hotel_id, user_id, body = context.path["hotel_id"], context.caller.user_id, context.body
        async with self._database.reading() as connection:
            existing(await reports.managed_hotel(connection, hotel_id, user_id), "hotel")
        code_id = await self._codes.code_id(hotel_id, body.promo_code)
        facts = accept_room(body.stay(hotel_id), await self._rooms.facts(body.room_id))
        command = _command(body, facts, _new_ids(None), code_id)
        self._rollout.must_be_decidable(command)

        async def accept() -> None:
            accept_stay(body.check_in_date, body.check_out_date, today_at(facts.time_zone))
            party = accept_people(body.adults, body.children or ())
            accept_party(party, body.rooms_count, facts)
            accept_named_people(len(body.guests), party, body.rooms_count, facts)
            accept_code(code_id)

        ids = await self._keys.ids(context.request, user_id, body, _new_ids, accept, makes_booking=True)
        # The people of another request with the same key are not kept.
        await self._keys.must_be_same(ids)
        command = _command(body, facts, ids, code_id)
        event = await self._send(context, command, ids)
        path = _path(context, ids.booking_id)
        otherwise(lambda: accepted_response(context, pending_state(ids.booking_id), path))
        if isinstance(event, CodeUnchanged):
            await self._keys.must_be_same(ids)
        if isinstance(event, BookingRejected):
            await self._forget_people_of_rejected(context)
            raise await self._rejections.problem(event.reason, event.booking_id, None, event, body.plan_id)
        raise_if_refused(event)
        return await self._response(context, ids.booking_id, was_decided=event is not None)

    @operation(
        f"GET {_BOOKINGS}/{{booking_id}}",
        access=Access.MANAGER,
        summary="Read a booking of a hotel",
        responses={
            200: ResponseSpec(
                HotelBooking,
                "One that was made at the desk and is not decided yet has `id` and `booking_status` alone.",
            )
        },
        example=Example(path=_BOOKING_PATH),
    )
    async def hotel_booking(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a booking of one's hotel as its list has it: guests, contact, sale and end."""
        async with self._database.reading() as connection, snapshot(connection):
            booking = await _shown(connection, context, context.path["booking_id"])
            if booking is None:
                await _must_be_of_desk(connection, context)
                return json_response(200, await self._undecided.desk_state(connection, context.path["booking_id"]))
        if booking.booking_status == BookingStatus.REJECTED:
            await self._forget_people_of_rejected(context)
        return json_response(200, booking)

    @operation(
        f"DELETE {_BOOKINGS}/{{booking_id}}/contact",
        access=Access.MANAGER,
        summary="Erase the people of a booking made at the desk",
        responses={204: ResponseSpec(None, "Erased.")},
        example=Example(status=204, path=_BOOKING_PATH),
    )
    async def erase_contact(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Erase the contact and the guests' names of a booking that was made at the desk; the booking itself stays."""
        async with self._database.writing() as connection:
            await _must_be_of_desk(connection, context)
            await desk_bookings.erase_people(connection, context.path["booking_id"])
        return no_content()

    async def _send(
        self, context: RequestContext[DeskBooking, NoQuery], command: ReserveStay | ClaimCode, ids: Ids
    ) -> Message | None:
        """Keep the people of a booking and send its command; return the event that answers it as `send_command`.

        Raises:
            Problem: as `Commands.send_command`. If the command was not sent, the people are not kept either.
        """
        kept = await self._keep_people(context, ids.booking_id)
        try:
            return await self._commands.send_command(command, context.wait_seconds, command_id=ids.command_id)
        except NothingDone:
            if kept is not None:
                async with self._database.writing(is_note=True) as connection:
                    await desk_bookings.remove_desk_booking(connection, ids.booking_id, kept)
            raise

    async def _forget_people_of_rejected(self, context: Context) -> None:
        async with self._database.writing() as connection:
            await desk_bookings.erase_people_of_rejected(connection, context.path["hotel_id"])

    async def _keep_people(self, context: RequestContext[DeskBooking, NoQuery], booking_id: UUID) -> str | None:
        """Store the contact and the names, unless a repeated request stored them before.

        Those of the hotel's bookings that were rejected after their requests were answered are erased by then.

        Returns:
            As `add_desk_booking`.
        """
        body, manager_id = context.body, context.caller.user_id
        contact = Contact(name=body.contact.name, email=body.contact.email, phone=body.contact.phone)
        list_id = _guest_list_id(body, booking_id)
        async with self._database.writing(is_note=True) as connection:
            await desk_bookings.erase_people_of_rejected(connection, context.path["hotel_id"])
            kept = await desk_bookings.add_desk_booking(
                connection,
                booking_id,
                hotel_id=context.path["hotel_id"],
                manager_id=manager_id,
                contact=contact,
            )
            if list_id is not None:
                names = [guest.name for guest in body.guests]
                await guests.keep_names(connection, list_id, booking_id=booking_id, manager_id=manager_id, names=names)
        return kept

    async def _response(
        self, context: RequestContext[DeskBooking, NoQuery], booking_id: UUID, *, was_decided: bool
    ) -> Response:
        """Return the booking if it is decided by now, and otherwise that it is pending.

        Raises:
            Problem: 409 with the reason if the booking was rejected.
        """
        path = _path(context, booking_id)
        row = None
        if was_decided or context.wait_seconds:
            async with self._database.reading() as connection, snapshot(connection):
                row = await _row(connection, context, booking_id)
                shown = None if row is None else await _with_people(connection, row)
        if row is None or shown is None:
            return accepted_response(context, pending_state(booking_id), path)
        if row.status == BookingStatus.REJECTED:
            await self._forget_people_of_rejected(context)
            plan_id = context.body.plan_id
            raise await self._rejections.problem(row.rejection or "", booking_id, None, row, plan_id)
        return json_response(201, shown, {"Location": context.link(path), **waited_headers(context)})


def _path(context: Context, booking_id: UUID) -> str:
    return f"/admin/hotels/{context.path['hotel_id']}/bookings/{booking_id}"


def _new_ids(seed: bytes | None) -> Ids:
    # One command alone reserves a booking, so the booking's id can be the command's too.
    booking_id = uuid4() if seed is None else UUID(bytes=seed, version=4)
    return Ids(format_id(booking_id), booking_id)


def _command(body: DeskBooking, facts: RoomFacts, ids: Ids, code_id: int | None) -> ReserveStay | ClaimCode:
    reserve = ReserveStay(
        room_id=body.room_id,
        booking_id=ids.booking_id,
        hotel_id=facts.hotel_id,
        check_in=body.check_in_date,
        check_out=body.check_out_date,
        rooms_count=body.rooms_count,
        plan_id=body.plan_id,
        party=accept_people(body.adults, body.children or ()),
        stay_times=facts.stay_times,
        at_desk=True,
        guest_list_id=_guest_list_id(body, ids.booking_id),
        accepted_terms=body.accepted_terms,
        request_hash=ids.request_hash,
    )
    return claiming(reserve, code_id)


def _guest_list_id(body: DeskBooking, booking_id: UUID) -> UUID | None:
    """Return the id of the list of the guests that are named, which is the same for a repeated request."""
    return uuid5(NAMESPACE_OID, f"guest list:{booking_id}") if body.guests else None


async def _must_be_of_desk(connection: AsyncConnection, context: Context) -> None:
    """Check that a manager asked for the booking at the caller's hotel. Raises `Problem` 404."""
    path, user_id = context.path, context.caller.user_id
    if not await desk_bookings.is_of_hotel(connection, path["booking_id"], path["hotel_id"], user_id):
        raise no_such("booking")


async def _row(connection: AsyncConnection, context: Context, booking_id: UUID) -> HotelListedBooking | None:
    """Return a booking of the caller's hotel; None: it is not decided, or none of the hotel's."""
    hotel_id = context.path["hotel_id"]
    existing(await reports.managed_hotel(connection, hotel_id, context.caller.user_id), "hotel")
    rows = await reports.bookings_of_hotel(connection, hotel_id, limit=1, booking_id=booking_id)
    return next(iter(rows), None)


async def _with_people(connection: AsyncConnection, row: HotelListedBooking) -> HotelBooking:
    named = await reports.guests_of_each(connection, [row.id])
    contacts = await desk_bookings.contacts_of(connection, [row.id])
    (shown,) = hotel_bookings_out([row], named, contacts, await other_rooms(connection, [row.held_change]))
    return shown


async def _shown(connection: AsyncConnection, context: Context, booking_id: UUID) -> HotelBooking | None:
    row = await _row(connection, context, booking_id)
    return None if row is None else await _with_people(connection, row)
