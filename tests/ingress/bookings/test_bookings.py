"""Bookings over HTTP, with a stand-in for the reservations worker."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.settings import DatabaseSettings
from tests.ingress.house import STAY, STAY_TIMES, TODAY, WAIT, House, LoggedCommand, StandInWorker
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until
from topics.messages.commands import AddGuests, CancelBooking, RequestPayment, ReserveStay
from topics.messages.events import (
    BookingCancelled,
    BookingEvent,
    BookingExpired,
    BookingRejected,
    BookingReserved,
    CheckoutOpened,
    CommandRefused,
    CommandRepeated,
    GuestsAdded,
    PaymentRequested,
)
from topics.messages.values import BookingStatus, CancelReason, Refusal, Rejection

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _reservation_of(command: LoggedCommand) -> BookingReserved:
    stay = command.message
    assert isinstance(stay, ReserveStay)
    return BookingReserved(
        room_id=stay.room_id,
        booking_id=stay.booking_id,
        user_id=stay.user_id,
        hotel_id=stay.hotel_id,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=stay.rooms_count,
        amount_minor=24000,
        currency="EUR",
        hold_expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


async def test_a_request_becomes_a_command_of_its_room_and_is_pending_until_decided(
    house: House, stand_in: StandInWorker
) -> None:
    response = await house.post("/v1/bookings/init", STAY, user=1, headers={"traceparent": TRACE, "X-Request-Id": "r1"})

    assert response.status == 202
    booking_id = response.body["id"]
    assert response.body == STAY | {"id": booking_id, "booking_status": "PENDING", "user_id": 1, "rooms_count": 1}
    assert response.headers["Location"] == f"/v1/bookings/{booking_id}/status"
    assert (response.headers["Retry-After"], response.headers["X-Request-Id"]) == ("1", "r1")

    command = await stand_in.next_command()
    assert command.key == b"1"
    assert command.message == ReserveStay(
        room_id=1,
        booking_id=UUID(booking_id),
        user_id=1,
        hotel_id=1,
        check_in=TODAY + timedelta(days=10),
        check_out=TODAY + timedelta(days=12),
        stay_times=STAY_TIMES,
        account_share_percent=50,
    )
    assert (command.envelope.source, command.envelope.traceparent) == ("innkeeper/ingress", TRACE)

    status = await house.get(f"/v1/bookings/{booking_id}/status", user=1)
    assert (status.status, status.body) == (200, {"id": booking_id, "booking_status": "PENDING"})
    shown = await house.get(f"/v1/bookings/{booking_id}", user=1)
    assert (shown.status, shown.body) == (200, {"id": booking_id, "booking_status": "PENDING"})
    for path in ("payments", "cancel"):
        early = await house.post(f"/v1/bookings/{booking_id}/{path}", user=1)
        assert (early.status, early.body["detail"]) == (409, "not decided yet, retry")
        assert early.headers["Retry-After"] == "1"

    await stand_in.write_booking(UUID(booking_id), 1, "REJECTED", rejection="sold_out", amount_minor=0)
    refused = await house.get(f"/v1/bookings/{booking_id}/status", user=1)
    words = "not so many rooms are free on each night of the stay"
    assert refused.body == {"id": booking_id, "booking_status": "REJECTED", "reason": "sold_out", "detail": words}


async def test_a_booking_is_its_own_guests_alone(house: House, stand_in: StandInWorker) -> None:
    pending = (await house.post("/v1/bookings/init", STAY, user=1)).body["id"]
    decided = await stand_in.add_booking(1)
    for booking_id in (pending, decided, uuid4()):
        for method, path in (
            ("GET", ""),
            ("GET", "/status"),
            ("POST", "/payments"),
            ("POST", "/cancel"),
            ("POST", "/addGuests"),
        ):
            body: dict[str, Any] = {"json": [1]} if path == "/addGuests" else {}
            response = await house.ask(method, f"/v1/bookings/{booking_id}{path}", user=2, **body)
            assert (response.status, response.body) == (404, {"detail": "no such booking"})
            assert (await house.ask(method, f"/v1/bookings/{booking_id}{path}", **body)).status == 401


def _days(check_in: int, nights: int) -> dict[str, str]:
    first = TODAY + timedelta(days=check_in)
    return {"check_in_date": str(first), "check_out_date": str(first + timedelta(days=nights))}


NONSENSE: list[tuple[dict[str, Any], int]] = [
    (_days(10, 0), 422),
    (_days(10, -1), 422),
    (_days(10, 31), 422),
    (_days(-2, 3), 422),
    (_days(366, 1), 422),
    ({"check_in_date": "2026-02-30"}, 422),
    ({"rooms_count": 0}, 422),
    ({"rooms_count": 11}, 422),
    ({"rooms_count": "2"}, 422),
    ({"room_id": 2**63}, 422),
    ({"room_id": 99}, 404),
    ({"room_id": 2}, 404),
    ({"hotel_id": 2, "room_id": 2}, 409),
    ({"status": "CONFIRMED"}, 422),
    ({"amount": 1}, 422),
    ({"user_id": 2}, 422),
    ({"agreed_nightly_minor": 1}, 422),
    ({"terms": "at_hotel"}, 422),
    ({"hold_seconds": 10**6}, 422),
]


async def test_a_request_that_makes_no_sense_never_reaches_the_log(house: House, stand_in: StandInWorker) -> None:
    for changes, status in NONSENSE:
        refused = await house.post("/v1/bookings/init", STAY | changes, user=1)
        assert (refused.status, type(refused.body["detail"])) == (status, str), changes

    accepted = await house.post("/v1/bookings/init", STAY, user=1)
    assert (await stand_in.next_command()).envelope.subject == accepted.body["id"]


async def test_bodies_are_json_and_no_larger_than_64_kb(house: House) -> None:
    for body, status in (
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"", 400),
        (b"[]", 422),
        (b'{"a": "' + b"x" * 64 * 1024 + b'"}', 413),
    ):
        as_json = {"Content-Type": "application/json"}
        refused = await house.ask("POST", "/v1/bookings/init", user=1, data=body, headers=as_json)
        assert (refused.status, type(refused.body["detail"])) == (status, str)


async def test_unknown_paths_and_methods_are_answered_in_the_same_form(house: House) -> None:
    assert (await house.get("/v1/nothing")).body == {"detail": "not found"}
    wrong = await house.get("/v1/bookings/init")
    assert (wrong.status, wrong.body, wrong.headers["Allow"]) == (405, {"detail": "method not allowed"}, "POST")
    assert (await house.get("/v1/bookings/1/status", user=1)).status == 404


async def test_a_request_that_waits_gets_the_booking_itself(house: House, stand_in: StandInWorker) -> None:
    asking = asyncio.create_task(house.post("/v1/bookings/init", STAY, user=1, headers=WAIT))
    command = await stand_in.next_command()
    await stand_in.publish(command, _reservation_of(command))

    answered = await asking
    assert answered.status == 201
    assert answered.headers["Preference-Applied"] == WAIT["Prefer"]
    assert answered.body["id"] == command.envelope.subject
    assert (answered.body["booking_status"], answered.body["amount"]) == ("RESERVED", "240.00")
    assert answered.body["hold_expires_at"] == "2030-01-01T00:00:00Z"


async def test_a_request_that_waits_gets_the_reason_of_a_refusal(house: House, stand_in: StandInWorker) -> None:
    asking = asyncio.create_task(house.post("/v1/bookings/init", STAY, user=1, headers=WAIT))
    command = await stand_in.next_command()
    stay = command.message
    assert isinstance(stay, ReserveStay)
    rejected = BookingRejected(
        room_id=1,
        booking_id=stay.booking_id,
        user_id=1,
        hotel_id=1,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=1,
        reason=Rejection.SOLD_OUT,
    )
    await stand_in.publish(command, rejected)

    answered = await asking
    assert answered.status == 409
    assert answered.body == {
        "detail": "refused: not so many rooms are free on each night of the stay",
        "reason": "sold_out",
        "id": str(stay.booking_id),
        "booking_status": "REJECTED",
    }


async def _rejected(house: House, stand_in: StandInWorker, reason: Rejection) -> Any:
    """Ask for a stay that the worker rejects; return the body of the 409, without the fields that all have."""
    asking = asyncio.create_task(house.post("/v1/bookings/init", STAY, user=1, headers=WAIT))
    command = await stand_in.next_command()
    stay = command.message
    assert isinstance(stay, ReserveStay)
    rejected = BookingRejected(
        room_id=1,
        booking_id=stay.booking_id,
        user_id=1,
        hotel_id=1,
        check_in=stay.check_in,
        check_out=stay.check_out,
        rooms_count=1,
        reason=reason,
    )
    await stand_in.publish(command, rejected)
    answered = await asking
    common = {"reason": reason.value, "id": str(stay.booking_id), "booking_status": "REJECTED"}
    assert (answered.status, answered.body) == (409, answered.body | common), answered
    return {name: value for name, value in answered.body.items() if name not in common}


@pytest.mark.parametrize(
    ("currency", "words"),
    [
        (
            "EUR",
            (
                "the amount to be paid is smaller or larger than can be charged in its currency; "
                "one payment must be from 0.50 to 999999.99 EUR"
            ),
        ),
        ("KPW", "payments in KPW are not possible"),
    ],
)
async def test_the_refusal_of_an_amount_that_cannot_be_charged_names_those_that_can(
    house: House, stand_in: StandInWorker, currency: str, words: str
) -> None:
    await stand_in.connection.execute("update hotel set currency = %s where id = 1", (currency,))
    assert await _rejected(house, stand_in, Rejection.NOT_CHARGEABLE) == {"detail": f"refused: {words}"}


async def _hold(stand_in: StandInWorker, status: str = "RESERVED", user: int = 1, **columns: Any) -> str:
    """Write a booking of the nights that `STAY` asks for, whose hold ends in an hour; return its id."""
    end = datetime.now(UTC) + timedelta(hours=1)
    return str(await stand_in.add_booking(user, status, **{"hold_expires_at": end} | columns))


async def test_a_stay_that_an_account_prevents_itself_is_refused_with_its_unpaid_bookings(
    house: House, stand_in: StandInWorker
) -> None:
    later: dict[str, Any] = {"check_in": STAY["check_out_date"], "check_out": str(TODAY + timedelta(days=14))}
    mine = [
        await _hold(stand_in),
        await _hold(stand_in, "PAYMENTS_PENDING", check_out=str(TODAY + timedelta(days=11))),
        # The timer has not ended the hold yet: it still has its nights.
        await _hold(stand_in, "GUESTS_ADDED", hold_expires_at=datetime.now(UTC) - timedelta(seconds=5)),
        await _hold(stand_in, "CONFIRMED", terms="at_hotel", hold_expires_at=None),
    ]
    await _hold(stand_in, "CONFIRMED", hold_expires_at=None)
    await _hold(stand_in, "EXPIRED")
    await _hold(stand_in, user=2)
    await _hold(stand_in, room_id=2)
    await _hold(stand_in, **later)

    sold_out = await _rejected(house, stand_in, Rejection.SOLD_OUT)
    share = await _rejected(house, stand_in, Rejection.ACCOUNT_SHARE)

    assert sold_out["unpaid_bookings"] == share["unpaid_bookings"] == sorted(mine)
    assert "this account itself holds rooms of these nights without paying" in sold_out["detail"]
    assert "cancel them" in sold_out["detail"]
    assert "too large a share" in share["detail"]


@pytest.mark.parametrize(("total", "allowed"), [(9, 4), (4, 2), (2, 2), (1, 2)])
async def test_the_share_of_an_account_is_named_in_rooms(
    house: House, stand_in: StandInWorker, total: int, allowed: int
) -> None:
    # The second night has the fewest rooms of the stay.
    await stand_in.connection.execute("update inventory set total_count = 10")
    night = TODAY + timedelta(days=11)
    await stand_in.connection.execute("update inventory set total_count = %s where date = %s", (total, night))

    share = await _rejected(house, stand_in, Rejection.ACCOUNT_SHARE)

    assert share["detail"].endswith(f"it may hold {allowed} rooms of a night unpaid")
    assert "unpaid_bookings" not in share


async def test_a_sold_out_stay_that_was_decided_before_names_the_accounts_own_holds(
    house: House, stand_in: StandInWorker
) -> None:
    """The ledger has the rejection: the answer to a repeated command is the same."""
    asking = asyncio.create_task(house.post("/v1/bookings/init", STAY, user=1, headers=WAIT))
    command = await stand_in.next_command()
    mine = await _hold(stand_in)
    booking_id = UUID(command.envelope.subject)
    await stand_in.write_booking(booking_id, 1, "REJECTED", rejection="sold_out")
    repeated = CommandRepeated(
        room_id=1,
        booking_id=booking_id,
        command=ReserveStay.message_type,
        booking_status=BookingStatus.REJECTED,
    )
    await stand_in.publish(command, repeated)

    answered = await asking
    assert (answered.status, answered.body["unpaid_bookings"]) == (409, [mine])


async def test_asking_to_pay_again_while_no_page_is_open_is_accepted_and_not_answered_without_a_page(
    house: House, stand_in: StandInWorker
) -> None:
    booking_id = await stand_in.add_booking(1, "PAYMENTS_PENDING")
    repeated = CommandRepeated(
        room_id=1,
        booking_id=booking_id,
        command=RequestPayment.message_type,
        booking_status=BookingStatus.PAYMENTS_PENDING,
    )
    for _ in range(2):
        _, answered = await _ask_and_publish(house, stand_in, f"{booking_id}/payments", [repeated])
        assert (answered.status, answered.body) == (
            202,
            {"id": str(booking_id), "booking_status": "PAYMENTS_PENDING"},
        )
        assert answered.headers["Location"] == f"/v1/bookings/{booking_id}/status"
        assert answered.headers["Retry-After"] == "1"
        assert "Preference-Applied" not in answered.headers

    # A booking that is paid has no page and needs none.
    await stand_in.connection.execute("update booking set status = 'CONFIRMED'")
    _, answered = await _ask_and_publish(house, stand_in, f"{booking_id}/payments", [repeated])
    assert (answered.status, answered.body["session_url"]) == (200, None)


@pytest.mark.parametrize("status", ["CONFIRMED", "CHECKED_IN"])
async def test_a_booking_that_is_paid_at_the_hotel_has_no_page_to_pay_at(
    house: House, stand_in: StandInWorker, status: str
) -> None:
    booking_id = await stand_in.add_booking(1, status, terms="at_hotel")

    refused = await house.post(f"/v1/bookings/{booking_id}/payments", user=1)

    assert (refused.status, refused.body["reason"], refused.body["booking_status"]) == (409, "paid_at_hotel", status)
    assert refused.body["detail"] == "refused: the stay is paid at the hotel, and cannot be paid for in advance"


async def test_a_request_that_waits_in_vain_gets_the_usual_answer(house: House, stand_in: StandInWorker) -> None:
    answered = await house.post("/v1/bookings/init", STAY, user=1, headers={"Prefer": "wait=1"})
    assert (answered.status, answered.body["booking_status"]) == (202, "PENDING")
    assert "Preference-Applied" not in answered.headers
    assert (await stand_in.next_command()).envelope.subject == answered.body["id"]


async def test_many_requests_that_wait_at_once_each_get_their_own_answer(house: House, stand_in: StandInWorker) -> None:
    asking = [
        asyncio.create_task(house.post("/v1/bookings/init", STAY, user=user, headers=WAIT)) for user in range(1, 31)
    ]
    for _ in asking:
        command = await stand_in.next_command()
        await stand_in.publish(command, _reservation_of(command))
    answered = await asyncio.gather(*asking)
    assert {answer.status for answer in answered} == {201}
    assert len({answer.body["id"] for answer in answered}) == 30


async def _guest_of(house: House, user: int) -> int:
    guest_id = (await house.post("/v1/users/guests", {"name": "Bo", "age": 7}, user=user)).body["id"]
    assert isinstance(guest_id, int)
    return guest_id


async def _ask_and_publish(
    house: House, stand_in: StandInWorker, path: str, events: list[BookingEvent], body: Any = None
) -> Any:
    asking = asyncio.create_task(house.post(f"/v1/bookings/{path}", body, user=1, headers=WAIT))
    command = await stand_in.next_command()
    for event in events:
        await stand_in.publish(command, event)
    return command, await asking


async def test_a_guest_is_added_paid_for_and_cancelled(house: House, stand_in: StandInWorker) -> None:
    booking_id, guest_id = await stand_in.add_booking(1), await _guest_of(house, 1)
    about: dict[str, Any] = {"room_id": 1, "booking_id": booking_id}

    await stand_in.connection.execute(
        b"insert into booking_guest (booking_id, guest_id) values (%s, %s)", (booking_id, guest_id)
    )
    added = GuestsAdded(**about, guest_ids=(guest_id,))
    command, answered = await _ask_and_publish(house, stand_in, f"{booking_id}/addGuests", [added], [guest_id])
    (list_id,) = await (await stand_in.connection.execute("select id from guest_list")).fetchone() or ()
    assert command.message == AddGuests(**about, user_id=1, guest_ids=(guest_id,), guest_list_id=list_id)
    assert answered.status == 200
    assert answered.body["guests"] == [{"id": guest_id, "name": "Bo", "gender": None, "age": 7}]

    await stand_in.connection.execute(b"update booking set status = 'PAYMENTS_PENDING'")
    await stand_in.connection.execute(
        b"insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, url, "
        b"expires_at, causation, correlation) values (%s, 1, 1, 'open', '{}', 'k', 'http://pay/1', now(), 'c', 'c')",
        (booking_id,),
    )
    events: list[BookingEvent] = [
        PaymentRequested(**about, attempt=1, amount_minor=24000, currency="EUR"),
        CheckoutOpened(**about, attempt=1, session_id="cs_1"),
    ]
    command, answered = await _ask_and_publish(house, stand_in, f"{booking_id}/payments", events)
    assert command.message == RequestPayment(**about, user_id=1)
    assert answered.status == 200
    assert answered.body == {
        "id": str(booking_id),
        "booking_status": "PAYMENTS_PENDING",
        "session_url": "http://pay/1",
    }
    shown = await house.get(f"/v1/bookings/{booking_id}", user=1)
    assert (shown.body["session_url"], shown.body["amount"], shown.body["timeline"]) == ("http://pay/1", "240.00", [])

    cancelled = BookingCancelled(**about, reason=CancelReason.BY_GUEST)
    command, answered = await _ask_and_publish(house, stand_in, f"{booking_id}/cancel", [cancelled])
    assert command.message == CancelBooking(**about, user_id=1, stay_times=STAY_TIMES)
    assert (answered.status, answered.body) == (204, None)
    assert answered.headers["Preference-Applied"] == WAIT["Prefer"]


async def test_a_hold_that_ends_under_a_command_is_answered_as_a_refusal(house: House, stand_in: StandInWorker) -> None:
    booking_id, guest_id = await stand_in.add_booking(1), await _guest_of(house, 1)
    about: dict[str, Any] = {"room_id": 1, "booking_id": booking_id}
    events: list[BookingEvent] = [
        BookingExpired(**about),
        CommandRefused(
            **about,
            command=AddGuests.message_type,
            reason=Refusal.HOLD_EXPIRED,
            booking_status=BookingStatus.EXPIRED,
        ),
    ]
    _, answered = await _ask_and_publish(house, stand_in, f"{booking_id}/addGuests", events, [guest_id])
    assert answered.status == 409
    assert (answered.body["reason"], answered.body["booking_status"]) == ("hold_expired", "EXPIRED")


async def test_guests_must_be_ones_own_named_once_and_find_a_bed(house: House, stand_in: StandInWorker) -> None:
    booking_id = await stand_in.add_booking(1)
    mine = [await _guest_of(house, 1) for _ in range(3)]
    others = await _guest_of(house, 2)
    path = f"/v1/bookings/{booking_id}/addGuests"
    for guests, status in (
        ([others], 404),
        ([999], 404),
        (mine, 422),
        ([mine[0], mine[0]], 422),
        ([], 422),
        ([0], 422),
        ({"guest_ids": mine[:1]}, 422),
    ):
        assert (await house.post(path, guests, user=1)).status == status
    assert (await house.post(path, mine[:2], user=1)).status == 202
    assert isinstance((await stand_in.next_command()).message, AddGuests)


async def test_a_request_without_a_body_takes_no_fields(house: House, stand_in: StandInWorker) -> None:
    booking_id = await stand_in.add_booking(1)
    assert (await house.post(f"/v1/bookings/{booking_id}/cancel", {"reason": "by_hotel"}, user=1)).status == 422
    answered = await house.post(f"/v1/bookings/{booking_id}/cancel", {}, user=1)
    assert (answered.status, answered.body) == (202, {"id": str(booking_id), "booking_status": "RESERVED"})


async def test_a_booking_has_its_history(house: House, stand_in: StandInWorker) -> None:
    booking_id = await stand_in.add_booking(1, "PAYMENTS_PENDING", failure="card_declined")
    await stand_in.connection.execute(
        b"insert into booking_timeline (booking_id, partition, sequence, event_id, type, time, event) "
        b"values (%(id)s, 0, 7, 'e', 'booking.reserved.v1', '2030-01-01T00:00:00Z', %(event)s),"
        # A repeated command that changed nothing is not in it.
        b"(%(id)s, 0, 8, 'f', 'booking.command_repeated.v1', '2030-01-01T00:00:01Z', %(event)s)",
        {"id": booking_id, "event": json.dumps({"room_id": 1})},
    )
    shown = (await house.get(f"/v1/bookings/{booking_id}", user=1)).body
    assert shown["timeline"] == [
        {"sequence": 7, "type": "booking.reserved.v1", "time": "2030-01-01T00:00:00Z", "event": {"room_id": 1}}
    ]
    assert (shown["booking_status"], shown["reason"], "session_url" in shown) == (
        "PAYMENTS_PENDING",
        "card_declined",
        False,
    )


async def test_a_booking_and_its_history_are_of_one_moment(
    house: House, stand_in: StandInWorker, database: DatabaseSettings
) -> None:
    """A read while a hold ends gives the booking before that or after it, never a mixture."""
    booking_id = await stand_in.add_booking(1)
    named = {"id": booking_id}
    async with stand_in.connection.transaction():
        # The request stops half-way: it has read the booking, and not yet its history.
        await stand_in.connection.execute("lock table booking_timeline in access exclusive mode")
        reading = asyncio.create_task(house.get(f"/v1/bookings/{booking_id}", user=1))
        await wait_until(lambda: somebody_waits(database), message="the request waits for the history")
        await stand_in.connection.execute("update booking set status = 'EXPIRED' where id = %(id)s", named)
        await stand_in.connection.execute(
            "insert into booking_timeline (booking_id, partition, sequence, event_id, type, time, event)"
            " values (%(id)s, 0, 7, 'e', 'booking.expired.v1', '2030-01-01T00:00:00Z', '{}')",
            named,
        )
    during, after = (await reading).body, (await house.get(f"/v1/bookings/{booking_id}", user=1)).body

    assert (during["booking_status"], during["timeline"]) == ("RESERVED", [])
    assert (after["booking_status"], [event["type"] for event in after["timeline"]]) == (
        "EXPIRED",
        ["booking.expired.v1"],
    )


async def test_a_hotel_shows_its_rooms_and_their_prices(house: House) -> None:
    response = await house.get("/v1/hotels/1/info")
    assert (response.status, response.body["name"], response.body["currency"]) == (200, "Inn", "EUR")
    assert [(room["id"], room["base_price"], room["price_from"]) for room in response.body["rooms"]] == [
        (1, "120.00", "165.02")
    ]
    for hotel_id in ("2", "99", "9" * 19):
        assert (await house.get(f"/v1/hotels/{hotel_id}/info")).status == 404
