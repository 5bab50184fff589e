"""Guests who have only the address of the proxy, and count the responses that they get."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

import aiohttp

from tests.support.client import Answer, Client
from tests.support.waiting import wait_until

_MAX_WAIT_SECONDS = 120.0
_TOGETHER = {"email": "grace@example.org", "password": "nine lanterns by the sea"}


class Room(Protocol):
    """A room type on sale."""

    @property
    def id(self) -> int:
        """Its id."""

    @property
    def hotel_id(self) -> int:
        """The id of its hotel."""


class Guests(Client):
    """One account, and as many people as use it."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, rooms: Sequence[Room], first_day: date | None = None
    ) -> None:
        """Let them want stays from a day on; five days from now if none is given."""
        super().__init__(session, url)
        self._first_day = first_day or datetime.now(UTC).date() + timedelta(days=5)
        self.rooms = rooms
        self.statuses: Counter[int] = Counter()
        #: Requests whose connection ended without an answer, and answers that a system in order does not give.
        self.unanswered: list[str] = []
        self.unexpected: list[str] = []
        self.bookings: list[str] = []
        #: By booking, when it was asked for and when its decision was seen, by the monotonic clock.
        self.asked: dict[str, float] = {}
        self.decided: dict[str, float] = {}
        #: By room, how many bookings were accepted already when the latest was asked for that is decided.
        self.decided_after: Counter[int] = Counter()

    @property
    def surprises(self) -> list[str]:
        """All that a system in order does not do."""
        return self.unanswered + self.unexpected

    async def log_in(self) -> None:
        """Make an account and use it."""
        await self.ask_until_answered("POST", "/v1/auth/signup", _TOGETHER)
        self.token = (await self.ask_until_answered("POST", "/v1/auth/login", _TOGETHER)).body["access_token"]

    async def ask_until_answered(
        self, method: str, path: str, body: Any = None, *, seconds: float = _MAX_WAIT_SECONDS, **options: Any
    ) -> Answer:
        """Send a request, and again after a 503 with `Retry-After`; other failures are kept."""

        async def asked() -> Answer | None:
            try:
                answer = await self.ask(method, path, body, **options)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.unanswered.append(f"{method} {path}: {error!r}")
                return None
            self.statuses[answer.status] += 1
            if answer.try_again:
                return None
            if not (200 <= answer.status < 300 or answer.status == 409):
                self.unexpected.append(f"{method} {path}: {answer.status} {answer.body}")
            return answer

        answer = await wait_until(asked, seconds)
        assert isinstance(answer, Answer)
        return answer

    def stay(self, number: int) -> dict[str, Any]:
        """Return a stay of one night, spread over the rooms and the year."""
        room = self.rooms[number % len(self.rooms)]
        check_in = self._first_day + timedelta(days=number // len(self.rooms) % 300)
        return {
            "hotel_id": room.hotel_id,
            "room_id": room.id,
            "check_in_date": str(check_in),
            "check_out_date": str(check_in + timedelta(days=1)),
        }

    async def book_until(self, stopped: asyncio.Event, numbers: Iterator[int]) -> None:
        """Book one stay after the other, each until it is decided."""
        while not stopped.is_set():
            stay, before, asked_at = self.stay(next(numbers)), len(self.bookings), time.monotonic()
            accepted = await self.ask_until_answered("POST", "/v1/bookings/init", stay, key=uuid4().hex)
            if accepted.status != 202:
                continue
            booking = accepted.body["id"]
            self.bookings.append(booking)
            self.asked[booking] = asked_at
            await wait_until(partial(self._is_decided, accepted.headers["Location"]), _MAX_WAIT_SECONDS)
            self.decided[booking] = time.monotonic()
            room_id = stay["room_id"]
            self.decided_after[room_id] = max(before, self.decided_after[room_id])

    async def every_room_decides(self) -> None:
        """Wait until a booking of each room that is asked for from now on is decided."""
        now = len(self.bookings)
        await wait_until(
            lambda: all(self.decided_after[room.id] > now for room in self.rooms),
            _MAX_WAIT_SECONDS,
            lambda: f"every room decides what is asked for after {now} bookings: {self.decided_after}",
        )

    async def _is_decided(self, path: str) -> bool:
        answer = await self.ask_until_answered("GET", path)
        return bool(answer.body["booking_status"] != "PENDING")
