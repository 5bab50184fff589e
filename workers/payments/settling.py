"""Records what Stripe reports of sessions, refunds and disputes, and what follows for the row of the refund.

The consumer does so in its fenced transaction for webhooks, the caller for the answers to its calls.
"""

import psycopg

from storage import payments
from storage.payments import DisputeReported, RefundReported, RefundSums, SessionEnded
from workers.payments.refunding import refused_delay_seconds, status_after

Update = SessionEnded | RefundReported | DisputeReported


async def record(connection: psycopg.AsyncConnection, update: Update, *, is_done: bool) -> None:
    """Record a change that Stripe reports. `is_done`: no call is due after it, but for a refund whose rest is due."""
    match update:
        case SessionEnded():
            await payments.record_session(connection, update, is_done=is_done)
        case RefundReported():
            await payments.record_refund(connection, update)
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
    that Stripe refused before may succeed now.
    """
    sums = await payments.refund_sums(connection, payment_intent)
    if sums is None:
        return None
    status = status_after(sums)
    was_due, is_due = sums.status == "creating", status == "creating"
    if not is_due:
        delay = None
    elif sums.failed_count and not is_retried_at_once:
        delay = refused_delay_seconds(sums.failed_count - 1)
    else:
        delay = 0.0
    await payments.settle_refund(
        connection,
        payment_intent,
        status,
        due_in_seconds=delay,
        keeps_due_time=not is_done or (was_due and is_due and not is_retried_at_once),
        failed_count=sums.failed_count if is_due else 0,
    )
    return sums
