"""Roles that operators give to accounts; hosts may also become one by themselves (`ingress/users.py`)."""

from enum import StrEnum

from ingress.database import Database
from ingress.operations import MANAGER
from storage import accounts
from storage.settings import DatabaseSettings


class GrantedRole(StrEnum):
    """What can be granted."""

    HOTEL_MANAGER = MANAGER


class NoSuchAccount(Exception):
    """Nobody has signed up with this e-mail address."""


async def grant(settings: DatabaseSettings, email: str, role: GrantedRole) -> bool:
    """Give the account of this e-mail address, in whatever letters, a role; False when it has it already.

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
            return await accounts.add_role(connection, found.user_id, role)
    finally:
        await database.close()
