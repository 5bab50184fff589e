"""Roles that operators give to accounts; only hosts may also become one by themselves (`ingress/accounts/users.py`)."""

from enum import StrEnum

import psycopg

from ingress.database import Database
from ingress.operations import MANAGER, OPERATOR
from storage import accounts
from storage.settings import DatabaseSettings
from topics import operators


class GrantedRole(StrEnum):
    """What can be granted."""

    HOTEL_MANAGER = MANAGER
    OPERATOR = OPERATOR


class NoSuchAccount(Exception):
    """Nobody has signed up with this e-mail address."""


async def grant(settings: DatabaseSettings, email: str, role: GrantedRole, *, by: str) -> bool:
    """Give the account of this e-mail address, in whatever letters, a role; False when it has it already.

    That it was `by` this operator is written down in the same transaction.

    Raises:
        NoSuchAccount: nobody has signed up with it.
        sqlalchemy.exc.OperationalError: the database is away.
    """
    database = Database(settings, pool_size=1)
    try:
        async with database.writing() as connection:
            found = await accounts.find_login(connection, email)
            if found is None:
                raise NoSuchAccount
            is_new = await accounts.add_role(connection, found.user_id, role)
            if is_new:
                session = (await connection.get_raw_connection()).driver_connection
                assert isinstance(session, psycopg.AsyncConnection)
                await operators.record(session, who=by, action="grant", target=f"user {found.user_id} {role}")
            return is_new
    finally:
        await database.close()
