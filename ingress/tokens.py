"""Access tokens: signed at login, verified at every request, cached by their text once verified. And tokens of quotes.

A quote's token carries the quoted price, so that no process has to remember it.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import jwt
import msgspec
from aiohttp import web

from ingress.http.problems import Problem
from ingress.settings import IngressSettings
from topics.messages.sale import Party, Quoted, QuotedChange
from topics.messages.values import StayTimes

_REQUIRED_CLAIMS: Final = ["exp", "iat", "sub", "type", "iss", "aud", "roles"]
_MAX_TOKENS_REMEMBERED: Final = 10_000
# Clocks of two machines differ a little; only `iat` profits, `exp` is judged to the second below.
_CLOCK_SKEW_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Caller:
    """The account that sends a request. `expires_at` is Unix time in seconds."""

    user_id: int
    roles: tuple[str, ...]
    expires_at: float


class Tokens:
    """Issues and verifies access tokens."""

    def __init__(self, settings: IngressSettings) -> None:
        self._key = settings.jwt_secret_key.get_secret_value()
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._lifetime_seconds = settings.access_token_minutes * 60
        self._callers: OrderedDict[str, Caller] = OrderedDict()

    def issue(self, user_id: int, roles: Sequence[str]) -> str:
        """Return an access token of this user."""
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "roles": list(roles),
            "type": "access",
            "iss": self._issuer,
            "aud": self._audience,
            "iat": now,
            "exp": now + self._lifetime_seconds,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def caller(self, request: web.Request) -> Caller:
        """Return the caller that the request's token names.

        Raises:
            Problem: 401 without a token of ours that is still valid.
        """
        authorization = request.headers.get("Authorization", "")
        caller = self._callers.get(authorization)
        if caller is None:
            caller = self._verify(authorization)
        else:
            self._callers.move_to_end(authorization)
        if caller.expires_at <= time.time():
            self._callers.pop(authorization, None)
            raise _unauthorized("the token has expired")
        return caller

    def _verify(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("a bearer token is needed")
        try:
            caller = _caller_of(self._claims(token))
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise _unauthorized("invalid token") from error
        self._callers[authorization] = caller
        if len(self._callers) > _MAX_TOKENS_REMEMBERED:
            self._callers.popitem(last=False)
        return caller

    def _claims(self, token: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key,
            algorithms=["HS256"],
            issuer=self._issuer,
            audience=self._audience,
            leeway=_CLOCK_SKEW_SECONDS,
            options={"require": _REQUIRED_CLAIMS},
        )
        return claims


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """A price that an account was quoted for a stay. The plan and the people are those of its sale.

    `stay_times` are the hotel's, as the quote shows them.
    """

    user_id: int
    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    stay_times: StayTimes
    quoted: Quoted


class ChangeQuote(msgspec.Struct, frozen=True, kw_only=True):
    """A price that was quoted for the changed stay of a booking: to its own account, or to the hotel (`user_id` None).

    `party` None: the people are those of the booking.
    """

    user_id: int | None
    hotel_id: int
    booking_id: UUID
    check_in: date
    check_out: date
    rooms_count: int
    party: Party | None
    quoted: QuotedChange


QuoteType = TypeVar("QuoteType", Quote, ChangeQuote)
#: The claim that has a quote of each kind: a token of one is none of the other.
_CLAIMS: Final = {Quote: "quote", ChangeQuote: "change"}


class QuoteTokens:
    """Signs quotes, and reads them back. The key is derived from that of access tokens; neither passes as the other.

    Quotes count in their installation alone: a copy of it with the same key has other hotels under the same ids.
    """

    def __init__(self, settings: IngressSettings, installation_id: Callable[[], Awaitable[UUID]]) -> None:
        self._key = hmac.digest(settings.jwt_secret_key.get_secret_value().encode(), b"innkeeper quotes", "sha256")
        self._issuer = settings.jwt_issuer
        self._audience = f"{settings.jwt_audience} quotes"
        self._installation_id = installation_id
        self._lifetime = timedelta(seconds=settings.quote_seconds)

    def good_until(self) -> datetime:
        """Return until when a quote of now is good, in whole seconds (UTC)."""
        return datetime.now(UTC).replace(microsecond=0) + self._lifetime

    async def issue(self, quote: Quote | ChangeQuote) -> str:
        """Return the token of a quote."""
        claims = {
            "sub": f"hotel {quote.hotel_id}" if quote.user_id is None else str(quote.user_id),
            "iss": self._issuer,
            "aud": await self._audience_here(),
            "exp": int(quote.quoted.good_until.timestamp()),
            _CLAIMS[type(quote)]: msgspec.to_builtins(quote),
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    async def read(self, token: str, kind: type[QuoteType]) -> QuoteType | None:
        """Return the quote of a token of ours of this kind, also one that has expired; None for any other text."""
        claim, audience = _CLAIMS[kind], await self._audience_here()
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                issuer=self._issuer,
                audience=audience,
                options={"require": ["exp", "sub", "iss", "aud", claim], "verify_exp": False},
            )
            return msgspec.convert(claims[claim], kind)
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError):
            return None

    async def _audience_here(self) -> str:
        return f"{self._audience} of {await self._installation_id()}"


def _caller_of(claims: dict[str, Any]) -> Caller:
    if claims["type"] != "access":
        raise ValueError("not an access token")
    return Caller(int(claims["sub"]), tuple(claims["roles"]), float(claims["exp"]))


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
