"""Accounts, and the idempotency keys of repeated requests: rows that the ingress writes itself."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from sqlalchemy import all_, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import AppUser, IdempotencyKey

#: The roles that an account may have besides a guest's.
MANAGER: Final = "HOTEL_MANAGER"
OPERATOR: Final = "OPERATOR"
_ACCOUNT_COLUMNS: Final = (
    AppUser.id,
    AppUser.email,
    AppUser.name,
    AppUser.date_of_birth,
    AppUser.gender,
    AppUser.roles,
    AppUser.version,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An account as its user sees it. `version` counts its changes."""

    id: int
    email: str
    name: str | None
    date_of_birth: date | None
    gender: str | None
    roles: list[str]
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """The row that a login is compared with. `password_hash` is bcrypt's."""

    user_id: int
    password_hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The request of an Idempotency-Key: the hash of its body, and the ids of its command and its booking."""

    body_hash: bytes
    command_id: str
    booking_id: UUID


async def email_is_known(connection: AsyncConnection, email: str) -> bool:
    """Return whether an account has this e-mail address, in any case."""
    found = await connection.execute(select(AppUser.id).where(func.lower(AppUser.email) == func.lower(email)))
    return found.first() is not None


async def add_account(
    connection: AsyncConnection, *, email: str, password_hash: str, name: str | None
) -> Account | None:
    """Insert an account and return it; None when the e-mail address is taken, also by a request at the same time."""
    rows = await connection.execute(
        insert_or(AppUser)
        .values(email=email, password_hash=password_hash, name=name)
        .on_conflict_do_nothing()
        .returning(*_ACCOUNT_COLUMNS)
    )
    row = rows.mappings().first()
    return None if row is None else Account(**row)


async def find_login(connection: AsyncConnection, email: str) -> Login | None:
    """Return the row that a login with this e-mail address is compared with, or None without such an account."""
    rows = await connection.execute(
        select(AppUser.id, AppUser.password_hash).where(func.lower(AppUser.email) == func.lower(email))
    )
    row = rows.first()
    return None if row is None else Login(user_id=row.id, password_hash=row.password_hash)


async def account(connection: AsyncConnection, user_id: int) -> Account | None:
    """Return an account; None when it is deleted."""
    rows = await connection.execute(select(*_ACCOUNT_COLUMNS).where(AppUser.id == user_id))
    row = rows.mappings().first()
    return None if row is None else Account(**row)


async def change_account(
    connection: AsyncConnection, user_id: int, changes: Mapping[str, Any], *, versions: Collection[int] | None
) -> Account | None:
    """Set these columns of an account and return it; None when it is deleted, or is none of the `versions` if given."""
    conditions = [AppUser.id == user_id] if versions is None else [AppUser.id == user_id, AppUser.version.in_(versions)]
    rows = await connection.execute(
        update(AppUser).where(*conditions).values(**changes, version=AppUser.version + 1).returning(*_ACCOUNT_COLUMNS)
    )
    row = rows.mappings().first()
    return None if row is None else Account(**row)


async def add_role(connection: AsyncConnection, user_id: int, role: str) -> bool:
    """Give an account a role; False when it has the role already, or is deleted."""
    rows = await connection.execute(
        update(AppUser)
        .where(AppUser.id == user_id, literal(role) != all_(AppUser.roles))
        .values(roles=func.array_append(AppUser.roles, role), version=AppUser.version + 1)
        .returning(AppUser.id)
    )
    return rows.first() is not None


async def lock(connection: AsyncConnection, user_id: int) -> list[str] | None:
    """Lock an account until the transaction ends and return its present roles; None when it is deleted."""
    rows = await connection.execute(select(AppUser.roles).where(AppUser.id == user_id).with_for_update(key_share=True))
    return rows.scalar()


async def claim_key(
    connection: AsyncConnection, *, user_id: int, endpoint: str, key: str, claim: Claim
) -> Claim | None:
    """Store the claim under the key, unless the key has one already; return that one, or None if it had none."""
    inserted = await connection.execute(
        insert_or(IdempotencyKey)
        .values(
            user_id=user_id,
            endpoint=endpoint,
            key=key,
            body_hash=claim.body_hash,
            command_id=claim.command_id,
            booking_id=claim.booking_id,
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.key)
    )
    if inserted.first() is not None:
        return None
    present = await find_claim(connection, user_id=user_id, endpoint=endpoint, key=key)
    if present is None:
        # A conflict means that the other row is committed, and keys outlive their bookings.
        raise LookupError("an idempotency key vanished between two statements")
    return present


async def find_claim(connection: AsyncConnection, *, user_id: int, endpoint: str, key: str) -> Claim | None:
    """Return the claim of the key, or None when the key was never used."""
    row = (
        (
            await connection.execute(
                select(IdempotencyKey.body_hash, IdempotencyKey.command_id, IdempotencyKey.booking_id).where(
                    IdempotencyKey.user_id == user_id,
                    IdempotencyKey.endpoint == endpoint,
                    IdempotencyKey.key == key,
                )
            )
        )
        .mappings()
        .first()
    )
    return None if row is None else Claim(**row)
