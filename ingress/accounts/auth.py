"""Who somebody is: signing up, logging in, and staying logged in.

A login gives an access token for the `Authorization` header, good for half an hour, and in a cookie a refresh token,
which gives the next access token (`ingress/accounts/refresh.py`). Pages cannot read the cookie, and other sites cannot
send it.
"""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Final

from pydantic import StringConstraints

from ingress.accounts.passwords import Passwords, refuse_unhashable
from ingress.accounts.refresh import RefreshTokens, Session
from ingress.database import Database
from ingress.http.answers import Answer, answer, no_content
from ingress.http.models import Body, Email, Gender, Line, NoBody, NoQuery, Problems, RequestHeader, Shown
from ingress.http.problems import Problem
from ingress.limits.addresses import Addresses
from ingress.limits.login_delays import LoginDelays
from ingress.operations import Access, Asked, Example, Reply, operation
from ingress.tokens import Tokens
from storage import accounts

_COOKIE: Final = "refreshToken"
_REFRESH_TOKEN: Final = RequestHeader(
    name=_COOKIE,
    description="The refresh token, which a login sets; good for seven days and one use.",
    example="Yk8yVJ0qf1C7mB4nXo3hT6sDw9uRzE5aLgKpQiNcHtM",
    is_cookie=True,
)
_PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - an example
_SET_COOKIE: Final = {"Set-Cookie": "`refreshToken`, for this version's `/auth` alone."}
_UNUSABLE: Final = "The cookie is missing, too old, or was used before."
_CROSS_SITE: Final = "A page of another site asks."
_WITH_COOKIE: Final = {"Cookie": f"{_COOKIE}={_REFRESH_TOKEN.example}"}


class Signup(Body):
    """An account that is asked for. The password is at most 72 bytes, and hard to guess."""

    email: Email
    password: Annotated[str, StringConstraints(min_length=8)]
    name: Line | None = None


class Login(Body):
    """Who somebody says to be."""

    email: Annotated[str, StringConstraints(max_length=254)]
    password: str


class AccountShown(Shown):
    """An account as its owner sees it."""

    id: int
    email: str
    name: str | None
    date_of_birth: date | None
    gender: Gender | None
    roles: list[str]


class AccessToken(Shown):
    """A JWT for the `Authorization` header."""

    access_token: str
    token_type: str


class Auth:
    """Answers who signs up, logs in, stays, and leaves."""

    def __init__(
        self,
        *,
        database: Database,
        passwords: Passwords,
        tokens: Tokens,
        refresh_tokens: RefreshTokens,
        delays: LoginDelays,
        addresses: Addresses,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._refresh_tokens = refresh_tokens
        self._delays = delays
        self._addresses = addresses

    @operation(
        "POST /auth/signup",
        access=Access.ANYBODY,
        summary="Make an account",
        answers={
            201: Reply(AccountShown, headers={"Location": "The profile."}),
            400: Reply(Problems, "The e-mail address has an account."),
        },
        example=Example(status=201, body={"email": "grace@example.com", "password": _PASSWORD, "name": "Grace"}),
    )
    async def sign_up(self, asked: Asked[Signup, NoQuery]) -> Answer:
        """Make an account; an e-mail address has one, in whatever letters. A password must be hard to guess."""
        wanted = asked.body
        refuse_unhashable(wanted.password)
        await self._passwords.refuse_weak(wanted.password, wanted.email, wanted.name or "")
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
        return answer(201, AccountShown.model_validate(account), {"Location": asked.link("/users/profile")})

    @operation(
        "POST /auth/login",
        access=Access.ANYBODY,
        summary="Log in",
        answers={
            200: Reply(AccessToken, headers=_SET_COOKIE),
            401: Reply(Problems, "Unknown e-mail address or wrong password."),
        },
        example=Example(body={"email": "guest@example.com", "password": _PASSWORD}),
    )
    async def log_in(self, asked: Asked[Login, NoQuery]) -> Answer:
        """Give an access token, and in a cookie what the next ones are got with.

        401, after the same time, for an unknown e-mail and for a wrong password. Whoever guesses has to pause (429),
        and nobody else: failures count for the e-mail address and the client's address together.
        """
        given = asked.body
        refuse_unhashable(given.password)
        who = given.email, self._addresses.of(asked.request)
        await self._delays.before(*who)
        try:
            user_id = await self._user(given)
        except Exception:
            await self._delays.withdrawn(*who)
            raise
        if user_id is None:
            await self._delays.failed(*who)
            raise _unauthorized("invalid e-mail or password")
        await self._delays.succeeded(*who)
        session = await self._refresh_tokens.begin(user_id)
        if session is None:
            raise _unauthorized("invalid e-mail or password")
        return self._logged_in(asked, session)

    @operation(
        "POST /auth/refresh",
        access=Access.ANYBODY,
        summary="Stay logged in",
        answers={
            200: Reply(AccessToken, headers=_SET_COOKIE),
            401: Reply(Problems, _UNUSABLE, headers=_SET_COOKIE),
            403: Reply(Problems, _CROSS_SITE),
        },
        example=Example(headers=_WITH_COOKIE),
        headers=(_REFRESH_TOKEN,),
    )
    async def refresh(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """Take the cookie for an access token, with the account's roles as they stand, and the next cookie.

        A cookie is good for one use. Its second use means that somebody copied it, and ends the login for all who have
        it; but for ten seconds, because answers get lost, it is answered as the first one was.
        """
        _refuse_other_sites(asked)
        session = await self._refresh_tokens.go_on(asked.request.cookies.get(_COOKIE, ""))
        if session is None:
            raise _unauthorized("log in again", {"Set-Cookie": _cookie(asked, "", 0)})
        return self._logged_in(asked, session)

    @operation(
        "POST /auth/logout",
        access=Access.ANYBODY,
        summary="Log out",
        answers={204: Reply(headers=_SET_COOKIE), 403: Reply(Problems, _CROSS_SITE)},
        example=Example(status=204, headers=_WITH_COOKIE),
        headers=(_REFRESH_TOKEN,),
    )
    async def log_out(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """End the login that the cookie belongs to, if there is one. Its last access token ends by itself."""
        _refuse_other_sites(asked)
        await self._refresh_tokens.end(asked.request.cookies.get(_COOKIE, ""))
        return no_content({"Set-Cookie": _cookie(asked, "", 0)})

    @operation(
        "POST /auth/logout-all",
        access=Access.USER,
        summary="Log out everywhere",
        answers={204: Reply(headers=_SET_COOKIE)},
        example=Example(status=204),
    )
    async def log_out_everywhere(self, asked: Asked[NoBody, NoQuery]) -> Answer:
        """End all logins of the account. Their last access tokens end by themselves, within half an hour."""
        await self._refresh_tokens.end_all(asked.caller.user_id)
        return no_content({"Set-Cookie": _cookie(asked, "", 0)})

    async def _user(self, given: Login) -> int | None:
        async with self._database.reading() as connection:
            login = await accounts.find_login(connection, given.email)
        same = await self._passwords.matches(given.password, None if login is None else login.password_hash)
        return login.user_id if login is not None and same else None

    def _logged_in(self, asked: Asked[Any, Any], session: Session) -> Answer:
        seconds = int(self._refresh_tokens.lifetime.total_seconds())
        headers = {"Set-Cookie": _cookie(asked, session.refresh_token, seconds)}
        return answer(200, access_token(self._tokens, session.user_id, session.roles), headers)


def access_token(tokens: Tokens, user_id: int, roles: Sequence[str]) -> AccessToken:
    """Return a fresh access token."""
    return AccessToken(access_token=tokens.issue(user_id, roles), token_type="bearer")  # noqa: S106 - the scheme's name


def _cookie(asked: Asked[Any, Any], token: str, seconds: int) -> str:
    """Return the cookie as it is set; 0 seconds clear it.

    Its path is that of the mount that was asked, so that browsers send it to what needs it and nowhere else: a login
    at /v1/auth goes on at /v1/auth/refresh, one at /auth at /auth/refresh, each with a cookie of its own.
    """
    path = f"{asked.mount.prefix}/auth"
    return f"{_COOKIE}={token}; Path={path}; HttpOnly; Secure; SameSite=Strict; Max-Age={seconds}"


def _refuse_other_sites(asked: Asked[Any, Any]) -> None:
    """Refuse what a page of another site makes a browser ask, should it send the cookie in spite of `SameSite`."""
    if asked.request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Problem(403, "not from another site")


def _unauthorized(detail: str, headers: dict[str, str] | None = None) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer", **(headers or {})})


def _already_registered() -> Problem:
    return Problem(400, "already registered")
