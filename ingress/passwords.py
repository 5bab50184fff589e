"""Passwords: bcrypt in a few threads of their own, so that logins never take the processor from bookings."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import bcrypt

from ingress.problems import Problem

# bcrypt reads no further; what it would ignore is refused instead.
LONGEST_PASSWORD_BYTES: Final = 72
T = TypeVar("T")


class Passwords:
    """Hashes and compares passwords, a bounded number at a time; `queue` more may wait."""

    def __init__(self, *, rounds: int, threads: int, queue: int) -> None:
        self._rounds = rounds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")
        self._room_for = threads + queue
        self._dummy_hash: asyncio.Future[str] | None = None

    async def hash(self, password: str) -> str:
        """Return the hash to keep. Raises `Problem` 503 when too many wait."""
        return await self._in_a_thread(lambda: self._hash(password))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether the password is the one; without a hash it takes the same time and is not.

        Raises:
            Problem: 503 when too many wait.
        """
        compared = await self._dummy() if password_hash is None else password_hash
        same = await self._in_a_thread(lambda: bcrypt.checkpw(password.encode(), compared.encode()))
        return same and password_hash is not None

    async def prepare(self) -> None:
        """Make the hash for unknown e-mails now, so that the first of them takes no longer than the others."""
        await self._dummy()

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(password.encode(), bcrypt.gensalt(self._rounds)).decode()

    async def _dummy(self) -> str:
        if self._dummy_hash is None:
            self._dummy_hash = asyncio.ensure_future(self.hash(secrets.token_urlsafe(16)))
        return await asyncio.shield(self._dummy_hash)

    async def _in_a_thread(self, work: Callable[[], T]) -> T:
        if self._room_for == 0:
            raise Problem(503, "too many logins at once, try again", headers={"Retry-After": "2"})
        self._room_for -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._room_for += 1


def refuse_unhashable(password: str) -> None:
    """Refuse what bcrypt could not tell apart or would not take.

    Raises:
        Problem: 422 for a password above 72 bytes or with a zero byte.
    """
    if len(password.encode()) > LONGEST_PASSWORD_BYTES:
        raise Problem(422, f"a password is at most {LONGEST_PASSWORD_BYTES} bytes")
    if "\0" in password:
        raise Problem(422, "a password has no zero bytes")
