"""The body of a booking request is the same whichever way it is decoded."""

import json
from typing import Any

import msgspec
import pytest
from pydantic import TypeAdapter, ValidationError

from ingress.bookings.models import InitBooking
from ingress.bookings.quick_models import QuickInitBooking
from ingress.log.idempotency import _encoded

STAY: dict[str, Any] = {
    "hotel_id": 1,
    "room_id": 2,
    "check_in_date": "2027-02-28",
    "check_out_date": "2027-03-02",
    "rooms_count": 3,
}
CHANGES: list[dict[str, Any]] = [
    *({}, {"rooms_count": 1}, {"rooms_count": 10}, {"hotel_id": 2**63 - 1}, {"check_out_date": "2200-12-31"}),
    *({"rooms_count": wrong} for wrong in (0, 11, -1, "1", True, None, 1.5)),
    *({"hotel_id": wrong} for wrong in (0, 2**63, "1", None)),
    *({"check_in_date": wrong} for wrong in ("2027-02-29", "2027-02-28T00:00:00", 1, "", None, "1969-12-31")),
    *({"check_out_date": wrong} for wrong in ("2201-01-01", "20270302", "2027-03-02Z")),
    {"amount": 1},
    *({"accepted_terms": given} for given in ("2026-11", "a" * 100, "a" * 101, "", "a b", "2026-11\n", "\x00", 1)),
    *({name: None} for name in ("plan_id", "adults", "children", "promo_code", "quote", "accepted_terms")),
]
_model, _quick = TypeAdapter(InitBooking), msgspec.json.Decoder(QuickInitBooking)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_the_quick_decoder_returns_the_same_as_the_model(changes: dict[str, Any]) -> None:
    body = json.dumps(STAY | changes).encode()
    try:
        quick = _quick.decode(body)
    except msgspec.DecodeError:
        quick = None
    try:
        model = _model.validate_json(body)
    except ValidationError:
        model = None

    if model is None:
        assert quick is None
    elif quick is not None:
        given = [name for name in (*STAY, "accepted_terms") if getattr(quick, name) is not msgspec.UNSET]
        assert {name: getattr(quick, name) for name in given} == model.model_dump()
        # An Idempotency-Key names the same request whichever way it was decoded.
        assert _encoded(quick) == _encoded(model)


def test_a_plain_stay_is_decoded_quickly_and_the_model_alone_has_the_optional_fields() -> None:
    optional = ("plan_id", "adults", "children", "promo_code", "quote")
    *plain, accepted_terms = QuickInitBooking.__struct_fields__
    assert (*plain, *optional, accepted_terms) == tuple(InitBooking.model_fields)
    assert [getattr(_quick.decode(json.dumps(STAY).encode()), name) for name in optional] == [None] * len(optional)
    assert _quick.decode(json.dumps(STAY).encode()).rooms_count == 3
