"""Payments' settings: development works at once, production only with settings of its own."""

import re
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from stripe.params.checkout import SessionCreateParams

from workers.payments.settings import LOCALES, PaymentSettings

PRODUCTION: dict[str, Any] = {
    "environment": "production",
    "stripe_api_key": SecretStr("sk_live_of_the_hotel"),
    "frontend_url": "https://inn.example",
    "payment_mark_key": SecretStr("a key of its own that is long enough"),
}


def settings(**values: Any) -> PaymentSettings:
    return PaymentSettings(_env_file=None, **values)


def test_production_starts_with_settings_of_its_own() -> None:
    assert settings(**PRODUCTION).live


@pytest.mark.parametrize(
    "development",
    [
        {"stripe_api_key": SecretStr("sk_test_innkeeper_development")},
        {"frontend_url": "http://127.0.0.1:8080"},
        {"stripe_api_url": "http://127.0.0.1:12111"},
        {"payment_mark_key": PaymentSettings(_env_file=None).payment_mark_key},
        {"payment_mark_key": SecretStr("too short")},
    ],
)
def test_production_refuses_what_is_for_development(development: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="production"):
        settings(**PRODUCTION | development)


@pytest.mark.parametrize(("key", "calls"), [("sk_live_x", 100), ("rk_live_x", 100), ("sk_test_x", 25)])
def test_the_pace_follows_the_key(key: str, calls: int) -> None:
    assert settings(stripe_api_key=SecretStr(key)).calls_per_second == calls
    assert settings(stripe_api_key=SecretStr(key), stripe_calls_per_second=3).calls_per_second == 3


def test_the_languages_of_the_page_are_those_of_the_pinned_sdk() -> None:
    named = re.findall(r"'([^']+)'", str(SessionCreateParams.__annotations__["locale"]))

    assert set(named) == LOCALES
    assert settings(checkout_locale="pt-BR").checkout_locale == "pt-BR"
    assert settings(checkout_locale="").checkout_locale == "auto"
    with pytest.raises(ValidationError, match=r"no language 'de_DE', only auto, bg, .*, zh-TW"):
        settings(checkout_locale="de_DE")


def test_the_key_is_never_shown() -> None:
    assert "sk_live" not in repr(settings(**PRODUCTION))
    assert "key of its own" not in repr(settings(**PRODUCTION))
