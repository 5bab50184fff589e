"""Puts the money of one booking together from its events, and compares it with tables and with Stripe."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from operators.money import at_stripe
from operators.money.snapshot import MovementRecord, ObjectRow, Snapshot, load
from pricing.currencies import decimal
from pricing.movements import Movement, MovementKind
from workers.decisions.state import Payment
from workers.reconciliation.stripe_client import StripeClient

_REFUNDS: Final = frozenset({MovementKind.REFUND, MovementKind.REFUND_FAILED})
_DISPUTES: Final = frozenset({MovementKind.DISPUTE_OPENED, MovementKind.DISPUTE_WON, MovementKind.DISPUTE_LOST})
#: The status of an object's row after its last movement.
_STATUSES: Final = {
    MovementKind.REFUND: "succeeded",
    MovementKind.REFUND_FAILED: "failed",
    MovementKind.DISPUTE_OPENED: "open",
    MovementKind.DISPUTE_WON: "won",
    MovementKind.DISPUTE_LOST: "lost",
}


class NoSuchBooking(Exception):
    """Neither the ledger nor the timeline has the booking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One movement with its event, and Stripe's balance transactions of it: none where Stripe was not asked."""

    record: MovementRecord
    transactions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """The sums of a booking's movements in one currency, in minor units.

    `disputed_minor` is what disputes hold or took, less what was won. `due_minor` must still go back, by the ledger.
    `kept_minor` came and did not leave again; `due_minor` is a part of it. `kept_by_policy_minor` is what the policy
    kept when the booking ended early; later refunds by hand and disputes may have taken of it.
    """

    currency: str
    paid_minor: int
    refunded_minor: int
    disputed_minor: int
    due_minor: int
    kept_minor: int
    kept_by_policy_minor: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BookingMoney:
    """The money of a booking; `status` is None if the ledger does not have the booking.

    `differences` are sentences about things that the tables, or Stripe, have otherwise than the events; `notes` name
    what could not be compared.
    """

    booking_id: UUID
    status: str | None
    lines: Sequence[Line]
    sums: Sequence[Sums]
    differences: Sequence[str]
    notes: Sequence[str]
    compared_with_stripe: bool


async def money_of(
    connection: AsyncConnection[Any], booking_id: UUID, *, stripe: StripeClient | None = None
) -> BookingMoney:
    """Return the money of a booking; with `stripe`, compared with the balance transactions there.

    Raises:
        NoSuchBooking: no table has it.
        psycopg.Error: the database cannot be used.
        workers.reconciliation.stripe_client.StripeUnavailable: Stripe does not answer.
    """
    snapshot = await load(connection, booking_id)
    if snapshot.booking is None and not snapshot.timeline:
        raise NoSuchBooking(f"No booking {booking_id}: neither the ledger nor its timeline has it.")
    records = list(snapshot.movements())
    transactions = {} if stripe is None else await at_stripe.transactions_of(stripe, records)
    return BookingMoney(
        booking_id=booking_id,
        status=None if snapshot.booking is None else snapshot.booking.status,
        lines=[Line(record=each, transactions=at_stripe.ids_of(each, transactions)) for each in records],
        sums=list(_sums(snapshot, records)),
        differences=[*differences(snapshot, records), *at_stripe.differences(records, transactions)],
        notes=list(at_stripe.not_compared(records, transactions)),
        compared_with_stripe=stripe is not None,
    )


def _sums(snapshot: Snapshot, records: Iterable[MovementRecord]) -> Iterator[Sums]:
    by_currency: dict[str, list[Movement]] = defaultdict(list)
    for each in records:
        by_currency[each.movement.currency].append(each.movement)
    for currency, movements in sorted(by_currency.items()):
        intents = {each.payment_intent for each in movements}
        yield Sums(
            currency=currency,
            paid_minor=_change(movements, {MovementKind.PAYMENT}),
            refunded_minor=-_change(movements, _REFUNDS),
            disputed_minor=-_change(movements, _DISPUTES),
            due_minor=sum(each.due_minor for intent, each in snapshot.payments.items() if intent in intents),
            kept_minor=sum(each.change_minor for each in movements),
            kept_by_policy_minor=sum(
                each.amount_minor for each in movements if each.kind is MovementKind.KEPT_BY_POLICY
            ),
        )


def _change(movements: Iterable[Movement], kinds: frozenset[MovementKind] | set[MovementKind]) -> int:
    return sum(each.change_minor for each in movements if each.kind in kinds)


def differences(snapshot: Snapshot, records: Sequence[MovementRecord]) -> Iterator[str]:
    """Yield a sentence for each thing that the ledger, or a row of payments, has otherwise than the events."""
    if missing := snapshot.events_missing:
        yield (
            f"{missing} of the booking's events {'is' if missing == 1 else 'are'} not in its timeline: projections are"
            " behind, or it must be rebuilt (innkeeper rebuild booking_timeline)"
        )
    movements = [each.movement for each in records]
    by_events = {each.object_id: each for each in movements if each.kind is MovementKind.PAYMENT}
    yield from _of_payments(snapshot, movements, by_events)
    for session in snapshot.sessions:
        if session.payment_intent not in by_events:
            yield f"{session.payment_intent}: payments knows that it was paid, and no event has it"
    refunds = {each.object_id: each for each in movements if each.kind in _REFUNDS}
    done = {row.refund_id for row in snapshot.refunds if row.status == "succeeded" and row.refund_id}
    # Payments of 0.1.0 kept no row for each refund.
    yield from _of_rows(snapshot.refund_objects, refunds, without_row=done)
    disputes = {each.object_id: each for each in movements if each.kind in _DISPUTES}
    yield from _of_rows(snapshot.disputes, disputes)


def _of_payments(snapshot: Snapshot, movements: Sequence[Movement], by_events: Mapping[str, Movement]) -> Iterator[str]:
    ledger = snapshot.payments
    for intent in dict.fromkeys([*by_events, *ledger]):
        payment, arrived = ledger.get(intent), by_events.get(intent)
        if payment is None:
            yield f"{intent}: an event has it, and the ledger has not"
        elif arrived is None:
            yield f"{intent}: the ledger has it, and no event has"
        else:
            of_payment = [each for each in movements if each.payment_intent == intent]
            yield from _of_payment(payment, arrived, of_payment)


def _of_payment(payment: Payment, arrived: Movement, movements: Sequence[Movement]) -> Iterator[str]:
    lost = {each.object_id: each.amount_minor for each in movements if each.kind is MovementKind.DISPUTE_LOST}
    compared = (
        ("arrived", arrived.amount_minor, payment.amount_minor),
        ("were refunded", -_change(movements, _REFUNDS), payment.refunded_minor),
        (
            "were lost",
            sum(lost.values()),
            sum(each.amount_minor for each in payment.disputes if each.state == "lost"),
        ),
    )
    for what, by_events, by_ledger in compared:
        if by_events != by_ledger:
            amounts = decimal(by_events, arrived.currency), decimal(by_ledger, arrived.currency)
            yield f"{arrived.object_id}: by its events {amounts[0]} {what}, by the ledger {amounts[1]}"


def _of_rows(rows: Iterable[ObjectRow], last: Mapping[str, Movement], without_row: Iterable[str] = ()) -> Iterator[str]:
    """Compare the rows of refunds or disputes with the last movement of each object."""
    known = {row.id: row for row in rows}
    for id, row in known.items():
        movement = last.get(id)
        if movement is None:
            # A refund that pends has no event yet.
            if row.status != "pending":
                yield f"{id}: payments has it as {row.status}, and no event has it"
            continue
        if _STATUSES[movement.kind] != row.status:
            yield f"{id}: it is {_STATUSES[movement.kind]} by its events, and {row.status} in the row of payments"
        if movement.amount_minor != row.amount_minor:
            amounts = (decimal(each, movement.currency) for each in (movement.amount_minor, row.amount_minor))
            yield "{}: its event has {}, the row of payments {}".format(id, *amounts)
    for id in last.keys() - known.keys() - set(without_row):
        yield f"{id}: an event has it, and no row of payments"
