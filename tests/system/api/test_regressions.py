"""The mistakes that a plain implementation of this interface makes, one test each, over HTTP on the whole system."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.ingress.house import WAIT
from tests.support.client import Answer
from tests.system.api.world import PASSWORD, Person, Request, World

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]

FIRST = datetime.now(UTC).date() + timedelta(days=60)


def night(days: int) -> date:
    return FIRST + timedelta(days=days)


class Inn:
    """A hotel with one room type, two such rooms for two guests at 100 euros, and its host."""

    def __init__(self, world: World, host: Person, hotel_id: int, room_id: int) -> None:
        self.world, self.host, self.hotel_id, self.room_id = world, host, hotel_id, room_id

    async def ask_for(self, guest: Person, first: int, last: int, rooms_count: object = 1) -> Answer:
        stay = {
            "hotel_id": self.hotel_id,
            "room_id": self.room_id,
            "check_in_date": str(night(first)),
            "check_out_date": str(night(last)),
            "rooms_count": rooms_count,
        }
        return await send(self.world, guest, "POST", "/v1/bookings/init", stay)

    async def change(self, **changes: object) -> Answer:
        """Change all nights of the first month."""
        path = f"/v1/admin/inventory/rooms/{self.room_id}"
        query = {"start_date": night(0), "end_date": night(30)}
        return await self.world.ask(self.host, Request(method="PATCH", path=path, query=query, body=changes))

    async def reserved(self, day: int) -> int:
        """Return how many rooms are held of a night."""
        path = f"/v1/admin/inventory/rooms/{self.room_id}"
        query = {"start_date": night(day), "end_date": night(day)}
        answer = await self.world.ask(self.host, Request(method="GET", path=path, query=query))
        return int(answer.body[0]["reserved_count"])


@pytest_asyncio.fixture(loop_scope="package")
async def inn(world: World) -> Inn:
    hotels = world.hotels_of(world.host)
    hotel_id = await hotels.hotel(name="Inn", city=f"City {uuid4().hex}")
    room_id = await hotels.room(hotel_id, base_price="100", total_count=2)
    await hotels.activate(hotel_id)
    return Inn(world, world.host, hotel_id, room_id)


async def send(world: World, person: Person, method: str, path: str, body: Any = None) -> Answer:
    return await world.ask(person, Request(method=method, path=path, body=body, headers=WAIT))


async def guests_named(world: World, guest: Person, count: int) -> list[int]:
    return [(await world.done(guest, "POST", "/v1/users/guests", {"name": f"Guest {n}"}))["id"] for n in range(count)]


async def test_cancelling_twice_gives_the_nights_back_once(inn: Inn) -> None:
    world = inn.world
    booking = (await inn.ask_for(world.guest, 0, 2)).body["id"]
    await inn.ask_for(world.stranger, 0, 2)

    cancelled = [await send(world, world.guest, "POST", f"/v1/bookings/{booking}/cancel") for _ in range(2)]

    assert [answer.status for answer in cancelled] == [204, 204]
    assert await inn.reserved(0) == 1


@pytest.mark.parametrize("rooms_count", [0, -1, -(2**31), 11, 1.5, "1", True, None])
async def test_rooms_are_counted_from_one_to_ten(inn: Inn, rooms_count: object) -> None:
    refused = await inn.ask_for(inn.world.guest, 0, 2, rooms_count)

    assert refused.status == 422
    assert await inn.reserved(0) == 0


async def test_a_stay_has_a_night(inn: Inn) -> None:
    assert (await inn.ask_for(inn.world.guest, 3, 3)).status == 422
    assert (await inn.ask_for(inn.world.guest, 3, 2)).status == 422


async def test_the_day_of_leaving_costs_nothing_and_is_free_for_the_next(inn: Inn) -> None:
    first = await inn.ask_for(inn.world.guest, 0, 2, rooms_count=2)
    second = await inn.ask_for(inn.world.stranger, 2, 3, rooms_count=2)

    assert (first.status, first.body["amount"]) == (201, "400.00")
    assert (second.status, second.body["amount"]) == (201, "200.00")


async def test_the_surge_is_in_the_amount(inn: Inn) -> None:
    await inn.change(surge_factor="1.255")

    assert (await inn.ask_for(inn.world.guest, 0, 1)).body["amount"] == "125.50"


async def test_a_hotel_that_is_not_active_takes_no_bookings(inn: Inn) -> None:
    await inn.world.done(inn.host, "PATCH", f"/v1/admin/hotels/{inn.hotel_id}/deactivate")

    async def refused() -> Answer:
        return await inn.ask_for(inn.world.guest, 0, 1)

    # The ingress caches the facts of rooms for some seconds.
    answer = await refused()
    while answer.status == 201:
        await send(inn.world, inn.world.guest, "POST", f"/v1/bookings/{answer.body['id']}/cancel")
        answer = await refused()
    assert (answer.status, answer.body["reason"]) == (409, "hotel_not_active")


async def test_somebody_elses_guest_is_refused_aloud(inn: Inn) -> None:
    world = inn.world
    booking = (await inn.ask_for(world.guest, 0, 1)).body["id"]
    mine, theirs = await guests_named(world, world.guest, 1), await guests_named(world, world.stranger, 1)

    refused = await send(world, world.guest, "POST", f"/v1/bookings/{booking}/addGuests", mine + theirs)

    assert (refused.status, refused.body["detail"]) == (404, f"no such guest: {theirs[0]}")
    shown = await send(world, world.guest, "GET", f"/v1/bookings/{booking}")
    assert (shown.body["booking_status"], shown.body["guests"]) == ("RESERVED", [])


async def test_no_more_guests_than_beds(inn: Inn) -> None:
    world = inn.world
    booking = (await inn.ask_for(world.guest, 0, 1)).body["id"]
    three = await guests_named(world, world.guest, 3)

    assert (await send(world, world.guest, "POST", f"/v1/bookings/{booking}/addGuests", three)).status == 422
    assert (await send(world, world.guest, "POST", f"/v1/bookings/{booking}/addGuests", three[:2])).status == 200


async def test_refreshing_gives_a_new_cookie(world: World) -> None:
    person = await world.sign_up()
    cookie = {"Cookie": f"refreshToken={person.refresh_token}"}

    refreshed = await world.ask(Person(), Request(method="POST", path="/v1/auth/refresh", headers=cookie))

    assert refreshed.status == 200
    assert refreshed.headers["Set-Cookie"].startswith("refreshToken=")
    assert person.refresh_token not in refreshed.headers["Set-Cookie"]


async def test_a_password_of_eighty_characters_is_refused_with_its_reason(world: World) -> None:
    for path in ("/v1/auth/signup", "/v1/auth/login"):
        account = {"email": f"{uuid4().hex}@example.org", "password": PASSWORD * 3}
        refused = await world.ask(Person(), Request(method="POST", path=path, body=account))
        assert refused.status == 422
        assert "72 bytes" in refused.body["detail"]


async def test_anybody_can_become_a_host_and_manage(world: World) -> None:
    host = await world.sign_up_host()

    assert await world.done(host, "GET", "/v1/admin/hotels") == []


async def test_there_are_never_fewer_rooms_than_are_sold(inn: Inn) -> None:
    await inn.ask_for(inn.world.guest, 1, 2, rooms_count=2)

    changed = await inn.change(total_count=1)
    room = f"/v1/admin/hotels/{inn.hotel_id}/rooms/{inn.room_id}"
    refused = await send(inn.world, inn.host, "PATCH", room, {"total_count": 1})

    assert [each["date"] for each in changed.body if each["refused"]] == [str(night(1))]
    assert (refused.status, [each["date"] for each in refused.body["refused"]]) == (409, [str(night(1))])


async def test_yesterday_is_over(inn: Inn) -> None:
    yesterday = (datetime.now(UTC).date() - FIRST).days - 1

    assert (await inn.ask_for(inn.world.guest, yesterday, 1)).status == 422


async def test_the_amount_is_the_decisions_though_the_search_showed_another(inn: Inn) -> None:
    world = inn.world
    hotel = await world.done(inn.host, "GET", f"/v1/admin/hotels/{inn.hotel_id}")
    stay = {"city": hotel["city"], "check_in_date": night(0), "check_out_date": night(2)}
    await world.found(world.guest, "200.00", **stay)

    await inn.change(price="120")
    booking = (await inn.ask_for(world.guest, 0, 2)).body

    assert booking["amount"] == "240.00"
    shown = await send(world, world.guest, "GET", f"/v1/bookings/{booking['id']}")
    assert shown.body["amount"] == "240.00"


async def test_an_address_has_one_account_in_whatever_letters(world: World) -> None:
    name = uuid4().hex
    await world.sign_up(email=f"{name}@example.org")

    again = {"email": f"{name.upper()}@Example.ORG", "password": PASSWORD}
    refused = await world.ask(Person(), Request(method="POST", path="/v1/auth/signup", body=again))
    logged_in = await world.ask(Person(), Request(method="POST", path="/v1/auth/login", body=again))

    assert (refused.status, refused.body["detail"]) == (400, "already registered")
    assert logged_in.status == 200
