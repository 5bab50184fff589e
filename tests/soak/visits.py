"""Two visitors beside the load: one measures how long a decision takes, others log in, stay a while, and log out."""

import asyncio
import time
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any, Final

import aiohttp

from tests.soak.samples import SampleFile
from tests.support.client import Answer, Client
from tests.system.pipeline.load import Town

#: A request is sent again for so long.
MAX_ANSWER_SECONDS: Final = 120.0
_PASSWORD: Final = "a password of the soak 4711"
_COOKIE: Final = "refreshToken"
_DECIDED: Final = frozenset({201, 409})
#: The rooms of which there are plenty are the last ones.
_PLENTY: Final = 5
_NIGHTS: Final = 10


class Person(Client):
    """An account of its own, whose requests are sent again until they are answered."""

    def __init__(self, town: Town, name: str) -> None:
        super().__init__(town.http, town.url)
        self.account = {"email": f"{name}-{time.time_ns()}@example.org", "password": _PASSWORD}
        self.id = 0

    async def sign_up(self) -> None:
        """Make the account, and log in."""
        await self.answered("POST", "/v1/auth/signup", self.account)
        await self.log_in()
        self.id = int((await self.answered("GET", "/v1/users/profile")).body["id"])

    async def log_in(self) -> str:
        """Log in; return the session's cookie."""
        answer = await self.answered("POST", "/v1/auth/login", self.account)
        self.token = answer.body["access_token"]
        return cookie_of(answer)

    async def answered(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Send a request until it is answered, through faults. Raises TimeoutError."""
        async with asyncio.timeout(MAX_ANSWER_SECONDS):
            while True:
                try:
                    answer = await self.ask(method, path, body, **options)
                    if answer.status < 500:
                        return answer
                except (aiohttp.ClientError, OSError):
                    pass
                await asyncio.sleep(0.05)


async def measure(town: Town, file: SampleFile, began: float, seconds: float, every_seconds: float) -> None:
    """Book again and again for so many seconds; write how long each decision took since its request was first sent.

    `began` is the loop's time at which the load began.
    """
    person = Person(town, "clockwork")
    await person.sign_up()
    clock = asyncio.get_running_loop().time
    number = 0
    while clock() < began + seconds:
        number += 1
        asked = clock()
        waited = await _seconds_to_decision(town, person, number)
        file.append("wait", at=round(asked - began, 3), seconds=None if waited is None else round(waited, 4))
        await asyncio.sleep(max(0.0, asked + every_seconds - clock()))


async def _seconds_to_decision(town: Town, person: Person, number: int) -> float | None:
    """Book one night; return the seconds until the client has the decision, None if it has none after two minutes."""
    room = town.rooms[-1 - number % _PLENTY]
    check_in = town.first_day + timedelta(days=number % _NIGHTS)
    wish = {
        "hotel_id": room.hotel_id,
        "room_id": room.id,
        "check_in_date": check_in.isoformat(),
        "check_out_date": (check_in + timedelta(days=1)).isoformat(),
        "rooms_count": 1,
    }
    key = f"clockwork-{number}"
    clock = asyncio.get_running_loop().time
    asked = clock()
    try:
        async with asyncio.timeout(MAX_ANSWER_SECONDS):
            while True:
                answer = await person.answered("POST", "/v1/bookings/init", wish, key=key, wait=True)
                if answer.status != 202:
                    break
    except TimeoutError:
        return None
    if answer.status not in _DECIDED:
        town.promises.surprises.append(f"clockwork: {answer.status} {answer.body}")
        return None
    town.promises.booked(str(answer.body["id"]), key)
    return clock() - asked


async def come_and_go(town: Town, people: list[Person], every_seconds: float) -> None:
    """Let one after the other log in, refresh the session twice, and log out, until cancelled."""
    number = 0
    while True:
        person = people[number % len(people)]
        number += 1
        try:
            cookie = await person.log_in()
            for _ in range(2):
                answer = await person.answered("POST", "/v1/auth/refresh", headers={"Cookie": f"{_COOKIE}={cookie}"})
                # 401: the answer to the same cookie was lost in a fault for longer than it may be used twice.
                cookie = cookie if answer.status == 401 else cookie_of(answer)
            await person.answered("POST", "/v1/auth/logout", headers={"Cookie": f"{_COOKIE}={cookie}"})
        except TimeoutError as error:
            town.promises.surprises.append(f"a session: {error!r}")
        await asyncio.sleep(every_seconds)


def cookie_of(answer: Answer) -> str:
    """Return the refresh token that an answer sets. Raises KeyError."""
    return SimpleCookie(answer.headers["Set-Cookie"])[_COOKIE].value
