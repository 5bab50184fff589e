"""Records what Stripe reports of sessions, refunds and disputes, and what follows for the row of the refund.

The consumer does so in its fenced transaction for webhooks, the caller for the answers to its calls.
"""

import psycopg

from storage import payments
from storage.payments import DisputeReported, RefundReported, RefundSums, SessionEnded
from telemetry import metrics
from workers.payments.refunding import refused_delay_seconds, renewed_key, status_after

Update = SessionEnded | RefundReported | DisputeReported


async def record(connection: psycopg.AsyncConnection, update: Update, *, is_done: bool) -> None:
    """Record a change that Stripe reports. `is_done`: no call is due after it, but for a refund whose rest is due."""
    match update:
        case SessionEnded():
            await payments.record_session(connection, update, is_done=is_done)
        case RefundReported():
            if await payments.record_refund(connection, update):
                metrics.REFUND_FAILURES.add(1, str(update.by_hand).lower())
            await settle(connection, update.payment_intent, is_done=is_done, is_retried_at_once=False)
        case DisputeReported():
            await payments.record_dispute(connection, update)
            won = update.status == "won"
            await settle(connection, update.payment_intent, is_done=is_done, is_retried_at_once=won)


async def settle(
    connection: psycopg.AsyncConnection, payment_intent: str, *, is_done: bool, is_retried_at_once: bool = False
) -> RefundSums | None:
    """Bring a refund's row up to its payment's sums; return them, None if nothing of the payment must go back.

    Without `is_done` the time of the next call stays: the caller has claimed the row. `is_retried_at_once`: a call
    that Stripe refused before may succeed now. A row that 0.1.0 gave up does not become due here.
    """
    sums = await payments.refund_sums(connection, payment_intent)
    if sums is None:
        return None
    status = status_after(sums)
    was_due, is_due = sums.status == "creating", status == "creating"
    if is_due and sums.status == "failed":
        return sums
    if sums.status == "closed" and sums.closed_minor >= sums.target_minor > sums.succeeded_minor:
        # A refund by hand that pends must not open it again: the row alone may record that an operator closed it.
        return sums
    if not is_due:
        delay = None
    elif sums.refusals and not is_retried_at_once:
        delay = refused_delay_seconds(sums.refusals - 1)
    else:
        delay = 0.0
    # A worker of 0.1.0 that claims the row would get Stripe's saved answer to the old key: a refund that failed since.
    is_failed_again = is_due and not was_due and sums.failed_count > 0
    await payments.settle_refund(
        connection,
        payment_intent,
        status,
        due_in_seconds=delay,
        keeps_due_time=not is_done or (was_due and is_due and not is_retried_at_once),
        idempotency_key=renewed_key(sums.idempotency_key) if is_failed_again else None,
    )
    return sums
