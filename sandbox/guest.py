"""A guest with a browser: asks the ingress over HTTP, and pays on Stripe's hosted page."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from sandbox.client import Client, Unexpected, phrase

_STATUS_POLL_SECONDS: Final = 0.1
_ENDED: Final = frozenset({"REJECTED", "CANCELLED", "EXPIRED"})


class Guest(Client):
    """A person who books. Each method sends the request of one click."""

    async def sign_up_and_log_in(self, email: str, password: str) -> None:
        """Make an account and use its token from now on."""
        account = {"email": email, "password": password}
        made = await self._ask("POST", "/v1/auth/signup", {**account, "name": "Grace Guest"}, expect=201)
        self._hops.show(f"{email} has an account", str(made))
        await self.log_in(email, password)

    async def save_guest(self, name: str) -> int:
        """Save a person who will stay; return the guest's id."""
        saved = await self._ask("POST", "/v1/users/guests", {"name": name, "age": 37}, expect=201)
        self._hops.show(f"{name} is saved as a guest", str(saved))
        return int(saved.body["id"])

    async def search(self, city: str, stay: Mapping[str, object]) -> None:
        """Look for hotels of a city that are free for the whole stay."""
        dates = {name: str(stay[name]) for name in ("check_in_date", "check_out_date")}
        found = await self._ask("GET", f"/v1/hotels/search?{urlencode({'city': city, **dates})}")
        hits = [f"{hit['name']}, {hit['min_price']} {hit['currency']} a night" for hit in found.body]
        self._hops.show(f"Free in {city} from {dates['check_in_date']}: {'; '.join(hits)}", str(found))

    async def look_at(self, hotel_id: int) -> None:
        """Look at a hotel and its prices."""
        info = await self._ask("GET", f"/v1/hotels/{hotel_id}/info")
        hotel = info.body
        rooms = ", ".join(f"{room['type']} from {room['price_from']} {hotel['currency']}" for room in hotel["rooms"])
        self._hops.show(f"{hotel['name']} in {hotel['city']} has: {rooms}", str(info))

    async def book(self, stay: Mapping[str, object], known: Callable[[UUID], None]) -> UUID:
        """Ask for a stay; its booking's id, passed to `known` before the response is shown."""
        accepted = await self._ask("POST", "/v1/bookings/init", stay, expect=202)
        booking_id = UUID(accepted.body["id"])
        known(booking_id)
        words = f"Accepted as {accepted.body['booking_status']}; to be asked for at its Location"
        self._hops.show(words, f"{accepted}, {accepted.headers['Location']}")
        return booking_id

    async def add_guest(self, booking_id: UUID, guest_id: int) -> None:
        """Add a guest to the booking, and wait for the decision."""
        added = await self._ask("POST", f"/v1/bookings/{booking_id}/addGuests", [guest_id], wait=True)
        self._hops.show("The answer, with the guest in the booking", str(added))

    async def ask_for_payment(self, booking_id: UUID) -> str:
        """Ask to pay, and wait for where; the address of the hosted page."""
        asked = await self._ask("POST", f"/v1/bookings/{booking_id}/payments", wait=True)
        page_url = str(asked.body["session_url"])
        self._hops.show("The answer, with the page to pay at", f"{asked}, {page_url}")
        return page_url

    async def pay(self, page_url: str, card: str) -> None:
        """Open Stripe's page and send its form, as a browser would."""
        async with self._http.get(page_url) as page:
            self._hops.show("The browser shows Stripe's page", f"GET the page: {phrase(page.status)}")
        async with self._http.post(page_url, data={"card": card}, allow_redirects=False) as paid:
            if paid.status != HTTPStatus.SEE_OTHER:
                raise Unexpected(f"the page answered {paid.status} to the card {card}")
            where = f"POST the page's form: {phrase(paid.status)}, {paid.headers['Location']}"
            self._hops.show(f"Paid with the card {card}; Stripe sends the browser back to us", where)

    async def poll_until(self, booking_id: UUID, status: str) -> None:
        """Ask for the status again and again until it is this one.

        Raises:
            Unexpected: the booking ended without it.
        """
        times = 0
        while True:
            times += 1
            response = await self._ask("GET", f"/v1/bookings/{booking_id}/status")
            now = response.body["booking_status"]
            if now == status:
                break
            if now in _ENDED:
                raise Unexpected(f"the booking is {now} ({response.body.get('reason')}), not {status}")
            await asyncio.sleep(_STATUS_POLL_SECONDS)
        self._hops.show(f"The status is {now}", f"{response} (asked {times} times)" if times > 1 else str(response))

    async def read_history(self, booking_id: UUID, last: str) -> None:
        """Read the booking's history once it has the event `last`."""
        while True:
            response = await self._ask("GET", f"/v1/bookings/{booking_id}")
            history = [entry["type"].split(".")[1].replace("_", " ") for entry in response.body["timeline"]]
            if any(entry["type"] == last for entry in response.body["timeline"]):
                break
            await asyncio.sleep(_STATUS_POLL_SECONDS)
        self._hops.show(f"Its history, from the log: {', '.join(history)}", str(response))
