"""Our rules that schemathesis cannot read from the document: it loads them, in its own process (`schemathesis.toml`).

A request that is meant to be good gets ids that exist, days that make sense, and a way to pay; one that is meant to be
bad is left as it is.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import requests
import schemathesis
from schemathesis import Case, GenerationMode, HookContext, Response

from tests.ingress.house import WAIT
from tests.support.waiting import wait_until

_KNOWN: Final[Mapping[str, Any]] = json.loads(os.environ["INNKEEPER_KNOWN"])
_URL: Final = os.environ["INNKEEPER_URL"]
_AUTHORIZATION: Final = {"Authorization": f"Bearer {os.environ['INNKEEPER_TOKEN']}"}
_TODAY: Final = datetime.now(UTC).date()
_AT_HOTEL: Final = ("check_in", "check_out", "no_show")
_CHANGES: Final = (
    "change_stay",
    "quote_change",
    "withdraw_change",
    "change_stay_for_hotel",
    "quote_change_for_hotel",
    "withdraw_change_for_hotel",
)
_bookings: Final[list[str]] = [_KNOWN["booking_id"]]
#: Bookings that are as far as an operation wants them: with guests to be paid for, paid to be changed or cancelled.
_paid: Final[list[str]] = []
_ready: Final[dict[str, list[str]]] = {
    "pay": [],
    **dict.fromkeys(("change_guests", "cancel", "cancel_for_hotel", *_AT_HOTEL, *_CHANGES), _paid),
}
_CARD: Final = "4242424242424242"
_DONE: Final = (requests.codes.ok, requests.codes.no_content)
_NIGHTS: Final = {"change_nights": {"start_date": "", "end_date": ""}}
_AT_LEAST: Final = {"change_nights": {"closed": False}}
_COMMANDS: Final = frozenset(
    {
        "init",
        "book_trip",
        "add_guests",
        "change_guests",
        "pay",
        "cancel",
        "cancel_for_hotel",
        "block_nights",
        "book_at_desk",
        *_AT_HOTEL,
        *_CHANGES,
    }
    - {"quote_change", "quote_change_for_hotel"}
)
#: These would take what is known away from all others.
_TAKES_AWAY: Final = frozenset({"delete_guest", "delete_room", "delete_hotel", "deactivate_hotel", "deactivate_code"})
#: Bodies whose fields depend on each other in ways that no schema expresses.
_WHOLE: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "set_sale_terms": lambda: {
        "taxes": [{"id": "vat", "name": "VAT", "percent": "7", "included": True}],
        "policies": [{"id": "two_days", "steps": [{"hours_before": 48, "kept": {"nights": 1}}]}],
    },
    "set_plan": lambda: {"name": "Saver", "price_percent": "90.5", "price_plus": "-1.00"},
    "add_code": lambda: {"code": f"C{uuid4().hex[:12]}", "percent": "10", "max_uses": 100},
    "set_code": lambda: {"percent": "12.5"},
    # A day alone may be after the other one of the booking.
    **dict.fromkeys(
        ("change_stay", "quote_change", "change_stay_for_hotel", "quote_change_for_hotel"),
        lambda: {"check_in_date": _day(20)(""), "check_out_date": _day(30)(""), "rooms_count": 2},
    ),
    "book_trip": lambda: {
        "hotel_id": _KNOWN["hotel_id"],
        "check_in_date": _day(20)(""),
        "check_out_date": _day(30)(""),
        "legs": [{"room_id": _KNOWN["room_id"], "adults": 2}, {"room_id": _KNOWN["room_id"], "rooms_count": 2}],
    },
    "block_nights": lambda: {"start_date": _day(20)(""), "end_date": _day(30)(""), "reason": "group"},
}


def _day(after: int) -> Callable[[Any], str]:
    return lambda given: str(_TODAY + timedelta(days=after + len(str(given)) % 5))


_SENSIBLE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "hotel_id": lambda given: _KNOWN["hotel_id"],
    "room_id": lambda given: _KNOWN["room_id"],
    "check_in_date": _day(20),
    "check_out_date": _day(30),
    "start_date": _day(20),
    "end_date": _day(30),
    "from_date": _day(20),
    "to_date": _day(30),
    "date_of_birth": lambda given: given and "1970-01-01",
    "time_zone": lambda given: "Europe/Lisbon",
    "currency": lambda given: given and "EUR",
    "password": lambda given: "an estuary of 41 quiet herons",
    "base_price": lambda given: "120.00",
    "price": lambda given: given and "99.50",
    "min_price": lambda given: "1.50",
    "max_price": lambda given: "2000",
    "surge_factor": lambda given: given and "1.25",
    "closed": lambda given: given and False,
    "near": lambda given: "38.71,-9.14,50",
    "plan_id": lambda given: given and "standard",
    # Children need an adult, and nobody can invent a quote.
    "children": lambda given: given and [],
    "quote": lambda given: None,
    "promo_code": lambda given: None,
}


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Make a good request one that our rules can accept; its edges stay in the phase that tries those."""
    if case.meta is None:
        return
    phase, operation_id = case.meta.phase.name.value, case.operation.definition.raw["operationId"]
    if operation_id in _TAKES_AWAY and phase != "stateful":
        _spare_what_is_known(case)
    if case.meta.generation.mode is not GenerationMode.POSITIVE or phase == "coverage":
        return
    _make_body_sensible(case, operation_id, keeping_ids=phase == "stateful")
    if case.query is not None:
        case.query = _sensible_query({**case.query, **_NIGHTS.get(operation_id, {})}, operation_id)
    if case.path_parameters and phase != "stateful" and operation_id not in _TAKES_AWAY:
        case.path_parameters.update({name: _KNOWN[name] for name in case.path_parameters if name in _KNOWN})
    if case.path_parameters and case.path_parameters.get("booking_id", _bookings[-1]) not in _bookings:
        # A story that does not begin with a booking goes on with one of a story before.
        case.path_parameters["booking_id"] = (_ready.get(operation_id) or _bookings)[-1]
    if operation_id in _COMMANDS:
        case.headers.update(_steering(case.headers, waits=phase == "stateful"))


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    """Remember a booking, and book again once a story cancels it; pay on its page as a guest does.

    Later stories go on with the last booking: had it ended, none of them would ever pay.
    """
    operation_id = case.operation.definition.raw["operationId"]
    if operation_id in {"init", "book_trip"} and response.status_code == requests.codes.created:
        _bookings.append(response.json()["id"])
    if operation_id == "add_guests" and response.status_code == requests.codes.ok:
        _ready["pay"].append(response.json()["id"])
    if operation_id == "pay" and response.status_code == requests.codes.ok and response.json()["session_url"]:
        _pay(response.json())
    if operation_id in {"cancel", "cancel_for_hotel"} and response.status_code in _DONE:
        is_last = (case.path_parameters or {}).get("booking_id") == _bookings[-1]
        if is_last and case.meta is not None and case.meta.phase.name.value == "stateful":
            _book()


def _book() -> None:
    """Hold a stay in the known room."""
    days = {"check_in_date": _day(20)(""), "check_out_date": _day(30)("")}
    stay = {"hotel_id": _KNOWN["hotel_id"], "room_id": _KNOWN["room_id"], "rooms_count": 1, **days}
    booked = requests.post(f"{_URL}/v1/bookings/init", json=stay, headers=_AUTHORIZATION | WAIT, timeout=60)
    if booked.status_code == requests.codes.created:
        _bookings.append(booked.json()["id"])


def _pay(booking: Mapping[str, Any]) -> None:
    """Pay with a good card, and wait until the payment is confirmed."""
    paid = requests.post(booking["session_url"], data={"card": _CARD}, allow_redirects=False, timeout=60)
    if paid.status_code == requests.codes.see_other:
        confirmed = wait_until(
            lambda: _is_confirmed(booking["id"]), message=f"booking {booking['id']}, which is paid, is confirmed"
        )
        asyncio.run(confirmed)
        _paid.append(booking["id"])


def _is_confirmed(booking_id: str) -> bool:
    response = requests.get(f"{_URL}/v1/bookings/{booking_id}/status", headers=_AUTHORIZATION, timeout=60)
    return bool(response.json()["booking_status"] == "CONFIRMED")


def _make_body_sensible(case: Case[Any], operation_id: str, *, keeping_ids: bool) -> None:
    if operation_id in _WHOLE:
        case.body = _WHOLE[operation_id]()
    elif isinstance(case.body, dict):
        case.body = _sensible_body(case.body, keeping_ids=keeping_ids) | _AT_LEAST.get(operation_id, {})
    elif isinstance(case.body, list):
        case.body = [_KNOWN["guest_id"]]


def _spare_what_is_known(case: Case[Any]) -> None:
    """Delete another thing: all other requests name the known ones."""
    for name, value in (case.path_parameters or {}).items():
        if str(value) == str(_KNOWN[name]):
            case.path_parameters[name] = 2**62


def _steering(headers: Mapping[str, str], *, waits: bool) -> dict[str, str]:
    """Let a command wait for its decision, so that the next one finds it; use each key once."""
    steering = WAIT if waits or "Prefer" in headers else {}
    return steering | ({"Idempotency-Key": uuid4().hex} if "Idempotency-Key" in headers else {})


def _sensible_query(query: dict[str, Any], operation_id: str) -> dict[str, Any]:
    _make_sense(query)
    # A cursor is whatever a list gave, a page what comes after the first.
    query = {name: value for name, value in query.items() if name not in {"cursor", "page"}}
    if operation_id == "search":
        return query | {"city": "Lisbon", "sort": "price"}
    for first, last in (("start_date", "end_date"), ("check_in_date", "check_out_date")):
        if {first, last} & query.keys():
            query |= {first: _day(20)(""), last: _day(30)("")}
    return query


def _sensible_body(body: dict[str, Any], *, keeping_ids: bool) -> dict[str, Any]:
    body = {name: _without_point(value) for name, value in body.items()}
    # In a story ids come from the answer before.
    ids = {name: body[name] for name in ("hotel_id", "room_id") if keeping_ids and name in body}
    _make_sense(body)
    # The days of nights are in the query.
    body = {name: value for name, value in body.items() if name not in {"start_date", "end_date"}}
    place = {"latitude": 38.71, "longitude": -9.14} if {"latitude", "longitude"} & body.keys() else {}
    return body | place | ids


def _make_sense(fields: dict[str, Any]) -> None:
    fields.update({name: make(fields[name]) for name, make in _SENSIBLE.items() if name in fields})


def _without_point(value: Any) -> Any:
    """Write a whole number as JSON libraries do; JSON Schema's integers may have a point and a zero, ours may not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
