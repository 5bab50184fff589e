"""A request that is sent again is the same command again."""

import asyncio

from tests.ingress.house import STAY, House, StandInWorker
from tests.support.waiting import wait_until


async def test_one_key_fifty_times_at_once_is_one_booking(house: House, stand_in: StandInWorker) -> None:
    key = {"Idempotency-Key": "abc"}
    answered = await asyncio.gather(*(house.post("/v1/bookings/init", STAY, user=1, headers=key) for _ in range(50)))
    assert {answer.status for answer in answered} == {202}
    (booking_id,) = {answer.body["id"] for answer in answered}
    commands = [await stand_in.next_command() for _ in range(50)]
    assert {(command.envelope.id, command.envelope.subject) for command in commands} == {(booking_id, booking_id)}


async def test_a_key_stands_for_one_body_of_one_user_at_one_place(house: House, stand_in: StandInWorker) -> None:
    key = {"Idempotency-Key": "abc"}
    first = await house.post("/v1/bookings/init", STAY, user=1, headers=key)
    spelled_otherwise = await house.post("/v1/bookings/init", STAY | {"rooms_count": 1}, user=1, headers=key)
    assert spelled_otherwise.body == first.body
    other_body = await house.post("/v1/bookings/init", STAY | {"rooms_count": 2}, user=1, headers=key)
    assert other_body.status == 422
    other_user = await house.post("/v1/bookings/init", STAY, user=2, headers=key)
    assert (other_user.status, other_user.body["id"] != first.body["id"]) == (202, True)

    booking_id = await stand_in.add_booking(1)
    for path in ("payments", "cancel"):
        answers = [await house.post(f"/v1/bookings/{booking_id}/{path}", user=1, headers=key) for _ in range(2)]
        assert [answer.status for answer in answers] == [202, 202]
    commands = [await stand_in.next_command() for _ in range(7)]
    assert len({command.envelope.id for command in commands}) == 4


async def test_a_request_that_was_accepted_once_is_not_judged_again(house: House, stand_in: StandInWorker) -> None:
    key = {"Idempotency-Key": "abc"}
    first = await house.post("/v1/bookings/init", STAY, user=1, headers=key)
    await stand_in.connection.execute(b"update hotel set active = false")
    await wait_until(lambda: _is_refused(house), message="the hotel is still believed active")
    again = await house.post("/v1/bookings/init", STAY, user=1, headers=key)
    assert (again.status, again.body) == (first.status, first.body)


async def test_a_key_is_visible_ascii_of_some_length(house: House) -> None:
    for key in ("", "a b", "ä", "a" * 256):
        refused = await house.post("/v1/bookings/init", STAY, user=1, headers={"Idempotency-Key": key})
        assert refused.status == 422
    longest = {"Idempotency-Key": "a" * 255}
    assert (await house.post("/v1/bookings/init", STAY, user=1, headers=longest)).status == 202


async def _is_refused(house: House) -> bool:
    return (await house.post("/v1/bookings/init", STAY, user=1)).status == 409
