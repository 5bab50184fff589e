"""Compares the state of every night and booking after the last event with the ledger's tables."""

from collections.abc import Mapping
from typing import Any

from operators.audit.expected_ledger import LIVE, Booking, ExpectedLedger
from operators.audit.ledger import Ledger
from operators.audit.report import Check, Report


def compare(expected: ExpectedLedger, ledger: Ledger, report: Report) -> None:
    """Report every night and booking that differs, and every booking that a decision left incomplete."""
    _compare(
        {f"room {room_id}, night {day}": night.as_row() for (room_id, day), night in expected.nights.items()},
        {f"room {room_id}, night {day}": night for (room_id, day), night in ledger.nights.items()},
        report,
    )
    _compare(
        {f"booking {id_}": booking.as_row() for id_, booking in expected.bookings.items()},
        {f"booking {id_}": _known_from_events(booking) for id_, booking in ledger.bookings.items()},
        report,
    )
    for id_, booking in expected.bookings.items():
        if unfinished := _unfinished(booking):
            report.add(Check.LOG_MATCHES_LEDGER, f"booking {id_}: {unfinished}")


def _known_from_events(booking: Any) -> Any:
    """Return the booking without the price of a rejected stay, which no event has."""
    return booking._replace(amount_minor=0, currency="") if booking.status == "REJECTED" else booking


def _compare(log: Mapping[str, Any], ledger: Mapping[str, Any], report: Report) -> None:
    for name, row in log.items():
        written = ledger.get(name)
        if written is None:
            report.add(Check.LOG_MATCHES_LEDGER, f"{name}: on the log but not in the ledger")
        elif written != row:
            report.add(Check.LOG_MATCHES_LEDGER, f"{name}: {_differences(row, written)}")
    for name in ledger.keys() - log.keys():
        report.add(Check.LOG_MATCHES_LEDGER, f"{name}: in the ledger but not on the log")


def _differences(log: Any, ledger: Any) -> str:
    return ", ".join(
        f"{column} is {there!r} in the ledger and {here!r} by the log"
        for column, here, there in zip(log._fields, log, ledger, strict=True)
        if here != there
    )


def _unfinished(booking: Booking) -> str | None:
    """Return, in words, why a booking is incomplete; None: it is not."""
    if booking.status in LIVE and booking.hold_until is None:
        return f"{booking.status} without a deadline"
    if booking.status == "CANCELLED" and any(state == "kept" for _, state in booking.payments.values()):
        return "CANCELLED, and its money is kept"
    return None
