"""The statements of the role `payments` on rows in memory. `test_against_postgres` compares them with PostgreSQL.

A row is a dict that never changes: a statement writes another one. The sessions of a booking are one value, and so are
the refunds of a payment, each of which is locked as a whole; PostgreSQL locks single rows.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from storage.payments import (
    MAX_UNATTRIBUTED,
    UNATTRIBUTED_FOR,
    BookingOfPayment,
    DisputeReported,
    LostDispute,
    PaymentOfSession,
    RefundReported,
    RefundRow,
    RefundSeen,
    RefundToMake,
    SessionEnded,
    SessionsToClose,
    SessionToOpen,
    UnattributedObject,
)
from tests.simulation.cursor_statements import of
from tests.simulation.database import Key, Transaction
from tests.simulation.hotels import INSTALLATION
from tests.simulation.statements import column

T = TypeVar("T")
Row = dict[str, Any]

SESSIONS: Final = "checkout_session"
REFUNDS: Final = "refund"
MADE: Final = "payment_refund"
DISPUTES: Final = "payment_dispute"
UNATTRIBUTED: Final = "unattributed_object"
#: Keys of rows by the ids of Stripe's objects.
_BY_SESSION: Final = "booking of session"
_BY_PAYMENT: Final = "booking of payment"
_BY_REFUND: Final = "payment of refund"
_NOT_ENDED: Final = frozenset({"creating", "open", "closing"})


async def run(
    connection: Any,
    name: str,
    arguments: tuple[Any, ...],
    effect: Callable[[Transaction], T],
    locks: Iterable[Key] = (),
    **named: Any,
) -> T:
    """Run a statement; `named` are its arguments that have names."""
    return await of(connection).run(name, arguments, effect, locks=locks, named=named)


async def installation_id(connection: Any) -> UUID:
    """As `storage.installation.read`."""
    return await run(connection, "installation_id", (), lambda _: INSTALLATION)


# Rows.


def sessions_of(rows: Transaction, booking_id: UUID) -> Mapping[int, Row]:
    """Return the rows of a booking's sessions by attempt."""
    return rows.get(SESSIONS, booking_id) or {}


def put_session(rows: Transaction, row: Row, **changes: Any) -> None:
    """Write a session's row, and the keys by which it is found."""
    after: Row = {**row, "updated_at": rows.now, **changes}
    at = after["booking_id"], after["attempt"]
    rows.put(SESSIONS, at[0], {**sessions_of(rows, at[0]), at[1]: after})
    if after["session_id"] is not None:
        rows.put(_BY_SESSION, after["session_id"], at)
    if after["payment_intent"] is not None:
        rows.put(_BY_PAYMENT, after["payment_intent"], at)


def put_refund(rows: Transaction, row: Row, **changes: Any) -> None:
    """Write a row of `refund`."""
    rows.put(REFUNDS, row["payment_intent"], {**row, **changes, "updated_at": rows.now})


def failed_count(rows: Transaction, payment_intent: str) -> int:
    """Return how many refunds of a payment failed that are ours."""
    made: Mapping[str, Row] = rows.get(MADE, payment_intent) or {}
    return sum(row["status"] == "failed" and not row["by_hand"] for row in made.values())


# Calls that events lead to.


async def add_session(connection: Any, call: SessionToOpen) -> None:
    """As `storage.payments.add_session`."""

    def effect(rows: Transaction) -> None:
        if call.attempt in sessions_of(rows, call.booking_id):
            return
        row: Row = {
            "booking_id": call.booking_id,
            "attempt": call.attempt,
            "room_id": call.room_id,
            "status": "creating",
            "params": call.params,
            "idempotency_key": call.idempotency_key,
            "session_id": None,
            "url": None,
            "payment_intent": None,
            "expires_at": call.expires_at,
            "causation": call.causation,
            "correlation": call.correlation,
            "actor": None,
            "failures": 0,
            "last_error": None,
            "next_attempt_at": rows.now,
            "created_at": rows.now,
        }
        put_session(rows, row)

    await run(connection, "add_session", (call,), effect, [(SESSIONS, call.booking_id)])


async def close_sessions(connection: Any, ending: SessionsToClose) -> None:
    """As `storage.payments.close_sessions`."""

    def effect(rows: Transaction) -> None:
        booking = rows.get("booking", ending.booking_id)
        change = None if booking is None else column(booking, "pending_change")
        kept = None if change is None else change.get("attempt")
        for attempt, row in sessions_of(rows, ending.booking_id).items():
            is_before = ending.before_attempt is None or attempt < ending.before_attempt
            if row["status"] in {"creating", "open"} and is_before and attempt != kept:
                put_session(rows, row, status="closing", next_attempt_at=rows.now, failures=0, actor=None)

    await run(connection, "close_sessions", (ending,), effect, [(SESSIONS, ending.booking_id)])


async def add_refund(connection: Any, call: RefundToMake) -> None:
    """As `storage.payments.add_refund`; there are no rows of 0.1.0 here."""

    def effect(rows: Transaction) -> None:
        before: Row | None = rows.get(REFUNDS, call.payment_intent)
        wanted: Row = {
            "amount_minor": call.amount_minor,
            "reason": call.reason,
            "causation": call.causation,
            "correlation": call.correlation,
            "status": "creating",
            "next_attempt_at": rows.now,
            "actor": None,
            "failures": 0,
        }
        if before is None:
            row: Row = {
                "payment_intent": call.payment_intent,
                "booking_id": call.booking_id,
                "room_id": call.room_id,
                "params": call.params,
                "idempotency_key": call.idempotency_key,
                "currency": call.currency,
                "refund_id": None,
                "refusals": 0,
                "last_error": None,
                "created_at": rows.now,
            }
            put_refund(rows, row | wanted)
        elif before["amount_minor"] < call.amount_minor:
            put_refund(rows, before, **wanted, refusals=failed_count(rows, call.payment_intent))

    await run(connection, "add_refund", (call,), effect, [(REFUNDS, call.payment_intent)])


def _note(rows: Transaction, paid: PaymentOfSession) -> None:
    listed = list(sessions_of(rows, paid.booking_id).values())
    if any(row["payment_intent"] == paid.payment_intent for row in listed):
        return
    free = [row for row in listed if row["payment_intent"] is None]
    if free:
        noted = max(free, key=lambda row: (row["session_id"] == paid.session_id, row["attempt"]))
        put_session(rows, noted, payment_intent=paid.payment_intent, updated_at=noted["updated_at"])


async def note_payment(connection: Any, paid: PaymentOfSession) -> None:
    """As `storage.payments.note_payment`."""
    locks = [(SESSIONS, paid.booking_id)]
    await run(connection, "note_payment", (paid,), lambda rows: _note(rows, paid), locks)


# Bookings of Stripe's objects.


async def booking_of_session(connection: Any, session_id: str) -> BookingOfPayment | None:
    """As `storage.payments.booking_of_session`."""

    def effect(rows: Transaction) -> BookingOfPayment | None:
        return _booking_at(rows, rows.get(_BY_SESSION, session_id), "session_id", session_id)

    return await run(connection, "booking_of_session", (session_id,), effect)


def _booking_at(rows: Transaction, at: tuple[UUID, int] | None, field: str, value: str) -> BookingOfPayment | None:
    row = None if at is None else sessions_of(rows, at[0]).get(at[1])
    if row is None or row[field] != value:
        return None
    return BookingOfPayment(row["booking_id"], row["room_id"], row["attempt"])


async def booking_of_attempt(
    connection: Any, booking_id: UUID, attempt: int, mark: str | None
) -> BookingOfPayment | None:
    """As `storage.payments.booking_of_attempt`."""

    def effect(rows: Transaction) -> BookingOfPayment | None:
        row = sessions_of(rows, booking_id).get(attempt)
        if row is None or row["status"] not in _NOT_ENDED or row["params"].get("metadata", {}).get("mark") != mark:
            return None
        return BookingOfPayment(booking_id, row["room_id"], attempt)

    return await run(connection, "booking_of_attempt", (booking_id, attempt, mark), effect)


async def booking_of_payment(connection: Any, payment_intent: str | None) -> BookingOfPayment | None:
    """As `storage.payments.booking_of_payment`."""
    if payment_intent is None:
        return None

    def effect(rows: Transaction) -> BookingOfPayment | None:
        found = _booking_at(rows, rows.get(_BY_PAYMENT, payment_intent), "payment_intent", payment_intent)
        refund = rows.get(REFUNDS, payment_intent)
        if found is None and refund is not None:
            return BookingOfPayment(refund["booking_id"], refund["room_id"], 0)
        return found

    return await run(connection, "booking_of_payment", (payment_intent,), effect)


async def is_by_hand(connection: Any, refund_id: str) -> bool | None:
    """As `storage.payments.is_by_hand`."""

    def effect(rows: Transaction) -> bool | None:
        payment_intent = rows.get(_BY_REFUND, refund_id)
        return None if payment_intent is None else bool(rows.get(MADE, payment_intent)[refund_id]["by_hand"])

    return await run(connection, "is_by_hand", (refund_id,), effect)


async def cancels_if_full(connection: Any, room_id: int) -> bool:
    """As `storage.payments.cancels_if_full`: all hotels of the simulation want it so, as the schema's default is."""
    return await run(connection, "cancels_if_full", (room_id,), lambda _: True)


# Changes that Stripe reports.


async def record_session(connection: Any, update: SessionEnded, *, is_done: bool) -> None:
    """As `storage.payments.record_session`."""

    def effect(rows: Transaction) -> None:
        row = sessions_of(rows, update.booking_id).get(update.attempt)
        if (
            row is not None
            and row["session_id"] in {None, update.session_id}
            and (row["status"] in _NOT_ENDED or update.status == "complete")
        ):
            put_session(
                rows,
                row,
                status=update.status,
                session_id=update.session_id,
                payment_intent=update.payment_intent or row["payment_intent"],
                next_attempt_at=None if is_done else row["next_attempt_at"],
            )
        if update.payment_intent is not None:
            paid = PaymentOfSession(
                booking_id=update.booking_id, session_id=update.session_id, payment_intent=update.payment_intent
            )
            _note(rows, paid)

    locks = [(SESSIONS, update.booking_id)]
    await run(connection, "record_session", (update,), effect, locks, is_done=is_done)


async def record_refund(connection: Any, update: RefundReported) -> bool:
    """As `storage.payments.record_refund`."""

    def effect(rows: Transaction) -> bool:
        made: Mapping[str, Row] = rows.get(MADE, update.payment_intent) or {}
        known = made.get(update.refund_id)
        if known is not None:
            moves = {("pending", "succeeded"), ("pending", "failed"), ("succeeded", "failed")}
            if (known["status"], update.status) not in moves:
                return False
            row = {**known, "status": update.status, "failure": update.failure, "updated_at": rows.now}
        else:
            names = ("refund_id", "payment_intent", "booking_id", "amount_minor", "currency", "status", "by_hand")
            row = {name: getattr(update, name) for name in (*names, "failure")}
            row |= {"created_at": rows.now, "updated_at": rows.now}
            rows.put(_BY_REFUND, update.refund_id, update.payment_intent)
        rows.put(MADE, update.payment_intent, {**made, update.refund_id: row})
        if update.status != "failed":
            return False
        if not update.by_hand and (refund := rows.get(REFUNDS, update.payment_intent)) is not None:
            at = refund["updated_at"]
            rows.put(REFUNDS, update.payment_intent, {**refund, "refusals": refund["refusals"] + 1, "updated_at": at})
        return True

    locks = [(MADE, update.payment_intent), (REFUNDS, update.payment_intent)]
    return await run(connection, "record_refund", (update,), effect, locks)


async def record_dispute(connection: Any, update: DisputeReported) -> None:
    """As `storage.payments.record_dispute`."""

    def effect(rows: Transaction) -> None:
        known: Mapping[str, Row] = rows.get(DISPUTES, update.payment_intent) or {}
        before = known.get(update.dispute_id)
        if before is None or before["status"] == "open":
            row = {"status": update.status, "amount_minor": update.amount_minor}
            rows.put(DISPUTES, update.payment_intent, {**known, update.dispute_id: row})

    await run(connection, "record_dispute", (update,), effect, [(DISPUTES, update.payment_intent)])


async def lock_refund(connection: Any, payment_intent: str) -> RefundRow | None:
    """As `storage.payments.lock_refund`."""

    def effect(rows: Transaction) -> RefundRow | None:
        row: Row | None = rows.get(REFUNDS, payment_intent)
        if row is None:
            return None
        made: Mapping[str, Row] = rows.get(MADE, payment_intent) or {}
        disputes: Mapping[str, Row] = rows.get(DISPUTES, payment_intent) or {}
        return RefundRow(
            status=row["status"],
            idempotency_key=row["idempotency_key"],
            refusals=row["refusals"],
            target_minor=row["amount_minor"],
            seen=tuple(
                RefundSeen(id, each["amount_minor"], each["status"], each["by_hand"]) for id, each in made.items()
            ),
            lost=tuple(
                LostDispute(id, each["amount_minor"]) for id, each in disputes.items() if each["status"] == "lost"
            ),
            ledger=_ledger_payment(rows, row["booking_id"], payment_intent),
        )

    return await run(connection, "lock_refund", (payment_intent,), effect, [(REFUNDS, payment_intent)])


def _ledger_payment(rows: Transaction, booking_id: UUID, payment_intent: str) -> dict[str, Any] | None:
    booking = rows.get("booking", booking_id)
    paid = () if booking is None else column(booking, "payments") or ()
    return next((each for each in paid if each.get("payment_intent") == payment_intent), None)


async def settle_refund(
    connection: Any,
    payment_intent: str,
    status: str,
    *,
    target_minor: int,
    due_in_seconds: float | None,
    keeps_due_time: bool,
    idempotency_key: str | None = None,
) -> None:
    """As `storage.payments.settle_refund`."""

    def effect(rows: Transaction) -> None:
        row: Row | None = rows.get(REFUNDS, payment_intent)
        if row is None:
            return
        own = [each for each in (rows.get(MADE, payment_intent) or {}).values() if not each["by_hand"]]
        failed = [each for each in own if each["status"] == "failed"]
        newest = max(own, key=lambda each: (each["created_at"], each["status"] != "failed"), default=None)
        last = max(failed, key=lambda each: each["updated_at"], default=None)
        due = row["next_attempt_at"]
        if not (keeps_due_time and (due is not None or status != "creating")):
            due = None if due_in_seconds is None else rows.now + timedelta(seconds=due_in_seconds)
        put_refund(
            rows,
            row,
            status=status,
            amount_minor=target_minor,
            idempotency_key=idempotency_key or row["idempotency_key"],
            refund_id=row["refund_id"] if newest is None else newest["refund_id"],
            last_error=row["last_error"] if last is None or last["failure"] is None else last["failure"],
            next_attempt_at=due,
        )

    await run(
        connection,
        "settle_refund",
        (payment_intent, status),
        effect,
        [(REFUNDS, payment_intent)],
        target_minor=target_minor,
        due_in_seconds=due_in_seconds,
        keeps_due_time=keeps_due_time,
        idempotency_key=idempotency_key,
    )


async def ledger_payment(connection: Any, booking_id: UUID, payment_intent: str) -> dict[str, Any] | None:
    """As `storage.payments.ledger_payment`."""
    arguments = (booking_id, payment_intent)
    return await run(connection, "ledger_payment", arguments, lambda rows: _ledger_payment(rows, *arguments))


async def keep_unattributed(connection: Any, kept: UnattributedObject) -> None:
    """As `storage.payments.keep_unattributed`."""
    stored = replace(kept, fields=json.loads(json.dumps(kept.fields)))

    def effect(rows: Transaction) -> None:
        at = kept.object_id, kept.state
        if rows.get(UNATTRIBUTED, at) is None and sum(1 for _ in rows.keys(UNATTRIBUTED)) < MAX_UNATTRIBUTED:
            rows.put(UNATTRIBUTED, at, (rows.now, stored))

    await run(connection, "keep_unattributed", (kept,), effect, [(UNATTRIBUTED, (kept.object_id, kept.state))])


async def attributable(connection: Any) -> list[UnattributedObject]:
    """As `storage.payments.attributable`."""

    def effect(rows: Transaction) -> list[UnattributedObject]:
        listed = [(rows.get(UNATTRIBUTED, key), key) for key in list(rows.keys(UNATTRIBUTED))]
        for (at, _), key in listed:
            if at < rows.now - UNATTRIBUTED_FOR:
                rows.put(UNATTRIBUTED, key, None)
        return [
            kept
            for (at, kept), _ in sorted(listed, key=lambda each: (each[0][0], each[1]))
            if at >= rows.now - UNATTRIBUTED_FOR and _is_known(rows, kept.payment_intent)
        ]

    return await run(connection, "attributable", (), effect)


def _is_known(rows: Transaction, payment_intent: str) -> bool:
    return rows.get(_BY_PAYMENT, payment_intent) is not None or rows.get(REFUNDS, payment_intent) is not None


async def forget_unattributed(connection: Any, kept: UnattributedObject) -> None:
    """As `storage.payments.forget_unattributed`."""
    at = kept.object_id, kept.state
    await run(
        connection,
        "forget_unattributed",
        (kept,),
        lambda rows: rows.put(UNATTRIBUTED, at, None),
        [(UNATTRIBUTED, at)],
    )
