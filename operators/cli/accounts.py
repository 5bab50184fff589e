"""`innkeeper accounts`: the roles that operators give to accounts."""

import asyncio
import os
from typing import Annotated

import typer
from sqlalchemy.exc import OperationalError

from operators.accounts import GrantedRole, NoSuchAccount, grant
from operators.cli.console import By, Json, fail, out, print_json
from storage.operator_log import who
from storage.settings import DatabaseSettings
from topics.kafka.settings import refused_in_words

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Give accounts roles.")


@app.callback()
def _accounts() -> None:
    """Give accounts roles."""


@app.command("grant")
def grant_command(
    email: Annotated[str, typer.Argument(help="The account's e-mail address, in whatever letters.")],
    role: Annotated[GrantedRole, typer.Argument(help="The role.")],
    *,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Give an account a role. It counts from the account's next login or refresh on.

    Exit status: 0 the account has the role; 67 nobody has signed up with this address; 69 the database is away.
    """
    with refused_in_words():
        database = DatabaseSettings()
    try:
        is_new = asyncio.run(grant(database, email, role, by=who(by)))
    except NoSuchAccount:
        fail(f"Nobody has signed up as {email}.", os.EX_NOUSER)
    except OperationalError as error:
        fail(f"The database is away: {error.orig}", os.EX_UNAVAILABLE)
    if as_json:
        print_json([{"email": email, "role": role, "changed": is_new}])
    elif is_new:
        out.print(f"{email} is {role} from the next login or refresh on.", markup=False)
    else:
        out.print(f"{email} is {role} already.", markup=False)
