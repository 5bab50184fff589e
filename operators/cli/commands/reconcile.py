"""`innkeeper reconcile`: the money at Stripe compared with the bookings."""

from typing import Annotated
from uuid import UUID

import typer

from operators.cli.commands.options import By, Json, examples, group

app = group("The money at Stripe compared with the bookings.")


@app.command(
    "reconcile",
    epilog=examples(
        "innkeeper reconcile",
        "innkeeper reconcile --since 2h --yes",
        "innkeeper reconcile --booking 019c1e40-77aa-8b15-8d6e-3c5a7e9f1b2d --json",
    ),
)
def reconcile_command(
    *,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only bookings made since then: 30m, 2h, 7d, or an ISO time (UTC)."),
    ] = None,
    booking: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this booking.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Mend what is certain; without it, only show the differences.")
    ] = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Compare the money at Stripe with the bookings, one by one (check **money matches bookings**).

    Of a CONFIRMED booking Stripe must have its amount, less refunds made by hand and lost disputes; of any other,
    nothing but what an operator closed. Each refund and each dispute at Stripe must have its event, with its own
    amount, and money that is due must be on its way. Objects of other installations, which share the Stripe account,
    are counted and left alone.

    Each difference is shown with its correction. **--yes** mends what is certain: the room gets the commands that no
    webhook brought, rows get what Stripe has, and refunds that nothing sends are due again. **explain** shows these
    commands as sent by operator/N, the action's id in **actions**. The rest is for an operator to decide. The role
    **reconciliation** makes the same comparison by itself, of the bookings of some days. May run while the system
    works; asks Stripe 25 times a second at most, for 100 objects each time.

    Exit status: 0 no difference is left; 1 some are; 2 Stripe, the broker or the database do not answer.
    """
    from operators.cli import reconcile

    reconcile.reconcile_command(since=since, booking=booking, yes=yes, by=by, as_json=as_json)
