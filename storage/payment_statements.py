"""The statements of the role `payments`, as a value: a process may have others (ADR 0044).

The role's code calls them through such a value; each field has a function of this package unless another is given. The
simulation gives functions of its own, which keep rows in memory.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from psycopg import AsyncConnection

from storage import installation, payments, stripe_circuits
from storage.payments import (
    BookingOfPayment,
    DisputeReported,
    DueRefund,
    DueSession,
    PaymentOfSession,
    RefundFigures,
    RefundReported,
    RefundRow,
    RefundToMake,
    SessionEnded,
    SessionsToClose,
    SessionToOpen,
    Stay,
    UnattributedObject,
)
from storage.stripe_circuits import CircuitState

_Due = DueSession | DueRefund


class ClaimSessions(Protocol):
    """As `payments.claim_sessions`."""

    def __call__(
        self, connection: AsyncConnection, statuses: Sequence[str], /, *, limit: int, lease_seconds: float
    ) -> Awaitable[list[DueSession]]:
        """Claim due rows."""
        ...


class ClaimRefunds(Protocol):
    """As `payments.claim_refunds`."""

    def __call__(
        self, connection: AsyncConnection, /, *, limit: int, lease_seconds: float
    ) -> Awaitable[list[DueRefund]]:
        """Claim due rows."""
        ...


class RecordSession(Protocol):
    """As `payments.record_session`."""

    def __call__(self, connection: AsyncConnection, update: SessionEnded, /, *, is_done: bool) -> Awaitable[None]:
        """Record the end of a session."""
        ...


class SettleRefund(Protocol):
    """As `payments.settle_refund`."""

    def __call__(
        self,
        connection: AsyncConnection,
        payment_intent: str,
        status: str,
        /,
        *,
        target_minor: int,
        due_in_seconds: float | None,
        keeps_due_time: bool,
        idempotency_key: str | None = None,
    ) -> Awaitable[None]:
        """Write a refund's status and target."""
        ...


class RecordOpened(Protocol):
    """As `payments.record_opened`."""

    def __call__(
        self, connection: AsyncConnection, due: DueSession, /, *, session_id: str, url: str | None
    ) -> Awaitable[str | None]:
        """Record the session that Stripe opened."""
        ...


class FixRefundCall(Protocol):
    """As `payments.fix_refund_call`."""

    def __call__(
        self, connection: AsyncConnection, due: DueRefund, /, *, params: dict[str, Any], idempotency_key: str
    ) -> Awaitable[bool]:
        """Fix the exact call."""
        ...


class TryAgain(Protocol):
    """As `payments.try_again`."""

    def __call__(
        self, connection: AsyncConnection, due: _Due, /, *, error: str, delay_seconds: float, is_refused: bool = False
    ) -> Awaitable[None]:
        """Record a failure."""
        ...


class ReportCircuit(Protocol):
    """As `stripe_circuits.report`."""

    def __call__(
        self,
        connection: AsyncConnection,
        worker: str,
        state: CircuitState,
        /,
        *,
        since: datetime | None,
        reason: str | None,
    ) -> Awaitable[None]:
        """Write the state of a worker's circuit."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PaymentStatements:
    """The statements on `checkout_session`, `refund`, and the objects that Stripe reports."""

    installation_id: Callable[[AsyncConnection], Awaitable[UUID]] = installation.read
    # Calls that events lead to.
    stays: Callable[[AsyncConnection, Sequence[UUID]], Awaitable[dict[UUID, Stay]]] = payments.stays
    add_session: Callable[[AsyncConnection, SessionToOpen], Awaitable[None]] = payments.add_session
    close_sessions: Callable[[AsyncConnection, SessionsToClose], Awaitable[None]] = payments.close_sessions
    add_refund: Callable[[AsyncConnection, RefundToMake], Awaitable[None]] = payments.add_refund
    note_payment: Callable[[AsyncConnection, PaymentOfSession], Awaitable[None]] = payments.note_payment
    # Bookings of Stripe's objects.
    booking_of_session: Callable[[AsyncConnection, str], Awaitable[BookingOfPayment | None]] = (
        payments.booking_of_session
    )
    booking_of_attempt: Callable[[AsyncConnection, UUID, int, str | None], Awaitable[BookingOfPayment | None]] = (
        payments.booking_of_attempt
    )
    booking_of_payment: Callable[[AsyncConnection, str | None], Awaitable[BookingOfPayment | None]] = (
        payments.booking_of_payment
    )
    is_by_hand: Callable[[AsyncConnection, str], Awaitable[bool | None]] = payments.is_by_hand
    cancels_if_full: Callable[[AsyncConnection, int], Awaitable[bool]] = payments.cancels_if_full
    # Changes that Stripe reports.
    record_session: RecordSession = payments.record_session
    record_refund: Callable[[AsyncConnection, RefundReported], Awaitable[bool]] = payments.record_refund
    record_dispute: Callable[[AsyncConnection, DisputeReported], Awaitable[None]] = payments.record_dispute
    lock_refund: Callable[[AsyncConnection, str], Awaitable[RefundRow | None]] = payments.lock_refund
    settle_refund: SettleRefund = payments.settle_refund
    ledger_payment: Callable[[AsyncConnection, UUID, str], Awaitable[dict[str, Any] | None]] = payments.ledger_payment
    keep_unattributed: Callable[[AsyncConnection, UnattributedObject], Awaitable[None]] = payments.keep_unattributed
    attributable: Callable[[AsyncConnection], Awaitable[list[UnattributedObject]]] = payments.attributable
    forget_unattributed: Callable[[AsyncConnection, UnattributedObject], Awaitable[None]] = payments.forget_unattributed
    # Claims and results of the caller.
    claim_sessions: ClaimSessions = payments.claim_sessions
    claim_refunds: ClaimRefunds = payments.claim_refunds
    record_opened: RecordOpened = payments.record_opened
    record_refused_session: Callable[[AsyncConnection, DueSession, str], Awaitable[str | None]] = (
        payments.record_refused_session
    )
    renew_session: Callable[[AsyncConnection, DueSession, SessionToOpen], Awaitable[None]] = payments.renew_session
    fix_refund_call: FixRefundCall = payments.fix_refund_call
    try_again: TryAgain = payments.try_again
    give_back: Callable[[AsyncConnection, _Due], Awaitable[None]] = payments.give_back
    mark_done: Callable[[AsyncConnection, _Due], Awaitable[None]] = payments.mark_done
    # Care for all rows.
    note_payments_of_sessions: Callable[[AsyncConnection], Awaitable[None]] = payments.note_payments_of_sessions
    reopen_failed_refunds: Callable[[AsyncConnection], Awaitable[int]] = payments.reopen_failed_refunds
    look_at_pending_refunds: Callable[[AsyncConnection], Awaitable[None]] = payments.look_at_pending_refunds
    refund_figures: Callable[[AsyncConnection], Awaitable[RefundFigures]] = payments.refund_figures
    report_circuit: ReportCircuit = stripe_circuits.report
    forget_circuit: Callable[[AsyncConnection, str], Awaitable[None]] = stripe_circuits.forget


#: The statements of every process in production.
PAYMENTS: Final = PaymentStatements()
