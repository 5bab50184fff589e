"""A manager books for guests without an account: by plan and taxes, confirmed at once, with erasable people."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from storage import desk_bookings
from storage.settings import DatabaseSettings
from tests.ingress.conftest import broker_away, ingress_settings, run_ingress
from tests.ingress.house import STAY, STAY_TIMES, TODAY, WAIT, House, StandInWorker
from tests.ingress.managers import Worker, open_worker
from tests.support.client import Answer
from tests.support.hotels import HotelsInTables
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ClaimCode, ReserveStay
from topics.messages.events import BookingRejected
from topics.messages.sale import Party
from topics.messages.values import Rejection

MANAGER, OTHER_MANAGER = 2, 1
CONTACT = {"name": "Ada Lovelace", "email": "ada@example.com", "phone": "+41 31 000 00 00"}
GUESTS = [{"name": "Ada Lovelace"}, {"name": "Mary Somerville"}]
BODY: dict[str, Any] = {
    **{name: value for name, value in STAY.items() if name != "hotel_id"},
    "adults": 2,
    "contact": CONTACT,
    "guests": GUESTS,
}


@pytest.fixture
async def desk(stand_in: StandInWorker, house: House) -> StandInWorker:
    """The stand-in worker; hotel 1 is the manager's."""
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 1", (MANAGER,))
    await stand_in.connection.execute("update hotel set owner_id = %s where id = 2", (OTHER_MANAGER,))
    return stand_in


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings, house: House) -> AsyncIterator[Worker]:
    """A worker that decides; hotel 1 is the manager's."""
    async with open_worker(kafka_settings, database) as worker:
        await worker.rows("update hotel set owner_id = %s where id = 1 returning id", MANAGER)
        yield worker


async def ask(
    house: House,
    method: str = "POST",
    path: str = "",
    body: Any = None,
    *,
    hotel_id: int = 1,
    manager: int = MANAGER,
    headers: Mapping[str, str] = {},
) -> Answer:
    sent = house.manager_header(manager) | dict(headers)
    return await house.ask(method, f"/v1/admin/hotels/{hotel_id}/bookings{path}", body, headers=sent)


async def book(house: House, *, headers: Mapping[str, str] = WAIT, manager: int = MANAGER, **changes: Any) -> Answer:
    return await ask(house, body=BODY | changes, headers=headers, manager=manager)


async def test_a_booking_at_the_desk_is_a_command_without_names(house: House, desk: StandInWorker) -> None:
    accepted = await book(
        house, headers={"Idempotency-Key": "once"}, plan_id="flex", adults=1, children=[4], accepted_terms="v1"
    )

    booking_id = accepted.body["id"]
    assert (accepted.status, accepted.body) == (202, {"id": booking_id, "booking_status": "PENDING"})
    assert accepted.headers["Location"] == f"/v1/admin/hotels/1/bookings/{booking_id}"
    command = await desk.next_command()
    reserve = command.message
    assert isinstance(reserve, ReserveStay)
    assert reserve.guest_list_id is not None
    assert reserve == ReserveStay(
        room_id=1,
        booking_id=UUID(booking_id),
        hotel_id=1,
        check_in=reserve.check_in,
        check_out=reserve.check_out,
        rooms_count=1,
        plan_id="flex",
        party=Party(adults=1, child_ages=(4,)),
        stay_times=STAY_TIMES,
        at_desk=True,
        guest_list_id=reserve.guest_list_id,
        accepted_terms="v1",
        request_hash=reserve.request_hash,
    )
    assert str(reserve.check_in) == STAY["check_in_date"]
    # The guests' endpoints know no such booking, which has no account.
    assert (await house.get(f"/v1/bookings/{booking_id}", user=MANAGER)).status == 404
    pending = await ask(house, "GET", f"/{booking_id}")
    assert (pending.status, pending.body) == (200, accepted.body)
    assert (await ask(house, "GET", f"/{booking_id}", manager=OTHER_MANAGER)).status == 404


async def test_a_repeated_request_is_one_booking_with_the_people_of_the_first(
    house: House, desk: StandInWorker
) -> None:
    key = {"Idempotency-Key": "once"}
    answers = [await book(house, headers=key) for _ in range(2)]
    assert {answer.body["id"] for answer in answers} == {answers[0].body["id"]}
    assert (await book(house, headers=key, rooms_count=2)).status == 422
    first, second = [await desk.next_command() for _ in range(2)]
    assert (first.envelope.id, first.message) == (second.envelope.id, second.message)

    # The request does not bring back the people that were erased.
    erased = await ask(house, "DELETE", f"/{answers[0].body['id']}/contact")
    assert (erased.status, erased.body) == (204, None)
    await book(house, headers=key)
    found = await desk.connection.execute(
        "select contact_name, contact_email, contact_phone, guests, erased_at is not null"
        " from desk_booking join guest_list using (booking_id)"
    )
    assert await found.fetchall() == [("", None, None, None, True)]


async def test_the_people_of_a_booking_whose_command_was_not_sent_are_not_kept(
    desk: StandInWorker, database: DatabaseSettings
) -> None:
    async with run_ingress(ingress_settings(), broker_away(), database, ready=False) as house:
        for headers in ({}, {"Idempotency-Key": "once"}):
            refused = await book(house, headers=headers)
            assert (refused.status, refused.body["detail"]) == (503, "the broker is away; nothing was done, try again")
            assert await people(desk) == []
            assert await (await desk.connection.execute("select from guest_list")).fetchall() == []


async def test_the_same_request_that_is_sent_keeps_the_people_of_one_that_was_not(
    house: House, desk: StandInWorker, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, answers = {"Idempotency-Key": "once"}, []
    async with run_ingress(ingress_settings(), broker_away(), database, ready=False) as without_broker:
        remove = desk_bookings.remove_desk_booking

        async def remove_later(*which: Any) -> None:
            answers.append(await book(house, headers=key))
            await remove(*which)

        # Given a request that is not sent, and comes again before its people are removed
        monkeypatch.setattr(desk_bookings, "remove_desk_booking", remove_later)
        refused = await book(without_broker, headers=key)
    assert (refused.status, [answer.status for answer in answers]) == (503, [202])
    ((name, email, phone, names),) = await people(desk)
    assert {"name": name, "email": email, "phone": phone} == CONTACT
    assert [each["name"] for each in names] == [guest["name"] for guest in GUESTS]
    assert (await desk.next_command()).envelope.subject == answers[0].body["id"]


async def test_a_booking_without_names_has_no_list(house: House, desk: StandInWorker) -> None:
    accepted = await book(house, headers={}, guests=[], contact={"name": "Ada"})
    assert accepted.status == 202
    message = (await desk.next_command()).message
    assert isinstance(message, ReserveStay)
    assert message.guest_list_id is None
    found = await desk.connection.execute("select count(*) from guest_list")
    assert await found.fetchall() == [(0,)]


async def test_a_promo_code_is_claimed_without_an_account(house: House, desk: StandInWorker) -> None:
    found = await desk.connection.execute(
        "insert into promo_code_name (hotel_id, code) values (1, 'SUMMER') returning id"
    )
    ((code_id,),) = await found.fetchall()
    assert (await book(house, headers={}, promo_code="summer")).status == 202
    message = (await desk.next_command()).message
    assert isinstance(message, ClaimCode)
    assert message.reserve is not None
    assert (message.code_id, message.reserve.user_id, message.reserve.at_desk) == (code_id, None, True)
    unknown = await book(house, promo_code="WINTER")
    assert (unknown.status, unknown.body["reason"]) == (409, "no_such_code")


async def test_a_rejected_booking_has_its_reason(house: House, desk: StandInWorker) -> None:
    asking = asyncio.create_task(book(house))
    command = await desk.next_command()
    assert isinstance(command.message, ReserveStay)
    reserve = command.message
    rejected = BookingRejected(
        room_id=1,
        booking_id=reserve.booking_id,
        user_id=None,
        hotel_id=1,
        check_in=reserve.check_in,
        check_out=reserve.check_out,
        rooms_count=1,
        reason=Rejection.SOLD_OUT,
    )
    # A worker publishes the event after it has written the booking.
    await reject(desk, reserve.booking_id)
    await desk.publish(command, rejected)
    answer = await asking
    assert (answer.status, answer.body["reason"], answer.body["id"]) == (409, "sold_out", str(reserve.booking_id))
    assert await people(desk) == [("", None, None, None)]


@pytest.mark.parametrize("looks", ["booking", "list", "next"])
async def test_the_people_of_a_booking_that_is_rejected_after_its_answer_are_erased_once_anybody_looks(
    house: House, desk: StandInWorker, looks: str
) -> None:
    booking_id = UUID((await book(house, headers={})).body["id"])
    await reject(desk, booking_id)
    other = await book(house, headers={}, guests=[]) if looks == "next" else None
    if other is None:
        assert (await ask(house, "GET", f"/{booking_id}" if looks == "booking" else "")).status == 200
    assert ("", None, None, None) in await people(desk)
    assert [row[1] for row in await people(desk) if row[1]] == ([] if other is None else [CONTACT["email"]])
    shown = (await ask(house, "GET", f"/{booking_id}")).body
    assert (shown["booking_status"], "contact" in shown, shown["guests"]) == ("REJECTED", False, [])


async def reject(desk: StandInWorker, booking_id: UUID) -> None:
    await desk.write_booking(booking_id, None, "REJECTED", terms="at_hotel", rejection="sold_out")


async def people(desk: StandInWorker) -> list[tuple[Any, ...]]:
    found = await desk.connection.execute(
        "select contact_name, contact_email, contact_phone, guests from desk_booking"
        " left join guest_list using (booking_id)"
    )
    return await found.fetchall()


@pytest.mark.parametrize(
    ("changes", "places"), [({"adults": 1}, 1), ({"adults": None, "guests": [{"name": "Ada"}] * 9}, 4)], ids=str
)
async def test_no_more_guests_are_named_than_there_is_place_for(
    house: House, desk: StandInWorker, changes: dict[str, Any], places: int
) -> None:
    refused = await book(house, rooms_count=2 if places > 1 else 1, **changes)
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, "guests")
    assert f"place for {places}" in refused.body["detail"]
    assert await people(desk) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"contact": None},
        {"contact": {"email": "ada@example.com"}},
        {"contact": {"name": "Ada", "email": "ada"}},
        {"contact": {"name": " "}},
        {"guests": [{"name": ""}]},
        {"guests": ["Ada"]},
        {"guests": [{"name": "Ada", "age": 36}]},
        {"hotel_id": 1},
        {"adults": 0},
        {"adults": None, "children": [3]},
        {"check_out_date": STAY["check_in_date"]},
        {"check_in_date": str(TODAY.replace(year=TODAY.year - 1))},
        {"rooms_count": 11},
    ],
    ids=str,
)
async def test_a_request_that_makes_no_sense_stores_nothing(
    house: House, desk: StandInWorker, changes: dict[str, Any]
) -> None:
    assert (await book(house, **changes)).status == 422
    found = await desk.connection.execute("select count(*) from desk_booking")
    assert await found.fetchall() == [(0,)]


async def test_the_desk_is_its_hotels_managers_alone(house: House, desk: StandInWorker) -> None:
    booking_id = (await book(house, headers={})).body["id"]
    assert (await book(house, manager=OTHER_MANAGER)).status == 404
    assert (await book(house, room_id=2)).status == 404
    assert (await ask(house, body=BODY | {"room_id": 2}, hotel_id=2, manager=OTHER_MANAGER)).status == 409
    for hotel_id, manager in ((1, OTHER_MANAGER), (2, OTHER_MANAGER), (2, MANAGER)):
        for method, path in (("GET", f"/{booking_id}"), ("DELETE", f"/{booking_id}/contact")):
            refused = await ask(house, method, path, hotel_id=hotel_id, manager=manager)
            assert refused.status == 404, refused
    assert (await house.post("/v1/admin/hotels/1/bookings", BODY, user=MANAGER)).status == 403


async def test_the_people_of_a_guests_own_booking_are_not_the_managers_to_erase(
    house: House, desk: StandInWorker
) -> None:
    booking_id = await desk.add_booking(1, "CONFIRMED")
    assert (await ask(house, "DELETE", f"/{booking_id}/contact")).status == 404
    shown = await ask(house, "GET", f"/{booking_id}")
    assert (shown.status, shown.body["id"], "contact" in shown.body) == (200, str(booking_id), False)


async def test_a_walk_in_is_confirmed_at_once_and_seen_with_names_and_contact_until_they_are_erased(
    house: House, worker: Worker
) -> None:
    made = await book(house, headers=WAIT | {"Idempotency-Key": "once"}, accepted_terms="2026-11")

    assert made.status == 201, made
    path = f"/{made.body['id']}"
    assert made.headers["Location"] == f"/v1/admin/hotels/1/bookings{path}"
    assert (made.body["booking_status"], made.body["user_id"]) == ("CONFIRMED", None)
    assert (made.body["amount"], made.body["sale"]["due_at_hotel"]) == ("345.02", "345.02")
    assert (made.body["sale"]["payment"], made.body["accepted_terms"]) == ("at_hotel", "2026-11")
    assert made.body["contact"] == CONTACT
    named = [{"id": None, "name": "Ada Lovelace"}, {"id": None, "name": "Mary Somerville"}]
    assert made.body["guests"] == named
    assert (await ask(house, "GET", path)).body == made.body
    assert (await ask(house, "GET")).body == [made.body]
    again = await book(house, headers=WAIT | {"Idempotency-Key": "once"}, accepted_terms="2026-11")
    assert (again.status, again.body) == (201, made.body)

    assert (await ask(house, "DELETE", f"{path}/contact")).status == 204
    assert (await ask(house, "DELETE", f"{path}/contact")).status == 204

    shown = (await ask(house, "GET", path)).body
    assert ("contact" in shown, shown["guests"], shown["booking_status"]) == (False, [], "CONFIRMED")


async def test_a_walk_in_arrives_and_leaves_and_another_is_cancelled(house: House, worker: Worker) -> None:
    leaving = TODAY + timedelta(days=2)
    for number in range(2):
        await HotelsInTables(worker.connection).night(1, 1, TODAY + timedelta(days=number))
    days: dict[str, Any] = {"check_in_date": str(TODAY), "check_out_date": str(leaving)}
    stays = [(await book(house, **days)).body["id"] for _ in range(2)]

    arrived = await ask(house, path=f"/{stays[0]}/check-in", headers=WAIT)
    left = await ask(house, path=f"/{stays[0]}/check-out", headers=WAIT)
    cancelled = await ask(house, path=f"/{stays[1]}/cancel", body={"reason": "other"}, headers=WAIT)

    assert (arrived.status, arrived.body["booking_status"]) == (200, "CHECKED_IN"), arrived
    assert (left.status, left.body["booking_status"]) == (200, "CHECKED_OUT"), left
    assert cancelled.status == 204, cancelled
    listed = {booking["id"]: booking["booking_status"] for booking in (await ask(house, "GET")).body}
    assert listed == {stays[0]: "CHECKED_OUT", stays[1]: "CANCELLED"}
