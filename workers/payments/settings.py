"""Settings of payments, read from the environment: Stripe's key and address, and the page that guests return to."""

from datetime import timedelta
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics.environment import Environment
from topics.secret_files import SECRETS

STRIPE_VERSION: Final = "2026-10-28.endive"
"""The version of Stripe's API that this code was written for; the account's own default is never used."""

LOCALES: Final = frozenset(
    (
        *("auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA"),
        *("hi-IN", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR"),
        *("ro", "ru", "sk", "sl", "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW"),
    )
)
"""The languages of Stripe's payment page in that version."""

_DEVELOPMENT_KEY: Final = "sk_test_innkeeper_development"
_DEVELOPMENT_MARK_KEY: Final = "innkeeper-development-payment-mark-key"
_MIN_KEY_CHARACTERS: Final = 32
_DEVELOPMENT_FRONTEND: Final = "http://127.0.0.1:8080"
_LIVE: Final = ("sk_live_", "rk_live_")
_LIVE_CALLS_PER_SECOND: Final = 100
_TEST_CALLS_PER_SECOND: Final = 25
#: How far Stripe's clock, which dates its objects, and ours may be apart.
MAX_STRIPE_CLOCK_SKEW: Final = timedelta(minutes=10)


class PaymentSettings(BaseSettings):
    """Payments' settings. The payments worker alone holds the API key."""

    model_config = SettingsConfigDict(env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True)

    environment: Environment
    stripe_api_key: SecretStr = Field(
        default=SecretStr(_DEVELOPMENT_KEY),
        description="Stripe's secret or restricted key; it needs Checkout Sessions, refunds, and to read disputes.",
    )
    stripe_api_url: str | None = Field(
        default=None, description="Another address than Stripe's own: the local stand-in."
    )
    payment_mark_key: SecretStr = Field(
        default=SecretStr(_DEVELOPMENT_MARK_KEY),
        description="The key of the mark in the metadata of our objects at Stripe: 32 characters or more, its own.",
    )
    frontend_url: str = Field(
        default=_DEVELOPMENT_FRONTEND, description="The site that guests return to from Stripe's payment page."
    )
    checkout_locale: str = Field(
        default="auto",
        description="The language of Stripe's payment page (`de`, `en-GB`); `auto`: the browser's. Our own line on the"
        " page (room type, dates) stays English.",
    )
    stripe_calls_per_second: int | None = Field(
        default=None,
        ge=1,
        description="Calls of this worker to Stripe; without it 100 with a live key and 25 with a test key.",
    )
    stripe_circuit_failures: int = Field(
        default=5,
        ge=1,
        description="So many calls in a row that Stripe does not answer open this worker's circuit: it makes no call.",
    )
    stripe_circuit_open_seconds: float = Field(
        default=30, gt=0, description="After so long the open circuit allows one call, whose answer closes it."
    )

    @field_validator("stripe_api_url")
    @classmethod
    def _empty_is_none(cls, url: str | None) -> str | None:
        return url or None

    @field_validator("checkout_locale")
    @classmethod
    def _locale_of_stripes_page(cls, locale: str) -> str:
        if locale and locale not in LOCALES:
            raise ValueError(f"Stripe's payment page has no language {locale!r}, only {', '.join(sorted(LOCALES))}")
        return locale or "auto"

    @model_validator(mode="after")
    def _no_development_in_production(self) -> Self:
        if self.environment != "production":
            return self
        if not self.live:
            raise ValueError("STRIPE_API_KEY: production needs a live key")
        mark_key = self.payment_mark_key.get_secret_value()
        if mark_key == _DEVELOPMENT_MARK_KEY or len(mark_key) < _MIN_KEY_CHARACTERS:
            raise ValueError(
                f"PAYMENT_MARK_KEY: production needs a key of its own, {_MIN_KEY_CHARACTERS} characters or more"
            )
        if not self.frontend_url.startswith("https://"):
            raise ValueError("FRONTEND_URL: production needs the https address that guests see")
        if self.stripe_api_url is not None:
            raise ValueError("STRIPE_API_URL: production speaks with Stripe itself")
        return self

    @property
    def live(self) -> bool:
        """Whether the key moves real money."""
        return self.stripe_api_key.get_secret_value().startswith(_LIVE)

    @property
    def calls_per_second(self) -> int:
        """How many calls a second this worker makes at most."""
        if self.stripe_calls_per_second is not None:
            return self.stripe_calls_per_second
        return _LIVE_CALLS_PER_SECOND if self.live else _TEST_CALLS_PER_SECOND
