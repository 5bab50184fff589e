"""`innkeeper accounts`: the roles that operators give to accounts."""

from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, examples, group
from operators.granted_roles import GrantedRole

app = group("Give accounts roles.")


@app.callback()
def _accounts() -> None:
    """Give accounts roles."""


@app.command(
    "grant",
    epilog=examples(
        "innkeeper accounts grant ines@example.com OPERATOR",
        "innkeeper accounts grant host@example.com HOTEL_MANAGER --json",
    ),
)
def grant_command(
    email: Annotated[str, typer.Argument(help="The account's e-mail address, in upper or lower case.")],
    role: Annotated[GrantedRole, typer.Argument(help="The role.")],
    *,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Give an account a role. It takes effect at the account's next login or refresh.

    Exit status: 0 the account has the role; 67 no account has this address; 69 the database does not answer.
    """
    from operators.cli import accounts

    accounts.grant_command(email, role, by=by, as_json=as_json)
