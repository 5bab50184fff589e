"""For each operation a request like its example, about things that exist: they are made first."""

import hashlib
import hmac
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from ingress.documents.openapi import path_of
from ingress.operations import Access, Operation
from sandbox.system import WEBHOOK_SECRET
from tests.ingress.house import WAIT
from tests.support.waiting import wait_until
from tests.system.api.world import OPERATIONS, PASSWORD, Person, Request, Room, World, trip


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request like an operation's example that is answered like it, once, when its owner sends it."""

    request: Request
    owner: Person


@dataclass
class _Found:
    """The ids and dates that replace those of the example, and their owner."""

    values: Mapping[str, object] = field(default_factory=dict)
    owner: Person | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    guest_ids: list[int] | None = None


class Needs:
    """The things that must exist before an operation's example gets its documented response."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._room: Room | None = None
        self._special: dict[str, Callable[[], Awaitable[_Found]]] = {
            "sign_up": self._an_address,
            "log_in": self._a_login,
            "refresh": self._a_cookie,
            "log_out": self._a_cookie,
            "log_out_everywhere": self._an_account,
            "become_host": self._an_account,
            "add_guests": self._a_hold,
            "trip": self._a_trip,
            "pay": self._a_hold_with_guests,
            "change_guests": self._other_guests,
            **dict.fromkeys(("change_stay", "change_stay_for_hotel"), self._a_paid_stay),
            **dict.fromkeys(("quote_change", "quote_change_for_hotel"), self._another_room_type),
            **dict.fromkeys(("withdraw_change", "withdraw_change_for_hotel"), self._a_change),
            "activate_hotel": self._a_hotel_of_its_own,
            "deactivate_hotel": self._a_hotel_of_its_own,
            "delete_hotel": self._a_hotel_of_its_own,
            "delete_room": self._a_hotel_of_its_own,
            "set_sale_terms": self._a_hotel_of_its_own,
            "set_plan": self._a_hotel_of_its_own,
            "delete_plan": self._a_second_plan,
            "block_nights": self._a_hotel_of_its_own,
            "read_block": self._a_block,
            "release_block": self._a_block,
            "check_in": self._an_arrival,
            "check_out": self._a_stay,
            "no_show": self._an_arrival,
            "booking_document": self._an_invoice,
            "hotel_document": self._an_invoice,
            "add_code": self._a_hotel_of_its_own,
            "read_code": self._a_code,
            "set_code": self._a_code,
            "deactivate_code": self._a_code,
            "erase_contact": self._a_walk_in,
        }
        assert self._special.keys() <= OPERATIONS.keys()

    async def meet(self, row: Operation) -> Prepared:
        """Return a request like the operation's example, about things that were just made for it or suit it."""
        special = self._special.get(row.id)
        found = await (special() if special else self._the_usual(row))
        values = {"plan_id": "saver", **_days(), **found.values}
        body = found.guest_ids or _filled(row.example.body, values)
        given = {name: value for name, value in row.example.headers.items() if name != "Cookie"}
        # An example waits; on a slow machine the decision comes later than a person would want to wait.
        headers = {**given, **(WAIT if "Prefer" in given else {}), **found.headers}
        request = Request(
            method=row.method,
            path=path_of(row).format(**{name: values[name] for name in row.placeholders}),
            query=_filled(dict(row.example.query), values),
            headers=headers | _signed(body) if row.access is Access.SIGNED else headers,
            body=body,
        )
        owner = {Access.MANAGER: self._world.host, Access.OPERATOR: self._world.operator}.get(
            row.access, self._world.guest
        )
        return Prepared(request=request, owner=found.owner or owner)

    async def _the_usual(self, row: Operation) -> _Found:
        """A new room that is on sale, and the other new things that the path names."""
        if self._room is None:
            self._room = await self._world.room_on_sale(self._world.host)
        values: dict[str, object] = {**self._room._asdict()}
        if "guest_id" in row.placeholders:
            values["guest_id"] = await self._world.saved_guest(self._world.guest)
        if "booking_id" in row.placeholders:
            values["booking_id"] = await self._world.booked(self._world.guest, self._room, first=_soon())
        return _Found(values)

    async def _an_address(self) -> _Found:
        return _Found({"email": f"{uuid4().hex}@example.org"})

    async def _a_login(self) -> _Found:
        return _Found({"email": self._world.guest.email, "password": PASSWORD})

    async def _a_cookie(self) -> _Found:
        person = await self._world.sign_up()
        return _Found(owner=person, headers={"Cookie": f"refreshToken={person.refresh_token}"})

    async def _an_account(self) -> _Found:
        return _Found(owner=await self._world.sign_up())

    async def _a_hold(self) -> _Found:
        found = await self._the_usual(OPERATIONS["add_guests"])
        found.guest_ids = [await self._world.saved_guest(self._world.guest)]
        return found

    async def _a_trip(self) -> _Found:
        room = await self._world.room_on_sale(self._world.host)
        made = await self._world.done(self._world.guest, "POST", "/v1/trips", trip(room, _soon()))
        return _Found({**room._asdict(), "trip_id": made["id"]})

    async def _a_hold_with_guests(self) -> _Found:
        found = await self._a_hold()
        path = f"/v1/bookings/{found.values['booking_id']}/addGuests"
        await self._world.done(self._world.guest, "POST", path, found.guest_ids)
        return _Found(found.values)

    async def _a_paid_stay(self) -> _Found:
        found = await self._a_hold_with_guests()
        await self._world.pay(self._world.guest, str(found.values["booking_id"]))
        return _Found(found.values)

    async def _other_guests(self) -> _Found:
        found = await self._a_paid_stay()
        return _Found(found.values, guest_ids=[await self._world.saved_guest(self._world.guest)])

    async def _a_change(self) -> _Found:
        """A change to one room more, which its guest has not paid."""
        found = await self._a_paid_stay()
        path = f"/v1/bookings/{found.values['booking_id']}/changes"
        changed = await self._world.done(self._world.guest, "POST", path, {"rooms_count": 2})
        return _Found({**found.values, "change_id": changed["pending_change"]["id"]})

    async def _another_room_type(self) -> _Found:
        """A paid stay, and another room type of its hotel."""
        found = await self._a_paid_stay()
        room_id = await self._world.another_room(self._world.host, int(str(found.values["hotel_id"])))
        return _Found({**found.values, "room_id": room_id})

    async def _an_invoice(self) -> _Found:
        """A paid stay whose invoice is there; it follows the payment a little later."""
        values = (await self._a_paid_stay()).values
        path = f"/v1/bookings/{values['booking_id']}/documents"

        async def issued() -> Any:
            return await self._world.done(self._world.guest, "GET", path)

        invoices = await wait_until(issued, message=f"the invoice of booking {values['booking_id']}")
        return _Found({**values, "document_id": invoices[0]["id"]})

    async def _a_hotel_of_its_own(self) -> _Found:
        return _Found((await self._world.new_room(self._world.host))._asdict())

    async def _a_second_plan(self) -> _Found:
        room = await self._world.new_room(self._world.host)
        path = f"/v1/admin/hotels/{room.hotel_id}/rooms/{room.room_id}/plans/saver"
        await self._world.done(self._world.host, "PUT", path, {"name": "Saver"})
        return _Found(room._asdict())

    async def _a_block(self) -> _Found:
        room = await self._world.new_room(self._world.host)
        day = str(datetime.now(UTC).date() + timedelta(days=_soon()))
        body = {"start_date": day, "end_date": day, "reason": "owner_use"}
        path = f"/v1/admin/hotels/{room.hotel_id}/rooms/{room.room_id}/blocks"
        block = await self._world.done(self._world.host, "POST", path, body)
        return _Found({**room._asdict(), "block_id": block["id"]})

    async def _a_code(self) -> _Found:
        room = await self._world.new_room(self._world.host)
        body = {"code": "SUMMER", "percent": 10}
        await self._world.done(self._world.host, "POST", f"/v1/admin/hotels/{room.hotel_id}/codes", body)
        return _Found({**room._asdict(), "code": "SUMMER"})

    async def _a_walk_in(self) -> _Found:
        room = await self._world.room_on_sale(self._world.host)
        first = datetime.now(UTC).date() + timedelta(days=_soon())
        body = {
            "room_id": room.room_id,
            "check_in_date": str(first),
            "check_out_date": str(first + timedelta(days=2)),
            "contact": {"name": "Ada Lovelace"},
        }
        path = f"/v1/admin/hotels/{room.hotel_id}/bookings"
        booking = await self._world.done(self._world.host, "POST", path, body)
        return _Found({**room._asdict(), "booking_id": booking["id"]})

    async def _an_arrival(self) -> _Found:
        """A paid stay from today on, at a hotel where it is noon and guests are let in from midnight on."""
        hotels = self._world.hotels_of(self._world.host)
        hotel_id = await hotels.hotel(time_zone=noon(), check_in_time="00:00", check_out_time="23:00")
        room = Room(hotel_id=hotel_id, room_id=await hotels.room(hotel_id))
        await hotels.activate(hotel_id)
        today = datetime.now(ZoneInfo(noon())).date()
        days = {"check_in_date": str(today), "check_out_date": str(today + timedelta(days=2))}
        guest = self._world.guest
        booking_id = (await self._world.done(guest, "POST", "/v1/bookings/init", {**room._asdict(), **days}))["id"]
        named = [await self._world.saved_guest(guest)]
        await self._world.done(guest, "POST", f"/v1/bookings/{booking_id}/addGuests", named)
        await self._world.pay(guest, booking_id)
        return _Found({**room._asdict(), "booking_id": booking_id})

    async def _a_stay(self) -> _Found:
        found = await self._an_arrival()
        path = f"/v1/admin/hotels/{found.values['hotel_id']}/bookings/{found.values['booking_id']}/check-in"
        await self._world.done(self._world.host, "POST", path)
        return found


def noon() -> str:
    """Return a time zone in which it is noon."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


def _filled(value: Any, values: Mapping[str, object]) -> Any:
    """Return an example's fields with those that exist in their place."""
    if isinstance(value, dict):
        return {name: values.get(name, _filled(each, values)) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values) for each in value]
    return value


def _soon() -> int:
    """Return in how many days a stay begins; not always the same, lest the room be sold out."""
    return random.randrange(30, 230)


def _days() -> dict[str, object]:
    first = datetime.now(UTC).date() + timedelta(days=_soon())
    days = {"check_in_date": 0, "check_out_date": 3, "start_date": 0, "end_date": 2, "from_date": 0, "to_date": 30}
    return {name: str(first + timedelta(days=later)) for name, later in days.items()}


def _signed(body: Any) -> dict[str, str]:
    """Return the header with which Stripe signs."""
    now = int(time.time())
    signature = hmac.new(WEBHOOK_SECRET.encode(), f"{now}.{json.dumps(body)}".encode(), hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={now},v1={signature}"}
