"""Checks of promo codes' terms."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from pricing.codes import MAX_CODE_LENGTH, MAX_CODE_ROOMS, MAX_CODE_USES, fault_of_code
from topics.messages.sale import CodeTerms
from topics.messages.values import MAX_PRICE_MINOR

PERCENT = CodeTerms(version=1, code="SPRING-27", percent_milli=20_000)
AMOUNT = CodeTerms(version=1, code="spring_27", amount_minor=20_00, currency="EUR")
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "terms",
    [
        PERCENT,
        AMOUNT,
        replace(PERCENT, percent_milli=1),
        replace(PERCENT, percent_milli=100_000),
        replace(PERCENT, code="x" * MAX_CODE_LENGTH),
        replace(AMOUNT, amount_minor=MAX_PRICE_MINOR),
        replace(AMOUNT, amount_minor=1_230, currency="KWD"),
        replace(PERCENT, valid_from=NOON, valid_until=NOON.replace(hour=13), max_uses=1, max_account_uses=1),
        replace(PERCENT, first_night=date(2026, 12, 1), end_night=date(2026, 12, 2), max_uses=MAX_CODE_USES),
        replace(PERCENT, room_ids=tuple(range(MAX_CODE_ROOMS))),
    ],
)
def test_valid_terms_have_no_fault(terms: CodeTerms) -> None:
    assert fault_of_code(terms) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 0}, "versions are counted from 1"),
        ({"code": ""}, "a code has"),
        ({"code": "x" * (MAX_CODE_LENGTH + 1)}, "a code has"),
        ({"code": "SPRING 27"}, "a code has"),
        ({"code": "SPRING\n"}, "a code has"),
        ({"code": "FRÜHLING"}, "a code has"),
        ({"percent_milli": None}, "a percentage or an amount"),
        ({"amount_minor": 1_00, "currency": "EUR"}, "a percentage or an amount"),
        ({"percent_milli": 0}, "above 0, and at most 100"),
        ({"percent_milli": 100_001}, "above 0, and at most 100"),
        ({"percent_milli": None, "amount_minor": 1_00}, "an amount has a currency"),
        ({"percent_milli": None, "amount_minor": 1_00, "currency": "eur"}, "an amount has a currency"),
        ({"percent_milli": None, "amount_minor": 0, "currency": "EUR"}, "an amount is above 0"),
        ({"percent_milli": None, "amount_minor": MAX_PRICE_MINOR + 1, "currency": "EUR"}, "an amount is above 0"),
        ({"percent_milli": None, "amount_minor": 1_235, "currency": "KWD"}, "in steps of 0.010 KWD"),
        ({"valid_from": NOON, "valid_until": NOON}, "ends after its beginning"),
        ({"first_night": NOON.date(), "end_night": NOON.date()}, "at least one night"),
        ({"room_ids": (7, 7)}, "each once"),
        ({"room_ids": tuple(range(MAX_CODE_ROOMS + 1))}, "each once"),
        ({"max_uses": 0}, "a number of uses"),
        ({"max_account_uses": 0}, "a number of uses"),
        ({"max_uses": MAX_CODE_USES + 1}, "a number of uses"),
    ],
)
def test_a_fault_is_named(changes: dict[str, Any], words: str) -> None:
    assert words in (fault_of_code(replace(PERCENT, **changes)) or "")
