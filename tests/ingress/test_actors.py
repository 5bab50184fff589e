"""Every command that a person sends names them by their account's id, and the request with which they did."""

import asyncio

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
