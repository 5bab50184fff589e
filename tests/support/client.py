"""The one HTTP client of the tests."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from tests.support.waiting import MAX_WAIT_SECONDS, wait_until


class Answer(NamedTuple):
    """A response that was read to its end: `body` is decoded JSON, else text, None when there is none."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def try_again(self) -> bool:
        """Whether nothing was done, and the same request may be sent again."""
        return self.status == 503 and "Retry-After" in self.headers

    @property
    def process(self) -> str:
        """The ingress process that answered; empty when none did."""
        return self.headers.get("X-Request-Id", "").partition("-")[0]


class Client:
    """Sends requests to one address, with an account's access token if it has one."""

    def __init__(self, session: aiohttp.ClientSession, url: str = "", token: str | None = None) -> None:
        """Use the session's own address when `url` is empty."""
        self.session = session
        self.url = url
        self.token = token

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        wait: bool = False,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        """Send one request.

        Args:
            method: the HTTP method.
            path: the path with its query.
            body: the body, sent as JSON; None sends none.
            wait: prefer to wait for the decision.
            key: the Idempotency-Key.
            headers: further headers.
            options: further arguments of `aiohttp.ClientSession.request`.
        """
        return await self._send(method, path, body, wait=wait, key=key, headers=headers, **options)

    async def ask_until_answered(
        self, method: str, path: str, body: Any = None, *, seconds: float = MAX_WAIT_SECONDS, **options: Any
    ) -> Answer:
        """Send a request, and again while the answer is to try again: on a slow machine a part is away for a moment."""

        async def asked() -> Answer | None:
            answer = await self._send(method, path, body, **options)
            return None if answer.try_again else answer

        answer: Answer | None = await wait_until(asked, seconds, f"{method} {path} is not to be tried again")
        assert answer is not None
        return answer

    async def get(self, path: str, **options: Any) -> Answer:
        """Send a GET."""
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        """Send a POST."""
        return await self.ask("POST", path, body, **options)

    async def _send(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        wait: bool = False,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if wait:
            sent["Prefer"] = "wait=30"
        if key is not None:
            sent["Idempotency-Key"] = key
        if body is not None:
            options["json"] = body
        async with self.session.request(
            method, self.url + path, headers=sent, allow_redirects=False, **options
        ) as response:
            return await answer_of(response)


async def answer_of(response: aiohttp.ClientResponse) -> Answer:
    """Read a response to its end."""
    body = await response.json() if response.content_type == "application/json" else await response.text() or None
    return Answer(response.status, body, response.headers)
