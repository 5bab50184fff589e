"""Accounts that send requests to a whole system."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
from pydantic import SecretStr

from operators.accounts import grant
from operators.granted_roles import GrantedRole
from sandbox.system import System
from storage.settings import DatabaseSettings
from tests.ingress.house import WAIT
from tests.ingress.table import rows
from tests.support.client import Answer, Client
from tests.support.hotels import HotelsOverHttp
from tests.support.waiting import wait_until

GOOD_CARD = "4242424242424242"
PASSWORD = "an estuary of 41 quiet herons"
OPERATIONS = {row.id: row for row in rows()}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, without its sender."""

    method: str
    path: str
    query: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, kw_only=True)
class Person:
    """An account, logged in. Without a token it is nobody, whose id is 0."""

    id: int = 0
    email: str = ""
    token: str | None = None
    refresh_token: str = ""

    def holding(self, token: str | None) -> "Person":
        """Return the person with another token."""
        return replace(self, token=token)


class Room(NamedTuple):
    """A room type of a hotel."""

    hotel_id: int
    room_id: int


class World:
    """A system with accounts: a guest and a host that own the things of the examples, and one more of each."""

    guest: Person
    stranger: Person
    host: Person
    rival: Person
    operator: Person

    def __init__(self, system: System, session: aiohttp.ClientSession) -> None:
        self.system = system
        self.session = session

    async def settle(self) -> None:
        """Sign everybody up."""
        self.guest, self.stranger = await self.sign_up(), await self.sign_up()
        self.host, self.rival = await self.sign_up_host(), await self.sign_up_host()
        self.operator = await self.sign_up_operator()

    async def ask(self, person: Person, request: Request) -> Answer:
        """Send a request as this person, and again while the answer is to try again."""
        headers = dict(request.headers)
        if request.body is not None:
            headers.setdefault("Content-Type", "application/json")
        return await Client(self.session, self.system.url, person.token).ask_until_answered(
            request.method,
            request.path,
            headers=headers,
            params={name: str(value) for name, value in request.query.items()},
            data=None if request.body is None else json.dumps(request.body),
        )

    async def found(self, person: Person, *totals: str, **query: object) -> list[Any]:
        """Return the hits of a search, once they have these totals: searches show decisions a little later."""
        request = Request(method="GET", path="/v1/hotels/search", query=query)

        async def matching() -> Answer | None:
            answer = await self.ask(person, request)
            assert answer.status == 200, answer
            return answer if [hit["total"] for hit in answer.body] == list(totals) else None

        answer = await wait_until(matching, message=f"hits for {totals} of {query}")
        assert answer is not None
        return list(answer.body)

    async def done(self, person: Person, method: str, path: str, body: Any = None) -> Any:
        """Send a request that must succeed, wait for its decision, and return its body."""
        request = Request(method=method, path=path, body=body, headers=WAIT)
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

    async def sign_up_operator(self) -> Person:
        """Make an account that the command line makes an operator's."""
        person = await self.sign_up()
        database = DatabaseSettings(_env_file=None, database_url=SecretStr(self.system.database_url))
        assert await grant(database, person.email, GrantedRole.OPERATOR, by="the tests")
        return await self.log_in(person.email, PASSWORD, person.id)

    async def new_room(self, host: Person, **described: object) -> Room:
        """Describe a hotel like the examples', not active yet, and put a room on sale in it."""
        hotels = self.hotels_of(host)
        hotel_id = await hotels.hotel(**_example("add_hotel"))
        room_id = await hotels.room(hotel_id, **{**_example("add_room"), **described})
        return Room(hotel_id=hotel_id, room_id=room_id)

    async def another_room(self, host: Person, hotel_id: int) -> int:
        """Put another room type of a hotel on sale; return its id."""
        return await self.hotels_of(host).room(hotel_id, **_example("add_room"))

    async def room_on_sale(self, host: Person, **described: object) -> Room:
        """Return a room of an active hotel."""
        room = await self.new_room(host, **described)
        await self.hotels_of(host).activate(room.hotel_id)
        return room

    def hotels_of(self, host: Person) -> HotelsOverHttp:
        """Return the builder of a host's hotels."""

        async def ask(method: str, path: str, body: Any) -> Answer:
            return await self.ask(host, Request(method=method, path=path, body=body, headers=WAIT))

        return HotelsOverHttp(ask)

    async def saved_guest(self, person: Person) -> int:
        """Save a guest who may stay."""
        return int((await self.done(person, "POST", "/v1/users/guests", {"name": "Ada", "age": 36}))["id"])

    async def booked(self, person: Person, room: Room, *, first: int = 30, nights: int = 3) -> str:
        """Hold a stay that begins `first` days from now; return the booking's id."""
        return str((await self.done(person, "POST", "/v1/bookings/init", stay(room, first, nights)))["id"])

    async def pay(self, person: Person, booking_id: str) -> None:
        """Pay for a hold with guests on Stripe's page, and wait until the payment is confirmed."""
        page = (await self.done(person, "POST", f"/v1/bookings/{booking_id}/payments"))["session_url"]
        async with self.session.post(page, data={"card": GOOD_CARD}, allow_redirects=False) as response:
            assert response.status == 303, response

        async def is_confirmed() -> bool:
            status = await self.done(person, "GET", f"/v1/bookings/{booking_id}/status")
            return bool(status["booking_status"] == "CONFIRMED")

        await wait_until(is_confirmed, message=f"booking {booking_id}, which is paid, is confirmed")

    async def unharmed(self) -> None:
        """Check that no part stopped, there is no dead letter and no unexpected error, and the audit finds nothing."""
        for log in self.system.logs.glob("*.log"):
            assert not re.search("ended|dead letter|critical|Traceback", log.read_text()), log
        audit = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "operators", "audit", "--json"),
            env=os.environ | self.system.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        found = (await audit.communicate())[0].decode()
        assert audit.returncode == 0, found


def _example(operation_id: str) -> dict[str, Any]:
    body = OPERATIONS[operation_id].example.body
    assert isinstance(body, dict)
    return body


def stay(room: Room, first: int = 30, nights: int = 3) -> dict[str, object]:
    """Return the body of a request for a stay that begins `first` days from now."""
    check_in = datetime.now(UTC).date() + timedelta(days=first)
    return {
        "hotel_id": room.hotel_id,
        "room_id": room.room_id,
        "check_in_date": str(check_in),
        "check_out_date": str(check_in + timedelta(days=nights)),
    }


def trip(room: Room, first: int = 30) -> dict[str, object]:
    """Return the body of a request for a trip of two legs that begins `first` days from now."""
    days = {name: value for name, value in stay(room, first).items() if name != "room_id"}
    return {**days, "legs": [{"room_id": room.room_id}] * 2}


@asynccontextmanager
async def open_world(system: System) -> AsyncIterator[World]:
    """Let people into a running system."""
    connector = aiohttp.TCPConnector(limit=0)
    # The tests choose the cookies of each request themselves.
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(300), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        world = World(system, session)
        await world.settle()
        yield world
