"""A hold of a stay or a trip that ends late by the log is found; a booking that is paid has none any more."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults.holds import Expired, Holds, ended_late
from tests.system.pipeline.log import Entry

DEADLINE = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)


def event(type: str, seconds: float, **fields: Any) -> Entry:
    """Return a record of the log, so many seconds after the deadline."""
    at_ms = int((DEADLINE + timedelta(seconds=seconds)).timestamp() * 1000)
    body = {"booking_id": "b1", **fields}
    return Entry(0, 0, at_ms, b"1", json.dumps(body).encode(), {"ce_type": type.encode()})


HOLD = {"hold_expires_at": "2030-03-01T12:00:00Z"}


@pytest.mark.parametrize("begins", ["booking.reserved.v1", "booking.trip_opened.v1"])
def test_a_hold_that_ends_after_more_than_the_fault_is_late(begins: str) -> None:
    expired = Holds().apply([event(begins, -15, **HOLD), event("booking.expired.v1", 25)])

    assert expired == [Expired("b1", 25.0)]
    assert ended_late(expired, 24.0) == ["b1 ended 25.0 s after its hold's deadline, 24 s are allowed"]
    assert ended_late(expired, 25.0) == []


def test_a_hold_is_known_in_the_next_row_too() -> None:
    holds = Holds()

    assert holds.apply([event("booking.reserved.v1", -15, **HOLD)]) == []
    assert holds.apply([event("booking.expired.v1", 1)]) == [Expired("b1", 1.0)]
    assert holds.apply([event("booking.expired.v1", 900)]) == []


@pytest.mark.parametrize("ends", ["booking.confirmed.v1", "booking.cancelled.v1", "booking.trip_rejected.v1"])
def test_a_booking_that_is_paid_or_cancelled_has_no_hold_any_more(ends: str) -> None:
    events = [event("booking.reserved.v1", -15, **HOLD), event(ends, -1), event("booking.expired.v1", 900)]

    assert Holds().apply(events) == []


def test_a_stay_that_is_paid_at_the_hotel_and_a_leg_have_no_deadline() -> None:
    events = [event("booking.reserved.v1", -15, hold_expires_at=None), event("booking.expired.v1", 900)]

    assert Holds().apply(events) == []
