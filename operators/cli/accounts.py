"""Gives an account a role."""

import asyncio
import os

from sqlalchemy.exc import DBAPIError

from operators.accounts import NoSuchAccount, grant
from operators.cli.console import database_settings, fail, out, print_json
from operators.granted_roles import GrantedRole
from storage.failures import reason_of
from storage.operator_log import operator_name


def grant_command(email: str, role: GrantedRole, *, by: str | None, as_json: bool) -> None:
    """Give an account a role, and print whether that changed anything."""
    database = database_settings()
    try:
        is_new = asyncio.run(grant(database, email, role, by=operator_name(by)))
    except NoSuchAccount:
        fail(f"Nobody has signed up as {email}.", os.EX_NOUSER)
    except DBAPIError as error:
        if (reason := reason_of(error)) is None:
            raise
        fail(f"The database {reason.in_words}: {error.orig}", os.EX_UNAVAILABLE)
    if as_json:
        print_json([{"email": email, "role": role, "changed": is_new}])
    elif is_new:
        out.print(f"{email} is {role} from the next login or refresh on.", markup=False)
    else:
        out.print(f"{email} is {role} already.", markup=False)
