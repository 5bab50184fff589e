"""Settings of payments, read from the environment: Stripe's, its page that guests see, and the pace of calls."""

from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from workers.stripe.settings import StripeSettings

LOCALES: Final = frozenset(
    (
        *("auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA"),
        *("hi-IN", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR"),
        *("ro", "ru", "sk", "sl", "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW"),
    )
)
"""The languages of Stripe's payment page in that version."""

_DEVELOPMENT_FRONTEND: Final = "http://127.0.0.1:8080"
_LIVE_CALLS_PER_SECOND: Final = 100
_TEST_CALLS_PER_SECOND: Final = 25


class PaymentSettings(StripeSettings):
    """Payments' settings, beside those about Stripe."""

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

    @field_validator("checkout_locale")
    @classmethod
    def _locale_of_stripes_page(cls, locale: str) -> str:
        if locale and locale not in LOCALES:
            raise ValueError(f"Stripe's payment page has no language {locale!r}, only {', '.join(sorted(LOCALES))}")
        return locale or "auto"

    @model_validator(mode="after")
    def _no_development_in_production(self) -> Self:
        if self.environment == "production" and not self.frontend_url.startswith("https://"):
            raise ValueError("FRONTEND_URL: production needs the https address that guests see")
        return self

    @property
    def calls_per_second(self) -> int:
        """How many calls a second this worker makes at most."""
        if self.stripe_calls_per_second is not None:
            return self.stripe_calls_per_second
        return _LIVE_CALLS_PER_SECOND if self.live else _TEST_CALLS_PER_SECOND
