"""Lists of bookings, page by page: a guest's own, and those of a manager's hotel."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.house import STAY, House, StandInWorker
from tests.support.client import Answer
from tests.support.hotels import HotelsInTables
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until

GUEST, MANAGER, OTHER_MANAGER = 1, 2, 3
T0 = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
FIRST = date(2027, 3, 1)
MINE = "/v1/users/myBookings"
OF_HOTEL = "/v1/admin/hotels/1/bookings"


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> StandInWorker:
    """The stand-in that writes the ledger; hotel 1 belongs to the manager, and has a second room (3)."""
    await stand_in.connection.execute(
        "insert into app_user (email, password_hash, name) values ('three@example.com', 'x', 'Three')"
    )
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    await HotelsInTables(stand_in.connection).room(1, type="suite", base_price_minor=1, total_count=1)
    return stand_in


async def bookings_of_guest(desk: StandInWorker, count: int, **columns: Any) -> list[UUID]:
    """Write bookings of the guest, each a minute younger than the one before; return their ids in that order."""
    return [
        await desk.add_booking(GUEST, **{"created_at": T0 + timedelta(minutes=number), **columns})
        for number in range(count)
    ]


async def all_pages(house: House, path: str, headers: dict[str, str]) -> list[list[str]]:
    """Follow the links from a first page to the last; return the ids on each."""
    pages = []
    while path:
        answered = await house.get(path, headers=headers)
        assert answered.status == 200, answered.body
        pages.append([booking["id"] for booking in answered.body])
        path = next_of(answered)
    return pages


def next_of(answered: Answer) -> str:
    link = answered.headers.get("Link", "")
    assert not link or link.endswith('>; rel="next"')
    return link.removeprefix("<").removesuffix('>; rel="next"')


def strings(ids: list[UUID]) -> list[str]:
    return [str(each) for each in ids]


# A guest's own.


async def test_a_guest_finds_all_about_each_of_their_bookings(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", created_at=T0, updated_at=T0, rooms_count=2)

    answered = await house.get(MINE, user=GUEST)

    assert answered.status == 200
    assert answered.body == [
        {
            "id": str(booking_id),
            "booking_status": "CONFIRMED",
            "user_id": GUEST,
            "hotel_id": 1,
            "hotel_name": "Inn",
            "room_id": 1,
            "room_type": "double",
            "check_in_date": STAY["check_in_date"],
            "check_out_date": STAY["check_out_date"],
            "rooms_count": 2,
            "amount": "240.00",
            "currency": "EUR",
            "created_at": "2026-11-01T12:00:00.123456Z",
            "updated_at": "2026-11-01T12:00:00.123456Z",
        }
    ]
    assert answered.headers["Cache-Control"] == "no-store"


async def test_a_refused_booking_has_its_reason_and_costs_nothing_in_the_hotels_currency(
    house: House, desk: StandInWorker
) -> None:
    await desk.add_booking(GUEST, "REJECTED", rejection="sold_out", amount_minor=0, currency="")

    (booking,) = (await house.get(MINE, user=GUEST)).body

    assert (booking["booking_status"], booking["reason"]) == ("REJECTED", "sold_out")
    assert (booking["amount"], booking["currency"]) == ("0.00", "EUR")


async def test_a_booking_of_a_hotel_that_nobody_describes_is_listed_all_the_same(
    house: House, desk: StandInWorker
) -> None:
    await desk.add_booking(GUEST, hotel_id=99, room_id=99)

    (booking,) = (await house.get(MINE, user=GUEST)).body

    assert (booking["hotel_name"], booking["room_type"]) == (None, None)


async def test_nobody_sees_the_bookings_of_others(house: House, desk: StandInWorker) -> None:
    await bookings_of_guest(desk, 2)

    assert (await house.get(MINE, user=MANAGER)).body == []
    assert (await house.get(MINE)).status == 401


async def test_the_newest_comes_first_page_by_page_while_new_ones_come(house: House, desk: StandInWorker) -> None:
    ids = await bookings_of_guest(desk, 5)
    first = await house.get(MINE, user=GUEST, params={"limit": 2})
    await desk.add_booking(GUEST, created_at=T0 + timedelta(days=1))

    rest = await all_pages(house, next_of(first), house.user_header(GUEST))

    newest_first = strings(ids[::-1])
    assert [[booking["id"] for booking in first.body], *rest] == [newest_first[:2], newest_first[2:4], newest_first[4:]]


async def test_bookings_of_the_same_moment_are_each_on_one_page(house: House, desk: StandInWorker) -> None:
    ids = await bookings_of_guest(desk, 5, created_at=T0)

    pages = await all_pages(house, f"{MINE}?limit=1", house.user_header(GUEST))

    assert sorted(id for page in pages for id in page) == sorted(strings(ids))


async def test_a_guest_asks_for_bookings_in_some_states(house: House, desk: StandInWorker) -> None:
    statuses = {}
    for status in ("RESERVED", "CONFIRMED", "CANCELLED", "CONFIRMED"):
        statuses[await desk.add_booking(GUEST, status)] = status

    pages = await all_pages(house, f"{MINE}?status=CONFIRMED&status=CANCELLED&limit=2", house.user_header(GUEST))
    with_commas = await house.get(f"{MINE}?status=CONFIRMED,CANCELLED", user=GUEST)

    expected = {str(id) for id, status in statuses.items() if status != "RESERVED"}
    assert {id for page in pages for id in page} == expected
    assert {booking["id"] for booking in with_commas.body} == expected
    assert (await house.get(f"{MINE}?status=PENDING", user=GUEST)).body == []


async def test_a_query_that_makes_no_sense_is_refused_by_name(house: House) -> None:
    for query, field in (
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("status=PAID", "status.0"),
        ("status=CONFIRMED&status=", "status.1"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=WzEsIjEiXQ", "cursor"),
        ("cursor=%00%ff", "cursor"),
        ("user_id=2", "user_id"),
    ):
        await must_be_refused(house, f"{MINE}?{query}", field, house.user_header(GUEST))


async def must_be_refused(house: House, path: str, field: str, headers: dict[str, str]) -> None:
    answered = await house.get(path, headers=headers)
    assert (answered.status, [error["field"] for error in answered.body["errors"]]) == (422, [field]), path


async def test_clients_of_old_get_the_same_list_and_its_new_address(house: House, desk: StandInWorker) -> None:
    await bookings_of_guest(desk, 3)

    answered = await house.get("/users/myBookings", user=GUEST, params={"limit": 2})

    links = answered.headers.getall("Link")  # type: ignore[attr-defined]
    assert len(answered.body) == 2
    assert {link.rpartition("; ")[2] for link in links} == {'rel="next"', 'rel="successor-version"'}


# A hotel's.


async def test_a_manager_sees_the_guests_names_without_their_addresses(house: House, desk: StandInWorker) -> None:
    await desk.connection.execute(
        "insert into guest (user_id, name, gender, age) values (1, 'Ada', 'FEMALE', 36), (1, 'Alan', 'MALE', 41)"
    )
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", created_at=T0, updated_at=T0)
    await desk.connection.execute(
        "insert into booking_guest (booking_id, guest_id) values (%(id)s, 2), (%(id)s, 1), (%(id)s, 77)",
        {"id": booking_id},
    )

    answered = await house.get(OF_HOTEL, headers=house.manager_header(MANAGER))

    assert answered.body == [
        {
            "id": str(booking_id),
            "booking_status": "CONFIRMED",
            "user_id": GUEST,
            "hotel_id": 1,
            "room_id": 1,
            "room_type": "double",
            "check_in_date": STAY["check_in_date"],
            "check_out_date": STAY["check_out_date"],
            "rooms_count": 1,
            "amount": "240.00",
            "currency": "EUR",
            "created_at": "2026-11-01T12:00:00.123456Z",
            "hold_expires_at": None,
            "updated_at": "2026-11-01T12:00:00.123456Z",
            "guests": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Alan"}, {"id": 77, "name": None}],
        }
    ]


async def test_bookings_and_their_guests_are_of_one_moment(
    house: House, desk: StandInWorker, database: DatabaseSettings
) -> None:
    booking_id = await desk.add_booking(GUEST)
    async with desk.connection.transaction():
        # The request stops half-way: it has read the bookings, and not yet their guests.
        await desk.connection.execute("lock table booking_guest in access exclusive mode")
        reading = asyncio.create_task(house.get(OF_HOTEL, headers=house.manager_header(MANAGER)))
        await wait_until(lambda: somebody_waits(database), message="the request waits for the guests")
        await desk.connection.execute("update booking set status = 'GUESTS_ADDED'")
        await desk.connection.execute("insert into booking_guest (booking_id, guest_id) values (%s, 7)", (booking_id,))
    [during], [after] = (await reading).body, (await house.get(OF_HOTEL, headers=house.manager_header(MANAGER))).body

    assert (during["booking_status"], during["guests"]) == ("RESERVED", [])
    assert (after["booking_status"], after["guests"]) == ("GUESTS_ADDED", [{"id": 7, "name": None}])


async def test_bookings_of_all_rooms_come_by_arrival_page_by_page(house: House, desk: StandInWorker) -> None:
    arrivals = []
    for number in range(7):
        check_in = FIRST + timedelta(days=number // 2)
        booking_id = await stay(desk, number // 2, number // 2 + 1, room_id=1 if number % 3 else 3)
        arrivals.append((check_in, booking_id))

    pages = await all_pages(house, f"{OF_HOTEL}?limit=3", house.manager_header(MANAGER))

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [id for page in pages for id in page] == [str(id) for _, id in sorted(arrivals)]


async def test_a_manager_asks_for_a_room_a_state_or_the_nights_of_some_dates(house: House, desk: StandInWorker) -> None:
    before = await stay(desk, 0, 2)
    into = await stay(desk, 1, 3)
    within = await stay(desk, 2, 3, room_id=3)
    over = await stay(desk, 0, 9, status="CANCELLED")
    from_the_last = await stay(desk, 4, 6)
    after = await stay(desk, 5, 6)

    async def found(query: str) -> set[UUID]:
        pages = await all_pages(house, f"{OF_HOTEL}?limit=2&{query}", house.manager_header(MANAGER))
        return {UUID(id) for page in pages for id in page}

    dates = f"from_date={FIRST + timedelta(days=2)}&to_date={FIRST + timedelta(days=4)}"
    assert await found("") == {before, into, within, over, from_the_last, after}
    assert await found(dates) == {into, within, over, from_the_last}
    assert await found(f"from_date={FIRST + timedelta(days=5)}") == {over, from_the_last, after}
    assert await found(f"to_date={FIRST}") == {before, over}
    assert await found("room_id=3") == {within}
    assert await found("room_id=2") == set()
    assert await found(f"{dates}&status=CANCELLED") == {over}


async def stay(desk: StandInWorker, first: int, end: int, *, status: str = "CONFIRMED", **columns: Any) -> UUID:
    """Write a stay of these days from the first on."""
    check_in, check_out = FIRST + timedelta(days=first), FIRST + timedelta(days=end)
    return await desk.add_booking(GUEST, status, check_in=check_in, check_out=check_out, **columns)


async def test_a_hotel_of_somebody_else_does_not_exist(house: House, desk: StandInWorker) -> None:
    await desk.add_booking(GUEST)

    assert (await house.get(OF_HOTEL, headers=house.manager_header(OTHER_MANAGER))).status == 404
    assert (await house.get("/v1/admin/hotels/2/bookings", headers=house.manager_header(MANAGER))).status == 404
    assert (await house.get("/v1/admin/hotels/99/bookings", headers=house.manager_header(MANAGER))).status == 404
    assert (await house.get(OF_HOTEL, user=MANAGER)).status == 403
    assert (await house.get(OF_HOTEL)).status == 401


async def test_a_hotel_that_was_deleted_does_not_exist(house: House, desk: StandInWorker) -> None:
    await desk.connection.execute("update hotel set deleted_at = now() where id = 1")

    assert (await house.get(OF_HOTEL, headers=house.manager_header(MANAGER))).status == 404


async def test_bookings_of_a_room_that_was_deleted_stay_in_the_list(house: House, desk: StandInWorker) -> None:
    booking_id = await desk.add_booking(GUEST, "CONFIRMED", room_id=3)
    await desk.connection.execute("update room set deleted_at = now() where id = 3")

    assert await all_pages(house, OF_HOTEL, house.manager_header(MANAGER)) == [[str(booking_id)]]


async def test_a_managers_query_that_makes_no_sense_is_refused_by_name(house: House, desk: StandInWorker) -> None:
    for query, field in (
        ("limit=101", "limit"),
        ("room_id=0", "room_id"),
        ("from_date=2027-02-30", "from_date"),
        ("from_date=0001-01-01", "from_date"),
        ("to_date=9999-12-31", "to_date"),
        ("from_date=2027-03-02&to_date=2027-03-01", "from_date"),
        ("cursor=WzEsIjEiXQ", "cursor"),
        ("hotel_id=2", "hotel_id"),
    ):
        await must_be_refused(house, f"{OF_HOTEL}?{query}", field, house.manager_header(MANAGER))
