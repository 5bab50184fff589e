"""Guests who know nothing but the address of the proxy, and keep what they were answered."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp

from sandbox.seed import SeededRoom
from tests.support.waiting import wait_until

_PATIENCE_SECONDS = 120.0
_TOGETHER = {"email": "grace@example.org", "password": "nine lanterns by the sea"}


class Answer(NamedTuple):
    """What came back; `process` is the ingress that says it answered, empty when none did."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def process(self) -> str:
        return self.headers.get("X-Request-Id", "").partition("-")[0]


@dataclass
class Guests:
    """One account, and as many people as use it."""

    http: aiohttp.ClientSession
    url: str
    rooms: Sequence[SeededRoom]
    token: str = ""
    statuses: Counter[int] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    bookings: list[str] = field(default_factory=list)
    #: By room, how many bookings were accepted already when the latest was asked for that is decided.
    decided_after: Counter[int] = field(default_factory=Counter)

    async def log_in(self) -> None:
        """Make an account and use it."""
        await self.ask_until_answered("POST", "/v1/auth/signup", _TOGETHER)
        self.token = (await self.ask_until_answered("POST", "/v1/auth/login", _TOGETHER)).body["access_token"]

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask once."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            said["Authorization"] = f"Bearer {self.token}"
        async with self.http.request(
            method, self.url + path, json=body, headers=said, allow_redirects=False
        ) as response:
            is_json = response.content_type == "application/json"
            told = await response.json() if is_json else await response.text()
            return Answer(response.status, told, response.headers)

    async def ask_until_answered(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask, and again after a 503 that says when; whatever else nobody should see is kept as a surprise."""

        async def asked() -> Answer | None:
            try:
                answer = await self.ask(method, path, body, **headers)
            except aiohttp.ClientError as error:
                self.surprises.append(f"{method} {path}: {error!r}")
                return None
            self.statuses[answer.status] += 1
            if answer.status == 503 and "Retry-After" in answer.headers:
                return None
            if not (200 <= answer.status < 300 or answer.status == 409):
                self.surprises.append(f"{method} {path}: {answer.status} {answer.body}")
            return answer

        answer = await wait_until(asked, _PATIENCE_SECONDS)
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
            accepted = await self.ask_until_answered("POST", "/v1/bookings/init", stay, Idempotency_Key=uuid4().hex)
            if accepted.status != 202:
                continue
            self.bookings.append(accepted.body["id"])
            await wait_until(partial(self._is_decided, accepted.headers["Location"]), _PATIENCE_SECONDS)
            room_id = stay["room_id"]
            self.decided_after[room_id] = max(before, self.decided_after[room_id])

    async def every_room_decides(self) -> None:
        """Wait until each room's owner has decided a booking that is asked for from now on."""
        now = len(self.bookings)
        await wait_until(
            lambda: all(self.decided_after[room.id] > now for room in self.rooms),
            _PATIENCE_SECONDS,
            lambda: f"every room decides what is asked for after {now} bookings: {self.decided_after}",
        )

    async def _is_decided(self, path: str) -> bool:
        answer = await self.ask_until_answered("GET", path)
        return bool(answer.body["booking_status"] != "PENDING")
