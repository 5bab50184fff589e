"""Failed logins have to pause, longer each time; the user of an account, elsewhere, does not.

Each rule is tried where a process counts by itself, and where all count together in a real Redis.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client

from ingress.http.problems import Problem
from ingress.limits.counting import Script
from ingress.limits.login_delays import LoginDelays
from ingress.limits.redis_link import RedisLink
from ingress.settings import IngressSettings
from sandbox import redis
from tests.ingress.clocks import Clock
from tests.ingress.limits.test_limits import client_of, open_link

SETTINGS = IngressSettings(_env_file=None)
ANNA = "anna@example.com"
HOME, ELSEWHERE = "192.0.2.7", "198.51.100.1"
MINUTE = 60
#: No test comes near the expiry, which Redis measures by its own clock.
SEED = 375


class Door:
    """An ingress for logins, with a clock that the test moves."""

    def __init__(self, delays: LoginDelays, later: Callable[[float], Awaitable[None]]) -> None:
        self.delays = delays
        self.later = later

    async def pause(self, email: str = ANNA, address: str = HOME) -> int:
        """Begin an attempt; return 0, or for how many seconds it may not begin."""
        try:
            await self.delays.begin(email, address)
        except Problem as problem:
            return _seconds(problem)
        return 0

    async def fail(self, email: str = ANNA, address: str = HOME) -> int:
        """Try a wrong password; return 0, or for how many seconds it may not be tried."""
        seconds = await self.pause(email, address)
        if not seconds:
            await self.delays.fail(email, address)
        return seconds

    async def fail_patiently(self, times: int, email: str = ANNA, address: str = HOME) -> list[int]:
        """Try wrong passwords, each as soon as it may be; return how long each had to wait."""
        waited = []
        for _ in range(times):
            waited.append(await self.fail(email, address))
            if waited[-1]:
                await self.later(waited[-1])
                assert await self.fail(email, address) == 0
        return waited


def _seconds(problem: Problem) -> int:
    assert problem.status == 429
    assert problem.headers is not None
    seconds = int(problem.headers["Retry-After"])
    assert problem.detail == f"too many failed logins, try again in {seconds} s"
    return seconds


def own_door() -> Door:
    """Return the door of a process that counts by itself."""
    clock = Clock()

    async def later(seconds: float) -> None:
        clock.now_us += round(seconds * 1_000_000)

    return Door(LoginDelays(SETTINGS, clock_us=clock), later)


@cache
def with_given_time(script: Script) -> Script:
    """Return a script that reads the time from two keys: Redis' own clock runs on while the machine is frozen."""
    source = script.source.replace("redis.call('TIME')", "redis.call('MGET', 'seconds', 'microseconds')")
    assert source != script.source
    return Script(source)


class GivenTime:
    """A link to a Redis whose scripts get the time from the test."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[int]) -> int | None:
        """Run a script."""
        return await self._link.ask(with_given_time(script), keys, arguments)


async def shared_doors(client: Client, *links: RedisLink) -> list[Door]:
    """Return the doors of processes that count in Redis, which have one clock."""
    clock = Clock()

    async def later(seconds: float) -> None:
        clock.now_us += round(seconds * 1_000_000)
        await client.mset({"seconds": clock.now_us // 1_000_000, "microseconds": clock.now_us % 1_000_000})
        for key in await client.keys("innkeeper:login:*"):
            await client.pexpire(key, max(0, await client.pttl(key) - round(seconds * 1000)))

    await later(0)
    return [Door(LoginDelays(SETTINGS, GivenTime(link)), later) for link in links]


@pytest.fixture(params=["own", "redis"])
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    """A door, of both kinds."""
    if request.param == "own":
        yield own_door()
        return
    if (reason := redis.available()) is not None:
        pytest.skip(reason)
    async with (
        redis.Redis(tmp_path / "redis") as server,
        open_link(server.url) as link,
        client_of(server) as client,
    ):
        (door,) = await shared_doors(client, link)
        yield door


async def test_five_failures_are_free_and_then_each_doubles_the_pause(door: Door) -> None:
    assert await door.fail_patiently(5) == [0] * 5
    assert await door.fail_patiently(8) == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_a_pause_ends_at_its_time_and_an_early_attempt_makes_it_no_longer(door: Door) -> None:
    for _ in range(7):
        await door.fail_patiently(1)
    assert await door.pause() == 4
    await door.later(2.5)
    assert [await door.pause() for _ in range(5)] == [2] * 5
    await door.later(1.6)
    assert await door.pause() == 0


async def test_the_right_password_makes_all_failures_forgotten(door: Door) -> None:
    await door.fail_patiently(4)
    assert await door.pause() == 0
    await door.delays.succeed(ANNA, HOME)
    assert await door.fail_patiently(5) == [0] * 5
    assert await door.fail() == 1


async def test_a_stranger_elsewhere_does_not_slow_the_owner_down(door: Door) -> None:
    await door.fail_patiently(12, address=ELSEWHERE)
    assert await door.fail(address=ELSEWHERE) == 60
    assert await door.pause(address=HOME) == 0


async def test_an_account_is_the_same_in_upper_or_lower_case(door: Door) -> None:
    for email in (ANNA, ANNA.upper(), "Anna@Example.com", ANNA, ANNA):
        assert await door.fail(email) == 0
    assert await door.fail("ANNA@example.COM") == 1
    assert await door.fail("bo@example.com") == 0


async def test_after_a_quiet_quarter_of_an_hour_all_is_forgotten(door: Door) -> None:
    await door.fail_patiently(12)
    await door.later(14 * MINUTE)
    assert await door.fail() == 0
    assert await door.fail() == 60
    await door.later(15 * MINUTE)
    assert await door.fail_patiently(5) == [0] * 5


async def test_fifty_guesses_at_once_are_five(door: Door) -> None:
    pauses = await asyncio.gather(*(door.pause() for _ in range(50)))
    assert sorted(pauses) == [0] * 5 + [1] * 45


async def test_a_client_that_tries_many_accounts_from_one_address_has_to_pause_as_well(door: Door) -> None:
    assert [await door.fail(f"{number}@example.com") for number in range(20)] == [0] * 20
    for number, seconds in enumerate((1, 2, 4, 8)):
        # An account of one's own does not make it forgotten.
        assert await door.fail(f"next-{number}@example.com") == seconds
        await door.later(seconds)
        assert await door.pause("own@example.com") == 0
        await door.delays.succeed("own@example.com", HOME)
        assert await door.fail(f"next-{number}@example.com") == 0
    assert await door.pause("other@example.com", ELSEWHERE) == 0


async def test_an_address_of_many_people_is_forgiven_a_quarter_of_an_hour_after_the_first_failure(door: Door) -> None:
    for minute in range(15):
        assert await door.fail(f"{minute}@example.com") == 0
        await door.later(MINUTE)
    assert [await door.fail(f"again-{number}@example.com") for number in range(20)] == [0] * 20
    assert await door.fail("late@example.com") == 1


async def test_many_people_of_one_address_may_log_in_at_once(door: Door) -> None:
    for round_of_people in range(3):
        people = [f"{number}-{round_of_people}@example.com" for number in range(19)]
        assert await asyncio.gather(*(door.pause(person) for person in people)) == [0] * 19
        await asyncio.gather(*(door.delays.succeed(person, HOME) for person in people))


async def test_an_attempt_that_nobody_could_judge_counts_for_nothing(door: Door) -> None:
    for _ in range(30):
        assert await door.pause() == 0
        await door.delays.withdraw(ANNA, HOME)
    await door.fail_patiently(4)
    assert await door.pause() == 0
    await door.delays.withdraw(ANNA, HOME)
    assert await door.fail() == 0
    assert await door.fail() == 1


async def test_delays_can_be_switched_off() -> None:
    delays = LoginDelays(IngressSettings(_env_file=None, login_delays=False), clock_us=Clock())
    for _ in range(30):
        await delays.begin(ANNA, HOME)
        await delays.fail(ANNA, HOME)


# In Redis.


async def test_redis_and_a_process_by_itself_come_to_the_same(redis_server: redis.Redis) -> None:
    chance = random.Random(SEED)
    async with open_link(redis_server.url) as link, client_of(redis_server) as client:
        doors = own_door(), *await shared_doors(client, link)
        for _ in range(150):
            email = f"{chance.randrange(3)}@example.com"
            address = chance.choice([HOME, ELSEWHERE])
            end = chance.choices(["fail", "succeed", "withdraw", "nothing"], [12, 1, 2, 1])[0]
            seconds = chance.choice([0, 0, 0, 0, 0.5, 1.5, 3.5, 30.5, 400.5])
            pauses = [await door.pause(email, address) for door in doors]
            assert pauses[0] == pauses[1]
            for door in doors:
                if end != "nothing" and not pauses[0]:
                    await getattr(door.delays, end)(email, address)
                await door.later(seconds)


async def test_processes_count_together_and_redis_learns_no_email(redis_server: redis.Redis) -> None:
    async with (
        open_link(redis_server.url) as one,
        open_link(redis_server.url) as other,
        client_of(redis_server) as client,
    ):
        doors = await shared_doors(client, one, other)
        assert [await doors[number % 2].fail() for number in range(6)] == [0] * 5 + [1]
        keys = await client.keys("innkeeper:*")
        assert len(keys) == len(await client.keys("*")) - len(("seconds", "microseconds")) == 2
        assert not any(b"anna" in key.lower() for key in keys)
        assert all([0 < await client.pttl(key) <= 15 * MINUTE * 1000 for key in keys])


async def test_a_pause_in_redis_is_measured_by_its_own_clock(redis_server: redis.Redis) -> None:
    async with open_link(redis_server.url) as link, client_of(redis_server) as client:
        door = Door(LoginDelays(SETTINGS, link), own_door().later)
        assert await door.fail() == 0
        for key in await client.keys("*"):
            await client.hset(key, "times", "30")
        assert await door.fail() == 0
        assert 0 < await door.fail() <= 60


async def test_without_redis_a_process_goes_on_by_itself(redis_server: redis.Redis) -> None:
    async with open_link(redis_server.url) as link:
        door = Door(LoginDelays(SETTINGS, link, clock_us=Clock()), own_door().later)
        for _ in range(5):
            assert await door.fail() == 0
        await redis_server.kill()
        assert [await door.fail() for _ in range(6)] == [0] * 5 + [1]
