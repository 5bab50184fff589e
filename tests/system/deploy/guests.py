"""Guests who have only the address of the proxy, and count the responses that they get."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp

from sandbox.seed import SeededRoom
from tests.support.client import Answer, Client
from tests.support.waiting import wait_until

_MAX_WAIT_SECONDS = 120.0
_TOGETHER = {"email": "grace@example.org", "password": "nine lanterns by the sea"}


class Guests(Client):
    """One account, and as many people as use it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, rooms: Sequence[SeededRoom]) -> None:
        super().__init__(session, url)
        self.rooms = rooms
        self.statuses: Counter[int] = Counter()
        self.surprises: list[str] = []
        self.bookings: list[str] = []
        #: By room, how many bookings were accepted already when the latest was asked for that is decided.
        self.decided_after: Counter[int] = Counter()

    async def log_in(self) -> None:
        """Make an account and use it."""
        await self.ask_until_answered("POST", "/v1/auth/signup", _TOGETHER)
        self.token = (await self.ask_until_answered("POST", "/v1/auth/login", _TOGETHER)).body["access_token"]

    async def ask_until_answered(
        self, method: str, path: str, body: Any = None, *, seconds: float = _MAX_WAIT_SECONDS, **options: Any
    ) -> Answer:
        """Send a request, and again after a 503 with `Retry-After`; other failures are kept as surprises."""

        async def asked() -> Answer | None:
            try:
                answer = await self.ask(method, path, body, **options)
            except aiohttp.ClientError as error:
                self.surprises.append(f"{method} {path}: {error!r}")
                return None
            self.statuses[answer.status] += 1
            if answer.try_again:
                return None
            if not (200 <= answer.status < 300 or answer.status == 409):
                self.surprises.append(f"{method} {path}: {answer.status} {answer.body}")
            return answer

        answer = await wait_until(asked, seconds)
        assert isinstance(answer, Answer)
        return answer

    def stay(self, number: int) -> dict[str, Any]:
        """Return a stay of one night, spread over the rooms and the year."""
        room = self.rooms[number % len(self.rooms)]
        check_in = datetime.now(UTC).date() + timedelta(days=5 + number // len(self.rooms) % 300)
        return {
            "hotel_id": room.hotel_id,
            "room_id": room.id,
            "check_in_date": str(check_in),
            "check_out_date": str(check_in + timedelta(days=1)),
        }

    async def book_until(self, stopped: asyncio.Event, numbers: Iterator[int]) -> None:
        """Book one stay after the other, each until it is decided."""
        while not stopped.is_set():
            stay, before = self.stay(next(numbers)), len(self.bookings)
            accepted = await self.ask_until_answered("POST", "/v1/bookings/init", stay, key=uuid4().hex)
            if accepted.status != 202:
                continue
            self.bookings.append(accepted.body["id"])
            await wait_until(partial(self._is_decided, accepted.headers["Location"]), _MAX_WAIT_SECONDS)
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
