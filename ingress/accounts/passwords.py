"""Passwords: hashed by bcrypt and rated by zxcvbn in threads of their own, so that logins never delay bookings."""

import asyncio
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import bcrypt

from ingress.http.bodies import refused_field
from ingress.http.deadlines import suspended
from ingress.http.problems import Problem

# bcrypt ignores further bytes; a longer password is refused instead.
MAX_PASSWORD_BYTES: Final = 72
# Of 0 to 4: a guess with the stolen hash takes a hundred million attempts or more.
_MIN_SCORE: Final = 3
# zxcvbn can take seconds for 72 malicious characters. This many take it no longer than the hash takes.
_JUDGED_AT_ONCE: Final = 24
# Shorter parts of names occur in any password.
_MIN_PART_LENGTH: Final = 3
T = TypeVar("T")


class Passwords:
    """Hashes, compares and rates passwords, a bounded number at a time; `queue` more may wait."""

    def __init__(self, *, rounds: int, threads: int, queue: int) -> None:
        self._rounds = rounds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")
        # One: zxcvbn keeps the state of a rating in a variable of its module.
        self._judge = ThreadPoolExecutor(1, thread_name_prefix="zxcvbn")
        self._room_for = threads + queue
        self._dummy_hash: asyncio.Future[str] | None = None

    async def hash(self, password: str) -> str:
        """Return the hash to keep. Raises `Problem` 503 when too many wait."""
        return await self._in_a_thread(self._pool, lambda: self._hash(password))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether the password is the one; without a hash it takes the same time and is not.

        Raises:
            Problem: 503 when too many wait.
        """
        compared = await self._dummy() if password_hash is None else password_hash
        same = await self._in_a_thread(self._pool, lambda: bcrypt.checkpw(password.encode(), compared.encode()))
        return same and password_hash is not None

    async def refuse_weak(self, password: str, *about: str) -> None:
        """Refuse a password that is easy to guess, also with the words `about` its user: name and e-mail address.

        Raises:
            Problem: 422 with zxcvbn's advice; 503 when too many wait.
        """
        advice = await self._in_a_thread(self._judge, lambda: _weakness(password, _parts(about)))
        if advice is not None:
            raise refused_field("password", f"it is easy to guess. {advice}".rstrip())

    async def prepare(self) -> None:
        """Make the hash for unknown e-mail addresses now, so that the first of them takes no longer than the others."""
        await self._dummy()

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._judge.shutdown(wait=False, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(password.encode(), bcrypt.gensalt(self._rounds)).decode()

    async def _dummy(self) -> str:
        if self._dummy_hash is None:
            self._dummy_hash = asyncio.ensure_future(self.hash(secrets.token_urlsafe(16)))
        return await asyncio.shield(self._dummy_hash)

    async def _in_a_thread(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._room_for == 0:
            raise Problem(503, "too many logins at once, try again", headers={"Retry-After": "2"})
        self._room_for -= 1
        try:
            # The queue has a limit of its own, and its threads need no other part.
            with suspended():
                return await asyncio.get_running_loop().run_in_executor(pool, work)
        finally:
            self._room_for += 1


def refuse_unhashable(password: str) -> None:
    """Refuse passwords that bcrypt would cut off or not take.

    Raises:
        Problem: 422 for a password above 72 bytes or with a zero byte.
    """
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise refused_field("password", f"it is at most {MAX_PASSWORD_BYTES} bytes long")
    if "\0" in password:
        raise refused_field("password", "it has no zero bytes")


def _weakness(password: str, about: list[str]) -> str | None:
    """Return advice on a password, None when it is good: when one part of it alone is hard enough to guess."""
    # It reads 30,000 words when it is imported, which takes longer than the rest of the start.
    from zxcvbn import zxcvbn  # noqa: PLC0415 - as the comment explains

    advice = []
    for start in range(0, len(password), _JUDGED_AT_ONCE):
        judged = zxcvbn(password[start : start + _JUDGED_AT_ONCE], about)
        if judged["score"] >= _MIN_SCORE:
            return None
        feedback = judged["feedback"]
        advice.append(" ".join(filter(None, (feedback["warning"], *feedback["suggestions"]))))
    return advice[0]


def _parts(about: tuple[str, ...]) -> list[str]:
    """Return the parts of names and addresses that a guess would try: each whole, and its words."""
    words = {word for text in about for word in (text, *re.split(r"[\W_]+", text))}
    return sorted(word for word in words if len(word) >= _MIN_PART_LENGTH)
