"""Seeded guests who speak HTTP, and the list of the promises that they got.

A 2xx, or a refusal with the booking's id, is a promise. A cut connection or a 5xx promises nothing, unless the request
is repeated with its Idempotency-Key until it is answered.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import aiohttp

from tests.support.client import Answer, Client

GOOD_CARD: Final = "4242424242424242"
BAD_CARD: Final = "4000000000000002"
_PASSWORD: Final = "a password that nobody guesses 71"
FINAL: Final = frozenset({"REJECTED", "CONFIRMED", "CANCELLED", "EXPIRED"})
#: A status may not go back to one before it in this order. A late payment confirms an expired booking.
_ORDER: Final = (
    "PENDING",
    "RESERVING",
    "RESERVED",
    "GUESTS_ADDED",
    "PAYMENTS_PENDING",
    "EXPIRED",
    "CONFIRMED",
    "CHECKED_IN",
    "CHECKED_OUT",
    "NO_SHOW",
    "CANCELLED",
    "REJECTED",
)
#: Counted beside statuses: requests without an answer, and those whose guest did not wait for it.
NO_ANSWER: Final = "none"
HUNG_UP: Final = "hung up"
_REQUEST_SECONDS: Final = 15.0
_LATE: Final = timedelta(days=5)
_NIGHTS: Final = 10


class Room(NamedTuple):
    """A room type on sale, and how likely a guest is to want it."""

    hotel_id: int
    id: int
    weight: float


class Account(NamedTuple):
    """Somebody who is logged in, with the guests that the account saved."""

    id: int
    token: str
    guests: Sequence[int] = ()


@dataclass
class Promises:
    """The answers that guests got; the system must keep their promises."""

    bookings: dict[str, float] = field(default_factory=dict)
    keys: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    seen: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    paid: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    visits: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    #: By booking, when it was asked for at first and when a guest first saw its decision, by the monotonic clock.
    asked: dict[str, float] = field(default_factory=dict)
    decided: dict[str, float] = field(default_factory=dict)

    def booked(self, booking_id: str, key: str | None, asked_at: float | None = None) -> None:
        """Note that a guest got an answer about a booking, maybe under an Idempotency-Key."""
        self.bookings.setdefault(booking_id, time.time())
        if asked_at is not None:
            self.asked.setdefault(booking_id, asked_at)
        if key is not None:
            self.keys[key].add(booking_id)

    def saw(self, booking_id: str, status: str) -> None:
        """Note a status that a guest was shown."""
        if status != "PENDING":
            self.decided.setdefault(booking_id, time.monotonic())
        if self.seen[booking_id][-1:] != [status]:
            self.seen[booking_id].append(status)

    def gone_back(self) -> list[str]:
        """Return the bookings of which one guest saw a status go back."""
        return [
            f"{booking_id}: {' -> '.join(seen)}"
            for booking_id, seen in self.seen.items()
            if seen != sorted(seen, key=_ORDER.index)
        ]

    def broken_keys(self) -> list[str]:
        """Return the Idempotency-Keys that have more than one booking."""
        return [f"{key}: {', '.join(sorted(ids))}" for key, ids in self.keys.items() if len(ids) > 1]


class Town:
    """Everybody who may book: accounts, rooms and their host, and where the system answers."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        stripe_url: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Let everybody have the system's clock, which may be wrong on purpose."""
        self.http = http
        self._now = now
        self.url = url
        self.stripe_url = stripe_url
        self.rooms: Sequence[Room] = ()
        self.accounts: list[Account] = []
        self.promises = Promises()
        self.first_day = self.today() + _LATE

    def today(self) -> date:
        """Return the first night that may be on sale."""
        return self._now().date()

    async def settle(self, count: int) -> None:
        """Sign people up: guests, and the host of all rooms."""
        for number in range(count):
            client, id = await self._signed_up(f"guest{number}")
            guests = [
                (await _answered(client, "/v1/users/guests", {"name": name}, {201}))["id"] for name in ("Ana", "Bo")
            ]
            self.accounts.append(Account(id, str(client.token), guests))
        client, id = await self._signed_up("host")
        self.host = Account(id, (await _answered(client, "/v1/users/host", None, {200}))["access_token"])

    async def add_code(self, terms: Mapping[str, Any]) -> None:
        """Let the hotel have a promo code."""
        path = f"/v1/admin/hotels/{self.rooms[0].hotel_id}/codes"
        await _answered(Client(self.http, self.url, self.host.token), path, terms, {201}, wait=True)

    async def _signed_up(self, name: str) -> tuple[Client, int]:
        account = {"email": f"{name}-{time.time_ns()}@example.org", "password": _PASSWORD}
        client = Client(self.http, self.url)
        # 409: an attempt before did its work, and its answer was lost. The login shows that the account is ours.
        await _answered(client, "/v1/auth/signup", account, {201, 409})
        client.token = (await _answered(client, "/v1/auth/login", account, {200}))["access_token"]
        return client, (await client.ask_until_answered("GET", "/v1/users/profile")).body["id"]

    async def live(
        self,
        seed: int,
        seconds: float,
        per_second: float,
        finish_seconds: float,
        visitor: "Callable[[Town, random.Random, str, float], Guest]",
        *,
        stopped: asyncio.Event | None = None,
        at_once: int | None = None,
    ) -> None:
        """Let visitors come for so long, or until it is enough, and wait until each has ended its story.

        With `at_once` nobody comes while so many are there, so that a slow machine has no more visitors than it serves.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        stories: set[asyncio.Task[None]] = set()
        number = 0
        try:
            while (now := clock() - began) < seconds and not (stopped is not None and stopped.is_set()):
                while number < now * per_second and (at_once is None or _unfinished(stories) < at_once):
                    until = began + seconds + finish_seconds
                    guest = visitor(self, random.Random(f"{seed}:{number}"), f"{seed}-{number}", until)
                    self.promises.visits[type(guest).__name__] += 1
                    stories.add(asyncio.create_task(guest.story()))
                    number += 1
                await asyncio.sleep(0.05)
            if stopped is not None and stories:
                # The load ends when the caller has seen enough, at no time that was known before.
                _, late = await asyncio.wait(stories, timeout=finish_seconds)
                for story in late:
                    story.cancel()
                stories -= late
            for story in stories:
                await story
        finally:
            for story in stories:
                story.cancel()


def _unfinished(stories: Iterable[asyncio.Task[None]]) -> int:
    return sum(not story.done() for story in stories)


async def _answered(client: Client, path: str, body: Any, expected: set[int], *, wait: bool = False) -> Any:
    """Send a POST until it is answered, and return the body of the answer, which has one of these statuses."""
    answer = await client.ask_until_answered("POST", path, body, wait=wait)
    assert answer.status in expected, (path, answer)
    return answer.body


class Guest:
    """One guest with one booking in mind; gives up at `until` (the loop's time)."""

    #: The path of the request for a booking.
    new_path = "/v1/bookings/init"

    def __init__(self, town: Town, chance: random.Random, name: str, until: float) -> None:
        self._town = town
        self._chance = chance
        self._name = name
        self._until = until
        self._account = chance.choice(town.accounts)
        self._client = Client(town.http, town.url, self._account.token)
        self._clock = asyncio.get_running_loop().time
        self._asked_at = time.monotonic()

    async def story(self) -> None:
        """Book, and then do one of the things that guests do."""
        booking = await self._reserved()
        if booking is None:
            return
        what = self._chance.random()
        if what < 0.2:
            return
        if what < 0.35:
            await self._command(booking, "cancel")
            return
        if not await self._name_guests(booking):
            return
        paid = await self._pay(booking, late=what > 0.95)
        if paid and await self._until_status(booking, FINAL) == "CONFIRMED" and what < 0.45:
            await self._command(booking, "cancel")
        await self._until_status(booking, FINAL, look=3)

    async def is_confirmed(self) -> bool:
        """Book something that there is plenty of, pay, and return whether the booking was confirmed in time."""
        wish = {**self._wish(), "hotel_id": self._town.rooms[-1].hotel_id, "room_id": self._town.rooms[-1].id}
        key = f"book-{self._name}"
        reply = await self._ask("POST", self.new_path, wish, key=key)
        booking = None if reply is None else self._promised(reply, key)
        if booking is None or await self._until_status(booking, {"RESERVED", *FINAL}) != "RESERVED":
            return False
        return await self._is_paid(booking)

    async def _confirmed(self) -> str | None:
        """Return a booking that was paid in time, if there is one."""
        booking = await self._reserved()
        return booking if booking is not None and await self._is_paid(booking) else None

    async def _reserved(self) -> str | None:
        """Return a booking that holds its rooms, if they were free."""
        booking = await self._book()
        if booking is None or await self._until_status(booking, {"RESERVED", *FINAL}) != "RESERVED":
            return None
        return booking

    async def _is_paid(self, booking: str) -> bool:
        """Name guests, pay, and return whether the booking was confirmed in time."""
        if not await self._name_guests(booking) or not await self._pay(booking, late=False):
            return False
        return await self._until_status(booking, FINAL) == "CONFIRMED"

    async def _book(self) -> str | None:
        """Ask for a stay until there is an answer; without a key there is one try."""
        body = self._wish()
        key = f"book-{self._name}" if self._chance.random() < 0.75 else None
        reply = await self._ask("POST", self.new_path, body, key=key, wait=self._chance.random() < 0.3)
        if reply is None:
            return None
        booking = self._promised(reply, key)
        if booking is not None and key is not None and self._chance.random() < 0.2:
            again = await self._ask("POST", self.new_path, body, key=key, wait=self._chance.random() < 0.3)
            if again is not None:
                self._promised(again, key)
        return booking

    def _promised(self, reply: Answer, key: str | None) -> str | None:
        booking, status = reply.body.get("id"), reply.body.get("booking_status")
        if reply.status not in {201, 202, 409} or booking is None or status is None:
            self._surprised(self.new_path, reply)
            return None
        self._town.promises.booked(booking, key, self._asked_at)
        if reply.status != 202:  # A 202 is about the request: it is PENDING also the second time.
            self._town.promises.saw(booking, status)
        return str(booking)

    def _surprised(self, what: str, reply: Answer) -> None:
        self._town.promises.surprises.append(f"{what}: {reply.status} {reply.body}")

    def _wish(self) -> dict[str, Any]:
        room = self._room()
        first = self._chance.randrange(_NIGHTS - 1)
        nights = self._chance.randint(1, min(3, _NIGHTS - first))
        return {
            "hotel_id": room.hotel_id,
            "room_id": room.id,
            **self._days(self._town.first_day + timedelta(days=first), nights),
            "rooms_count": self._chance.choice([1, 1, 1, 2]),
        }

    def _room(self) -> Room:
        rooms = self._town.rooms
        (room,) = self._chance.choices(rooms, [room.weight for room in rooms])
        return room

    @staticmethod
    def _days(check_in: date, nights: int) -> dict[str, str]:
        check_out = check_in + timedelta(days=nights)
        return {"check_in_date": check_in.isoformat(), "check_out_date": check_out.isoformat()}

    async def _name_guests(self, booking: str) -> bool:
        guests = list(self._account.guests[: self._chance.randint(1, 2)])
        reply = await self._command(booking, "addGuests", guests)
        return reply is not None and reply.status in {200, 202}

    async def _pay(self, booking: str, *, late: bool) -> bool:
        """Pay on the hosted page; a late guest opens it in time and pays when the hold has ended."""
        if await self._command(booking, "payments") is None:
            return False
        session = await self._session(booking)
        if session is None:
            return False
        if late:
            await self._until_status(booking, FINAL)
        return await self._pay_at(booking, session)

    async def _pay_at(self, booking: str, session: str) -> bool:
        """Pay a session of the hosted page, some guests with a card that is declined first."""
        if self._chance.random() < 0.1:
            await self._card(session, BAD_CARD)
        paid = await self._card(session, GOOD_CARD)
        if paid:
            self._town.promises.paid[booking] += 1
        return paid

    async def _session(self, booking: str) -> str | None:
        def is_enough(shown: Mapping[str, Any]) -> bool:
            return shown["booking_status"] in FINAL or bool(shown.get("session_url"))

        shown = await self._look(self._path(booking), is_enough)
        if shown is None or shown["booking_status"] in FINAL:
            return None
        return session_of(shown)

    async def _card(self, session: str, card: str) -> bool:
        address = f"{self._town.stripe_url}/_sandbox/sessions/{session}/pay"
        async with self._town.http.post(address, json={"card": card}) as response:
            return response.status == 200

    def _path(self, booking: str) -> str:
        """Return the path of the booking, and of commands about it."""
        return f"/v1/bookings/{booking}"

    def _status_path(self, booking: str) -> str:
        """Return the path that shows the booking's status."""
        return f"{self._path(booking)}/status"

    async def _command(
        self, booking: str, what: str, body: Any = None, *, key: str | None = None, method: str = "POST"
    ) -> Answer | None:
        """Ask for something about the booking, patiently: with a key it is the same request each time."""
        path = f"{self._path(booking)}/{what}"
        key = f"{key or what}-{self._name}"
        while True:
            reply = await self._ask(method, path, body, key=key, wait=self._chance.random() < 0.3)
            if reply is None or reply.body.get("reason") != "pending":
                break
            await asyncio.sleep(0.5)
        if reply is not None and reply.status not in {200, 202, 204, 409}:
            self._surprised(what, reply)
        return reply

    async def _until_status(self, booking: str, wanted: set[str] | frozenset[str], look: int = 1000) -> str | None:
        """Look at the booking until it has one of these statuses; return it."""

        def is_enough(shown: Mapping[str, Any]) -> bool:
            self._town.promises.saw(booking, str(shown["booking_status"]))
            return shown["booking_status"] in wanted

        shown = await self._look(self._status_path(booking), is_enough, look)
        return None if shown is None else str(shown["booking_status"])

    async def _look(
        self, path: str, is_enough: Callable[[Mapping[str, Any]], bool], look: int = 1000
    ) -> Mapping[str, Any] | None:
        """Look at a resource until it is as wanted, or so many times; return it as it was wanted."""
        pause = 0.3
        for _ in range(look):
            reply = await self._ask("GET", path)
            if reply is None:
                return None
            if reply.status != 200:
                self._surprised(path, reply)
                return None
            if is_enough(reply.body):
                return dict(reply.body)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 3.0)
        return None

    async def _ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, wait: bool = False
    ) -> Answer | None:
        """Return the answer; None when there was none. A request that can be repeated is, until there is one."""
        headers = {"Prefer": "wait=5"} if wait else {}
        self._asked_at = time.monotonic()
        pause = 0.2
        while self._clock() < self._until:
            # Some guests hang up before they are answered.
            hangs_up = key is not None and self._chance.random() < 0.05
            seconds = self._chance.uniform(0.001, 0.05) if hangs_up else _REQUEST_SECONDS
            reply = await self._try(
                method, path, body, key=key, headers=headers, seconds=seconds, none=HUNG_UP if hangs_up else NO_ANSWER
            )
            if reply is not None:
                return reply
            if key is None and method not in {"GET", "DELETE"}:
                return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        return None

    async def _try(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        key: str | None,
        headers: Mapping[str, str],
        seconds: float,
        none: str,
    ) -> Answer | None:
        """Send one request; return its answer, None when there was none (`none`) or it is the server's failure."""
        answers = self._town.promises.answers
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            answer = await self._client.ask(method, path, body, key=key, headers=headers, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            answers[none] += 1
            return None
        answers[str(answer.status)] += 1
        if answer.status >= 500:
            return None
        return answer if isinstance(answer.body, dict) else answer._replace(body={})


def session_of(shown: Mapping[str, Any]) -> str:
    """Return the id of the session whose page a booking names."""
    return str(shown["session_url"]).rpartition("/")[2]
