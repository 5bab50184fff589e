"""Compares the money at Stripe with the bookings, and prints each difference with its correction."""

from typing import Any
from uuid import UUID

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from operators.cli import console
from operators.reconcile.reconcile import Reconciled, reconcile
from storage import operator_log
from storage.installation import NoInstallation
from storage.settings import DatabaseSettings
from topics.kafka.settings import exit_on_invalid_settings
from workers.reconciliation.differences import Difference
from workers.reconciliation.money import NoSuchBooking
from workers.reconciliation.stripe_client import StripeUnavailable
from workers.stripe.settings import StripeSettings


def reconcile_command(*, since: str | None, booking: UUID | None, yes: bool, by: str | None, as_json: bool) -> None:
    """Compare the money at Stripe with the bookings; with `yes` also mend what is certain."""
    kafka = console.kafka_settings()
    with exit_on_invalid_settings():
        database, stripe = DatabaseSettings(), StripeSettings()
    moment = None if since is None else console.moment(since)
    with Progress(
        SpinnerColumn(), TextColumn("{task.completed} objects at Stripe"), TimeElapsedColumn(), console=console.err
    ) as bar:
        task = bar.add_task("", total=None)
        try:
            found = console.run(
                reconcile(
                    kafka,
                    database,
                    stripe,
                    since=moment,
                    booking=booking,
                    correcting=yes,
                    operator=operator_log.operator_name(by),
                    progress=lambda read: bar.update(task, completed=read),
                ),
                kafka,
            )
        except StripeUnavailable as error:
            console.fail(str(error), console.COULD_NOT)
        except NoInstallation as error:
            console.fail(f"Nothing was compared: {error}.", console.COULD_NOT)
        except NoSuchBooking as error:
            console.refuse(str(error), as_json=as_json)
    if as_json:
        console.print_json(_json(found))
    else:
        _print(found, is_correcting=yes)
    if found.left:
        raise typer.Exit(1)


def _json(found: Reconciled) -> list[dict[str, Any]]:
    return [
        *(_difference(each, is_corrected=number in found.corrected) for number, each in enumerate(found.differences)),
        {
            "bookings": found.bookings,
            "sessions": found.sessions,
            "refunds": found.refunds,
            "disputes": found.disputes,
            "of_other_installations": found.foreign,
            "differences": len(found.differences),
            "left": len(found.left),
        },
    ]


def _difference(each: Difference, *, is_corrected: bool) -> dict[str, Any]:
    return {
        "booking": str(each.booking_id),
        "kind": each.kind.value,
        "description": each.description,
        "correction": each.correction,
        "corrected": is_corrected,
    }


def _print(found: Reconciled, *, is_correcting: bool) -> None:
    for number, each in enumerate(found.differences):
        state = "[green]corrected[/]" if number in found.corrected else "[red]differs[/]"
        console.out.print(f"{state}  {each.booking_id}  {escape(each.description)}; {escape(each.correction)}")
    broken = sum(1 for each in found.left if each.breaks_the_sum)
    counted = console.counted
    left = f"{counted(len(found.left), 'difference')} {'is' if len(found.left) == 1 else 'are'} left"
    console.err.print(
        f"{counted(found.bookings, 'booking')}, {counted(found.sessions, 'session')},"
        f" {counted(found.refunds, 'refund')} and {counted(found.disputes, 'dispute')} at Stripe: {left}, money in the"
        f" wrong place or without an event: {broken}."
    )
    if found.foreign:
        console.err.print(f"{counted(found.foreign, 'object')} of other installations left alone.")
    if not is_correcting and any(each.is_certain for each in found.left):
        console.err.print("Add --yes to send the missing commands and to update our rows to what Stripe has.")
