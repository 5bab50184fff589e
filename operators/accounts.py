"""Roles that operators grant to accounts. An account may become a host by itself (`ingress/accounts/handlers.py`)."""

import psycopg
from sqlalchemy import NullPool

from operators.granted_roles import GrantedRole
from storage import accounts, operator_log
from storage.database import TOOL_LIMITS
from storage.engines import async_engine
from storage.settings import DatabaseSettings


class NoSuchAccount(Exception):
    """No account has this e-mail address."""


async def grant(settings: DatabaseSettings, email: str, role: GrantedRole, *, by: str) -> bool:
    """Grant a role to the account of this e-mail address, in upper or lower case; False when it has it already.

    The operator log records in the same transaction that this operator (`by`) did so.

    Raises:
        NoSuchAccount: no account has it.
        sqlalchemy.exc.DBAPIError: the database cannot be used.
    """
    engine = async_engine(settings, "innkeeper operators", TOOL_LIMITS, poolclass=NullPool)
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
