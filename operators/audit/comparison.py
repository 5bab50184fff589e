"""The log's final state of every night and booking beside the ledger's tables."""

from collections.abc import Mapping
from typing import Any

from operators.audit.ledger import Ledger
from operators.audit.report import Report
from operators.audit.story import LIVE, Booking, Story


def compare(story: Story, ledger: Ledger, report: Report) -> None:
    """Report every night and booking that is not the same on both sides, and every booking left half-way."""
    _compare(
        {f"room {room_id}, night {day}": night.as_row() for (room_id, day), night in story.nights.items()},
        {f"room {room_id}, night {day}": night for (room_id, day), night in ledger.nights.items()},
        report,
    )
    _compare(
        {f"booking {id_}": booking.as_row() for id_, booking in story.bookings.items()},
        {f"booking {id_}": _told(booking) for id_, booking in ledger.bookings.items()},
        report,
    )
    for id_, booking in story.bookings.items():
        if unfinished := _unfinished(booking):
            report.add("I6", f"booking {id_}: {unfinished}")


def _told(booking: Any) -> Any:
    """Leave out what no event tells: what a rejected stay would have cost."""
    return booking._replace(amount_minor=0, currency="") if booking.status == "REJECTED" else booking


def _compare(log: Mapping[str, Any], ledger: Mapping[str, Any], report: Report) -> None:
    for name, row in log.items():
        written = ledger.get(name)
        if written is None:
            report.add("I6", f"{name}: on the log but not in the ledger")
        elif written != row:
            report.add("I6", f"{name}: {_differences(row, written)}")
    for name in ledger.keys() - log.keys():
        report.add("I6", f"{name}: in the ledger but not on the log")


def _differences(log: Any, ledger: Any) -> str:
    return ", ".join(
        f"{column} is {there!r} in the ledger and {here!r} by the log"
        for column, here, there in zip(log._fields, log, ledger, strict=True)
        if here != there
    )


def _unfinished(booking: Booking) -> str | None:
    """Return what a decision leaves open that it should not have."""
    if booking.status in LIVE and booking.hold_until is None:
        return f"{booking.status} without a deadline"
    if booking.status == "CANCELLED" and any(state == "kept" for _, state in booking.payments.values()):
        return "CANCELLED, and its money is kept"
    return None
