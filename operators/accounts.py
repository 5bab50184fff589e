"""Roles that operators give to accounts; only hosts may also become one by themselves (`ingress/accounts`)."""

from enum import StrEnum

import psycopg
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from storage import accounts, operator_log
from storage.settings import DatabaseSettings


class GrantedRole(StrEnum):
    """What can be granted."""

    HOTEL_MANAGER = accounts.MANAGER
    OPERATOR = accounts.OPERATOR


class NoSuchAccount(Exception):
    """Nobody has signed up with this e-mail address."""


async def grant(settings: DatabaseSettings, email: str, role: GrantedRole, *, by: str) -> bool:
    """Give the account of this e-mail address, in whatever letters, a role; False when it has it already.

    The operator log keeps in the same transaction that it was `by` this operator.

    Raises:
        NoSuchAccount: nobody has signed up with it.
        sqlalchemy.exc.OperationalError: the database is away.
    """
    engine = create_async_engine(settings.sqlalchemy_url(), poolclass=NullPool)
    async with engine.begin() as connection:
        found = await accounts.find_login(connection, email)
        if found is None:
            raise NoSuchAccount
        is_new = await accounts.add_role(connection, found.user_id, role)
        if is_new:
            session = (await connection.get_raw_connection()).driver_connection
            assert isinstance(session, psycopg.AsyncConnection)
            await operator_log.record(session, who=by, action="grant", target=f"user {found.user_id} {role}")
        return is_new
