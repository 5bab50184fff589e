"""Refresh tokens as they are kept: by hash, in the family of the login that they came from.

Whoever changes a user's tokens holds the user's row (`accounts.lock`) from before the first look to the commit. So of a
family that is revoked nothing is left, not even what another transaction was about to add to it.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Double, cast, delete, extract, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import RefreshToken


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Where a token belongs, which never changes: its user, and the family that began with one login."""

    user_id: int
    family: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptToken:
    """A token that is good for one use, or was until it was used. With the salt its successor is made."""

    used_seconds_ago: float | None
    salt: bytes | None


async def line_of(connection: AsyncConnection, token_hash: bytes) -> Line | None:
    """Return where a token belongs, None when it is unknown; what it is good for is another question."""
    rows = await connection.execute(
        select(RefreshToken.user_id, RefreshToken.family).where(RefreshToken.token_hash == token_hash)
    )
    row = rows.mappings().first()
    return None if row is None else Line(**row)


async def find(connection: AsyncConnection, token_hash: bytes) -> KeptToken | None:
    """Return a token, None when it is unknown, revoked or expired.

    Times are those of the transaction's beginning: who had to wait for the user's row asked before it was free.
    """
    used_seconds_ago = cast(extract("epoch", func.now() - RefreshToken.used_at), Double)
    rows = await connection.execute(
        select(used_seconds_ago.label("used_seconds_ago"), RefreshToken.salt).where(
            RefreshToken.token_hash == token_hash, RefreshToken.expires_at > func.now()
        )
    )
    row = rows.mappings().first()
    return None if row is None else KeptToken(**row)


async def add(connection: AsyncConnection, token_hash: bytes, line: Line, lifetime: timedelta) -> None:
    """Insert a token that is good from now on."""
    await connection.execute(
        insert(RefreshToken).values(
            token_hash=token_hash, family=line.family, user_id=line.user_id, expires_at=func.now() + lifetime
        )
    )


async def mark_used(connection: AsyncConnection, token_hash: bytes, salt: bytes) -> None:
    """Note that a token was used now, and what its successor is made with."""
    await connection.execute(
        update(RefreshToken).where(RefreshToken.token_hash == token_hash).values(used_at=func.now(), salt=salt)
    )


async def revoke_family(connection: AsyncConnection, family: UUID) -> None:
    """Delete all that came from one login."""
    await connection.execute(delete(RefreshToken).where(RefreshToken.family == family))


async def revoke_all(connection: AsyncConnection, user_id: int) -> None:
    """Delete all tokens of a user."""
    await connection.execute(delete(RefreshToken).where(RefreshToken.user_id == user_id))


async def forget_expired(connection: AsyncConnection, user_id: int) -> None:
    """Delete the user's tokens that are good for nothing any more."""
    await connection.execute(
        delete(RefreshToken).where(RefreshToken.user_id == user_id, RefreshToken.expires_at <= func.now())
    )
