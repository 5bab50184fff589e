"""The table of Idempotency-Keys has lost its rows, as after a failover to a replica that did not have them yet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from ingress.bookings.ids import BookingIds
from ingress.database import Database
from ingress.log.idempotency import IdempotencyKeys, Ids
from operators.explain.explanation import made_at
from storage.settings import DatabaseSettings
from tests.ingress.conftest import ingress_settings, run_ingress
from tests.ingress.house import STAY, TODAY, WAIT, House, StandInWorker
from tests.ingress.managers import Worker, open_worker
from tests.support.client import Answer
from tests.support.waiting import wait_until
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import AddGuests, BlockNights, ReserveStay, ReserveTrip
from topics.messages.events import CodeUnchanged, CommandRefused
from topics.messages.values import BookingStatus, Refusal

INIT, TRIPS, DESK, BLOCKS = (
    "/v1/bookings/init",
    "/v1/trips",
    "/v1/admin/hotels/1/bookings",
    "/v1/admin/hotels/1/rooms/1/blocks",
)
KEY = {"Idempotency-Key": "abc"}
AND_WAIT = KEY | WAIT
OTHER_STAY = STAY | {"rooms_count": 2}
DATES = {name: STAY[name] for name in ("check_in_date", "check_out_date")}
TRIP = {"hotel_id": 1, **DATES, "legs": [{"room_id": 1}, {"room_id": 1, "rooms_count": 2}]}
AT_DESK: dict[str, Any] = {"room_id": 1, **DATES, "adults": 1, "contact": {"name": "Ada"}, "guests": [{"name": "Ada"}]}
BLOCK = {
    "start_date": STAY["check_in_date"],
    "end_date": STAY["check_in_date"],
    "rooms_count": 1,
    "reason": "maintenance",
}

users = st.integers(1, 2**63 - 1)
#: A caller, an endpoint, an Idempotency-Key and a body.
requests = st.tuples(
    st.sampled_from((1, 2, 2**63 - 1)),
    st.sampled_from(("/v1/bookings/init", "/bookings/init", "/v1/trips")),
    st.sampled_from(("a", "b", "/a", "a" * 255)),
    st.sampled_from(("body", "other body")),
)


class NoRows:
    """A database in which no key ever has a row."""

    @asynccontextmanager
    async def writing(self, *, is_note: bool = False) -> AsyncIterator["NoRows"]:
        yield self

    async def execute(self, _: object) -> "NoRows":
        return self

    def first(self) -> tuple[str]:
        return ("the key was inserted",)


async def ids_of(user_id: int, path: str, key: str, body: str, secret: str = "secret") -> Ids:
    """Return the ids of a request whose key has no row."""
    keys = IdempotencyKeys(cast(Database, NoRows()), secret)
    request = make_mocked_request("POST", path, headers={"Idempotency-Key": key})

    def new_ids(seed: bytes | None) -> Ids:
        assert seed is not None
        return Ids(seed.hex(), BookingIds(b"key").of_request(user_id, seed))

    return await keys.ids(request, user_id, body, new_ids)


@given(one=requests, other=requests)
async def test_the_same_user_endpoint_and_key_have_the_same_ids_and_no_others_do(
    one: tuple[int, str, str, str], other: tuple[int, str, str, str]
) -> None:
    first, second = await ids_of(*one), await ids_of(*other)
    same = one[:3] == other[:3]
    assert (first.command_id == second.command_id, first.booking_id == second.booking_id) == (same, same)
    assert (first.request_hash == second.request_hash) == (one == other)
    elsewhere = await ids_of(*one, secret="another installation's")
    assert elsewhere.command_id != first.command_id
    assert elsewhere.request_hash != first.request_hash


@given(user=users, other=users, seed=st.binary(min_size=16, max_size=16))
def test_an_id_that_follows_from_a_key_is_its_users_and_has_no_time(user: int, other: int, seed: bytes) -> None:
    ids = BookingIds(b"key")
    booking_id = ids.of_request(user, seed)
    assert (booking_id.version, booking_id.variant) == (8, "specified in RFC 4122")
    assert ids.was_issued_to(user, booking_id)
    assert ids.was_issued_to(other, booking_id) == (user == other)
    assert not BookingIds(b"other key").was_issued_to(user, booking_id)
    assert made_at(booking_id) is None
    assert made_at(ids.issue(user)) is not None


@pytest.fixture
async def worker(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Worker]:
    """A reservations worker that decides."""
    async with open_worker(kafka_settings, database) as worker:
        yield worker


async def lose(house: StandInWorker | Worker) -> None:
    """Lose the rows of all keys."""
    await house.connection.execute(b"delete from idempotency_key")


async def book(house: House, body: dict[str, Any] = STAY, headers: dict[str, str] = AND_WAIT) -> Answer:
    return await house.post(INIT, body, user=1, headers=headers)


async def test_the_same_request_is_the_same_booking_also_at_once(house: House, worker: Worker) -> None:
    first = await book(house)
    assert first.status == 201
    await lose(worker)

    again = await asyncio.gather(*(book(house, headers=AND_WAIT if wait else KEY) for wait in (1, 0) * 10))

    assert {answer.status for answer in again} == {201, 202}
    assert {answer.body["id"] for answer in again} == {first.body["id"]}
    ((count, hashes),) = await worker.rows("select count(*), array_agg(length(request_hash)) from booking")
    assert (count, hashes) == (1, [32])
    assert await worker.rows("select max(reserved_count) from inventory") == [(1,)]


async def test_another_request_with_the_key_is_refused_and_sells_nothing(house: House, worker: Worker) -> None:
    first = await book(house)
    for body in (OTHER_STAY, STAY | {"check_out_date": str(TODAY + (TODAY.resolution * 11))}):
        await lose(worker)
        refused = await book(house, body)
        assert (refused.status, "for another request" in refused.body["detail"]) == (422, True)
    await lose(worker)
    unwaited = await book(house, OTHER_STAY, KEY)
    assert (unwaited.status, unwaited.body["id"]) == (202, first.body["id"])
    assert (await book(house, OTHER_STAY)).status == 422
    assert await worker.rows("select id, rooms_count from booking") == [(UUID(first.body["id"]), 1)]
    assert await worker.rows("select max(reserved_count) from inventory") == [(1,)]


async def test_a_request_that_would_be_refused_now_has_its_booking(house: House, worker: Worker) -> None:
    first = await book(house)
    await lose(worker)
    await worker.connection.execute(b"update hotel set active = false")

    async def is_closed() -> bool:
        return (await house.post(INIT, STAY, user=1)).status == 409

    await wait_until(is_closed, message="the hotel is still believed active")
    again = await book(house)
    assert (again.status, again.body["id"]) == (201, first.body["id"])
    assert (await book(house, OTHER_STAY)).status == 422
    await lose(worker)
    assert (await house.post(INIT, STAY, user=1, headers={"Idempotency-Key": "new"})).status == 409


async def test_a_request_whose_booking_reached_the_cap_has_it(
    kafka_settings: KafkaSettings, database: DatabaseSettings, house: House, worker: Worker
) -> None:
    async with run_ingress(ingress_settings(max_unpaid_bookings=1), kafka_settings, database) as capped:
        first = await book(capped)
        await lose(worker)
        again = await book(capped)
        assert (again.status, again.body["id"]) == (201, first.body["id"])
        assert (await capped.post(INIT, STAY, user=1)).status == 429


async def test_the_same_request_is_the_same_command_while_it_is_not_decided(
    house: House, stand_in: StandInWorker
) -> None:
    first = await book(house, headers=KEY)
    await lose(stand_in)
    again = await asyncio.gather(*(book(house, headers=KEY) for _ in range(10)), book(house, OTHER_STAY, KEY))
    assert {answer.body.get("id") for answer in again} <= {first.body["id"], None}
    assert (await house.get(f"/v1/bookings/{first.body['id']}/status", user=1)).body["booking_status"] == "PENDING"

    sent = [await stand_in.next_command() for _ in range(1 + sum(answer.status == 202 for answer in again))]
    assert {command.envelope.id for command in sent} == {first.body["id"]}
    hashes = {
        (command.message.rooms_count, command.message.request_hash)
        for command in sent
        if isinstance(command.message, ReserveStay)
    }
    # Each body has one hash, and both bodies have different ones.
    assert len(dict(hashes)) == len(hashes) == len({hash for _, hash in hashes})


async def test_a_request_without_a_key_is_on_the_log_as_before(house: House, stand_in: StandInWorker) -> None:
    await book(house, headers={})
    message = (await stand_in.next_command()).message
    assert isinstance(message, ReserveStay)
    assert message.request_hash is None


async def test_a_key_of_a_release_before_keeps_its_ids(house: House, stand_in: StandInWorker) -> None:
    """The row has ids by chance; the booking was made without a hash."""
    await book(house, headers=KEY)
    older = UUID(int=7)
    await stand_in.connection.execute(
        "update idempotency_key set booking_id = %s, command_id = %s", (older, str(older))
    )
    again = await book(house, headers=KEY)
    assert (again.status, again.body["id"]) == (202, str(older))
    assert (await book(house, OTHER_STAY, KEY)).status == 422
    _, command = await stand_in.next_command(), await stand_in.next_command()
    assert command.envelope.id == str(older)
    assert isinstance(command.message, ReserveStay)
    assert command.message.request_hash is None


async def test_trips_bookings_at_the_desk_and_blocks_have_the_same_ids(house: House, stand_in: StandInWorker) -> None:
    await stand_in.connection.execute(b"update hotel set owner_id = 1 where id = 1")
    manager = house.manager_header(1) | KEY
    sent = []
    for path, body in ((TRIPS, TRIP), (DESK, AT_DESK), (BLOCKS, BLOCK)):
        answers = []
        for _ in range(2):
            answers.append(await house.post(path, body, headers=manager))
            await lose(stand_in)
        assert [answer.status for answer in answers] == [202, 202]
        assert answers[0].body["id"] == answers[1].body["id"]
        first, second = await stand_in.next_command(), await stand_in.next_command()
        assert (first.envelope.id, first.message) == (second.envelope.id, second.message)
        sent.append(first.message)
    trip, stay, block = sent
    assert isinstance(trip, ReserveTrip)
    assert isinstance(stay, ReserveStay)
    assert isinstance(block, BlockNights)
    assert stay.at_desk
    assert None not in (trip.request_hash, stay.request_hash)
    assert len({trip.booking_id, stay.booking_id, block.block_id}) == 3


async def test_a_refusal_by_the_worker_is_the_same_as_by_the_table(house: House, stand_in: StandInWorker) -> None:
    """The worker refuses a trip, and a code that the booking uses already does not know its request."""
    request = asyncio.create_task(house.post(TRIPS, TRIP, user=1, headers=AND_WAIT))
    command = await stand_in.next_command()
    assert isinstance(command.message, ReserveTrip)
    refusal = CommandRefused(
        room_id=1,
        booking_id=command.message.booking_id,
        command=command.message.message_type,
        reason=Refusal.ANOTHER_REQUEST,
        booking_status=BookingStatus.RESERVING,
    )
    await stand_in.publish(command, refusal)
    refused = await request
    assert (refused.status, "for another request" in refused.body["detail"]) == (422, True)

    await stand_in.connection.execute("insert into promo_code_name (hotel_id, code) values (1, 'SPRING')")
    request = asyncio.create_task(book(house, STAY | {"promo_code": "SPRING"}))
    claim = await stand_in.next_command()
    await stand_in.write_booking(UUID(claim.envelope.id), 1, "RESERVED", request_hash="of another request")
    await stand_in.publish(claim, CodeUnchanged(code_id=1, command="code.claim.v1", reason=None))
    refused = await request
    assert (refused.status, "for another request" in refused.body["detail"]) == (422, True)


async def test_the_people_of_another_request_at_the_desk_are_not_kept(house: House, stand_in: StandInWorker) -> None:
    await stand_in.connection.execute(b"update hotel set owner_id = 1 where id = 1")
    manager = house.manager_header(1) | KEY
    first = await house.post(DESK, AT_DESK, headers=manager)
    await stand_in.write_booking(UUID(first.body["id"]), None, "CONFIRMED", request_hash="of the first request")
    for table in (b"idempotency_key", b"desk_booking"):
        await stand_in.connection.execute(b"delete from " + table)
    refused = await house.post(DESK, AT_DESK | {"contact": {"name": "Eve"}}, headers=manager)
    assert refused.status == 422
    cursor = await stand_in.connection.execute(b"select count(*) from desk_booking")
    assert await cursor.fetchone() == (0,)


async def test_guests_are_named_by_the_list_of_their_own_request(house: House, stand_in: StandInWorker) -> None:
    booking_id = await stand_in.add_booking(1)
    guests = [
        (await house.post("/v1/users/guests", {"name": name, "age": 30}, user=1)).body["id"] for name in ("Ada", "Eve")
    ]
    lists = []
    for guest in (guests[0], guests[0], guests[1]):
        named = await house.post(f"/v1/bookings/{booking_id}/addGuests", [guest], user=1, headers=KEY)
        assert named.status == 202
        message = (await stand_in.next_command()).message
        assert isinstance(message, AddGuests)
        lists.append(message.guest_list_id)
        await lose(stand_in)
    assert lists[0] == lists[1] != lists[2]
