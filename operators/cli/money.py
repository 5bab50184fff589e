"""Prints the money of one booking: its movements, its sums, and all that does not agree."""

from typing import Any, Final
from uuid import UUID

import typer
from rich.console import RenderableType

from operators.cli.console import (
    COULD_NOT,
    counted,
    err,
    fail,
    kafka_settings,
    open_database,
    out,
    print_json,
    refuse,
    run,
)
from operators.cli.tables import NOT_KNOWN, Field, Row, fitted
from operators.money import BookingMoney, Line, NoSuchBooking, Sums, money_of
from pricing.currencies import decimal
from pricing.movements import MovementKind
from topics.kafka.settings import exit_on_invalid_settings
from topics.times import to_the_second
from workers.reconciliation.stripe_client import StripeUnavailable, open_stripe
from workers.stripe.settings import StripeSettings

_FIELDS: Final = (
    Field(name="time"),
    Field(name="movement"),
    Field(name="amount", right=True),
    Field(name="change", right=True),
    Field(name="currency"),
    Field(name="Stripe object", yields=1),
    Field(name="session", yields=5),
    Field(name="transactions", yields=2),
    Field(name="event", yields=3),
    Field(name="sequence", yields=4, right=True),
    Field(name="reason", yields=6, prose=True),
)
_STYLES: Final = {
    MovementKind.REFUND_FAILED: "red",
    MovementKind.DISPUTE_OPENED: "red",
    MovementKind.DISPUTE_LOST: "red",
    MovementKind.REFUND_CLOSED: "dim",
    MovementKind.KEPT_BY_POLICY: "dim",
}


def money_command(booking: UUID, *, with_stripe: bool, as_json: bool) -> None:
    """Print the money of a booking; ends with status 1 if something differs."""

    async def find() -> BookingMoney:
        async with open_database() as connection:
            if not with_stripe:
                return await money_of(connection, booking)
            with exit_on_invalid_settings():
                settings = StripeSettings()
            async with open_stripe(settings) as stripe:
                return await money_of(connection, booking, stripe=stripe)

    try:
        found = run(find(), kafka_settings())
    except NoSuchBooking as error:
        refuse(str(error), as_json=as_json)
    except StripeUnavailable as error:
        fail(str(error), COULD_NOT)
    if as_json:
        print_json([*map(_line, found.lines), _summary(found)])
    else:
        _print(found)
    if found.differences:
        raise typer.Exit(1)


def _line(line: Line) -> dict[str, Any]:
    record, movement = line.record, line.record.movement
    return {
        "time": record.time.isoformat(timespec="milliseconds"),
        "kind": movement.kind.value,
        "amount_minor": movement.amount_minor,
        "change_minor": movement.change_minor,
        "currency": movement.currency,
        "stripe_object": movement.object_id,
        "payment_intent": movement.payment_intent,
        "session": movement.session_id,
        "by_hand": movement.by_hand,
        "transactions": list(line.transactions),
        "event": record.event_id,
        "sequence": record.sequence,
        "reason": record.reason,
    }


def _summary(found: BookingMoney) -> dict[str, Any]:
    return {
        "booking": str(found.booking_id),
        "status": found.status,
        "sums": [_as_object(sums) for sums in found.sums],
        "compared_with_stripe": found.compared_with_stripe,
        "differences": list(found.differences),
        "notes": list(found.notes),
    }


def _as_object(sums: Sums) -> dict[str, Any]:
    return {
        "currency": sums.currency,
        "paid_minor": sums.paid_minor,
        "refunded_minor": sums.refunded_minor,
        "disputed_minor": sums.disputed_minor,
        "due_minor": sums.due_minor,
        "kept_minor": sums.kept_minor,
        "kept_by_policy_minor": sums.kept_by_policy_minor,
    }


def _print(found: BookingMoney) -> None:
    status = "not in the ledger" if found.status is None else found.status
    out.print(f"Booking {found.booking_id}, {status}", markup=False)
    if found.lines:
        out.print(_table(found))
    else:
        out.print("No payment arrived.")
    for sums in found.sums:
        out.print(_sentence(sums), markup=False)
    for difference in found.differences:
        out.print(f"differs: {difference}", style="red", markup=False)
    for note in found.notes:
        err.print(note, markup=False)
    compared = "the tables and Stripe's balance transactions" if found.compared_with_stripe else "the tables"
    err.print(f"Compared with {compared}: {counted(len(found.differences), 'difference')}.")


def _sentence(sums: Sums) -> str:
    def money(amount_minor: int) -> str:
        return decimal(amount_minor, sums.currency)

    by_policy = f" (by policy {money(sums.kept_by_policy_minor)})" if sums.kept_by_policy_minor else ""
    return (
        f"{sums.currency}: paid {money(sums.paid_minor)}, refunded {money(sums.refunded_minor)}, disputed"
        f" {money(sums.disputed_minor)}, kept {money(sums.kept_minor)}{by_policy}; still due to the guest"
        f" {money(sums.due_minor)}."
    )


def _table(found: BookingMoney) -> RenderableType:
    return fitted(_FIELDS, [_row(line) for line in found.lines], out.width)


def _row(line: Line) -> Row:
    record, movement = line.record, line.record.movement
    cells = (
        to_the_second(record.time),
        f"{movement.kind.value.replace('_', ' ')}{' by hand' if movement.by_hand else ''}",
        decimal(movement.amount_minor, movement.currency),
        decimal(movement.change_minor, movement.currency),
        movement.currency,
        movement.object_id,
        movement.session_id or NOT_KNOWN,
        ", ".join(line.transactions) or NOT_KNOWN,
        record.event_id,
        str(record.sequence),
        record.reason or NOT_KNOWN,
    )
    return Row(cells=cells, style=_STYLES.get(movement.kind, ""))
