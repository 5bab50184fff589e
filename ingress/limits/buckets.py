"""The requests a minute that one user, or one address without a user, may send: a token bucket for each.

A bucket is one number: the time at which it will be full again. A request takes one token, and moves that time on by
the time that a token takes to come back. So an unused bucket needs no memory, and Redis
(`ingress/limits/redis_link.py`) can compute the same.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from aiohttp import web

from ingress.http.problems import Problem
from ingress.limits.addresses import Addresses
from ingress.limits.counting import Script, Shared
from ingress.limits.recent import Recent
from ingress.settings import IngressSettings
from ingress.tokens import Caller

_MINUTE_US: Final = 60_000_000
# Redis' own clock is the only one that all processes share. A clock that was set back must not leave a bucket empty for
# that long: no bucket takes longer to fill than an empty one.
_TAKE: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local token, whole = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
local lacking = math.min(math.max(full_at - now, 0), whole) + token
if lacking <= whole then
    redis.call('SET', KEYS[1], string.format('%.0f', now + lacking), 'PX', math.ceil(lacking / 1000))
end
return lacking
""")


class Verdict(NamedTuple):
    """The answer of a bucket to one request. Seconds are rounded up."""

    policy: "Policy"
    remaining: int
    reset_seconds: int
    retry_after_seconds: int

    @property
    def allowed(self) -> bool:
        """Whether there was a token for it."""
        return not self.retry_after_seconds

    @property
    def limit(self) -> int:
        """How many requests a minute are allowed in the long run."""
        return self.policy.per_minute

    def headers(self) -> Mapping[str, str]:
        """Return the header fields with the client's limits; shared by all, so not to be changed."""
        return _headers(self)

    def problem(self) -> Problem:
        """Return the problem of a request that was one too many."""
        seconds = self.retry_after_seconds
        return Problem(429, f"too many requests, try again in {seconds} s", headers=self.headers())


class Policy:
    """How many requests a minute, of which `burst` may come at once."""

    __slots__ = ("burst", "name", "per_minute", "token_us", "whole_us")

    def __init__(self, name: str, per_minute: int, burst: int) -> None:
        self.name = name
        self.per_minute = per_minute
        self.burst = burst
        #: The time in which one token comes back, and all of them, in microseconds.
        self.token_us = _MINUTE_US // per_minute
        self.whole_us = self.token_us * burst

    def verdict(self, lacking_us: int) -> Verdict:
        """Return the verdict when, with this request's token taken, the bucket fills up in this time."""
        missing_us = lacking_us - self.whole_us
        if missing_us > 0:
            return Verdict(self, 0, _seconds(lacking_us - self.token_us), _seconds(missing_us))
        return Verdict(self, -missing_us // self.token_us, _seconds(lacking_us), 0)


class Buckets:
    """The buckets of one policy: this process's own, or those in Redis that all processes share."""

    def __init__(
        self,
        policy: Policy,
        shared: Shared | None = None,
        *,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self.policy = policy
        self._shared = shared
        self._clock_us = clock_us
        self._full_at: Recent[Hashable, int] = Recent(policy.whole_us)

    def take(self, key: int | str) -> Verdict:
        """Take a token from this process's bucket."""
        now = self._clock_us()
        full_at = self._full_at.get(key)
        lacking = self.policy.token_us if full_at is None or full_at < now else full_at - now + self.policy.token_us
        if lacking <= self.policy.whole_us:
            self._full_at.put(key, now + lacking, now)
        return self.policy.verdict(lacking)

    async def check(self, key: int | str) -> Verdict:
        """Take a token from the bucket that all processes share; from our own while there is no Redis."""
        if self._shared is not None:
            policy = self.policy
            lacking = await self._shared.ask(_TAKE, [f"{policy.name}:{key}"], [policy.token_us, policy.whole_us])
            if lacking is not None:
                return policy.verdict(lacking)
        return self.take(key)


class Limits:
    """Counts a request by its user, from any address; one without a user by the client's address."""

    def __init__(self, settings: IngressSettings, addresses: Addresses, shared: Shared | None = None) -> None:
        burst = settings.burst
        self._users = Buckets(Policy("user", settings.user_requests_per_minute, burst), shared)
        self._without_user = Buckets(Policy("address", settings.address_requests_per_minute, burst), shared)
        self._addresses = addresses

    async def check(self, request: web.BaseRequest, caller: Caller | None) -> Mapping[str, str]:
        """Count a request; return the headers with the requests that are left, not to be changed.

        Raises:
            Problem: 429, it was one too many.
        """
        if caller is None:
            verdict = await self._without_user.check(self._addresses.of(request))
        else:
            verdict = await self._users.check(caller.user_id)
        if not verdict.allowed:
            raise verdict.problem()
        return verdict.headers()


def _seconds(microseconds: int) -> int:
    return -(-microseconds // 1_000_000)


@lru_cache(4096)
def _headers(verdict: Verdict) -> Mapping[str, str]:
    """Write the fields of draft-ietf-httpapi-ratelimit-headers; `r` is the number that may be sent at once."""
    policy, remaining, reset_seconds, retry_after_seconds = verdict
    fields = {
        "RateLimit-Policy": f'"{policy.name}";q={policy.per_minute};w=60',
        "RateLimit": f'"{policy.name}";r={remaining};t={reset_seconds}',
    }
    return fields if verdict.allowed else fields | {"Retry-After": str(retry_after_seconds)}
