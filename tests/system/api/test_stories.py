"""A host builds a hotel from nothing, a guest finds it, pays, and is refunded; and nobody's name leaks on the way."""

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.client import Answer
from tests.support.log import open_log
from tests.support.waiting import wait_until
from tests.system.api.world import Person, Request, World
from topics.catalogue import CATALOGUE
from topics.kafka.settings import KafkaSettings

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

CARD = "4242424242424242"
FRIDAY = next(day for n in range(30, 37) if (day := datetime.now(UTC).date() + timedelta(days=n)).weekday() == 4)
#: These people's data; it belongs nowhere but in the database and in answers to themselves.
HOST_EMAIL = f"quetzal-{uuid4().hex}@canary.example"
GUEST_EMAIL = f"wombat-{uuid4().hex}@canary.example"
HOST_PASSWORD, GUEST_PASSWORD = "herons over 7 estuaries", "lanterns under 9 bridges"
HOST_NAME, GUEST_NAME, COMPANION = "Xanthippe Quillfeather", "Zebulon Marmaduke", "Ottoline Thistlewaite"


async def read(world: World, person: Person, path: str, **query: object) -> Any:
    answer = await world.ask(person, Request(method="GET", path=path, query=query))
    assert answer.status == 200, answer
    return answer.body


async def build_hotel(world: World, host: Person, city: str) -> tuple[int, int]:
    """Be a host from the first hotel to the activated one, as a browser would; the hotel's and the room's ids."""
    hotels = world.hotels_of(host)
    hotel_id = await hotels.hotel(
        name="The Heronry",
        city=city,
        time_zone="Europe/Lisbon",
        photos=["https://images.example/heronry.jpg"],
        amenities=["wifi", "breakfast"],
        contact_info={"phone": "+351 21 000 0000", "email": HOST_EMAIL, "address": "Rua do Rio 1"},
    )
    not_yet = await world.ask(host, Request(method="PATCH", path=f"/v1/admin/hotels/{hotel_id}/activate"))
    assert not_yet.status == 409
    room_id = await hotels.room(hotel_id, base_price="100.00", total_count=1)
    weekend = await world.ask(
        host,
        Request(
            method="PATCH",
            path=f"/v1/admin/inventory/rooms/{room_id}",
            query={"start_date": FRIDAY, "end_date": FRIDAY + timedelta(days=1)},
            body={"surge_factor": "1.5"},
        ),
    )
    assert [night["refused"] for night in weekend.body] == [None, None]
    await hotels.activate(hotel_id)
    return hotel_id, room_id


async def book(world: World, guest: Person, found: dict[str, Any], first: date, last: date) -> str:
    """Book the room that a search found, name who stays, and pay; the booking's id."""
    stay = {"check_in_date": str(first), "check_out_date": str(last)}
    booking = await world.done(
        guest, "POST", "/v1/bookings/init", {"hotel_id": found["id"], "room_id": found["room_id"], **stay}
    )
    assert booking["amount"] == found["total"]
    named = [
        (await world.done(guest, "POST", "/v1/users/guests", {"name": name, "age": 40}))["id"]
        for name in (GUEST_NAME, COMPANION)
    ]
    await world.done(guest, "POST", f"/v1/bookings/{booking['id']}/addGuests", named)
    checkout = await world.done(guest, "POST", f"/v1/bookings/{booking['id']}/payments")
    async with world.session.post(checkout["session_url"], data={"card": CARD}, allow_redirects=False) as paid:
        assert paid.status == 303
    return str(booking["id"])


async def becomes(world: World, guest: Person, booking_id: str, status: str) -> None:
    async def there() -> bool:
        booking = await read(world, guest, f"/v1/bookings/{booking_id}/status")
        return bool(booking["booking_status"] == status)

    await wait_until(there, message=f"the booking becomes {status}")


async def sold(world: World, host: Person, hotel_id: int, bookings: int) -> dict[str, Any]:
    """Return the report of the weekend once it has this many bookings."""
    report: dict[str, Any] = {}

    async def there() -> bool:
        days = {"start_date": FRIDAY, "end_date": FRIDAY + timedelta(days=2)}
        report.update(await read(world, host, f"/v1/admin/hotels/{hotel_id}/reports", **days))
        return bool(report["total_bookings"] == bookings)

    await wait_until(there, message=f"the report has {bookings} bookings")
    return report


async def test_a_host_builds_a_hotel_and_a_guest_stays_there_for_a_weekend_and_no_name_leaks(world: World) -> None:
    host = await world.sign_up(email=HOST_EMAIL, password=HOST_PASSWORD, name=HOST_NAME)
    host = host.holding((await world.done(host, "POST", "/v1/users/host"))["access_token"])
    city = f"Aveiro {uuid4().hex}"
    hotel_id, room_id = await build_hotel(world, host, city)

    guest = await world.sign_up(email=GUEST_EMAIL, password=GUEST_PASSWORD, name=GUEST_NAME)
    stay = {"city": city, "check_in_date": FRIDAY, "check_out_date": FRIDAY + timedelta(days=3), "guests": 2}
    # Friday and Saturday at one and a half times the price, Sunday at the price; on Monday they leave.
    [found] = await world.found(guest, "400.00", **stay)
    assert (found["id"], found["room_id"], found["rooms_left"]) == (hotel_id, room_id, 1)
    assert found["min_price"] == "133.33"

    booking_id = await book(world, guest, found, FRIDAY, FRIDAY + timedelta(days=3))
    await becomes(world, guest, booking_id, "CONFIRMED")
    await world.found(guest, **stay)
    report = await sold(world, host, hotel_id, 1)
    assert (report["total_revenue"], report["total_nights"], report["currency"]) == ("400.00", 3, "EUR")
    [arrival] = await read(world, host, f"/v1/admin/hotels/{hotel_id}/bookings")
    assert {who["name"] for who in arrival["guests"]} == {GUEST_NAME, COMPANION}

    await world.done(guest, "POST", f"/v1/bookings/{booking_id}/cancel")
    assert (await money(world, booking_id)) == (40_000, 40_000)
    assert (await sold(world, host, hotel_id, 0))["total_revenue"] == "0.00"
    [again] = await world.found(guest, "400.00", **stay)
    assert again["rooms_left"] == 1
    [mine] = await read(world, guest, "/v1/users/myBookings")
    assert (mine["id"], mine["booking_status"]) == (booking_id, "CANCELLED")

    kinds = {place.partition(" ")[0] for place in await places_of(world, [booking_id.encode()])}
    assert kinds >= {"booking.commands", "booking.events", "stripe.webhooks", "stripe"}, "the search looks there"
    assert await places_of(world, canaries([host, guest])) == []


async def money(world: World, booking_id: str) -> tuple[int, int]:
    """Return the amounts that Stripe captured and refunded for the booking, in minor units, once there is a refund."""
    found: list[tuple[int, int]] = []

    async def refunded() -> bool:
        money = await stripe(world, "/_sandbox/ledger")
        found[:] = [
            (paid["captured_minor"], paid["refunded_minor"])
            for paid in money["payment_intents"]
            if paid["metadata"].get("booking_id") == booking_id
        ]
        return any(back for _, back in found)

    await wait_until(refunded, message="the money goes back")
    [one] = found
    return one


async def stripe(world: World, path: str) -> Any:
    async with world.session.get(world.system.stripe_url + path) as response:
        return await response.json()


def canaries(people: list[Person]) -> list[bytes]:
    """Return the texts about these people that may be only in the database and in responses to themselves."""
    secrets = [HOST_EMAIL, GUEST_EMAIL, HOST_PASSWORD, GUEST_PASSWORD, HOST_NAME, GUEST_NAME, COMPANION]
    secrets += [token for person in people for token in (person.token, person.refresh_token) if token]
    return [form for secret in secrets for form in forms_of(secret)]


async def places_of(world: World, needles: list[bytes]) -> list[str]:
    """Return the places in which one of these texts occurs."""
    return [
        f"{place}: {needle!r}" async for place, content in everywhere(world) for needle in needles if needle in content
    ]


def forms_of(secret: str) -> Iterator[bytes]:
    """Yield a secret as it would be found, also behind a hash, in capitals, or by its single words."""
    yield secret.encode()
    yield secret.lower().encode()
    yield base64.b64encode(secret.encode())
    yield hashlib.sha256(secret.encode()).hexdigest().encode()
    if " " in secret and "@" not in secret:
        yield secret.rsplit(maxsplit=1)[-1].encode()


async def everywhere(world: World) -> AsyncIterator[tuple[str, bytes]]:
    """Yield every record of every topic, every log, and every request to Stripe."""
    kafka = KafkaSettings(_env_file=None, kafka_url=world.system.kafka_url, topic_partitions=4)
    async with open_log(kafka) as log:
        for topic in CATALOGUE:
            for records in (await log.read(topic)).values():
                for record in records:
                    headers = b" ".join(name.encode() + b"=" + value for name, value in record.headers)
                    yield f"{topic.name} at {record.offset}", b" ".join((record.key, headers, record.value or b""))
    for kind, folder in (("log", world.system.logs), ("stripe", world.system.folder / "stripe")):
        for path in files(folder):
            yield f"{kind} {path.name}", path.read_bytes()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_the_password_of_a_refused_login_is_in_no_log(world: World) -> None:
    tried = {"email": GUEST_EMAIL.replace("wombat", "dingo"), "password": "a guess that was 5 letters off"}
    answer: Answer = await world.ask(Person(), Request(method="POST", path="/v1/auth/login", body=tried))

    assert answer.status == 401
    for path in files(world.system.logs):
        content = path.read_bytes()
        assert not any(value.encode() in content for value in tried.values()), path
