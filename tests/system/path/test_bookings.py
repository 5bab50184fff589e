"""Guests who book, through every part of the system."""

import asyncio
import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.support.waiting import wait_until
from tests.system.path.guest import GOOD_CARD, Guest, House, Room, together
from topics.messages.commands import ReserveStay
from topics.messages.values import Terms

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.system]


@pytest_asyncio.fixture(scope="module", loop_scope="package", autouse=True)
async def unpaid(house: House, hasty: str) -> tuple[Guest, Room, str]:
    """The last room's booking, which nobody pays: it is made first, so that its hold ends while other tests run."""
    guest, room = await house.guest(hasty), await house.room(total=1)
    return guest, room, await guest.booked(room)


async def test_a_guest_books_pays_and_has_the_room(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room, nights=2)

    assert await guest.pay(await guest.checkout(booking)) == 303

    await guest.becomes(booking, "CONFIRMED")
    assert await house.money(booking) == (24_000, 0)
    assert await house.rows(
        "select distinct booked_count b, reserved_count r from inventory"
        " where room_id = %s and booked_count + reserved_count > 0",
        room.id,
    ) == [{"b": 1, "r": 0}]


async def test_the_answer_without_patience_is_202_and_leads_to_the_decision(house: House) -> None:
    guest, room = await house.guest(), await house.room()

    answer = await guest.book(room, wait=False)

    assert answer.status == 202
    assert answer.headers["Retry-After"]
    location = answer.headers["Location"]

    async def decided() -> bool:
        return bool((await guest.ask("GET", location)).body["booking_status"] == "RESERVED")

    await wait_until(decided)


async def test_a_bookings_page_shows_its_whole_history(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room)
    page = await guest.checkout(booking)
    assert (await guest.ask("GET", f"/v1/bookings/{booking}")).body["session_url"] == page
    await guest.pay(page)
    await guest.becomes(booking, "CONFIRMED")

    async def five_events() -> bool:
        timeline = (await guest.ask("GET", f"/v1/bookings/{booking}")).body["timeline"]
        return [entry["type"] for entry in timeline] == [
            "booking.reserved.v1",
            "booking.guests_added.v1",
            "booking.payment_requested.v1",
            "booking.checkout_opened.v1",
            "booking.confirmed.v1",
        ]

    await wait_until(five_events, message="the timeline has five events")
    assert "session_url" not in (await guest.ask("GET", f"/v1/bookings/{booking}")).body


async def test_a_thousand_requests_for_the_last_hundred_rooms_sell_exactly_a_hundred(house: House) -> None:
    guest, room = await house.guest(), await house.room(total=100)

    answers = await together(*(guest.book(room, nights=1, wait=False) for _ in range(1000)))

    assert Counter(answer.status for answer in answers) == {202: 1000}
    await house.eventually("select count(*) = 1000 as so from booking where room_id = %s", room.id)
    decided = await house.rows("select status, count(*) n from booking where room_id = %s group by 1", room.id)
    assert {row["status"]: row["n"] for row in decided} == {"RESERVED": 100, "REJECTED": 900}


async def test_of_two_overlapping_long_stays_in_the_last_room_one_is_refused_whole(house: House) -> None:
    guest, room = await house.guest(), await house.room(total=1)

    answers = await together(guest.book(room, first=10, nights=30), guest.book(room, first=39, nights=30))

    assert sorted(answer.status for answer in answers) == [201, 409]
    taken = await house.rows("select count(*) n from inventory where room_id = %s and reserved_count = 1", room.id)
    assert taken == [{"n": 30}]


async def test_one_guest_leaves_on_the_day_the_next_arrives(house: House) -> None:
    guest, room = await house.guest(), await house.room(total=1)

    answers = await together(guest.book(room, first=10, nights=3), guest.book(room, first=13, nights=3))

    assert [answer.status for answer in answers] == [201, 201]


async def test_one_idempotency_key_fifty_times_at_once_is_one_booking(house: House) -> None:
    guest, room = await house.guest(), await house.room()

    answers = await together(*(guest.book(room, key="the-same") for _ in range(50)))

    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert await house.rows("select count(*) n from booking where room_id = %s", room.id) == [{"n": 1}]


async def test_the_same_key_with_another_body_is_refused(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    assert (await guest.book(room, nights=2, key="k")).status == 201

    other = await guest.book(room, nights=3, key="k")

    assert other.status == 422
    assert other.body["detail"]


async def test_a_key_whose_row_is_lost_is_one_booking_all_the_same(house: House) -> None:
    """As after a failover to an asynchronous replica, or a restore of an older backup."""
    guest, room, other_room = await house.guest(), await house.room(), await house.room()
    first = await guest.book(room, key="k")
    lose = "delete from idempotency_key where booking_id = %s returning key"
    assert await house.rows(lose, first.body["id"]) == [{"key": "k"}]

    answers = await together(*(guest.book(room, key="k") for _ in range(20)))

    assert {(answer.status, answer.body["id"]) for answer in answers} == {(201, first.body["id"])}
    for body in ({"room": room, "nights": 3}, {"room": other_room}):
        await house.rows(lose, first.body["id"])
        refused = await guest.book(**body, key="k")
        assert (refused.status, "for another request" in refused.body["detail"]) == (422, True)
    found = await house.rows("select id::text from booking where room_id in (%s, %s)", room.id, other_room.id)
    assert found == [{"id": first.body["id"]}]


async def test_somebody_elses_booking_is_not_found(house: House) -> None:
    owner, stranger, room = await house.guest(), await house.guest(), await house.room()
    booking = await owner.booked(room)

    for method, path in (("GET", ""), ("GET", "/status"), ("POST", "/cancel"), ("POST", "/payments")):
        assert (await stranger.ask(method, f"/v1/bookings/{booking}{path}")).status == 404
    assert await owner.status(booking) == "RESERVED"


async def test_a_hold_that_is_not_paid_ends_by_itself_and_its_nights_are_free_again(
    unpaid: tuple[Guest, Room, str],
) -> None:
    guest, room, booking = unpaid

    await guest.becomes(booking, "EXPIRED")

    assert (await guest.book(room)).status == 201


async def test_a_declined_card_leaves_the_booking_payable(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    booking = await guest.booked(room)
    page = await guest.checkout(booking)

    await guest.pay(page, "4000000000000002")

    await house.eventually("select failure is not null as so from booking where id = %s", booking)
    assert await guest.status(booking) == "PAYMENTS_PENDING"
    await guest.pay(page, GOOD_CARD)
    await guest.becomes(booking, "CONFIRMED")


async def test_a_stay_paid_at_the_hotel_is_confirmed_at_once_and_never_over_http(house: House) -> None:
    guest, room = await house.guest(), await house.room()
    today = datetime.now(UTC).date()
    agreed = ReserveStay(
        room_id=room.id,
        booking_id=uuid4(),
        hotel_id=room.hotel_id,
        check_in=today + timedelta(days=1),
        check_out=today + timedelta(days=3),
        terms=Terms.AT_HOTEL,
        agreed_nightly_minor=5_000,
    )
    await house.send(agreed)

    await house.eventually(
        "select count(*) = 1 as so from booking where id = %s and status = 'CONFIRMED'", agreed.booking_id
    )
    over_http = await guest.ask(
        "POST",
        "/v1/bookings/init",
        json={
            "hotel_id": room.hotel_id,
            "room_id": room.id,
            "terms": "at_hotel",
            "check_in_date": str(agreed.check_in),
            "check_out_date": str(agreed.check_out),
        },
    )
    assert over_http.status == 422


async def test_ten_thousand_holds_that_ended_while_nobody_looked_all_expire_once(house: House) -> None:
    room = await house.room(total=10_000)
    check_in = datetime.now(UTC).date() + timedelta(days=20)
    await house.system.stop_part("expiry-1")
    holds = [
        ReserveStay(
            room_id=room.id,
            booking_id=uuid4(),
            user_id=1,
            hotel_id=room.hotel_id,
            check_in=check_in,
            check_out=check_in + timedelta(days=1),
            hold_seconds=1,
        )
        for _ in range(10_000)
    ]
    await house.send(*holds)
    await house.eventually("select count(*) = 10000 as so from booking where room_id = %s", room.id)

    await house.system.start_part("expiry-1")

    await house.eventually(
        "select count(*) = 10000 as so from booking where room_id = %s and status = 'EXPIRED'", room.id
    )
    assert await house.rows(
        "select reserved_count from inventory where room_id = %s and date = %s", room.id, check_in
    ) == [{"reserved_count": 0}]
    statement = (
        "select count(*) n from booking_timeline t join booking b on b.id = t.booking_id"
        " where b.room_id = %s and t.type = 'booking.expired.v1'"
    )
    await house.eventually(f"select n = 10000 as so from ({statement}) x", room.id)


async def test_the_audit_finds_nothing_wrong_after_all_this(house: House) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "operators",
        "audit",
        "--json",
        env={**os.environ, **house.system.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert process.returncode == 0, out.decode() + err.decode()
