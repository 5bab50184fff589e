"""Growing pauses after failed logins: by e-mail address and client address together, never by the e-mail alone.

So a stranger elsewhere cannot lock an account's user out. Failed logins to many accounts from one address slow that
address down too, but later, because many people may share it. An attempt counts as failed until it has succeeded: fifty
attempts at once get no more guesses than fifty in a row.
"""

import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

from ingress.http.problems import Problem
from ingress.limits.counting import Script, Shared
from ingress.limits.recent import Recent
from ingress.settings import IngressSettings

FREE_FOR_ACCOUNT: Final = 5
FREE_FOR_ADDRESS: Final = 20
MAX_LOGIN_DELAY_SECONDS: Final = 60
FORGOTTEN_AFTER_SECONDS: Final = 15 * 60
_SECOND_US: Final = 1_000_000
_FORGOTTEN_AFTER_US: Final = FORGOTTEN_AFTER_SECONDS * _SECOND_US


class _Rule(NamedTuple):
    """From the `free`th failure on each doubles the pause.

    The failures of an account expire some time after the last of them; those of an address, which may never be quiet,
    some time after the first of them.
    """

    free: int
    forgotten_when_quiet: bool

    def pause_us(self, failures: int) -> int:
        """Return the length of the pause after this many failures."""
        over = failures - self.free
        return min(2 ** min(over, 30), MAX_LOGIN_DELAY_SECONDS) * _SECOND_US if over >= 0 else 0


_ACCOUNT: Final = _Rule(FREE_FOR_ACCOUNT, forgotten_when_quiet=True)
_ADDRESS: Final = _Rule(FREE_FOR_ADDRESS, forgotten_when_quiet=False)


class LoginDelays:
    """Decides whether a password may be tried now; called before any work is done for it.

    With Redis all processes share the counters; without it each process counts by itself.
    """

    def __init__(
        self,
        settings: IngressSettings,
        shared: Shared | None = None,
        *,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._on = settings.login_delays
        self._shared = shared
        self._own = _Own(clock_us)

    async def begin(self, email: str, address: str) -> None:
        """Begin an attempt; it makes no difference whether the account exists.

        Raises:
            Problem: 429, with when to try again; the attempt then counts for nothing.
        """
        if not self._on:
            return
        keys = _keys(email, address)
        shared = await self._ask(_BEFORE_SCRIPT, keys)
        wait_us = self._own.begin(keys) if shared is None else shared
        if wait_us > 0:
            seconds = -(-wait_us // _SECOND_US)
            detail = f"too many failed logins, try again in {seconds} s"
            raise Problem(429, detail, headers={"Retry-After": str(seconds)})

    async def fail(self, email: str, address: str) -> None:
        """End an attempt: e-mail and password do not belong together. The pause begins now."""
        if self._on and await self._ask(_FAILED_SCRIPT, keys := _keys(email, address)) is None:
            self._own.fail(keys)

    async def succeed(self, email: str, address: str) -> None:
        """End an attempt: clear all failures of this account at this address."""
        if self._on and await self._ask(_SUCCEEDED_SCRIPT, keys := _keys(email, address)) is None:
            self._own.succeed(keys)

    async def withdraw(self, email: str, address: str) -> None:
        """End an attempt that could not be checked, because a part was away; it does not count."""
        if self._on and await self._ask(_WITHDRAWN_SCRIPT, keys := _keys(email, address)) is None:
            self._own.withdraw(keys)

    async def _ask(self, script: Script, keys: "_Keys") -> int | None:
        if self._shared is None:
            return None
        arguments = [
            _ACCOUNT.free,
            _ADDRESS.free,
            MAX_LOGIN_DELAY_SECONDS * _SECOND_US,
            FORGOTTEN_AFTER_SECONDS * 1000,
        ]
        return await self._shared.ask(script, [f"login:{key}" for key in keys], arguments)


class _Keys(NamedTuple):
    account: str
    address: str


def _keys(email: str, address: str) -> _Keys:
    # A hash, so that Redis holds no e-mail addresses, and no key is longer than another.
    both = f"{email.lower()}\0{address}".encode(errors="replace")
    return _Keys(blake2b(both, digest_size=16).hexdigest(), address)


class _Failures(NamedTuple):
    times: int
    allowed_at_us: int
    forgotten_at_us: int


class _Own:
    """The counters of this process alone."""

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._failures: Recent[str, _Failures] = Recent(_FORGOTTEN_AFTER_US)

    def begin(self, keys: _Keys) -> int:
        """Count an attempt, or return for how many microseconds there may be none."""
        now = self._clock_us()
        known = [self._failures_of(key, now) for key in keys]
        wait_us = max(failures.allowed_at_us - now for failures in known)
        if wait_us > 0:
            return wait_us
        for rule, key, failures in zip((_ACCOUNT, _ADDRESS), keys, known, strict=True):
            self._pause(rule, key, failures._replace(times=failures.times + 1), now)
        return 0

    def fail(self, keys: _Keys) -> None:
        """Let the pauses begin now."""
        now = self._clock_us()
        for rule, key in zip((_ACCOUNT, _ADDRESS), keys, strict=True):
            failures = self._failures_of(key, now)
            if failures.times:
                self._pause(rule, key, failures, now)

    def succeed(self, keys: _Keys) -> None:
        """Clear the account's failures, and take this attempt from the address'."""
        self._failures.forget(keys.account)
        self._give_back(keys.address)

    def withdraw(self, keys: _Keys) -> None:
        """Take back this attempt."""
        self._give_back(keys.account)
        self._give_back(keys.address)

    def _failures_of(self, key: str, now: int) -> _Failures:
        found = self._failures.get(key)
        if found is None or found.forgotten_at_us <= now:
            return _Failures(0, now, now + _FORGOTTEN_AFTER_US)
        return found

    def _pause(self, rule: _Rule, key: str, failures: _Failures, now: int) -> None:
        forgotten_at = now + _FORGOTTEN_AFTER_US if rule.forgotten_when_quiet else failures.forgotten_at_us
        paused = _Failures(failures.times, now + rule.pause_us(failures.times), forgotten_at)
        self._failures.put(key, paused, now)

    def _give_back(self, key: str) -> None:
        now = self._clock_us()
        failures = self._failures_of(key, now)
        if failures.times <= 1:
            self._failures.forget(key)
        else:
            # The pause was this attempt's own: no other attempt begins during a pause.
            self._failures.put(key, failures._replace(times=failures.times - 1, allowed_at_us=now), now)


# The same as `_Own`, by the clock that all processes share. KEYS[1] is the account's, KEYS[2] the address's; the
# arguments are the free failures of each, the longest pause in microseconds, and the expiry in milliseconds.
_TOGETHER: Final = """
local free = {tonumber(ARGV[1]), tonumber(ARGV[2])}
local longest, forgotten_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function pause(i, key, times)
    if times >= free[i] then
        local allowed_at = now + math.min(2 ^ (times - free[i]) * 1000000, longest)
        redis.call('HSET', key, 'allowed_at', string.format('%.0f', allowed_at))
    end
    if i == 1 or redis.call('PTTL', key) < 0 then
        redis.call('PEXPIRE', key, forgotten_ms)
    end
end
local function give_back(key)
    local times = tonumber(redis.call('HGET', key, 'times') or 0) - 1
    if times <= 0 then
        redis.call('DEL', key)
    else
        redis.call('HSET', key, 'times', times)
        redis.call('HDEL', key, 'allowed_at')
    end
end
"""
_BEFORE_SCRIPT: Final = Script(f"""{_TOGETHER}
local wait = 0
for _, key in ipairs(KEYS) do
    local allowed_at = tonumber(redis.call('HGET', key, 'allowed_at') or now)
    wait = math.max(wait, math.min(allowed_at - now, longest))
end
if wait == 0 then
    for i, key in ipairs(KEYS) do pause(i, key, redis.call('HINCRBY', key, 'times', 1)) end
end
return wait
""")
_FAILED_SCRIPT: Final = Script(f"""{_TOGETHER}
for i, key in ipairs(KEYS) do
    local times = tonumber(redis.call('HGET', key, 'times') or 0)
    if times > 0 then pause(i, key, times) end
end
return 0
""")
_SUCCEEDED_SCRIPT: Final = Script(f"{_TOGETHER} redis.call('DEL', KEYS[1]) give_back(KEYS[2]) return 0")
_WITHDRAWN_SCRIPT: Final = Script(f"{_TOGETHER} give_back(KEYS[1]) give_back(KEYS[2]) return 0")
