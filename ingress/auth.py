"""Accounts: who somebody is. Signing up, logging in, and the guests that an account saves."""

from datetime import date
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from ingress.answers import Answer, answer
from ingress.database import Database
from ingress.models import Body, Email, Gender, Line, NoQuery, Problems, Shown
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.passwords import Passwords, refuse_unhashable
from ingress.problems import Problem
from ingress.tokens import Tokens
from storage import accounts

_PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - an example


class Signup(Body):
    """An account that is asked for."""

    email: Email
    password: Annotated[str, StringConstraints(min_length=8)]
    name: Line | None = None


class Login(Body):
    """Who somebody says to be."""

    email: Annotated[str, StringConstraints(max_length=254)]
    password: str


class NewGuest(Body):
    """Somebody whom the account may name as staying."""

    name: Line
    gender: Gender | None = None
    age: Annotated[int, Field(ge=0, le=150)] | None = None


class AccountShown(Shown):
    """An account as its owner sees it."""

    id: int
    email: str
    name: str | None
    date_of_birth: date | None
    gender: Gender | None
    roles: list[str]


class AccessToken(Shown):
    """What a login gives: a JWT for the `Authorization` header."""

    access_token: str
    token_type: str


class SavedGuest(Shown):
    """Somebody whom the account may name as staying."""

    id: int
    user_id: int
    name: str
    gender: Gender | None
    age: int | None


class Accounts:
    """Answers everything about accounts."""

    def __init__(self, database: Database, passwords: Passwords, tokens: Tokens) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens

    @operation(
        "POST /auth/signup",
        access=Access.ANYBODY,
        summary="Make an account",
        answers={201: AccountShown, 400: Reply(Problems, "The e-mail address has an account.")},
        example=Example(status=201, body={"email": "grace@example.com", "password": _PASSWORD, "name": "Grace"}),
    )
    async def sign_up(self, asked: Asked[Signup, NoQuery]) -> Answer:
        """Make an account; an e-mail address has one, in whatever letters."""
        wanted = asked.body
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
        return answer(201, AccountShown.model_validate(account))

    @operation(
        "POST /auth/login",
        access=Access.ANYBODY,
        summary="Log in",
        answers={200: AccessToken, 401: Reply(Problems, "Unknown e-mail address or wrong password.")},
        example=Example(body={"email": "guest@example.com", "password": _PASSWORD}),
    )
    async def log_in(self, asked: Asked[Login, NoQuery]) -> Answer:
        """Give an access token; 401, after the same time, for an unknown e-mail and for a wrong password."""
        given = asked.body
        refuse_unhashable(given.password)
        async with self._database.reading() as connection:
            login = await accounts.find_login(connection, given.email)
        same = await self._passwords.matches(given.password, None if login is None else login.password_hash)
        if login is None or not same:
            raise Problem(401, "invalid e-mail or password", headers={"WWW-Authenticate": "Bearer"})
        token = self._tokens.issue(login.user_id, login.roles)
        return answer(200, AccessToken(access_token=token, token_type="bearer"))  # noqa: S106 - the scheme's name

    @operation(
        "POST /users/guests",
        access=Access.USER,
        summary="Save a guest",
        answers={201: SavedGuest},
        example=Example(status=201, body={"name": "Ada", "gender": "FEMALE", "age": 36}),
    )
    async def save_guest(self, asked: Asked[NewGuest, NoQuery]) -> Answer:
        """Save somebody whom the account may name as staying."""
        wanted = asked.body
        async with self._database.writing() as connection:
            guest = await accounts.add_guest(
                connection, user_id=asked.caller.user_id, name=wanted.name, gender=wanted.gender, age=wanted.age
            )
        return answer(201, SavedGuest.model_validate(guest))


def _already_registered() -> Problem:
    return Problem(400, "already registered")
