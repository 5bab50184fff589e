"""The statements of the role `payments` on claimed rows, and on all rows, in memory; the others are beside it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from storage.payment_statements import PaymentStatements
from storage.payments import (
    FAILING_FROM,
    LOOKED_AT_AFTER,
    DueRefund,
    DueSession,
    RefundFigures,
    SessionToOpen,
)
from storage.stripe_circuits import CircuitState
from tests.simulation import hotels
from tests.simulation import payment_statements as of_objects
from tests.simulation.cursor_statements import of
from tests.simulation.database import Connection, Key, Transaction
from tests.simulation.payment_statements import (
    DISPUTES,
    MADE,
    REFUNDS,
    SESSIONS,
    Row,
    failed_count,
    put_refund,
    put_session,
    run,
    sessions_of,
)

_CIRCUITS: Final = "stripe_circuit"
_KEPT: Final = timedelta(hours=1)
_OF_SESSION: Final = (
    *("booking_id", "attempt", "room_id", "status", "params", "idempotency_key", "session_id", "causation"),
    *("correlation", "failures", "created_at", "last_error", "actor"),
)
_OF_REFUND: Final = (
    *("payment_intent", "booking_id", "room_id", "status", "params", "idempotency_key", "amount_minor", "currency"),
    *("refund_id", "causation", "correlation", "failures", "actor"),
)


# Claims.


async def claim_sessions(
    connection: Any, statuses: Sequence[str], *, limit: int, lease_seconds: float
) -> list[DueSession]:
    """As `storage.payments.claim_sessions`."""
    session = of(connection)

    def effect(rows: Transaction) -> list[DueSession]:
        found: list[DueSession] = []
        for (booking_id, attempt), _ in _due(session.due(SESSIONS), rows.now):
            row = sessions_of(rows, booking_id)[attempt]
            if len(found) < limit and row["status"] in statuses and session.try_lock(rows, (SESSIONS, booking_id)):
                lease = rows.now + timedelta(seconds=lease_seconds)
                put_session(rows, row, next_attempt_at=lease, updated_at=row["updated_at"])
                found.append(DueSession(**{name: row[name] for name in _OF_SESSION}, lease=lease))
        return found

    arguments = (tuple(statuses),)
    return await run(connection, "claim_sessions", arguments, effect, limit=limit, lease_seconds=lease_seconds)


async def claim_refunds(connection: Any, *, limit: int, lease_seconds: float) -> list[DueRefund]:
    """As `storage.payments.claim_refunds`; there are no rows of 0.1.0 here."""
    session = of(connection)

    def effect(rows: Transaction) -> list[DueRefund]:
        found: list[DueRefund] = []
        for payment_intent, _ in _due(session.due(REFUNDS), rows.now):
            row = rows.get(REFUNDS, payment_intent)
            if len(found) < limit and session.try_lock(rows, (REFUNDS, payment_intent)):
                lease = rows.now + timedelta(seconds=lease_seconds)
                rows.put(REFUNDS, payment_intent, {**row, "next_attempt_at": lease})
                found.append(DueRefund(**{name: row[name] for name in _OF_REFUND}, lease=lease))
        return found

    return await run(connection, "claim_refunds", (), effect, limit=limit, lease_seconds=lease_seconds)


def _due(times: dict[Any, datetime], now: datetime) -> Iterable[tuple[Any, datetime]]:
    """Return the keys of rows that are due, the longest due first."""
    return sorted((each for each in times.items() if each[1] <= now), key=lambda each: (each[1], each[0]))


def _row_of(rows: Transaction, due: DueSession | DueRefund) -> Row | None:
    """Return the row that was claimed, if it is still the claimant's."""
    row: Row | None
    if isinstance(due, DueSession):
        row = sessions_of(rows, due.booking_id).get(due.attempt)
    else:
        row = rows.get(REFUNDS, due.payment_intent)
    return row if row is not None and row["next_attempt_at"] == due.lease else None


def _lock_of(due: DueSession | DueRefund) -> list[Key]:
    return [(SESSIONS, due.booking_id)] if isinstance(due, DueSession) else [(REFUNDS, due.payment_intent)]


def _put(rows: Transaction, row: Row, **changes: Any) -> None:
    (put_session if "attempt" in row else put_refund)(rows, row, **changes)


# Results.


async def record_opened(connection: Any, due: DueSession, *, session_id: str, url: str | None) -> str | None:
    """As `storage.payments.record_opened`."""

    def effect(rows: Transaction) -> str | None:
        row = sessions_of(rows, due.booking_id).get(due.attempt)
        if row is None or row["idempotency_key"] != due.idempotency_key or row["session_id"] not in {None, session_id}:
            return None
        status = "open" if row["status"] == "creating" else row["status"]
        put_session(rows, row, session_id=session_id, url=url, status=status)
        return str(status)

    return await run(connection, "record_opened", (due,), effect, _lock_of(due), session_id=session_id, url=url)


async def record_refused_session(connection: Any, due: DueSession, reason: str) -> str | None:
    """As `storage.payments.record_refused_session`."""

    def effect(rows: Transaction) -> str | None:
        row = _row_of(rows, due)
        if row is None or row["status"] != due.status or row["status"] not in {"creating", "closing"}:
            return None
        status = "failed" if row["status"] == "creating" else "expired"
        put_session(rows, row, status=status, last_error=reason)
        return status

    return await run(connection, "record_refused_session", (due, reason), effect, _lock_of(due))


async def renew_session(connection: Any, due: DueSession, call: SessionToOpen) -> None:
    """As `storage.payments.renew_session`."""

    def effect(rows: Transaction) -> None:
        row = _row_of(rows, due)
        if row is not None and row["status"] == "creating" and row["idempotency_key"] == due.idempotency_key:
            put_session(rows, row, params=call.params, idempotency_key=call.idempotency_key, expires_at=call.expires_at)

    await run(connection, "renew_session", (due, call), effect, _lock_of(due))


async def fix_refund_call(connection: Any, due: DueRefund, *, params: dict[str, Any], idempotency_key: str) -> bool:
    """As `storage.payments.fix_refund_call`."""

    def effect(rows: Transaction) -> bool:
        row = _row_of(rows, due)
        if row is None or row["status"] in {"succeeded", "closed"}:
            return False
        put_refund(rows, row, params=params, idempotency_key=idempotency_key)
        return True

    named = {"params": params, "idempotency_key": idempotency_key}
    return await run(connection, "fix_refund_call", (due,), effect, _lock_of(due), **named)


async def try_again(
    connection: Any, due: DueSession | DueRefund, *, error: str, delay_seconds: float, is_refused: bool = False
) -> None:
    """As `storage.payments.try_again`."""

    def effect(rows: Transaction) -> None:
        row = _row_of(rows, due)
        if row is not None:
            refusals = {"refusals": row["refusals"] + 1} if is_refused else {}
            at = rows.now + timedelta(seconds=delay_seconds)
            _put(rows, row, failures=row["failures"] + 1, last_error=error, next_attempt_at=at, **refusals)

    named = {"error": error, "delay_seconds": delay_seconds, "is_refused": is_refused}
    await run(connection, "try_again", (due,), effect, _lock_of(due), **named)


async def give_back(connection: Any, due: DueSession | DueRefund) -> None:
    """As `storage.payments.give_back`."""

    def effect(rows: Transaction) -> None:
        row = _row_of(rows, due)
        if row is None:
            return
        after = {**row, "next_attempt_at": rows.now}
        if isinstance(due, DueSession):
            rows.put(SESSIONS, due.booking_id, {**sessions_of(rows, due.booking_id), due.attempt: after})
        else:
            rows.put(REFUNDS, due.payment_intent, after)

    await run(connection, "give_back", (due,), effect, _lock_of(due))


async def mark_done(connection: Any, due: DueSession | DueRefund) -> None:
    """As `storage.payments.mark_done`."""

    def effect(rows: Transaction) -> None:
        row = _row_of(rows, due)
        if row is not None:
            refusals = {"refusals": failed_count(rows, due.payment_intent)} if isinstance(due, DueRefund) else {}
            _put(rows, row, next_attempt_at=None, failures=0, actor=None, **refusals)

    await run(connection, "mark_done", (due,), effect, _lock_of(due))


# Care for all rows.


async def note_payments_of_sessions(connection: Any) -> None:
    """As `storage.payments.note_payments_of_sessions`; there are no rows of 0.1.0 here."""
    await run(connection, "note_payments_of_sessions", (), lambda _: None)


async def reopen_failed_refunds(connection: Any) -> int:
    """As `storage.payments.reopen_failed_refunds`; there are no rows of 0.1.0 here."""
    return await run(connection, "reopen_failed_refunds", (), lambda _: 0)


async def look_at_pending_refunds(connection: Any) -> None:
    """As `storage.payments.look_at_pending_refunds`."""
    session = of(connection)

    def pends(row: Row, now: datetime) -> bool:
        is_idle = row["status"] == "pending" and row["next_attempt_at"] is None
        return is_idle and row["updated_at"] < now - LOOKED_AT_AFTER

    def effect(rows: Transaction) -> None:
        for payment_intent in pending:
            row = rows.get(REFUNDS, payment_intent)
            if pends(row, rows.now):
                rows.put(REFUNDS, payment_intent, {**row, "next_attempt_at": rows.now})

    pending = [id for id, row in session.unfinished().items() if pends(row, session.now())]
    await run(connection, "look_at_pending_refunds", (), effect, [(REFUNDS, id) for id in pending])


async def refund_figures(connection: Any) -> RefundFigures:
    """As `storage.payments.refund_figures`."""
    session: Connection = of(connection)

    def effect(rows: Transaction) -> RefundFigures:
        unfinished = list(session.unfinished().values())
        due = [row for row in unfinished if row["status"] != "pending"]
        made = [each for id in list(rows.keys(MADE)) for each in rows.get(MADE, id).values()]
        disputes = [each for id in list(rows.keys(DISPUTES)) for each in rows.get(DISPUTES, id).values()]
        return RefundFigures(
            due=len(due),
            pending=len(unfinished) - len(due),
            failing=sum(row["refusals"] >= FAILING_FROM for row in due),
            oldest_due_seconds=_age(rows.now, due),
            oldest_pending_seconds=_age(rows.now, [each for each in made if each["status"] == "pending"]),
            disputes_open=sum(each["status"] == "open" for each in disputes),
        )

    return await run(connection, "refund_figures", (), effect)


def _age(now: datetime, rows: Iterable[Row]) -> float:
    return max(((now - row["created_at"]).total_seconds() for row in rows), default=0.0)


async def report_circuit(
    connection: Any, worker: str, state: CircuitState, *, since: datetime | None, reason: str | None
) -> None:
    """As `storage.stripe_circuits.report`."""

    def effect(rows: Transaction) -> None:
        rows.put(_CIRCUITS, worker, (state, rows.now))
        for key in list(rows.keys(_CIRCUITS)):
            if rows.get(_CIRCUITS, key)[1] < rows.now - _KEPT:
                rows.put(_CIRCUITS, key, None)

    locks = [(_CIRCUITS, "all")]
    await run(connection, "report_circuit", (worker, state), effect, locks, since=since, reason=reason)


async def forget_circuit(connection: Any, worker: str) -> None:
    """As `storage.stripe_circuits.forget`."""
    locks = [(_CIRCUITS, "all")]
    await run(connection, "forget_circuit", (worker,), lambda rows: rows.put(_CIRCUITS, worker, None), locks)


PAYMENTS: Final = PaymentStatements(
    installation_id=of_objects.installation_id,
    stays=hotels.stays,
    add_session=of_objects.add_session,
    close_sessions=of_objects.close_sessions,
    add_refund=of_objects.add_refund,
    note_payment=of_objects.note_payment,
    booking_of_session=of_objects.booking_of_session,
    booking_of_attempt=of_objects.booking_of_attempt,
    booking_of_payment=of_objects.booking_of_payment,
    is_by_hand=of_objects.is_by_hand,
    cancels_if_full=of_objects.cancels_if_full,
    record_session=of_objects.record_session,
    record_refund=of_objects.record_refund,
    record_dispute=of_objects.record_dispute,
    lock_refund=of_objects.lock_refund,
    settle_refund=of_objects.settle_refund,
    ledger_payment=of_objects.ledger_payment,
    keep_unattributed=of_objects.keep_unattributed,
    attributable=of_objects.attributable,
    forget_unattributed=of_objects.forget_unattributed,
    claim_sessions=claim_sessions,
    claim_refunds=claim_refunds,
    record_opened=record_opened,
    record_refused_session=record_refused_session,
    renew_session=renew_session,
    fix_refund_call=fix_refund_call,
    try_again=try_again,
    give_back=give_back,
    mark_done=mark_done,
    note_payments_of_sessions=note_payments_of_sessions,
    reopen_failed_refunds=reopen_failed_refunds,
    look_at_pending_refunds=look_at_pending_refunds,
    refund_figures=refund_figures,
    report_circuit=report_circuit,
    forget_circuit=forget_circuit,
)
