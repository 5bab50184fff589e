"""Every command that a person sends names them by their account's id, and the request with which they did."""

import asyncio

import pytest

from tests.ingress.house import STAY, House, StandInWorker
from topics.messages.commands import ReserveStay


async def test_a_command_names_the_account_and_the_request_that_sent_it(house: House, stand_in: StandInWorker) -> None:
    await house.post("/v1/bookings/init", STAY, user=1, headers={"X-Request-Id": "r1"})
    command = await stand_in.next_command()
    assert (command.envelope.actor, command.envelope.request_id) == ("user/1", "r1")

    # The same connection, and so the same task, answers somebody else.
    answered = await house.post("/v1/bookings/init", STAY, user=2)
    command = await stand_in.next_command()
    assert (command.envelope.actor, command.envelope.request_id) == ("user/2", answered.headers["X-Request-Id"])


@pytest.mark.parametrize("id", ["a", "z" * 64, "0-9_A.Z:7f", "1980e5a0-0000-8000-8000-000000000000"])
async def test_a_request_id_of_few_plain_characters_is_in_the_envelope(
    house: House, stand_in: StandInWorker, id: str
) -> None:
    await house.post("/v1/bookings/init", STAY, user=1, headers={"X-Request-Id": id})

    assert (await stand_in.next_command()).envelope.request_id == id


@pytest.mark.parametrize("id", ["ana@example.com", "z" * 65, "a/b", "a+b", "{a}", "a,b"])
async def test_a_request_id_of_free_text_is_in_the_response_and_not_in_the_envelope(
    house: House, stand_in: StandInWorker, id: str
) -> None:
    answered = await house.post("/v1/bookings/init", STAY, user=1, headers={"X-Request-Id": id})

    command = await stand_in.next_command()
    assert answered.headers["X-Request-Id"] == id
    assert (command.envelope.actor, command.envelope.request_id) == ("user/1", None)


async def test_requests_at_the_same_time_are_not_mixed_up(house: House, stand_in: StandInWorker) -> None:
    users = (1, 2) * 4
    await asyncio.gather(
        *(house.post("/v1/bookings/init", STAY, user=user, headers={"X-Request-Id": f"r{user}"}) for user in users)
    )

    commands = [await stand_in.next_command() for _ in users]

    named = sorted((command.envelope.actor, command.envelope.request_id) for command in commands)
    assert named == [("user/1", "r1")] * 4 + [("user/2", "r2")] * 4
    stays = [command.message for command in commands]
    assert all(isinstance(stay, ReserveStay) for stay in stays)
    assert [command.envelope.actor for command in commands] == [
        f"user/{stay.user_id}" for stay in stays if isinstance(stay, ReserveStay)
    ]
