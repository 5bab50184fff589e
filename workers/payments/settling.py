"""Records what Stripe reports of sessions, refunds and disputes, and what follows for the row of the refund.

The consumer does so in its fenced transaction for webhooks, the caller for the answers to its calls.
"""

import psycopg

from storage.payment_statements import PaymentStatements
from storage.payments import DisputeReported, RefundReported, SessionEnded
from telemetry import metrics
from workers.payments.refunding import failed_count, refused_delay_seconds, renewed_key, sums_of

Update = SessionEnded | RefundReported | DisputeReported


async def record(
    statements: PaymentStatements, connection: psycopg.AsyncConnection, update: Update, *, is_done: bool
) -> None:
    """Record a change that Stripe reports. `is_done`: no call is due after it, but for a refund whose rest is due."""
    match update:
        case SessionEnded():
            await statements.record_session(connection, update, is_done=is_done)
        case RefundReported():
            if await statements.record_refund(connection, update):
                metrics.REFUND_FAILURES.add(1, str(update.by_hand).lower())
            await settle(statements, connection, update.payment_intent, is_done=is_done, is_retried_at_once=False)
        case DisputeReported():
            await statements.record_dispute(connection, update)
            won = update.status == "won"
            await settle(statements, connection, update.payment_intent, is_done=is_done, is_retried_at_once=won)


async def settle(
    statements: PaymentStatements,
    connection: psycopg.AsyncConnection,
    payment_intent: str,
    *,
    is_done: bool,
    is_retried_at_once: bool = False,
) -> None:
    """Bring a refund's row, if the payment has one, up to the ledger and to what Stripe reported of the payment.

    Without `is_done` the time of the next call stays: the caller has claimed the row. `is_retried_at_once`: a call
    that Stripe refused before may succeed now. A row that 0.1.0 gave up does not become due here.
    """
    row = await statements.lock_refund(connection, payment_intent)
    if row is None:
        return
    sums = sums_of(row)
    was_due, is_due = row.status == "creating", sums.status == "creating"
    if is_due and row.status == "failed":
        return
    if row.ledger is None and row.status == "closed" and sums.ended:
        # A refund by hand that pends must not open it again: the row alone records that an operator closed it.
        return
    if not is_due:
        delay = None
    elif row.refusals and not is_retried_at_once:
        delay = refused_delay_seconds(row.refusals - 1)
    else:
        delay = 0.0
    # A worker of 0.1.0 that claims the row would get Stripe's saved answer to the old key: a refund that failed since.
    is_failed_again = is_due and not was_due and failed_count(row) > 0
    await statements.settle_refund(
        connection,
        payment_intent,
        sums.status,
        target_minor=sums.target_minor,
        due_in_seconds=delay,
        keeps_due_time=not is_done or (was_due and is_due and not is_retried_at_once),
        idempotency_key=renewed_key(row.idempotency_key) if is_failed_again else None,
    )
