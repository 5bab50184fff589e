"""Accounts in the ingress' tests: signed up and logged in, with the cookie that a browser would keep."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookies import Morsel, SimpleCookie
from typing import Any

import psycopg

from storage.settings import DatabaseSettings
from tests.ingress.house import House
from tests.support.client import Answer

ANNA: dict[str, Any] = {"email": "Anna@example.com", "password": "correct horse", "name": "Anna"}


@dataclass(frozen=True)
class Visit:
    """The tokens that a response gave: an access token, and the refresh token from the cookie."""

    access_token: str
    refresh_token: str

    @property
    def bearer(self) -> dict[str, str]:
        """The header with the access token."""
        return {"Authorization": f"Bearer {self.access_token}"}


def cookie(answered: Answer) -> Morsel[str]:
    """Return the cookie that an answer sets."""
    return SimpleCookie(answered.headers["Set-Cookie"])["refreshToken"]


def visit(answered: Answer) -> Visit:
    """Return the tokens of a login or refresh that succeeded."""
    assert answered.status == 200, answered
    return Visit(answered.body["access_token"], cookie(answered).value)


async def sign_up(house: House, **changes: Any) -> int:
    """Make an account, Anna's by default; return its id."""
    signed_up = await house.post("/v1/auth/signup", ANNA | changes)
    assert signed_up.status == 201, signed_up
    return int(signed_up.body["id"])


async def log_in(house: House, path: str = "/v1/auth/login", **changes: str) -> Visit:
    """Log in, as Anna by default."""
    given = {name: ANNA[name] for name in ("email", "password")} | changes
    return visit(await house.post(path, given))


async def refresh(house: House, refresh_token: str, path: str = "/v1/auth/refresh", **headers: str) -> Answer:
    """Exchange the cookie for the next one."""
    return await house.post(path, headers={"Cookie": f"refreshToken={refresh_token}", **headers})


@asynccontextmanager
async def open_connection(database: DatabaseSettings) -> AsyncIterator[psycopg.AsyncConnection]:
    """Open a connection for statements that the ingress has no operation for."""
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
        yield connection
