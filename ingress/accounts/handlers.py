"""Operations on accounts: signing up, logging in and staying logged in; the profile and the saved guests.

A login gives an access token for the `Authorization` header, valid for half an hour, and in a cookie a refresh token,
which gives the next access token (`ingress/accounts/refresh.py`). Pages cannot read the cookie, and other sites cannot
send it.
"""

from collections.abc import Sequence
from typing import Any, Final

from ingress.accounts.models import (
    AccessToken,
    AccountOut,
    GuestChanges,
    Host,
    Login,
    NewGuest,
    ProfileChanges,
    SavedGuest,
    Signup,
)
from ingress.accounts.passwords import Passwords, refuse_unhashable
from ingress.accounts.refresh import RefreshTokens, Session
from ingress.database import Database
from ingress.http.models import Id, NoBody, NoQuery, Problems, RequestHeader
from ingress.http.paging import NEXT_PAGE, Cursors, Paged, first_page, link_to_next
from ingress.http.problems import Problem, existing, no_such
from ingress.http.responses import Response, json_response, no_content
from ingress.http.versions import ETAG_HEADER, IF_MATCH, changed_meanwhile, etag, expected_versions
from ingress.limits.addresses import Addresses
from ingress.limits.login_delays import LoginDelays
from ingress.operations import Access, Example, RequestContext, ResponseSpec, Unversioned, operation
from ingress.tokens import Tokens
from storage import accounts, guests
from storage.accounts import MANAGER

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
_GUEST: Final = {"guest_id": 1}
_guest_ids: Final = Cursors(Id)


class Auth:
    """The operations of signing up, logging in, staying logged in, and logging out."""

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
        responses={
            201: ResponseSpec(AccountOut, headers={"Location": "The profile."}),
            400: ResponseSpec(Problems, "The e-mail address has an account."),
        },
        example=Example(status=201, body={"email": "grace@example.com", "password": _PASSWORD, "name": "Grace"}),
    )
    async def sign_up(self, context: RequestContext[Signup, NoQuery]) -> Response:
        """Make an account; an e-mail address has one, in upper or lower case. A password must be hard to guess."""
        signup = context.body
        # Clients without a version expect 400 for a known address, also with a weak password.
        if context.mount.unversioned:
            await self._refuse_known(signup.email)
        refuse_unhashable(signup.password)
        await self._passwords.refuse_weak(signup.password, signup.email, signup.name or "")
        if not context.mount.unversioned:
            await self._refuse_known(signup.email)
        password_hash = await self._passwords.hash(signup.password)
        async with self._database.writing() as connection:
            account = await accounts.add_account(
                connection, email=signup.email, password_hash=password_hash, name=signup.name
            )
        if account is None:
            raise _already_registered()
        return json_response(201, AccountOut.model_validate(account), {"Location": context.link("/users/profile")})

    @operation(
        "POST /auth/login",
        access=Access.ANYBODY,
        summary="Log in",
        responses={
            200: ResponseSpec(AccessToken, headers=_SET_COOKIE),
            401: ResponseSpec(Problems, "Unknown e-mail address or wrong password."),
        },
        example=Example(body={"email": "guest@example.com", "password": _PASSWORD}),
    )
    async def log_in(self, context: RequestContext[Login, NoQuery]) -> Response:
        """Give an access token, and in a cookie the refresh token for the next ones.

        401, after the same time, for an unknown e-mail and for a wrong password. After several failures a client has
        to pause (429), and no other client: failures count for the e-mail address and the client's address together.
        """
        given = context.body
        refuse_unhashable(given.password)
        attempt = given.email, self._addresses.of(context.request)
        await self._delays.begin(*attempt)
        try:
            user_id = await self._user(given)
        except Exception:
            await self._delays.withdraw(*attempt)
            raise
        if user_id is None:
            await self._delays.fail(*attempt)
            raise _unauthorized("invalid e-mail or password")
        await self._delays.succeed(*attempt)
        session = await self._refresh_tokens.begin(user_id)
        if session is None:
            raise _unauthorized("invalid e-mail or password")
        return self._login_response(context, session)

    @operation(
        "POST /auth/refresh",
        access=Access.ANYBODY,
        summary="Stay logged in",
        responses={
            200: ResponseSpec(AccessToken, headers=_SET_COOKIE),
            401: ResponseSpec(Problems, _UNUSABLE, headers=_SET_COOKIE),
            403: ResponseSpec(Problems, _CROSS_SITE),
        },
        example=Example(headers=_WITH_COOKIE),
        headers=(_REFRESH_TOKEN,),
    )
    async def refresh(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Exchange the cookie for an access token with the account's present roles, and the next cookie.

        A cookie is valid for one use. A second use means that somebody copied it, and ends the login for everybody who
        has it. Within ten seconds, because responses get lost, a second use is answered like the first one.
        """
        _refuse_other_sites(context)
        session = await self._refresh_tokens.resume(context.request.cookies.get(_COOKIE, ""))
        if session is None:
            raise _unauthorized("log in again", {"Set-Cookie": _cookie(context, "", 0)})
        return self._login_response(context, session)

    @operation(
        "POST /auth/logout",
        access=Access.ANYBODY,
        summary="Log out",
        responses={204: ResponseSpec(headers=_SET_COOKIE), 403: ResponseSpec(Problems, _CROSS_SITE)},
        example=Example(status=204, headers=_WITH_COOKIE),
        headers=(_REFRESH_TOKEN,),
    )
    async def log_out(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """End the login that the cookie belongs to, if there is one. Its last access token stays valid for its time."""
        _refuse_other_sites(context)
        await self._refresh_tokens.end(context.request.cookies.get(_COOKIE, ""))
        return no_content({"Set-Cookie": _cookie(context, "", 0)})

    @operation(
        "POST /auth/logout-all",
        access=Access.USER,
        summary="Log out everywhere",
        responses={204: ResponseSpec(headers=_SET_COOKIE)},
        example=Example(status=204),
    )
    async def log_out_everywhere(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """End all logins of the account. Their last access tokens stay valid for half an hour at most."""
        await self._refresh_tokens.end_all(context.caller.user_id)
        return no_content({"Set-Cookie": _cookie(context, "", 0)})

    async def _refuse_known(self, email: str) -> None:
        async with self._database.reading() as connection:
            if await accounts.email_is_known(connection, email):
                raise _already_registered()

    async def _user(self, given: Login) -> int | None:
        async with self._database.reading() as connection:
            login = await accounts.find_login(connection, given.email)
        same = await self._passwords.matches(given.password, None if login is None else login.password_hash)
        return login.user_id if login is not None and same else None

    def _login_response(self, context: RequestContext[Any, Any], session: Session) -> Response:
        seconds = int(self._refresh_tokens.lifetime.total_seconds())
        headers = {"Set-Cookie": _cookie(context, session.refresh_token, seconds)}
        return json_response(200, access_token(self._tokens, session.user_id, session.roles), headers)


class Users:
    """The operations of an account on its profile and its saved guests."""

    def __init__(self, database: Database, tokens: Tokens, *, anybody_may_host: bool) -> None:
        self._database = database
        self._tokens = tokens
        self._anybody_may_host = anybody_may_host

    @operation(
        "GET /users/profile",
        access=Access.USER,
        summary="Show the profile",
        responses={200: ResponseSpec(AccountOut, headers=ETAG_HEADER)},
        example=Example(),
    )
    async def profile(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read the account's profile and its present roles."""
        async with self._database.reading() as connection:
            account = await accounts.account(connection, context.caller.user_id)
        if account is None:
            raise _account_is_gone()
        return json_response(200, AccountOut.model_validate(account), etag(account.version))

    @operation(
        "PATCH /users/profile",
        access=Access.USER,
        summary="Change the profile",
        responses={200: ResponseSpec(AccountOut, headers=ETAG_HEADER)},
        example=Example(body={"name": "Grace Hopper", "date_of_birth": "1906-12-09", "gender": "FEMALE"}),
        headers=(IF_MATCH,),
    )
    async def change_profile(self, context: RequestContext[ProfileChanges, NoQuery]) -> Response:
        """Change the fields that are sent; with `If-Match` only if the profile is still as it was read."""
        user_id, versions = context.caller.user_id, expected_versions(context.request)
        async with self._database.writing() as connection:
            account = await accounts.change_account(connection, user_id, context.body.changed(), versions=versions)
            if account is None and await accounts.lock(connection, user_id) is None:
                raise _account_is_gone()
        if account is None:
            raise changed_meanwhile()
        return json_response(200, AccountOut.model_validate(account), etag(account.version))

    @operation(
        "POST /users/host",
        access=Access.USER,
        summary="Become a host",
        responses={200: Host, 403: ResponseSpec(Problems, "Hosts are made by the operators here.")},
        example=Example(),
    )
    async def become_host(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Give the account the role of a hotel manager, once, and a new access token: the old one does not have it."""
        if not self._anybody_may_host:
            raise Problem(403, "hosts are made by the operators here")
        user_id = context.caller.user_id
        async with self._database.writing() as connection:
            await accounts.add_role(connection, user_id, MANAGER)
            account = await accounts.account(connection, user_id)
        if account is None:
            raise _account_is_gone()
        profile = AccountOut.model_validate(account).model_dump()
        token = access_token(self._tokens, user_id, account.roles).model_dump()
        return json_response(200, Host(**profile, **token))

    @operation(
        "POST /users/guests",
        access=Access.USER,
        summary="Save a guest",
        responses={201: ResponseSpec(SavedGuest, headers={"Location": "The guest."})},
        example=Example(status=201, body={"name": "Ada", "gender": "FEMALE", "age": 36}),
        links={
            name: {"guest_id": "$response.body#/id"}
            for name in ("guest", "replace_guest", "change_guest", "delete_guest")
        },
    )
    async def save_guest(self, context: RequestContext[NewGuest, NoQuery]) -> Response:
        """Save somebody whom the account may name as staying."""
        async with self._database.writing() as connection:
            saved = await guests.add_guest(connection, user_id=context.caller.user_id, **context.body.model_dump())
        if saved is None:
            raise _account_is_gone()
        headers = {"Location": context.link(f"/users/guests/{saved.id}")}
        return json_response(201, SavedGuest.model_validate(saved), headers)

    @operation(
        "GET /users/guests",
        access=Access.USER,
        summary="List saved guests",
        responses={200: ResponseSpec(list[SavedGuest], "In the order in which they were saved.", NEXT_PAGE)},
        example=Example(query={"limit": 10}),
    )
    async def list_guests(self, context: RequestContext[NoBody, Paged]) -> Response:
        """List the people whom the account may name as staying."""
        query = context.query
        after = _guest_ids.read(query.cursor) or 0
        async with self._database.reading() as connection:
            rows = await guests.own_guests(connection, context.caller.user_id, after=after, limit=query.limit + 1)
        page, last = first_page(rows, query.limit)
        body = [SavedGuest.model_validate(guest) for guest in page]
        headers = link_to_next(context.address_with, last, lambda guest: _guest_ids.write(guest.id))
        return json_response(200, body, headers)

    @operation(
        "GET /users/guests/{guest_id}",
        access=Access.USER,
        summary="Show a saved guest",
        responses={200: SavedGuest},
        example=Example(path=_GUEST),
    )
    async def guest(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Read a person whom the account may name as staying."""
        async with self._database.reading() as connection:
            found = await guests.own_guest(connection, context.caller.user_id, context.path["guest_id"])
        return _guest_response(found)

    @operation(
        "PUT /users/guests/{guest_id}",
        access=Access.USER,
        summary="Replace a saved guest",
        responses={200: SavedGuest},
        example=Example(path=_GUEST, body={"name": "Ada Lovelace", "gender": "FEMALE", "age": 36}),
        unversioned=Unversioned(by="change_guest"),
    )
    async def replace_guest(self, context: RequestContext[NewGuest, NoQuery]) -> Response:
        """Replace all fields; one that is left out is cleared. Bookings that name the guest show the new fields."""
        async with self._database.writing() as connection:
            found = await guests.change_guest(
                connection, context.caller.user_id, context.path["guest_id"], context.body.model_dump()
            )
        return _guest_response(found)

    @operation(
        "PATCH /users/guests/{guest_id}",
        access=Access.USER,
        summary="Change a saved guest",
        responses={200: SavedGuest},
        example=Example(path=_GUEST, body={"age": 37}),
    )
    async def change_guest(self, context: RequestContext[GuestChanges, NoQuery]) -> Response:
        """Change the fields that are sent. Bookings that name the guest show the new fields."""
        async with self._database.writing() as connection:
            found = await guests.change_guest(
                connection, context.caller.user_id, context.path["guest_id"], context.body.changed()
            )
        return _guest_response(found)

    @operation(
        "DELETE /users/guests/{guest_id}",
        access=Access.USER,
        summary="Delete a saved guest",
        responses={204: None, 409: ResponseSpec(Problems, "A booking that is not over names the guest.")},
        example=Example(status=204, path=_GUEST),
    )
    async def delete_guest(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Delete a guest whom no booking needs.

        A booking needs its guests while it is held, while it is confirmed and its check-out day has not passed, and for
        a day after it expired, because a late payment can revive it. Bookings that are over or cancelled no longer show
        a deleted guest.
        """
        user_id, guest_id = context.caller.user_id, context.path["guest_id"]
        async with self._database.writing() as connection:
            deleted = await guests.delete_guest(connection, user_id, guest_id)
            needed = None if deleted else await guests.own_guest(connection, user_id, guest_id)
        if needed is not None:
            raise Problem(409, "a booking that is not over names this guest", more={"reason": "guest_stays"})
        if not deleted:
            raise no_such("guest")
        return no_content()


def access_token(tokens: Tokens, user_id: int, roles: Sequence[str]) -> AccessToken:
    """Return a fresh access token."""
    return AccessToken(access_token=tokens.issue(user_id, roles), token_type="bearer")  # noqa: S106 - the scheme's name


def _cookie(context: RequestContext[Any, Any], token: str, seconds: int) -> str:
    """Return the header that sets the cookie; 0 seconds clear it.

    Its path is `/auth` of the request's mount as browsers reach it, so that no other operation gets it: a login at
    /v1/auth is refreshed at /v1/auth/refresh, one at /auth at /auth/refresh, each with a cookie of its own.
    """
    path = f"{context.mount.public_prefix}{context.mount.prefix}/auth"
    return f"{_COOKIE}={token}; Path={path}; HttpOnly; Secure; SameSite=Strict; Max-Age={seconds}"


def _refuse_other_sites(context: RequestContext[Any, Any]) -> None:
    """Refuse a request from a page of another site, which may have the cookie in spite of `SameSite`."""
    if context.request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Problem(403, "not from another site")


def _unauthorized(detail: str, headers: dict[str, str] | None = None) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer", **(headers or {})})


def _already_registered() -> Problem:
    return Problem(400, "already registered")


def _guest_response(found: guests.SavedGuest | None) -> Response:
    return json_response(200, SavedGuest.model_validate(existing(found, "guest")))


def _account_is_gone() -> Problem:
    return Problem(401, "the account is gone", headers={"WWW-Authenticate": "Bearer"})
