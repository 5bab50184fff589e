"""Refresh tokens keep a login going, for a week from one use to the next; the browser keeps them in a cookie.

A token is random (or as good as), stored by its hash, and valid for one use, which makes the next token of its family.
When a token is used a second time, one of the two uses was a thief's: the whole family is revoked, and everybody logs
in again. Within a grace of ten seconds a second use is allowed, because a response got lost or two windows of a browser
refreshed at once. It gets the newest token of the family, computed again from the old one, so that a family is one line
of tokens however often it is used.

If the next token was used too by then, the line is followed to its end, five steps at most. The slow request gets the
token that the browser has already, never an older one, whose use would count as theft a little later. A thief gains
nothing by this: within the grace the theft gives the same token without those uses, and thief and user then have the
same token, whose second use reveals the theft. A line that cannot be followed is revoked: a thief could hide in it.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ingress.database import Database
from ingress.http.deadlines import suspended
from ingress.settings import IngressSettings
from storage import accounts, refresh_tokens
from storage.refresh_tokens import StoredToken, TokenFamily

log = logging.getLogger(__name__)

_TOKEN_BYTES: Final = 32
_TOKEN: Final = re.compile(r"[\w-]{43}", re.ASCII)
#: Of so many other accounts each login and refresh deletes the expired tokens: those of people who never come back.
_ACCOUNTS_LOOKED_AT: Final = 20
#: A login waits for that so long at most.
_FORGET_SECONDS: Final = 1.0
# No browser refreshes more often within the grace.
_MAX_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Session:
    """A login: its user, the user's present roles, and the token for the next refresh."""

    user_id: int
    roles: Sequence[str]
    refresh_token: str


class RefreshTokens:
    """Begins, continues and ends logins.

    The next token is a keyed hash of the old one, which is not stored, and of random bytes, which are: neither the
    database nor the key alone is enough to make one.
    """

    def __init__(self, database: Database, settings: IngressSettings) -> None:
        self._database = database
        secret = settings.jwt_secret_key.get_secret_value()
        self._key = hmac.digest(secret.encode(), b"innkeeper refresh tokens", "sha256")
        self._grace_seconds = settings.refresh_grace_seconds
        self.lifetime = timedelta(days=settings.refresh_token_days)
        self._forgotten_to = 0

    async def begin(self, user_id: int) -> Session | None:
        """Begin a family; None when the account is gone."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        family = TokenFamily(user_id=user_id, id=uuid4())
        async with self._database.writing() as connection:
            roles = await accounts.lock(connection, user_id)
            if roles is None:
                return None
            await refresh_tokens.forget_expired(connection, user_id)
            await refresh_tokens.add(connection, _hash(token), family, self.lifetime)
        await self._forget_others()
        return Session(user_id, roles, token)

    async def resume(self, token: str) -> Session | None:
        """Exchange a token for the next one; None when it is unknown, too old, revoked, or was used before."""
        if not _TOKEN.fullmatch(token):
            return None
        async with self._database.writing() as connection:
            family = await refresh_tokens.family_of(connection, _hash(token))
            roles = None if family is None else await accounts.lock(connection, family.user_id)
            if family is None or roles is None:
                return None
            await refresh_tokens.forget_expired(connection, family.user_id)
            stored = await refresh_tokens.find(connection, _hash(token))
            next_token = None if stored is None else await self._exchange(connection, token, stored, family)
        await self._forget_others()
        return None if next_token is None else Session(family.user_id, roles, next_token)

    async def end(self, token: str) -> None:
        """Revoke the family of a token, whether the token is still valid or not."""
        if not _TOKEN.fullmatch(token):
            return
        async with self._database.writing() as connection:
            family = await refresh_tokens.family_of(connection, _hash(token))
            if family is not None:
                await accounts.lock(connection, family.user_id)
                await refresh_tokens.revoke_family(connection, family.id)

    async def end_all(self, user_id: int) -> None:
        """Revoke all families of a user."""
        async with self._database.writing() as connection:
            await accounts.lock(connection, user_id)
            await refresh_tokens.revoke_all(connection, user_id)

    async def _forget_others(self) -> None:
        """Delete old tokens of a few other accounts, in turns; the login is committed, and no error reaches it."""
        try:
            with suspended():
                async with asyncio.timeout(_FORGET_SECONDS), self._database.writing(is_note=True) as connection:
                    self._forgotten_to = await refresh_tokens.forget_expired_of_others(
                        connection, self._forgotten_to, _ACCOUNTS_LOOKED_AT
                    )
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("expired refresh tokens of other accounts were not deleted: %r", error)

    async def _exchange(
        self, connection: AsyncConnection, token: str, stored: StoredToken, family: TokenFamily
    ) -> str | None:
        if stored.used_seconds_ago is None:
            return await self._use_now(connection, token, family)
        if stored.used_seconds_ago <= self._grace_seconds:
            newest = await self._newest(connection, token, stored)
            if newest is not None:
                return newest
        await refresh_tokens.revoke_family(connection, family.id)
        log.warning("user %d: a refresh token was used twice; its login %s is revoked", family.user_id, family.id)
        return None

    async def _use_now(self, connection: AsyncConnection, token: str, family: TokenFamily) -> str:
        salt = secrets.token_bytes(_TOKEN_BYTES)
        next_token = self._successor(token, salt)
        await refresh_tokens.mark_used(connection, _hash(token), salt)
        await refresh_tokens.add(connection, _hash(next_token), family, self.lifetime)
        return next_token

    async def _newest(self, connection: AsyncConnection, token: str, stored: StoredToken) -> str | None:
        """Follow used tokens to the unused one; None for too long a family, or a broken one (there is a new key)."""
        for _ in range(_MAX_STEPS):
            assert stored.salt is not None
            token = self._successor(token, stored.salt)
            found = await refresh_tokens.find(connection, _hash(token))
            if found is None:
                return None
            if found.salt is None:
                return token
            stored = found
        return None

    def _successor(self, token: str, salt: bytes) -> str:
        digest = hmac.digest(self._key, salt + token.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _hash(token: str) -> bytes:
    """Return the stored hash of a token, which has 256 random bits: a fast hash without a salt is enough."""
    return hashlib.sha256(token.encode()).digest()
