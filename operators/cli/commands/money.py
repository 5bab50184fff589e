"""`innkeeper money`: every movement of a booking's money, with its object at Stripe."""

from typing import Annotated
from uuid import UUID

import typer

from operators.cli.commands.options import Json, examples, group

app = group("The money of one booking.")


@app.command(
    "money",
    epilog=examples(
        "innkeeper money 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d",
        "innkeeper money 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d --stripe --json",
    ),
)
def money_command(
    booking: Annotated[UUID, typer.Argument(metavar="BOOKING", help="The booking's id.", show_default=False)],
    *,
    stripe: Annotated[
        bool,
        typer.Option("--stripe", help="Compare with Stripe's balance transactions; needs payments' STRIPE_API_KEY."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every movement of a booking's money: payments, refunds, disputes, each with its event and Stripe's id.

    The sums are what was **paid**, **refunded** and **disputed** (held or lost), what is still **due** to the guest,
    and what is **kept** of it all; **by policy**, if the stay ended early. They follow from the events. All that the
    ledger or the rows of payments have otherwise is shown as a difference, and with **--stripe** each object whose
    balance transactions add up to something else. `change` is the change of the balance at Stripe: a lost dispute has
    none, because the money left when it was opened, and an amount that is kept has none, because it stays.

    Nothing is changed: **reconcile** mends what is certain.

    Exit status: 0 shown; 1 something differs, or there is no such booking; 2 the database or Stripe does not answer.
    """
    from operators.cli import money

    money.money_command(booking, with_stripe=stripe, as_json=as_json)
