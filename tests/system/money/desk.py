"""The people of the tests of money: a host, guests who pay, an operator, and a person at Stripe's dashboard."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.support.client import Answer
from tests.support.hotels import HotelsOverHttp
from tests.support.log import Log
from tests.support.money import read_events
from tests.support.waiting import wait_until
from tests.system.path.guest import GOOD_CARD, Guest, House, Room
from topics.messages.commands import SetSaleTerms
from topics.messages.sale import SaleTerms


@dataclass
class Inn:
    """A hotel of a host, with one room type on sale."""

    host: Guest
    room: Room

    @property
    def path(self) -> str:
        """The path of the host's operations on the hotel."""
        return f"/v1/admin/hotels/{self.room.hotel_id}"

    async def listed(self, booking_id: str) -> dict[str, Any]:
        """Return a booking as the host sees it."""
        bookings = (await self.host.ask("GET", f"{self.path}/bookings")).body
        return next(booking for booking in bookings if booking["id"] == booking_id)

    async def revenue(self, first: int, last: int) -> list[str]:
        """Return the revenue of each night from `first` to `last` days from now."""
        path = f"{self.path}/reports?start_date={day(first)}&end_date={day(last)}"
        return [night["revenue"] for night in (await self.host.ask("GET", path)).body["by_day"]]


@dataclass
class Paid:
    """A booking that its guest has paid."""

    guest: Guest
    inn: Inn
    id: str
    payment_intent: str

    async def shown(self) -> dict[str, Any]:
        """Return the booking as its guest sees it."""
        body: dict[str, Any] = (await self.guest.ask("GET", f"/v1/bookings/{self.id}")).body
        return body

    async def refunds(self) -> list[dict[str, Any]]:
        """Return its refunds as its guest sees them."""
        found: list[dict[str, Any]] = (await self.shown())["refunds"]
        return found

    async def cancel(self) -> Answer:
        """Cancel as the guest."""
        return await self.guest.ask("POST", f"/v1/bookings/{self.id}/cancel")

    async def change_guests(self, *names: str) -> Answer:
        """Let others stay."""
        saved = [await self.guest.ask("POST", "/v1/users/guests", json={"name": name, "age": 37}) for name in names]
        ids = [guest.body["id"] for guest in saved]
        return await self.guest.ask("PUT", f"/v1/bookings/{self.id}/guests", json=ids)


class Desk:
    """The running system, with what tests of money do in it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._host: Guest | None = None
        self._guest: Guest | None = None

    @property
    def log(self) -> Log:
        """The log of the system."""
        return Log(self.house.kafka, self.house._producer)

    async def inn(self, *, price: str = "100.00", total: int = 10, **hotel: Any) -> Inn:
        """Open a hotel with one room type as a host does; all of them have one host."""
        host = await self._host_of_all()
        hotels = HotelsOverHttp(host.ask)
        hotel_id = await hotels.hotel(**hotel)
        room = Room(hotel_id, await hotels.room(hotel_id, base_price=price, total_count=total))
        await hotels.activate(hotel_id)
        await self.house.eventually("select count(*) >= 30 as so from inventory where room_id = %s", room.id)
        return Inn(host, room)

    async def sell_by(self, inn: Inn, terms: SaleTerms) -> None:
        """Sell an inn's room by these terms."""
        await self.house.send(SetSaleTerms(room_id=inn.room.id, hotel_id=inn.room.hotel_id, terms=terms))
        select = "select count(*) = 1 as so from room_sale_terms where version = %s and room_id = %s"
        await self.house.eventually(select, terms.version, inn.room.id)

    async def _host_of_all(self) -> Guest:
        if self._host is None:
            signed_up = await self.house.guest()
            token = (await signed_up.ask("POST", "/v1/users/host")).body["access_token"]
            self._host = Guest(self.house.session, signed_up.url, token)
        return self._host

    async def guest(self) -> Guest:
        """Return the guest who makes the bookings of all tests that need no account of their own."""
        if self._guest is None:
            self._guest = await self.house.guest()
        return self._guest

    async def paid(self, inn: Inn, *, card: str = GOOD_CARD, first: int = 20, nights: int = 2) -> Paid:
        """Let the guest book and pay."""
        guest = await self.guest()
        booking_id = await guest.booked(inn.room, first, nights)
        return await self.pay(guest, inn, booking_id, card=card)

    async def pay(self, guest: Guest, inn: Inn, booking_id: str, *, card: str = GOOD_CARD) -> Paid:
        """Let a guest name who stays, and pay."""
        return await self.pay_at(await guest.checkout(booking_id), guest, inn, booking_id, card=card)

    async def pay_at(self, page: str, guest: Guest, inn: Inn, booking_id: str, *, card: str = GOOD_CARD) -> Paid:
        """Let a guest pay at the address of the payment page."""
        session = page.rpartition("/")[2]
        paid = await self.house.stripe("POST", f"/_sandbox/sessions/{session}/pay", json={"card": card})
        await guest.becomes(booking_id, "CONFIRMED")
        return Paid(guest, inn, booking_id, paid["payment_intent"])

    async def refund_by_hand(self, paid: Paid, amount_minor: int | None = None) -> str:
        """Refund as a person does in Stripe's dashboard (None: all that is left); return the refund's id."""
        body = {} if amount_minor is None else {"amount_minor": amount_minor}
        refund = await self.house.stripe("POST", f"/_sandbox/payment_intents/{paid.payment_intent}/refund", json=body)
        return str(refund["id"])

    async def fail(self, refund_id: str) -> None:
        """Let a refund fail at Stripe, after it had succeeded."""
        await self.house.stripe("POST", f"/_sandbox/refunds/{refund_id}/fail", json={})

    async def dispute(self, paid: Paid) -> str:
        """Let the cardholder dispute the payment; return the dispute's id."""
        path = f"/_sandbox/payment_intents/{paid.payment_intent}/dispute"
        return str((await self.house.stripe("POST", path, json={}))["id"])

    async def decide(self, dispute_id: str, outcome: str) -> None:
        """Let the bank decide a dispute."""
        await self.house.stripe("POST", f"/_sandbox/disputes/{dispute_id}/close", json={"outcome": outcome})

    async def faults(self, *rules: dict[str, Any]) -> None:
        """Let Stripe have a bad day."""
        await self.house.stripe("POST", "/_sandbox/faults", json=list(rules))

    async def ledger(self, payment_intent: str) -> dict[str, Any]:
        """Return a payment as the ledger of the stand-in has it, in Stripe's unit."""
        entries = (await self.house.stripe("GET", "/_sandbox/ledger"))["payment_intents"]
        found: dict[str, Any] = next(entry for entry in entries if entry["payment_intent"] == payment_intent)
        return found

    async def sums(self, paid: Paid) -> tuple[int, int, int]:
        """Return the amounts captured, refunded and lost of a payment, in Stripe's unit."""
        entry = await self.ledger(paid.payment_intent)
        return entry["captured_minor"], entry["refunded_minor"], entry["lost_minor"]

    async def events(self, booking_id: str, kind: str) -> list[dict[str, Any]]:
        """Return the data of a booking's events of one kind, from the log."""
        return [
            dict(event)
            for name, event in await read_events(self.log)
            if name == f"booking.{kind}.v1" and event.get("booking_id") == booking_id
        ]

    async def happened(self, booking_id: str, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a booking has so many events of one kind, and return their data."""
        select = "select event from booking_timeline where booking_id = %s and type = %s order by sequence"

        async def there() -> list[dict[str, Any]]:
            found = [row["event"] for row in await self.house.rows(select, booking_id, f"booking.{kind}.v1")]
            return found if len(found) >= count else []

        found: list[dict[str, Any]] = await wait_until(there, message=f"{count} times {kind} of booking {booking_id}")
        assert len(found) == count, found
        return found

    async def operator(self, *arguments: str) -> tuple[int, str]:
        """Run `innkeeper` as an operator does; return its exit status and what it wrote."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "operators", *arguments),
            env=os.environ | self.house.system.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def explained(self, booking_id: str) -> list[str]:
        """Return the actions that a booking awaits, as `innkeeper explain` shows them."""
        status, out = await self.operator("explain", booking_id, "--json")
        assert status == 0, out
        return [f"{each['who']}: {each['what']}" for each in json.loads(out)["awaited"]]


def day(days: int) -> str:
    """Return the date so many days from now (UTC)."""
    on: date = datetime.now(UTC).date() + timedelta(days=days)
    return on.isoformat()
