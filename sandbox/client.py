"""A person at a browser: sends requests to the ingress over HTTP, and shows the responses."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from sandbox.hops import Hops

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Unexpected(RuntimeError):
    """A response that a guest cannot continue after."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """An HTTP response; `body` is decoded JSON, or the page's text."""

    request: str
    status: int
    body: Any
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{_ID.sub('{id}', self.request)}: {phrase(self.status)}"


class Client:
    """An account and its token."""

    def __init__(self, http: aiohttp.ClientSession, url: str, hops: Hops) -> None:
        self._http = http
        self._url = url
        self._hops = hops
        self._headers: dict[str, str] = {}

    async def log_in(self, email: str, password: str) -> None:
        """Use the account's token from now on."""
        login = await self._ask("POST", "/v1/auth/login", {"email": email, "password": password})
        self._headers["Authorization"] = f"Bearer {login.body['access_token']}"
        self._hops.show(f"{email} is logged in", str(login))

    async def _ask(
        self, method: str, path: str, body: object = None, *, expect: int = 200, wait: bool = False
    ) -> Response:
        headers = self._headers | ({"Prefer": "wait=30"} if wait else {})
        answer = await self._answer(method, path, body, headers)
        while answer.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            # A client that polls as often as this one gets a Retry-After, and so do all while a part is away.
            await asyncio.sleep(int(answer.headers["Retry-After"]))
            answer = await self._answer(method, path, body, headers)
        if answer.status != expect:
            raise Unexpected(f"{answer.request} was answered {answer.status}: {answer.body}")
        return answer

    async def _answer(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Response:
        async with self._http.request(method, self._url + path, json=body, headers=headers) as response:
            is_json = response.content_type == "application/json"
            content = await response.json() if is_json else await response.text()
            return Response(request=f"{method} {path}", status=response.status, body=content, headers=response.headers)


def phrase(status: int) -> str:
    """Return a status with its name."""
    return f"{status} {HTTPStatus(status).phrase}"
