"""Rate limits: token buckets by themselves, over HTTP, and shared through a real Redis."""

import asyncio
import itertools
import logging
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis as Client

from ingress.limits import redis_link
from ingress.limits.buckets import Buckets, Policy, Verdict
from ingress.limits.recent import MAX_KEYS, Recent
from ingress.limits.redis_link import RedisLink
from ingress.settings import IngressSettings
from sandbox.redis import PASSWORD, Redis
from tests.ingress.clocks import Clock
from tests.ingress.conftest import AMPLE_SECONDS, run_ingress_alone
from tests.ingress.house import House
from tests.support.client import Answer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

BURST = 20
USER = Policy("user", 100, BURST)
#: A token comes back after a minute: none does while a test runs on a real clock, however slow the machine.
SLOW = Policy("user", 1, BURST)
A_TOKEN_US = 600_000
HOTEL = "/v1/hotels/1/info"
PROFILE = "/v1/users/guests"


def test_a_user_may_ask_twenty_times_at_once_and_then_as_tokens_come_back() -> None:
    clock = Clock()
    buckets = Buckets(USER, clock_us=clock)
    at_once = [buckets.take(7) for _ in range(BURST + 1)]
    assert [verdict.remaining for verdict in at_once] == [*reversed(range(BURST)), 0]
    assert [verdict.allowed for verdict in at_once] == [True] * BURST + [False]
    assert (at_once[-1].limit, at_once[-1].retry_after_seconds, at_once[-1].reset_seconds) == (100, 1, 12)

    clock.now_us += A_TOKEN_US - 1
    assert not buckets.take(7).allowed
    clock.now_us += 1
    assert buckets.take(7).allowed
    assert not buckets.take(7).allowed

    clock.now_us += BURST * A_TOKEN_US
    assert buckets.take(7).remaining == BURST - 1


def test_one_users_requests_are_none_of_anothers() -> None:
    buckets = Buckets(USER, clock_us=Clock())
    assert not [buckets.take(7) for _ in range(BURST + 1)][-1].allowed
    assert buckets.take(8).remaining == BURST - 1


@given(
    per_minute=st.integers(1, 2000),
    burst=st.integers(1, 30),
    pauses_us=st.lists(st.one_of(st.just(0), st.integers(0, 3_000_000)), max_size=60),
)
@settings(deadline=None)
def test_a_bucket_is_what_counting_tokens_one_by_one_would_make_it(
    per_minute: int, burst: int, pauses_us: Sequence[int]
) -> None:
    clock = Clock()
    policy = Policy("user", per_minute, burst)
    buckets = Buckets(policy, clock_us=clock)
    # The bucket's content in microseconds: a token counts as the time in which it comes back.
    filled = policy.whole_us
    for pause_us in pauses_us:
        clock.now_us += pause_us
        filled = min(filled + pause_us, policy.whole_us)
        verdict = buckets.take("anybody")
        assert verdict.allowed == (filled >= policy.token_us)
        if verdict.allowed:
            filled -= policy.token_us
            assert verdict.remaining == filled // policy.token_us
        else:
            assert (verdict.retry_after_seconds - 1) * 1_000_000 < policy.token_us - filled
            assert verdict.retry_after_seconds * 1_000_000 >= policy.token_us - filled


def test_a_client_gets_its_remaining_requests_as_the_draft_has_it() -> None:
    clock = Clock()
    buckets = Buckets(USER, clock_us=clock)
    for _ in range(3):
        verdict = buckets.take(7)
    assert verdict.headers() == {"RateLimit-Policy": '"user";q=100;w=60', "RateLimit": '"user";r=17;t=2'}
    while verdict.allowed:
        verdict = buckets.take(7)
    assert verdict.headers() == {
        "RateLimit-Policy": '"user";q=100;w=60',
        "RateLimit": '"user";r=0;t=12',
        "Retry-After": "1",
    }


def test_a_million_addresses_take_no_more_memory_than_a_hundred_thousand() -> None:
    recent: Recent[int, int] = Recent(1000)
    for key in range(1_000_000):
        recent.put(key, key, now=1)
    assert len(recent) <= MAX_KEYS
    assert recent.get(999_999) == 999_999
    assert recent.get(0) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=40))
@settings(deadline=None)
def test_recent_values_are_kept_and_old_ones_go(steps: Sequence[tuple[int, int]]) -> None:
    recent: Recent[int, int] = Recent(100)
    put_at: dict[int, int] = {}
    now = 0
    for key, pause in steps:
        now += pause
        recent.put(key, now, now)
        put_at[key] = now
        for known, at in put_at.items():
            assert recent.get(known) == at or now - at >= 100
            assert recent.get(known) is None or now - at < 300


# Over HTTP.


async def _responses(house: House, times: int, path: str = HOTEL, **more: Any) -> list[Answer]:
    return [await house.get(path, **more) for _ in range(times)]


def _were_refused(answers: Sequence[Answer]) -> list[bool]:
    return [answered.status == 429 for answered in answers]


@pytest.mark.process
async def test_a_user_who_asks_too_much_is_refused_with_the_time_to_come_back() -> None:
    async with run_ingress_alone(rate_limits=True, user_requests_per_minute=1) as house:
        answers = [await house.post(PROFILE, {}, user=7) for _ in range(BURST + 1)]
        assert _were_refused(answers) == [False] * BURST + [True]
        assert answers[0].status == 422
        assert answers[0].headers["RateLimit"] == f'"user";r={BURST - 1};t=60'
        last = answers[-1]
        # A slow machine has let some of the minute pass meanwhile.
        seconds = int(last.headers["Retry-After"])
        assert 0 < seconds <= 60
        assert last.body == {"detail": f"too many requests, try again in {seconds} s"}
        assert last.headers["RateLimit-Policy"] == '"user";q=1;w=60'
        assert last.headers["RateLimit"] == f'"user";r=0;t={19 * 60 + seconds}'
        assert (await house.post(PROFILE, {}, user=8)).status == 422


@pytest.mark.process
async def test_a_user_is_the_same_from_everywhere_and_behind_every_mount() -> None:
    async with run_ingress_alone(rate_limits=True, user_requests_per_minute=1, trusted_proxies="127.0.0.1") as house:
        for number in range(BURST):
            path = PROFILE if number % 2 else PROFILE.removeprefix("/v1")
            await house.post(path, {}, user=7, headers={"X-Forwarded-For": f"192.0.2.{number}"})
        elsewhere = await house.post(PROFILE, {}, user=7, headers={"X-Forwarded-For": "198.51.100.1"})
        assert elsewhere.status == 429


@pytest.mark.process
async def test_a_client_without_a_token_or_with_a_forged_one_counts_by_address() -> None:
    forged = {"Authorization": f"Bearer {'x' * 40}"}
    async with run_ingress_alone(rate_limits=True, address_requests_per_minute=1, trusted_proxies="127.0.0.1") as house:
        answers = [await house.post(PROFILE, {}, headers=forged) for _ in range(BURST // 2)]
        assert {answered.status for answered in answers} == {401}
        assert answers[-1].headers["RateLimit-Policy"] == '"address";q=1;w=60'
        answers = await _responses(house, BURST // 2 + 1)
        assert _were_refused(answers) == [False] * (BURST // 2) + [True]
        assert (await house.post(PROFILE, {}, headers=forged)).status == 429
        # Requests from another address, and those of users, are not refused.
        assert (await house.get(HOTEL, headers={"X-Forwarded-For": "192.0.2.7"})).status != 429
        assert (await house.post(PROFILE, {}, user=7)).status == 422


@pytest.mark.process
async def test_stripe_and_those_who_watch_are_never_refused() -> None:
    async with run_ingress_alone(rate_limits=True, address_requests_per_minute=1, burst=1) as house:
        await house.get(HOTEL)
        assert (await house.get(HOTEL)).status == 429
        for _ in range(3):
            assert (await house.get("/health/live")).status == 200
            assert (await house.post("/webhooks/stripe", {})).status == 400


@pytest.mark.process
async def test_limits_can_be_switched_off() -> None:
    async with run_ingress_alone(rate_limits=False, address_requests_per_minute=1, burst=1) as house:
        answers = await _responses(house, 3)
        assert not any(_were_refused(answers))
        assert "RateLimit" not in answers[0].headers


# Shared through Redis.


def client_of(server: Redis) -> Client:
    """Return a test's own connection to Redis."""
    return Client.from_url(server.url, socket_timeout=None, socket_connect_timeout=None)


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[RedisLink]:
    """A process's link to Redis, found."""
    link = RedisLink(url)
    running = asyncio.create_task(link.run())
    try:
        await wait_until(lambda: link.ready, message="Redis was not found")
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.process
async def test_two_processes_count_together(redis_server: Redis) -> None:
    async with open_link(redis_server.url) as one, open_link(redis_server.url) as other:
        ours, theirs = Buckets(SLOW, one), Buckets(SLOW, other)
        verdicts = [await buckets.check(7) for _ in range(BURST // 2) for buckets in (ours, theirs)]
        assert all(verdict.allowed for verdict in verdicts)
        assert verdicts[0].remaining == BURST - 1
        refused = [await buckets.check(7) for buckets in (ours, theirs)]
        assert [verdict.allowed for verdict in refused] == [False, False]
        assert 0 < refused[0].retry_after_seconds <= 60
        assert refused[0].remaining == 0
        assert (await theirs.check(8)).remaining == BURST - 1


@pytest.mark.process
async def test_fifty_at_once_are_no_more_than_the_burst(redis_server: Redis) -> None:
    async with open_link(redis_server.url) as one, open_link(redis_server.url) as other:
        buckets = [Buckets(SLOW, one), Buckets(SLOW, other)]
        verdicts = await asyncio.gather(*(buckets[number % 2].check(7) for number in range(50)))
        assert sum(verdict.allowed for verdict in verdicts) == BURST


@pytest.mark.process
async def test_counts_in_redis_expire_by_themselves(redis_server: Redis) -> None:
    async with open_link(redis_server.url) as link, client_of(redis_server) as client:
        await Buckets(SLOW, link).check(7)
        (key,) = await client.keys("*")
        assert key == b"innkeeper:user:7"
        assert 0 < await client.pttl(key) <= SLOW.token_us / 1000


@pytest.mark.process
async def test_two_ingresses_are_one_limit(redis_server: Redis) -> None:
    shared: dict[str, Any] = {"rate_limits": True, "redis_url": redis_server.url, "user_requests_per_minute": 1}
    async with run_ingress_alone(**shared) as one, run_ingress_alone(**shared) as other:
        newcomers = itertools.count(100)

        async def both_have_found_redis() -> bool:
            newcomer = next(newcomers)
            responses = [await house.post(PROFILE, {}, user=newcomer) for house in (one, other)]
            return f";r={BURST - 2};" in responses[1].headers["RateLimit"]

        await wait_until(both_have_found_redis)
        for number in range(BURST):
            await (one, other)[number % 2].post(PROFILE, {}, user=7)
        assert [(await house.post(PROFILE, {}, user=7)).status for house in (one, other)] == [429, 429]


@pytest.mark.process
async def test_without_redis_every_process_counts_by_itself_until_it_is_back(
    redis_server: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "ingress")
    monkeypatch.setattr(redis_link, "_RECONNECT_SECONDS", 0.05)
    looks = 0
    async with open_link(redis_server.url) as link:
        find = link._find

        async def find_and_count() -> None:
            nonlocal looks
            looks += 1
            await find()

        monkeypatch.setattr(link, "_find", find_and_count)
        buckets = Buckets(SLOW, link)
        for _ in range(BURST):
            await buckets.check(7)
        assert not (await buckets.check(7)).allowed

        await redis_server.kill()
        assert [(await buckets.check(7)).remaining for _ in range(3)] == [19, 18, 17]
        assert not link.ready
        await wait_until(lambda: looks > 3, message="it does not look for Redis")
        await redis_server.start()
        await wait_until(lambda: link.ready, message="Redis was not found again")
        # It was restarted and has nothing, not even our script.
        assert (await buckets.check(7)).remaining == BURST - 1

    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, warnings
    assert "Redis is away" in warnings[0]
    assert PASSWORD not in caplog.text


@pytest.mark.process
async def test_a_connection_that_ends_just_before_it_is_used_is_an_outage_on_uvloop_too(redis_server: Redis) -> None:
    """The library looks whether a connection has ended when it takes it from the pool; it may end behind that."""

    async def story() -> None:
        async with open_link(redis_server.url) as link:
            pool: Any = link._redis.connection_pool
            take = pool.get_connection

            async def take_and_end(*arguments: Any, **options: Any) -> Any:
                connection = await take(*arguments, **options)
                connection._writer.transport.abort()
                await connection._writer.wait_closed()
                return connection

            pool.get_connection = take_and_end
            assert (await Buckets(SLOW, link).check(7)).remaining == BURST - 1
            assert not link.ready
            pool.get_connection = take
            await wait_until(lambda: link.ready, message="Redis was not found again")

    await asyncio.to_thread(uvloop.run, story())


@pytest.mark.process
@pytest.mark.parametrize(
    ("breaks", "mends", "reason"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "Redis is full"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "Redis is read-only"),
    ],
)
async def test_a_redis_that_takes_no_writes_is_named_once_until_it_takes_them_again(
    redis_server: Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    breaks: str,
    mends: str,
    reason: str,
) -> None:
    caplog.set_level(logging.INFO, "ingress")
    monkeypatch.setattr(redis_link, "_RECONNECT_SECONDS", 0.02)
    looks = 0
    async with open_link(redis_server.url) as link, client_of(redis_server) as client:
        find = link._find

        async def find_and_count() -> None:
            nonlocal looks
            looks += 1
            await find()

        async def looks_while_requests_come() -> bool:
            await buckets.check("guest")
            return looks > 3

        monkeypatch.setattr(link, "_find", find_and_count)
        buckets = Buckets(SLOW, link)
        await buckets.check(7)

        await client.execute_command(*breaks.split())  # type: ignore[no-untyped-call]
        assert (await buckets.check(7)).remaining == BURST - 1
        await wait_until(looks_while_requests_come, message="it looks for Redis")
        assert not link.ready
        await client.execute_command(*mends.split())  # type: ignore[no-untyped-call]
        await wait_until(lambda: link.ready, message="Redis was not found again")

    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, warnings
    assert reason in warnings[0]


@pytest.mark.process
async def test_a_slow_redis_keeps_nobody_waiting_and_its_late_answers_are_nobodys(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_link(redis_server.url) as link:
        buckets = Buckets(SLOW, link)
        await buckets.check("first")
        messages = 0
        answers = link._answers

        async def answer_and_count(questions: Sequence[Any]) -> list[int]:
            nonlocal messages
            messages += 1
            return await answers(questions)

        monkeypatch.setattr(link, "_answers", answer_and_count)
        monkeypatch.setattr(redis_link, "MAX_ANSWER_SECONDS", 0.1)
        os.kill(redis_server.pid, signal.SIGSTOP)
        try:
            verdicts = await asyncio.gather(*(buckets.check(f"guest {number}") for number in range(10)))
            assert {verdict.remaining for verdict in verdicts} == {BURST - 1}
            assert messages == 1, "they did not wait together"
            assert not link.ready
            must_answer_at_once(buckets.check("first"))
        finally:
            monkeypatch.setattr(redis_link, "MAX_ANSWER_SECONDS", AMPLE_SECONDS)
            os.kill(redis_server.pid, signal.SIGCONT)
        await wait_until(lambda: link.ready, message="Redis was not found again")
        for left in (18, 17, 16):
            assert (await buckets.check("first")).remaining == left
            assert (await buckets.check("nobody")).remaining == left + 1


def must_answer_at_once(check: Coroutine[Any, Any, Verdict]) -> None:
    """Check that no question waits at all."""
    with pytest.raises(StopIteration):
        check.send(None)


@pytest.mark.process
async def test_a_wrong_password_is_an_outage_whose_reason_is_logged_without_it(
    redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    link = RedisLink(redis_server.url.replace(PASSWORD, "not-the-password"))
    running = asyncio.create_task(link.run())
    await wait_until(lambda: "AuthenticationError" in caplog.text)
    assert (await Buckets(SLOW, link).check(7)).remaining == BURST - 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "not-the-password" not in caplog.text
    assert "not-the-password" not in repr(link._redis)


@pytest.mark.parametrize(
    "changes",
    [
        {"trusted_proxies": "10.0.0.0/8, nonsense"},
        {"trusted_proxies": "10.0.0.1/8"},
        {"redis_url": "redis://:secret@host:port/0"},
        {"redis_url": "http://:secret@host"},
        {"user_requests_per_minute": 0},
        {"burst": 0},
    ],
)
def test_settings_that_mean_nothing_refuse_to_start(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"TRUSTED_PROXIES|REDIS_URL|_per_minute|burst") as refused:
        IngressSettings(_env_file=None, **changes)
    assert "secret" not in str(refused.value)
