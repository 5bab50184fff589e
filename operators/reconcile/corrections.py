"""Updates rows of `checkout_session` and `refund` to Stripe's state; payments then sends the room the commands due."""

from psycopg import AsyncConnection

from operators.reconcile.comparison import Difference, RefundCorrection, SessionCorrection
from storage import payment_rows
from storage.payment_rows import ReconciledRefund, ReconciledSession, RowBefore


async def correct(connection: AsyncConnection, difference: Difference, *, actor: str) -> bool:
    """Write the row that corrects a difference; return whether it was written.

    A row that payments has changed since the comparison is left alone. `actor` is the operator, as the command that
    payments sends the room names them.
    """
    match difference.row:
        case SessionCorrection() as row:
            return await _correct_session(connection, row, actor)
        case RefundCorrection() as row:
            return await _correct_refund(connection, row, actor)
        case None:
            return False


async def _correct_session(connection: AsyncConnection, row: SessionCorrection, actor: str) -> bool:
    session, before = row.session, row.was
    return await payment_rows.save_session(
        connection,
        ReconciledSession(
            booking_id=session.booking_id,
            room_id=session.room_id,
            attempt=session.attempt,
            status=row.status,
            session_id=session.id,
            url=session.url,
            expires_at=session.expires_at,
            is_due=row.is_due,
        ),
        None if before is None else RowBefore(status=before.status, stripe_id=before.session_id),
        actor=actor,
    )


async def _correct_refund(connection: AsyncConnection, row: RefundCorrection, actor: str) -> bool:
    booking, refund, before = row.booking, row.refund, row.was
    return await payment_rows.save_refund(
        connection,
        ReconciledRefund(
            booking_id=booking.id,
            room_id=booking.room_id,
            payment_intent=refund.payment,
            status=row.status,
            refund_id=refund.id,
            amount_minor=refund.amount_minor,
            currency=booking.currency,
            failure=refund.failure,
            is_due=row.is_due,
        ),
        None if before is None else RowBefore(status=before.status, stripe_id=before.refund_id),
        actor=actor,
    )
