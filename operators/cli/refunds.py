"""Prints refunds whose money is not back yet, and tries or closes one."""

from collections.abc import Iterable
from typing import Any, Final, NoReturn

import typer
from rich.console import RenderableType
from rich.markup import escape

from operators import refunds
from operators.cli.console import counted, err, fail, kafka_settings, open_database, out, print_json, refuse, run
from operators.cli.tables import NOT_KNOWN, Field, Row, fitted
from operators.refunds import Closed, OpenRefund, Refused, State
from pricing.currencies import decimal
from storage.operator_log import operator_name
from topics.kafka.settings import KafkaSettings
from topics.messages.values import RefundClosing
from topics.times import to_the_second

_STYLES: Final = {
    State.DUE: "",
    State.FAILING: "red",
    State.GIVEN_UP: "red",
    State.PENDING: "green",
    State.CLOSED: "dim",
    State.LOST: "dim",
}
_FIELDS: Final = (
    Field(name="payment"),
    Field(name="booking", yields=4),
    Field(name="amount", right=True),
    Field(name="state"),
    Field(name="since", yields=2),
    Field(name="tries", yields=1, right=True),
    Field(name="refusals", yields=1, right=True),
    Field(name="next try at", yields=3),
    Field(name="last error", yields=5, prose=True),
)


def list_command(*, open_only: bool, as_json: bool) -> None:
    """Print the refunds, the oldest first."""

    async def find() -> list[OpenRefund]:
        async with open_database() as connection:
            return await refunds.list_refunds(connection, open_only=open_only)

    found = run(find(), kafka_settings())
    if as_json:
        return print_json(map(as_object, found))
    if not found:
        return err.print(
            "No refund is due, on its way or closed." if not open_only else "No refund is due or on its way."
        )
    out.print(_table(found))
    is_open = sum(not refund.state.is_over for refund in found)
    failing = sum(refund.state is State.FAILING for refund in found)
    return err.print(f"{counted(is_open, 'refund')} not back yet, {failing:,} of them failing.")


def close_command(
    payment: str, *, reason: str, note: str | None, wait: float, by: str | None, yes: bool, as_json: bool
) -> None:
    """Close a refund and print the event, or without `yes` only print what would be done."""
    kafka = kafka_settings()
    if not yes:
        _plan(kafka, payment, RefundClosing(reason), as_json=as_json)

    async def work() -> Closed:
        async with open_database() as connection:
            return await refunds.close(
                kafka,
                connection,
                payment,
                reason=RefundClosing(reason),
                note=note,
                operator=operator_name(by),
                wait_seconds=wait,
            )

    try:
        closed = run(work(), kafka)
    except Refused as refused:
        refuse(str(refused), as_json=as_json)
    if as_json:
        print_json([_as_result(closed)])
    if not closed.is_decided:
        if as_json:
            raise typer.Exit(1)
        fail(f"Sent at {closed.position}, and not decided within {wait:g} s: is reservations running?")
    if not as_json:
        _print_closed(closed)


def _plan(kafka: KafkaSettings, payment: str, reason: RefundClosing, *, as_json: bool) -> NoReturn:
    """Print what would be done, and end the command."""

    async def work() -> OpenRefund:
        async with open_database() as connection:
            return await refunds.plan(kafka, connection, payment, reason=reason)

    try:
        refund = run(work(), kafka)
    except Refused as refused:
        refuse(str(refused), as_json=as_json)
    is_closed = refund.state is State.CLOSED
    if as_json:
        plan = {"done": False, "closed": is_closed, "changes": not is_closed, "reason": reason.value}
        print_json([{**as_object(refund), **plan}])
    elif is_closed:
        err.print(f"The refund of {payment} was closed before; nothing would be changed.", markup=False)
    else:
        tried = f", {counted(refund.refusals, 'refusal')}" if refund.refusals else ""
        records = (
            "the room records that they are not due any more"
            if refund.has_booking
            else "the ledger does not have the booking, so our row alone records it, without an event"
        )
        err.print(
            f"{refund.amount} of payment {payment}, booking {refund.booking}, due since"
            f" {to_the_second(refund.since)}{tried}, would be closed ({reason.value}): {records}, and payments never"
            " sends them. A closed refund cannot be opened again.",
            markup=False,
        )
    fail("Nothing was done: add --yes to do it.")


def retry_command(payment: str, *, by: str | None, as_json: bool) -> None:
    """Make a refund due now and print it."""

    async def work() -> OpenRefund:
        async with open_database() as connection:
            return await refunds.retry(connection, payment, operator=operator_name(by))

    try:
        refund = run(work(), kafka_settings())
    except Refused as refused:
        refuse(str(refused), as_json=as_json)
    if as_json:
        print_json([as_object(refund)])
    else:
        err.print(f"{refund.amount} of {payment} are due now: payments makes the refund as soon as it runs.")


def as_object(refund: OpenRefund) -> dict[str, Any]:
    """Return a refund as `list --json` shows it."""
    return {
        "payment": refund.payment,
        "booking": str(refund.booking),
        "state": refund.state.value,
        "amount_minor": refund.amount_minor,
        "currency": refund.currency,
        "since": refund.since.isoformat(timespec="seconds"),
        "tries": refund.tries,
        "refusals": refund.refusals,
        "next_try_at": None if refund.next_try_at is None else refund.next_try_at.isoformat(timespec="seconds"),
        "last_error": refund.last_error,
    }


def _as_result(closed: Closed) -> dict[str, Any]:
    event = closed.event
    return {
        "payment": closed.refund.payment,
        "booking": str(closed.refund.booking),
        "done": True,
        "closed": closed.is_decided,
        "changes": closed.changes,
        "amount_minor": None if event is None else event.amount_minor,
        "currency": None if event is None else event.currency,
        "reason": None if event is None else event.reason.value,
        "position": None if closed.position is None else str(closed.position),
    }


def _print_closed(closed: Closed) -> None:
    event = closed.event
    if event is None and closed.changes:
        err.print(
            f"{closed.refund.amount} of {closed.refund.payment} are not sent back through Stripe. The ledger does not"
            f" have booking {closed.refund.booking}, so our row alone records it, without an event.",
            markup=False,
        )
        return
    if event is None:
        err.print(f"The refund of {closed.refund.payment} was closed before; nothing was changed.", markup=False)
        return
    amount = f"{decimal(event.amount_minor, event.currency)} {event.currency}"
    payment, booking = escape(closed.refund.payment), closed.refund.booking
    out.print(f"{event.message_type}  {booking}  {payment}  {amount}  {event.reason.value}")
    err.print(f"{amount} are not sent back through Stripe.")


def _table(found: Iterable[OpenRefund]) -> RenderableType:
    rows = []
    for refund in found:
        next_try = NOT_KNOWN if refund.next_try_at is None else to_the_second(refund.next_try_at)
        cells = (
            refund.payment,
            str(refund.booking),
            refund.amount,
            refund.state.value,
            to_the_second(refund.since),
            f"{refund.tries:,}",
            f"{refund.refusals:,}",
            next_try,
            refund.last_error or NOT_KNOWN,
        )
        rows.append(Row(cells=cells, styles={3: _STYLES[refund.state]}))
    return fitted(_FIELDS, rows, out.width)
