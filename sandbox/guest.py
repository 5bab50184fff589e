"""A guest with a browser: asks the ingress over HTTP, and pays on Stripe's hosted page."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import aiohttp

from sandbox.hops import Hops

_POLL_SECONDS: Final = 0.1
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ENDED: Final = frozenset({"REJECTED", "CANCELLED", "EXPIRED"})


class Unexpected(RuntimeError):
    """An answer that a guest cannot go on with."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back over HTTP; `body` is decoded JSON, or the page's text."""

    request: str
    status: int
    body: Any
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{_ID.sub('{id}', self.request)}: {_phrase(self.status)}"


class Guest:
    """Somebody who books. Each method is what a click would send."""

    def __init__(self, http: aiohttp.ClientSession, url: str, hops: Hops) -> None:
        self._http = http
        self._url = url
        self._hops = hops
        self._headers: dict[str, str] = {}

    async def sign_up_and_log_in(self, email: str, password: str) -> None:
        """Make an account and use its token from now on."""
        account = {"email": email, "password": password}
        made = await self._ask("POST", "/v1/auth/signup", {**account, "name": "Grace Guest"}, expect=201)
        self._hops.tell(f"{email} has an account", str(made))
        login = await self._ask("POST", "/v1/auth/login", account)
        self._headers["Authorization"] = f"Bearer {login.body['access_token']}"
        self._hops.tell("logged in", str(login))

    async def save_guest(self, name: str) -> int:
        """Save who will stay; the guest's id."""
        saved = await self._ask("POST", "/v1/users/guests", {"name": name, "age": 37}, expect=201)
        self._hops.tell(f"{name} is saved as a guest", str(saved))
        return int(saved.body["id"])

    async def look_at(self, hotel_id: int) -> None:
        """Look at a hotel and its prices."""
        info = await self._ask("GET", f"/v1/hotels/{hotel_id}/info")
        hotel = info.body
        rooms = ", ".join(f"{room['type']} from {room['price_from']} {hotel['currency']}" for room in hotel["rooms"])
        self._hops.tell(f"{hotel['name']} in {hotel['city']} has: {rooms}", str(info))

    async def book(self, stay: Mapping[str, object], known: Callable[[UUID], None]) -> UUID:
        """Ask for a stay; its booking's id, told to `known` before the answer is."""
        accepted = await self._ask("POST", "/v1/bookings/init", stay, expect=202)
        booking_id = UUID(accepted.body["id"])
        known(booking_id)
        words = f"Accepted as {accepted.body['booking_status']}; to be asked for at its Location"
        self._hops.tell(words, f"{accepted}, {accepted.headers['Location']}")
        return booking_id

    async def add_guest(self, booking_id: UUID, guest_id: int) -> None:
        """Say who will stay, and wait for the decision."""
        added = await self._ask("POST", f"/v1/bookings/{booking_id}/addGuests", [guest_id], wait=True)
        self._hops.tell("The answer, with the guest in the booking", str(added))

    async def ask_for_payment(self, booking_id: UUID) -> str:
        """Ask to pay, and wait for where; the address of the hosted page."""
        asked = await self._ask("POST", f"/v1/bookings/{booking_id}/payments", wait=True)
        page_url = str(asked.body["session_url"])
        self._hops.tell("The answer, with the page to pay at", f"{asked}, {page_url}")
        return page_url

    async def pay(self, page_url: str, card: str) -> None:
        """Open Stripe's page and send its form, as a browser would."""
        async with self._http.get(page_url) as page:
            self._hops.tell("The browser shows Stripe's page", f"GET the page: {_phrase(page.status)}")
        async with self._http.post(page_url, data={"card": card}, allow_redirects=False) as paid:
            if paid.status != HTTPStatus.SEE_OTHER:
                raise Unexpected(f"the page answered {paid.status} to the card {card}")
            where = f"POST the page's form: {_phrase(paid.status)}, {paid.headers['Location']}"
            self._hops.tell(f"Paid with the card {card}; Stripe sends the browser back to us", where)

    async def poll_until(self, booking_id: UUID, status: str) -> None:
        """Ask for the status again and again until it is this one.

        Raises:
            Unexpected: the booking ended without it.
        """
        times = 0
        while True:
            times += 1
            told = await self._ask("GET", f"/v1/bookings/{booking_id}/status")
            now = told.body["booking_status"]
            if now == status:
                break
            if now in _ENDED:
                raise Unexpected(f"the booking is {now} ({told.body.get('reason')}), not {status}")
            await asyncio.sleep(_POLL_SECONDS)
        self._hops.tell(f"The status is {now}", f"{told} (asked {times} times)" if times > 1 else str(told))

    async def read_history(self, booking_id: UUID, last: str) -> None:
        """Read the booking's history once it tells of the event `last`."""
        while True:
            told = await self._ask("GET", f"/v1/bookings/{booking_id}")
            history = [entry["type"].split(".")[1].replace("_", " ") for entry in told.body["timeline"]]
            if any(entry["type"] == last for entry in told.body["timeline"]):
                break
            await asyncio.sleep(_POLL_SECONDS)
        self._hops.tell(f"Its history, from the log: {', '.join(history)}", str(told))

    async def _ask(
        self, method: str, path: str, body: object = None, *, expect: int = 200, wait: bool = False
    ) -> Answer:
        headers = self._headers | ({"Prefer": "wait=5"} if wait else {})
        async with self._http.request(method, self._url + path, json=body, headers=headers) as response:
            text = await response.text()
            if response.status != expect:
                raise Unexpected(f"{method} {path} was answered {response.status}: {text}")
            request = f"{method} {path}"
            return Answer(request=request, status=response.status, body=await response.json(), headers=response.headers)


def _phrase(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
