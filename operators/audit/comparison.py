"""Compares the state of every night and booking after the last event with the ledger's tables."""

from collections.abc import Mapping
from typing import Any

from operators.audit.expected_bookings import LIVE
from operators.audit.expected_ledger import ExpectedLedger
from operators.audit.expected_rows import Booking, Payment, has_ended, kept_by
from operators.audit.expected_trips import worth
from operators.audit.ledger import UNKNOWN_REFUND, Ledger, LedgerBooking, LedgerPayment, LedgerTerms
from operators.audit.report import Check, Report


def compare(expected: ExpectedLedger, ledger: Ledger, report: Report) -> None:
    """Report every row that differs, and every booking that a decision left incomplete."""
    _compare(
        {f"room {room_id}, night {day}": night.as_row() for (room_id, day), night in expected.rooms.nights.items()},
        {f"room {room_id}, night {day}": night for (room_id, day), night in ledger.nights.items()},
        report,
    )
    _compare(
        {f"booking {id_}": booking.as_row() for id_, booking in expected.bookings.items()},
        {
            f"booking {id_}": _known_from_events(booking, expected.bookings.get(id_))
            for id_, booking in ledger.bookings.items()
        },
        report,
    )
    _compare(
        {f"room {room_id}, block {id_}": block.as_row() for (room_id, id_), block in expected.rooms.blocks.items()},
        {f"room {room_id}, block {id_}": block for (room_id, id_), block in ledger.blocks.items()},
        report,
    )
    _compare(
        {
            f"sale terms of room {room_id}": LedgerTerms(terms["version"], terms)
            for room_id, terms in expected.rooms.terms.items()
        },
        {f"sale terms of room {room_id}": terms for room_id, terms in ledger.terms.items()},
        report,
    )
    _compare(
        {f"promo code {id_}": code.as_row() for id_, code in expected.codes.by_id.items()},
        {f"promo code {id_}": code for id_, code in ledger.codes.items()},
        report,
    )
    _compare(
        {f"document {id_}": document.as_row() for id_, document in expected.documents.by_id.items()},
        {f"document {id_}": document for id_, document in ledger.documents.items()},
        report,
    )
    for problem in expected.codes.faults_of_bookings(expected.bookings):
        report.add(Check.LOG_MATCHES_LEDGER, problem)
    for id_, booking in expected.bookings.items():
        if fault := unfinished(booking):
            report.add(Check.LOG_MATCHES_LEDGER, f"booking {id_}: {fault}")


def _known_from_events(booking: LedgerBooking, expected: Booking | None) -> LedgerBooking:
    """Return the booking without the price of a rejected stay, which no event has.

    A refund in full that 0.1.0 recorded without its id gets the id that the log has.
    """
    if booking.status == "REJECTED":
        return booking._replace(amount_minor=0, currency="")
    if expected is None or not any(UNKNOWN_REFUND in paid.refunds for paid in booking.payments.values()):
        return booking
    payments = {
        intent: _with_refund_ids(paid, expected.payments.get(intent)) for intent, paid in booking.payments.items()
    }
    return booking._replace(payments=payments)


def _with_refund_ids(paid: LedgerPayment, expected: Payment | None) -> LedgerPayment:
    unknown = paid.refunds.get(UNKNOWN_REFUND)
    if unknown is None or expected is None:
        return paid
    id_ = next((id_ for id_, made in expected.refunds.items() if made == unknown and id_ not in paid.refunds), None)
    if id_ is None:
        return paid
    others = {known: made for known, made in paid.refunds.items() if known != UNKNOWN_REFUND}
    return paid._replace(refunds={id_: unknown, **others})


def _compare(log: Mapping[str, Any], ledger: Mapping[str, Any], report: Report) -> None:
    for name, row in log.items():
        written = ledger.get(name)
        if written is None:
            report.add(Check.LOG_MATCHES_LEDGER, f"{name}: on the log but not in the ledger")
        elif written != row:
            report.add(Check.LOG_MATCHES_LEDGER, f"{name}: {_differences(row, written)}")
    # In one order, so that two audits of one fault list the same problems.
    for name in sorted(ledger.keys() - log.keys()):
        report.add(Check.LOG_MATCHES_LEDGER, f"{name}: in the ledger but not on the log")


def _differences(log: Any, ledger: Any) -> str:
    return ", ".join(
        f"{column} is {there!r} in the ledger and {here!r} by the log"
        for column, here, there in zip(log._fields, log, ledger, strict=True)
        if here != there
    )


def unfinished(booking: Booking) -> str | None:
    """Return, in words, why a booking is incomplete; None: it is not."""
    if booking.status in LIVE | {"RESERVING"} and booking.hold_until is None and booking.trip_id is None:
        return f"{booking.status} without a deadline"
    paying = sum(paid.kept for paid in booking.payments.values() if paid.state == "kept")
    retained = sum(paid.retained for paid in booking.payments.values() if paid.state != "kept")
    if has_ended(booking) and paying + retained > kept_by(booking):
        return f"{booking.status}, and its money is kept"
    price = worth(booking) if booking.legs and booking.status == "CONFIRMED" else booking.amount
    if not has_ended(booking) and paying > price:
        return f"{booking.status}, and {paying} is kept of its price {price}"
    for intent, paid in booking.payments.items():
        # Between two events it may be more: a refund is recorded before the failure of the one that it replaces.
        if paid.refunded > paid.amount:
            return f"{paid.refunded} of {intent} went back, and it paid {paid.amount}"
        if paid.state != "kept" and paid.kept:
            return f"{paid.kept} of {intent} is kept, which pays no booking"
    return None
