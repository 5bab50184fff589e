"""Refresh tokens, stored by their hashes, in the family of the login that they came from.

A transaction that changes a user's tokens locks the user's row (`accounts.lock`) before its first read and until its
commit. So nothing of a revoked family is left, not even a token that another transaction was about to add. Nobody can
use an expired token: any transaction may delete it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Double, cast, delete, extract, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import RefreshToken


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenFamily:
    """The tokens that came from one login, and their user; neither ever changes."""

    user_id: int
    id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredToken:
    """A token that is valid for one use, or was used. Its successor is made with the salt."""

    used_seconds_ago: float | None
    salt: bytes | None


async def family_of(connection: AsyncConnection, token_hash: bytes) -> TokenFamily | None:
    """Return the family of a token, valid or not; None when the token is unknown."""
    rows = await connection.execute(
        select(RefreshToken.user_id, RefreshToken.family.label("id")).where(RefreshToken.token_hash == token_hash)
    )
    row = rows.mappings().first()
    return None if row is None else TokenFamily(**row)


async def find(connection: AsyncConnection, token_hash: bytes) -> StoredToken | None:
    """Return a token, None when it is unknown, revoked or expired.

    Times are those of the transaction's beginning, which may be before it got the lock of the user's row.
    """
    used_seconds_ago = cast(extract("epoch", func.now() - RefreshToken.used_at), Double)
    rows = await connection.execute(
        select(used_seconds_ago.label("used_seconds_ago"), RefreshToken.salt).where(
            RefreshToken.token_hash == token_hash, RefreshToken.expires_at > func.now()
        )
    )
    row = rows.mappings().first()
    return None if row is None else StoredToken(**row)


async def add(connection: AsyncConnection, token_hash: bytes, family: TokenFamily, lifetime: timedelta) -> None:
    """Insert a token of the family, valid from now on."""
    await connection.execute(
        insert(RefreshToken).values(
            token_hash=token_hash, family=family.id, user_id=family.user_id, expires_at=func.now() + lifetime
        )
    )


async def mark_used(connection: AsyncConnection, token_hash: bytes, salt: bytes) -> None:
    """Store that a token was used now, and the salt of its successor."""
    await connection.execute(
        update(RefreshToken).where(RefreshToken.token_hash == token_hash).values(used_at=func.now(), salt=salt)
    )


async def revoke_family(connection: AsyncConnection, family: UUID) -> None:
    """Delete all tokens that came from one login."""
    await connection.execute(delete(RefreshToken).where(RefreshToken.family == family))


async def revoke_all(connection: AsyncConnection, user_id: int) -> None:
    """Delete all tokens of a user."""
    await connection.execute(delete(RefreshToken).where(RefreshToken.user_id == user_id))


async def forget_expired(connection: AsyncConnection, user_id: int) -> None:
    """Delete the user's expired tokens."""
    await connection.execute(
        delete(RefreshToken).where(RefreshToken.user_id == user_id, RefreshToken.expires_at <= func.now())
    )


_FORGET_OTHERS: Final = text("""
    with looked_at as (
        select distinct user_id from refresh_token where user_id > :after order by user_id limit :accounts
    ), forgotten as (
        delete from refresh_token where token_hash in (
            select token_hash from refresh_token
            where user_id in (select user_id from looked_at) and expires_at <= now()
            for update skip locked
        )
    )
    select count(*) as found, max(user_id) as last from looked_at
""")


async def forget_expired_of_others(connection: AsyncConnection, after: int, accounts: int) -> int:
    """Delete the expired tokens of the next accounts behind one; return the last of these, 0 behind the last of all.

    Rows that another transaction has locked are left out, so that this waits for nobody.
    """
    row = (await connection.execute(_FORGET_OTHERS, {"after": after, "accounts": accounts})).one()
    return int(row.last) if row.found == accounts else 0
