"""Access tokens: signed at login, verified at every request, cached by their text once verified. And tokens of quotes.

A quote's token carries the quoted price, so that no process has to remember it.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import jwt
import msgspec
from aiohttp import web

from ingress.http.problems import Problem
from ingress.settings import IngressSettings
from topics.messages.sale import Quoted

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
    """A price that an account was quoted for a stay. The plan and the people are those of its sale."""

    user_id: int
    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    quoted: Quoted


class QuoteTokens:
    """Signs quotes, and reads them back. The key is derived from that of access tokens; neither passes as the other."""

    def __init__(self, settings: IngressSettings) -> None:
        self._key = hmac.digest(settings.jwt_secret_key.get_secret_value().encode(), b"innkeeper quotes", "sha256")
        self._issuer = settings.jwt_issuer
        self._audience = f"{settings.jwt_audience} quotes"
        self._lifetime = timedelta(seconds=settings.quote_seconds)

    def good_until(self) -> datetime:
        """Return until when a quote of now is good, in whole seconds (UTC)."""
        return datetime.now(UTC).replace(microsecond=0) + self._lifetime

    def issue(self, quote: Quote) -> str:
        """Return the token of a quote."""
        claims = {
            "sub": str(quote.user_id),
            "iss": self._issuer,
            "aud": self._audience,
            "exp": int(quote.quoted.good_until.timestamp()),
            "quote": msgspec.to_builtins(quote),
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def read(self, token: str) -> Quote | None:
        """Return the quote of a token of ours, also one that has expired; None for any other text."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "sub", "iss", "aud", "quote"], "verify_exp": False},
            )
            return msgspec.convert(claims["quote"], Quote)
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError):
            return None


def _caller_of(claims: dict[str, Any]) -> Caller:
    if claims["type"] != "access":
        raise ValueError("not an access token")
    return Caller(int(claims["sub"]), tuple(claims["roles"]), float(claims["exp"]))


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
