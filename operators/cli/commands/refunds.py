"""`innkeeper refunds`: refunds whose money is not back yet; an operator tries one now, or closes it with a reason."""

from enum import StrEnum
from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, Yes, examples, group

app = group("Refunds whose money is not back yet: due, failing or on their way; try one now, or close it.")

Payment = Annotated[str, typer.Argument(metavar="PAYMENT", help="The payment intent, as `list` shows it: pi_...")]


class Reason(StrEnum):
    """Why a refund is closed."""

    PAID_OTHERWISE = "paid_otherwise"
    WAIVED_BY_GUEST = "waived_by_guest"
    NOT_POSSIBLE = "not_possible"


@app.callback(invoke_without_command=True, no_args_is_help=False)
def refunds_command(context: typer.Context) -> None:
    """List refunds whose money is not back yet, as `list` does; try one now, or close it."""
    if context.invoked_subcommand is None:
        list_command()


@app.command("list", epilog=examples("innkeeper refunds list", "innkeeper refunds list --open --json"))
def list_command(
    open_only: Annotated[bool, typer.Option("--open", help="Only those that may still go back.")] = False,
    as_json: Json = False,
) -> None:
    """Show the refunds whose money is not back yet, the oldest first: amount, tries, and the last error.

    `due`: payments calls Stripe at the time of the next try. `failing`: Stripe refused it, or it failed, five times or
    more; it is tried again after growing pauses, up to six hours. `given_up`: 0.1.0 gave it up; it becomes due a day
    after the rollout, so close it before if the guest was paid otherwise. `pending`: it is on its way. `closed`: an
    operator closed it. `lost`: a lost dispute took the money, and the guest has it from the bank.

    The amount is still due to the guest; of a closed or lost refund, it is the part that was closed or lost. Tries are
    calls without success, refusals those that Stripe refused, and refunds that failed.

    Exit status: 0 shown; 2 the database does not answer.
    """
    from operators.cli import refunds

    refunds.list_command(open_only=open_only, as_json=as_json)


@app.command(
    "close",
    epilog=examples(
        "innkeeper refunds close pi_3PqLbK2eZvKYlo2C --reason waived_by_guest",
        'innkeeper refunds close pi_3PqLbK2eZvKYlo2C --reason paid_otherwise --note "bank transfer, 3 March" --yes',
    ),
)
def close_command(
    payment: Payment,
    reason: Annotated[Reason, typer.Option(help="Why the money is not sent back through Stripe.")],
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Words for the record of actions.")] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the room's answer.")
    ] = 15.0,
    yes: Yes = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Close a refund: its rest is not sent back through Stripe, and an event records the reason.

    Without --yes it prints the plan: the booking, the payment, and the amount that the guest does not get. The room
    gets the command CloseRefund, sent by operator/N, the action's id in **actions**, which also has the note. A refund
    that is on its way, or that a dispute took, cannot be closed. To close one again changes nothing. If the ledger does
    not have the booking, our row alone is closed.

    Exit status: 0 closed; 1 without --yes, refused, or not decided in time; 2 the broker or the database does not
    answer.
    """
    from operators.cli import refunds

    refunds.close_command(payment, reason=reason, note=note, wait=wait, by=by, yes=yes, as_json=as_json)


@app.command("retry", epilog=examples("innkeeper refunds retry pi_3PqLbK2eZvKYlo2C"))
def retry_command(payment: Payment, by: By = None, as_json: Json = False) -> None:
    """Let payments try a refund now, not only after its pause.

    Exit status: 0 it is due now; 1 refused; 2 the database does not answer.
    """
    from operators.cli import refunds

    refunds.retry_command(payment, by=by, as_json=as_json)
