"""Accounts: who somebody is. Signing up, logging in, and the guests that an account saves."""

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from ingress.answers import Answer, answer
from ingress.bodies import decoded_body
from ingress.database import Database
from ingress.passwords import Passwords, refuse_unhashable
from ingress.problems import Problem
from ingress.tokens import Tokens
from storage import accounts

# Nothing that PostgreSQL could not store or a terminal would obey.
_LINE: Final = r"^[^\x00-\x1f\x7f]+$"
Email = Annotated[str, msgspec.Meta(pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f]+$", max_length=254)]
Name = Annotated[str, msgspec.Meta(pattern=_LINE, max_length=200)]


class Signup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/auth/signup`."""

    email: Email
    password: Annotated[str, msgspec.Meta(min_length=8)]
    name: Name | None = None


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/auth/login`."""

    email: Annotated[str, msgspec.Meta(pattern=_LINE, max_length=254)]
    password: str


class NewGuest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/users/guests`."""

    name: Name
    gender: Literal["MALE", "FEMALE"] | None = None
    age: Annotated[int, msgspec.Meta(ge=0, le=150)] | None = None


_signup: Final = msgspec.json.Decoder(Signup)
_login: Final = msgspec.json.Decoder(Login)
_new_guest: Final = msgspec.json.Decoder(NewGuest)


class Accounts:
    """Answers everything about accounts."""

    def __init__(self, database: Database, passwords: Passwords, tokens: Tokens) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/v1/auth/signup", self.sign_up),
            web.post("/v1/auth/login", self.log_in),
            web.post("/v1/users/guests", self.save_guest),
        ]

    async def sign_up(self, request: web.Request) -> Answer:
        """Make an account: 201, or 400 when the e-mail address has one."""
        wanted = await decoded_body(request, _signup)
        refuse_unhashable(wanted.password)
        async with self._database.reading() as connection:
            known = await accounts.email_is_known(connection, wanted.email)
        if known:
            raise _already_registered()
        password_hash = await self._passwords.hash(wanted.password)
        async with self._database.writing() as connection:
            account = await accounts.add_account(
                connection, email=wanted.email, password_hash=password_hash, name=wanted.name
            )
        if account is None:
            raise _already_registered()
        return answer(201, account)

    async def log_in(self, request: web.Request) -> Answer:
        """Give an access token; 401, after the same time, for an unknown e-mail and for a wrong password."""
        given = await decoded_body(request, _login)
        refuse_unhashable(given.password)
        async with self._database.reading() as connection:
            login = await accounts.find_login(connection, given.email)
        same = await self._passwords.matches(given.password, None if login is None else login.password_hash)
        if login is None or not same:
            raise Problem(401, "invalid e-mail or password", headers={"WWW-Authenticate": "Bearer"})
        token = self._tokens.issue(login.user_id, login.roles)
        return answer(200, {"access_token": token, "token_type": "bearer"})

    async def save_guest(self, request: web.Request) -> Answer:
        """Save somebody whom the account may name as staying: 201."""
        caller = self._tokens.caller(request)
        wanted = await decoded_body(request, _new_guest)
        async with self._database.writing() as connection:
            guest = await accounts.add_guest(
                connection, user_id=caller.user_id, name=wanted.name, gender=wanted.gender, age=wanted.age
            )
        return answer(201, guest)


def _already_registered() -> Problem:
    return Problem(400, "already registered")
