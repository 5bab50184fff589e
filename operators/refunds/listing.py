"""Lists the refunds whose money is not back yet, and makes one due now."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from operators.refunds.refusal import Refused
from pricing.currencies import decimal
from storage import operator_log, payment_rows
from storage.payments import FAILING_FROM, LEASE_SECONDS


class State(StrEnum):
    """The state of a refund.

    `failing`: it was refused or failed `FAILING_FROM` times, and is tried again. `given_up`: 0.1.0 gave it up, and
    payments tries it again a day after the rollout. `closed`: an operator ended it. `lost`: a dispute took the rest.
    """

    DUE = "due"
    FAILING = "failing"
    GIVEN_UP = "given_up"
    PENDING = "pending"
    CLOSED = "closed"
    LOST = "lost"

    @property
    def is_over(self) -> bool:
        """Whether nothing is sent back any more."""
        return self in {State.CLOSED, State.LOST}


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRefund:
    """A refund whose money is not back yet, or is not sent back any more. Times are UTC.

    `amount_minor` is still due to the guest; of a closed refund, it is the sum that the operator closed, of a lost one,
    the part of it that the dispute took. `next_try_at` is None if no call to Stripe is due. `tries` counts the calls
    without success since the last success, `refusals` those that Stripe refused and our refunds that failed.
    `has_booking`: the ledger has the booking.
    """

    payment: str
    booking: UUID
    room: int
    state: State
    amount_minor: int
    currency: str
    since: datetime
    tries: int
    refusals: int
    has_booking: bool
    next_try_at: datetime | None
    last_error: str | None

    @property
    def amount(self) -> str:
        """The amount as people write it."""
        return f"{decimal(self.amount_minor, self.currency)} {self.currency}"


async def list_refunds(
    connection: AsyncConnection[Any], *, payment: str | None = None, open_only: bool = False
) -> list[OpenRefund]:
    """Return the refunds that are not back, the oldest first; `open_only` leaves out closed and lost ones.

    Raises psycopg.Error.
    """
    found = await payment_rows.open_refunds(connection, payment=payment, closed=not open_only)
    return [_open_refund(row) for row in found]


async def find(connection: AsyncConnection[Any], payment: str) -> OpenRefund:
    """Return one refund.

    Raises:
        Refused: nothing of the payment is due, on its way, closed or lost.
        psycopg.Error: the database cannot be used.
    """
    found = await list_refunds(connection, payment=payment)
    if not found:
        raise Refused(f"Nothing is due of a payment {payment}. innkeeper refunds list shows what is.")
    return found[0]


async def retry(connection: AsyncConnection[Any], payment: str, *, operator: str) -> OpenRefund:
    """Make a refund due now, and return it as it is then. One that is due now already stays as it is.

    Raises:
        Refused: the refund is on its way, closed, lost in a dispute, or not there.
        psycopg.Error: the database cannot be used.
    """
    refund = await find(connection, payment)
    if refund.state is State.PENDING:
        raise Refused(f"The refund of {payment} is on its way at Stripe; if it fails, it is tried again.")
    if refund.state is State.CLOSED:
        raise Refused(
            f"An operator closed the refund of {payment}, and {refund.amount} are not sent back:"
            " innkeeper actions shows who closed it and why."
        )
    if refund.state is State.LOST:
        raise Refused(lost(refund))
    async with connection.transaction():
        action = await operator_log.record(
            connection,
            who=operator,
            action="refunds retry",
            target=payment,
            details={"booking": str(refund.booking), "tries": refund.tries},
        )
        await payment_rows.retry_refund(connection, payment, actor=action.actor, lease_seconds=LEASE_SECONDS)
    return await find(connection, payment)


def lost(refund: OpenRefund) -> str:
    """Return the sentence that a refund is not sent, because a dispute took its money."""
    return f"A dispute took {refund.amount} of {refund.payment}: the guest has them from the bank, and nothing is due."


def _open_refund(row: payment_rows.OpenRefund) -> OpenRefund:
    state = _state(row)
    return OpenRefund(
        payment=row.payment,
        booking=row.booking_id,
        room=row.room_id,
        state=state,
        amount_minor=_amount_minor(row, state),
        currency=row.currency,
        since=row.since,
        tries=row.tries,
        refusals=row.refusals,
        has_booking=row.has_booking,
        next_try_at=row.next_attempt_at,
        last_error=row.last_error,
    )


def _state(row: payment_rows.OpenRefund) -> State:
    match row.status:
        case "closed":
            return State.LOST if row.lost_minor and not row.closed_minor else State.CLOSED
        case "pending":
            return State.PENDING
        case "failed":
            return State.GIVEN_UP
        case _:
            return State.FAILING if row.refusals >= FAILING_FROM else State.DUE


def _amount_minor(row: payment_rows.OpenRefund, state: State) -> int:
    not_refunded_minor = max(0, row.target_minor - row.refunded_minor)
    match state:
        case State.CLOSED:
            # The room closed it: the ledger has the sum, unless it has lost the booking.
            return row.closed_minor or not_refunded_minor
        case State.LOST:
            # A dispute takes the whole payment, refunds of it too.
            return min(row.lost_minor, not_refunded_minor)
        case _:
            return max(0, not_refunded_minor - row.lost_minor - row.closed_minor)
