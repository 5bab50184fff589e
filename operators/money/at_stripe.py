"""The balance transactions at Stripe of a booking's objects, compared with the movements of its events."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from operators.money.snapshot import MovementRecord
from pricing.currencies import decimal
from pricing.movements import Movement, MovementKind
from workers.reconciliation.stripe_client import StripeClient, Transaction

#: By the object of a movement: a payment's transactions are those of its charge.
Transactions: TypeAlias = Mapping[str, Sequence[Transaction]]

#: Stripe's reporting categories of the transactions that belong to each kind
#: (docs.stripe.com/reports/reporting-categories).
_CATEGORIES: Final = {
    MovementKind.PAYMENT: "charge",
    MovementKind.REFUND: "refund",
    MovementKind.REFUND_FAILED: "refund_failure",
    MovementKind.DISPUTE_OPENED: "dispute",
    MovementKind.DISPUTE_WON: "dispute_reversal",
}
#: The transactions of a payment intent are those of its charge. A payment of nothing has a session's id, and no charge.
_INTENT: Final = "pi_"


async def transactions_of(stripe: StripeClient, records: Iterable[MovementRecord]) -> Transactions:
    """Return the balance transactions of every object of the payments, the oldest first, by the objects' ids.

    The objects are those that the movements name, and all refunds and disputes that Stripe has of the payments.

    Raises:
        workers.reconciliation.stripe_client.StripeUnavailable: Stripe does not answer.
    """
    sources: dict[str, str] = {}
    for movement in (each.movement for each in records):
        if movement.kind is not MovementKind.PAYMENT:
            sources.setdefault(movement.object_id, movement.object_id)
        elif movement.object_id.startswith(_INTENT):
            charge = await stripe.charge_of(movement.object_id)
            sources[movement.object_id] = charge or movement.object_id
            sources |= {each.id: each.id async for each in stripe.refunds_of(movement.object_id)}
            sources |= {each.id: each.id async for each in stripe.disputes_of(movement.object_id)}
    return {id: [each async for each in stripe.transactions_of(source)][::-1] for id, source in sources.items()}


def ids_of(record: MovementRecord, transactions: Transactions) -> tuple[str, ...]:
    """Return the ids of the transactions that belong to a movement.

    A refund that failed before it was carried out has no movement of its own, so that both transactions are of its
    failure.
    """
    category = _CATEGORIES.get(record.movement.kind)
    is_all = record.movement.kind is MovementKind.REFUND_FAILED and record.movement.change_minor == 0
    return tuple(
        each.id
        for each in transactions.get(record.movement.object_id, ())
        if is_all or (category is not None and each.category == category)
    )


def differences(records: Sequence[MovementRecord], transactions: Transactions) -> Iterator[str]:
    """Yield a sentence for each object whose transactions add up to something else than its movements."""
    for object_id, movements, listed in _by_object(records, transactions):
        currency = _currency(movements, listed)
        if _other_currencies(currency, listed):
            continue
        by_events = sum(each.change_minor for each in movements)
        at_stripe = sum(each.amount_minor for each in listed)
        if at_stripe != by_events:
            yield (
                f"{object_id}: its balance transactions at Stripe add up to {decimal(at_stripe, currency)} {currency},"
                f" {f'its events to {decimal(by_events, currency)} {currency}' if movements else 'and no event has it'}"
            )


def not_compared(records: Sequence[MovementRecord], transactions: Transactions) -> Iterator[str]:
    """Yield a sentence for each object that Stripe settles in another currency, so that amounts cannot be compared."""
    for object_id, movements, listed in _by_object(records, transactions):
        if others := _other_currencies(_currency(movements, listed), listed):
            yield f"{object_id}: Stripe settles it in {', '.join(others)}, so its amounts are not compared"


def _by_object(
    records: Sequence[MovementRecord], transactions: Transactions
) -> Iterator[tuple[str, list[Movement], Sequence[Transaction]]]:
    for object_id, listed in transactions.items():
        yield object_id, [each.movement for each in records if each.movement.object_id == object_id], listed


def _currency(movements: Sequence[Movement], listed: Sequence[Transaction]) -> str:
    return next(iter([*(each.currency for each in movements), *(each.currency for each in listed)]), "")


def _other_currencies(currency: str, listed: Sequence[Transaction]) -> list[str]:
    return sorted({each.currency for each in listed} - {currency})
