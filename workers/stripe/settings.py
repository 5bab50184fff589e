"""Settings of the roles that speak with Stripe: its key and address, and the key of the mark on our objects there."""

from datetime import timedelta
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics.environment import Environment
from topics.secret_files import SECRETS

STRIPE_VERSION: Final = "2026-10-28.endive"
"""The version of Stripe's API that this code was written for; the account's own default is never used."""

_DEVELOPMENT_KEY: Final = "sk_test_innkeeper_development"
_DEVELOPMENT_MARK_KEY: Final = "innkeeper-development-payment-mark-key"
_MIN_KEY_CHARACTERS: Final = 32
_LIVE: Final = ("sk_live_", "rk_live_")
#: How far Stripe's clock, which dates its objects, and ours may be apart.
MAX_STRIPE_CLOCK_SKEW: Final = timedelta(minutes=10)


class StripeSettings(BaseSettings):
    """Stripe. Only the payments and reconciliation workers hold the API key."""

    model_config = SettingsConfigDict(env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True)

    environment: Environment
    stripe_api_key: SecretStr = Field(
        default=SecretStr(_DEVELOPMENT_KEY),
        description="Stripe's secret or restricted key; it needs Checkout Sessions, refunds, and to read disputes and"
        " events.",
    )
    stripe_api_url: str | None = Field(
        default=None, description="Another address than Stripe's own: the local stand-in."
    )
    payment_mark_key: SecretStr = Field(
        default=SecretStr(_DEVELOPMENT_MARK_KEY),
        description="The key of the mark in the metadata of our objects at Stripe: 32 characters or more, its own.",
    )

    @field_validator("stripe_api_url")
    @classmethod
    def _empty_is_none(cls, url: str | None) -> str | None:
        return url or None

    @model_validator(mode="after")
    def _no_stand_in_in_production(self) -> Self:
        if self.environment != "production":
            return self
        if not self.live:
            raise ValueError("STRIPE_API_KEY: production needs a live key")
        mark_key = self.payment_mark_key.get_secret_value()
        if mark_key == _DEVELOPMENT_MARK_KEY or len(mark_key) < _MIN_KEY_CHARACTERS:
            raise ValueError(
                f"PAYMENT_MARK_KEY: production needs a key of its own, {_MIN_KEY_CHARACTERS} characters or more"
            )
        if self.stripe_api_url is not None:
            raise ValueError("STRIPE_API_URL: production speaks with Stripe itself")
        return self

    @property
    def live(self) -> bool:
        """Whether the key moves real money."""
        return self.stripe_api_key.get_secret_value().startswith(_LIVE)
