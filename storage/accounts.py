"""What the ingress writes in ordinary transactions: accounts, saved guests, and the keys of repeated requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import AppUser, Guest, IdempotencyKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An account as its owner sees it."""

    id: int
    email: str
    name: str | None
    date_of_birth: date | None
    gender: str | None
    roles: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """What a login is compared with. `password_hash` is bcrypt's."""

    user_id: int
    password_hash: str
    roles: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedGuest:
    """A person whom an account may name as staying."""

    id: int
    user_id: int
    name: str
    gender: str | None
    age: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What an Idempotency-Key stands for: the request's body, by its hash, and the ids that were given out for it."""

    body_hash: bytes
    command_id: str
    booking_id: UUID


async def email_is_known(connection: AsyncConnection, email: str) -> bool:
    """Whether an account has this e-mail address, in whatever case."""
    found = await connection.execute(select(AppUser.id).where(func.lower(AppUser.email) == func.lower(email)))
    return found.first() is not None


async def add_account(
    connection: AsyncConnection, *, email: str, password_hash: str, name: str | None
) -> Account | None:
    """Insert an account and return it; None when the e-mail address is taken, also by a request at the same time."""
    row = (
        (
            await connection.execute(
                insert_or(AppUser)
                .values(email=email, password_hash=password_hash, name=name)
                .on_conflict_do_nothing()
                .returning(
                    AppUser.id, AppUser.email, AppUser.name, AppUser.date_of_birth, AppUser.gender, AppUser.roles
                )
            )
        )
        .mappings()
        .first()
    )
    return None if row is None else Account(**row)


async def find_login(connection: AsyncConnection, email: str) -> Login | None:
    """Return what a login with this e-mail address is compared with, or None when nobody has it."""
    row = (
        await connection.execute(
            select(AppUser.id, AppUser.password_hash, AppUser.roles).where(
                func.lower(AppUser.email) == func.lower(email)
            )
        )
    ).first()
    return None if row is None else Login(user_id=row.id, password_hash=row.password_hash, roles=row.roles)


async def add_guest(
    connection: AsyncConnection, *, user_id: int, name: str, gender: str | None, age: int | None
) -> SavedGuest:
    """Insert a guest of this account and return it."""
    row = (
        (
            await connection.execute(
                insert(Guest)
                .values(user_id=user_id, name=name, gender=gender, age=age)
                .returning(Guest.id, Guest.user_id, Guest.name, Guest.gender, Guest.age)
            )
        )
        .mappings()
        .one()
    )
    return SavedGuest(**row)


async def guests_of_others(connection: AsyncConnection, user_id: int, guest_ids: Sequence[int]) -> list[int]:
    """Return those of the ids that are no guests of this account, smallest first."""
    own = await connection.execute(select(Guest.id).where(Guest.user_id == user_id, Guest.id.in_(guest_ids)))
    return sorted(set(guest_ids).difference(own.scalars()))


async def claim_key(connection: AsyncConnection, *, user_id: int, endpoint: str, key: str, claim: Claim) -> Claim:
    """Let the key stand for this claim, unless it stands for one already; return the one it stands for."""
    made = await connection.execute(
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
    if made.first() is not None:
        return claim
    standing = await find_claim(connection, user_id=user_id, endpoint=endpoint, key=key)
    if standing is None:
        # A conflict means that the other row is committed, and keys outlive their bookings.
        raise LookupError("an idempotency key vanished between two statements")
    return standing


async def find_claim(connection: AsyncConnection, *, user_id: int, endpoint: str, key: str) -> Claim | None:
    """Return what the key stands for, or None when it was never used."""
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
