"""The model of rooms accepts what a right log has, and names each thing that a wrong one has."""

import json
from typing import Any

import pytest

from tests.faults.room_model import RoomModel, out_of_order
from tests.system.pipeline.log import Entry

STAY = {"room_id": 1, "check_in": "2030-03-01", "check_out": "2030-03-03", "rooms_count": 1}


def event(type: str, **fields: Any) -> Entry:
    """Return a record of the log."""
    body = {"room_id": 1, **fields}
    return Entry(0, 0, 0, b"1", json.dumps(body).encode(), {"ce_type": type.encode()})


OPENED = event(
    "inventory.opened.v1", hotel_id=1, first_night="2030-03-01", end_night="2030-03-11", total_count=1, price_minor=1
)


def reserved(booking: str, **fields: Any) -> Entry:
    return event("booking.reserved.v1", **{**STAY, "booking_id": booking, **fields})


def rejected(booking: str, reason: str = "sold_out", **fields: Any) -> Entry:
    return event("booking.rejected.v1", **{**STAY, "booking_id": booking, "reason": reason, **fields})


def of(type: str, booking: str, **fields: Any) -> Entry:
    return event(f"booking.{type}.v1", booking_id=booking, **fields)


def problems(*events: Entry) -> list[str]:
    """Return the problems of a log that opens one room for ten nights."""
    model = RoomModel()
    for each in (OPENED, *events):
        model.apply(each)
    return model.problems


HELD = [{"first_night": "2030-03-03", "end_night": "2030-03-04", "rooms_count": 1}]
CHANGED: dict[str, Any] = {
    "check_in": "2030-03-01",
    "check_out": "2030-03-04",
    "rooms_count": 1,
    "before": {"check_in": "2030-03-01", "check_out": "2030-03-03", "rooms_count": 1},
    "held": HELD,
}


@pytest.mark.parametrize(
    "events",
    [
        [reserved("a"), rejected("b"), of("expired", "a"), reserved("b")],
        [reserved("a"), of("cancelled", "a"), reserved("b")],
        [reserved("a"), of("confirmed", "a"), rejected("b"), of("cancelled", "a"), reserved("b")],
        [reserved("a"), rejected("b", "min_stay", check_in="2030-03-05", check_out="2030-03-06")],
        [reserved("a"), of("expired", "a"), of("confirmed", "a"), rejected("b")],
        [
            reserved("a"),
            of("confirmed", "a"),
            of("change_held", "a", held=HELD),
            of("changed", "a", **CHANGED),
            rejected("b", check_in="2030-03-03", check_out="2030-03-04"),
        ],
        [
            reserved("a"),
            of("confirmed", "a"),
            of("change_held", "a", held=HELD),
            of("change_ended", "a", held=HELD),
            reserved("b", check_in="2030-03-03", check_out="2030-03-04"),
        ],
        [
            reserved("a"),
            of("confirmed", "a"),
            of("no_show", "a", freed_from="2030-03-02"),
            reserved("b", check_in="2030-03-02"),
            rejected("c", check_out="2030-03-02"),
        ],
        [
            event(
                "inventory.blocked.v1", block_id="k", first_night="2030-03-01", end_night="2030-03-02", rooms_count=1
            ),
            rejected("a"),
            event(
                "inventory.block_released.v1",
                block_id="k",
                first_night="2030-03-01",
                end_night="2030-03-02",
                rooms_count=1,
            ),
            reserved("a"),
        ],
    ],
)
def test_a_log_whose_counts_stay_within_their_limits_has_no_problem(events: list[Entry]) -> None:
    assert problems(*events) == []


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([reserved("a"), reserved("b")], "b leaves 2 of 1 rooms 1 taken on 2030-03-01"),
        ([reserved("a", rooms_count=2)], "a leaves 2 of 1 rooms 1 taken on 2030-03-01"),
        ([reserved("a", check_out="2030-03-12")], "a leaves 1 of 0 rooms 1 taken on 2030-03-11"),
        ([rejected("a")], "a is rejected as sold out, and there is room"),
        (
            [reserved("a"), of("expired", "a"), reserved("b"), of("confirmed", "a")],
            "a leaves 2 of 1 rooms 1 taken on 2030-03-01",
        ),
        ([of("change_ended", "a", held=HELD)], "a leaves -1 of 1 rooms 1 taken on 2030-03-03"),
    ],
)
def test_a_count_beyond_its_limit_and_a_wrong_rejection_are_problems(events: list[Entry], problem: str) -> None:
    assert problem in problems(*events)


def test_a_decision_that_was_seen_comes_before_that_of_a_later_request() -> None:
    decisions = {"a": (1, 1), "b": (1, 2), "other": (2, 1)}

    # a was seen decided before b was asked for, and the other way round; then both at once.
    assert out_of_order(decisions, {"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 4.0}) == []
    assert out_of_order(decisions, {"b": 1.0, "a": 3.0}, {"b": 2.0, "a": 4.0}) == [
        "room 1: a was asked for after b was seen decided"
    ]
    assert out_of_order(decisions, {"b": 1.0, "a": 1.5}, {"b": 2.0, "a": 4.0}) == []
    assert out_of_order(decisions, {"other": 9.0, "a": 1.0}, {"other": 9.5, "a": 2.0}) == []
