"""People who speak HTTP to a whole system, and for each operation a request like its example, about real things."""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
from multidict import CIMultiDictProxy

from ingress.openapi import path_of
from ingress.operations import Access, Operation
from sandbox.system import WEBHOOK_SECRET, System
from tests.ingress.table import rows

PASSWORD = "an estuary of 41 quiet herons"
OPERATIONS = {row.id: row for row in rows()}


@dataclass(frozen=True)
class Answer:
    """What came back: status, decoded body (text where it is no JSON, None without one) and headers."""

    status: int
    body: Any
    headers: CIMultiDictProxy[str]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, without whoever sends it."""

    method: str
    path: str
    query: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, kw_only=True)
class Person:
    """An account, logged in; without a token, nobody. Ids are 0 where nobody is."""

    id: int = 0
    email: str = ""
    token: str | None = None
    refresh_token: str = ""

    def holding(self, token: str | None) -> "Person":
        """Return somebody who shows another token."""
        return replace(self, token=token)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request like an operation's example that is answered like it, once, when its owner sends it."""

    request: Request
    owner: Person


class World:
    """A system with people in it: a guest and a host who own what the examples speak of, and one more of each."""

    guest: Person
    stranger: Person
    host: Person
    rival: Person

    def __init__(self, system: System, session: aiohttp.ClientSession) -> None:
        self.system = system
        self.session = session
        self._needs = _Needs(self)

    async def settle(self) -> None:
        """Let everybody sign up."""
        self.guest, self.stranger = await self.sign_up(), await self.sign_up()
        self.host, self.rival = await self.sign_up_host(), await self.sign_up_host()

    async def ask(self, person: Person, request: Request) -> Answer:
        """Send a request as this person."""
        headers = dict(request.headers)
        if person.token is not None:
            headers["Authorization"] = f"Bearer {person.token}"
        if request.body is not None:
            headers.setdefault("Content-Type", "application/json")
        async with self.session.request(
            request.method,
            self.system.url + request.path,
            params={name: str(value) for name, value in request.query.items()},
            headers=headers,
            data=None if request.body is None else json.dumps(request.body),
        ) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return Answer(response.status, json.loads(text) if is_json else text or None, response.headers)

    async def done(self, person: Person, method: str, path: str, body: Any = None) -> Any:
        """Send a request that must succeed, wait for its decision, and return its body."""
        request = Request(method=method, path=path, body=body, headers={"Prefer": "wait=20"})
        answer = await self.ask(person, request)
        assert answer.status in {200, 201, 204}, (request, answer)
        return answer.body

    async def sign_up(self, **fields: str) -> Person:
        """Make an account and log in."""
        account = {"email": f"{uuid4().hex}@example.org", "password": PASSWORD, **fields}
        made = await self.done(Person(), "POST", "/v1/auth/signup", account)
        return await self.log_in(account["email"], account["password"], made["id"])

    async def log_in(self, email: str, password: str, user_id: int) -> Person:
        """Log in."""
        request = Request(method="POST", path="/v1/auth/login", body={"email": email, "password": password})
        answer = await self.ask(Person(), request)
        assert answer.status == 200, answer
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return Person(
            id=user_id,
            email=email,
            token=answer.body["access_token"],
            refresh_token=cookie.removeprefix("refreshToken="),
        )

    async def sign_up_host(self) -> Person:
        """Make an account and become a host."""
        person = await self.sign_up()
        return person.holding((await self.done(person, "POST", "/v1/users/host"))["access_token"])

    async def prepared(self, row: Operation) -> Prepared:
        """Return a request like the operation's example, about things that were just made for it or suit it."""
        return await self._needs.meet(row)


@dataclass
class _Found:
    """What stands in the place of the example's ids and dates, and who owns it."""

    values: dict[str, object]
    owner: Person | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[Any], Any] = lambda body: body


class _Needs:
    """What each operation needs to be there before its example can be answered as it says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._room: dict[str, object] | None = None
        special: dict[str, Callable[[], Awaitable[_Found]]] = {
            "sign_up": self._fresh_address,
            "log_in": self._login,
            "refresh": self._cookie,
            "log_out": self._cookie,
            "log_out_everywhere": self._account,
            "become_host": self._account,
            "add_guests": self._held,
            "pay": self._with_guests,
            "cancel": self._held,
            "activate_hotel": self._hotel_with_room,
            "deactivate_hotel": self._hotel_with_room,
            "delete_hotel": self._hotel_with_room,
            "delete_room": self._hotel_with_room,
            "stripe": self._signature,
        }
        self._special = special
        assert special.keys() <= OPERATIONS.keys()

    async def meet(self, row: Operation) -> Prepared:
        found = await self._special.get(row.id, lambda: self._usual(row))()
        values = _days() | found.values
        example = row.example
        body = found.body(_filled(example.body, values))
        headers = {name: value for name, value in example.headers.items() if name not in ("Cookie", "Stripe-Signature")}
        if row.raw_body:
            headers |= _signed(body)
        path = {name: values[name] for name in example.path}
        request = Request(
            method=row.method,
            path=path_of(row).format(**path),
            query=_filled(dict(example.query), values),
            headers=headers | found.headers,
            body=body,
        )
        return Prepared(request=request, owner=found.owner or self._owner(row))

    def _owner(self, row: Operation) -> Person:
        return self._world.host if row.access is Access.MANAGER else self._world.guest

    async def _usual(self, row: Operation) -> _Found:
        """A room that is on sale, and for the rest something new."""
        values = dict(await self._room_on_sale())
        if "guest_id" in row.placeholders:
            values["guest_id"] = await self._saved_guest()
        if "booking_id" in row.placeholders:
            values["booking_id"] = await self._booking()
        return _Found(values)

    async def _fresh_address(self) -> _Found:
        return _Found({"email": f"{uuid4().hex}@example.org"})

    async def _login(self) -> _Found:
        return _Found({"email": self._world.guest.email, "password": PASSWORD})

    async def _cookie(self) -> _Found:
        person = await self._world.sign_up()
        return _Found({}, person, {"Cookie": f"refreshToken={person.refresh_token}"})

    async def _account(self) -> _Found:
        return _Found({}, await self._world.sign_up())

    async def _held(self) -> _Found:
        guest_id = await self._saved_guest()
        return _Found({"booking_id": await self._booking()}, body=lambda body: body and [guest_id])

    async def _with_guests(self) -> _Found:
        booking_id, guest_id = await self._booking(), await self._saved_guest()
        await self._world.done(self._world.guest, "POST", f"/v1/bookings/{booking_id}/addGuests", [guest_id])
        return _Found({"booking_id": booking_id})

    async def _hotel_with_room(self) -> _Found:
        return _Found(await self._new_room())

    async def _signature(self) -> _Found:
        return _Found({})

    async def _room_on_sale(self) -> Mapping[str, object]:
        if self._room is None:
            self._room = await self._new_room()
            await self._world.done(self._world.host, "PATCH", f"/v1/admin/hotels/{self._room['hotel_id']}/activate")
        return self._room

    async def _new_room(self) -> dict[str, object]:
        host = self._world.host
        hotel = await self._world.done(host, "POST", "/v1/admin/hotels", OPERATIONS["add_hotel"].example.body)
        path = f"/v1/admin/hotels/{hotel['id']}/rooms"
        room = await self._world.done(host, "POST", path, OPERATIONS["add_room"].example.body)
        return {"hotel_id": hotel["id"], "room_id": room["id"]}

    async def _saved_guest(self) -> int:
        made = await self._world.done(self._world.guest, "POST", "/v1/users/guests", {"name": "Ada", "age": 36})
        return int(made["id"])

    async def _booking(self) -> str:
        """A stay that is held for the guest, who has not paid yet."""
        stay = _filled(OPERATIONS["init"].example.body, _days() | dict(await self._room_on_sale()))
        return str((await self._world.done(self._world.guest, "POST", "/v1/bookings/init", stay))["id"])


def _filled(value: Any, values: Mapping[str, object]) -> Any:
    """Return an example's fields with those that exist in their place."""
    if isinstance(value, dict):
        return {name: values.get(name, _filled(each, values)) for name, each in value.items()}
    return value


def _days() -> dict[str, object]:
    first = datetime.now(UTC).date() + timedelta(days=uuid4().int % 200 + 30)
    days = {"check_in_date": 0, "check_out_date": 3, "start_date": 0, "end_date": 2, "from_date": 0, "to_date": 30}
    return {name: str(first + timedelta(days=more)) for name, more in days.items()}


def _signed(body: Any) -> dict[str, str]:
    """Return the header with which Stripe signs."""
    now = int(time.time())
    signature = hmac.new(WEBHOOK_SECRET.encode(), f"{now}.{json.dumps(body)}".encode(), hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={now},v1={signature}"}


@asynccontextmanager
async def open_world(system: System) -> AsyncIterator[World]:
    """Let people into a running system."""
    connector = aiohttp.TCPConnector(limit=0)
    # Cookies are told one by one: who sends which is what is tested.
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(60), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        world = World(system, session)
        await world.settle()
        yield world
