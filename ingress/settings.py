"""The settings of the ingress, read from the environment; it refuses to start with unsafe values."""

import re
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.settings import DatabaseSettings
from topics.environment import Environment
from topics.secret_files import SECRETS

MIN_KEY_BYTES: Final = 32
MIN_WEBHOOK_SECRET_BYTES: Final = 16
PRODUCTION_BCRYPT_ROUNDS: Final = 12
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?", re.ASCII)
#: Segments that mean the same in an address, in a cookie's `Path`, and in HTML.
_PUBLIC_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", re.ASCII)
MAX_REQUESTS: Final = 1_000_000
Network: TypeAlias = IPv4Network | IPv6Network


class IngressSettings(BaseSettings):
    """The ingress. The defaults are for development; as production they refuse to start."""

    # A refused value is reported by its name alone: it may be a secret.
    model_config = SettingsConfigDict(
        env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    environment: Environment
    jwt_secret_key: SecretStr = Field(
        default=SecretStr("development only: a key that everybody can read"),
        description="Signs access tokens (HS256); 32 bytes or more.",
    )
    booking_id_key: SecretStr | None = Field(
        default=None,
        description="Marks booking ids as issued here, and makes ids out of Idempotency-Keys; 32 bytes or more. Never "
        "change it. Without it, derived from JWT_SECRET_KEY.",
    )
    stripe_webhook_secret: SecretStr = Field(
        default=SecretStr("whsec_development_only"),
        description="Verifies Stripe's webhooks; two, separated by a comma, while it is being changed.",
    )
    public_prefix: str = Field(
        default="",
        description="Path, such as /booking, that the proxy takes away; addresses in responses begin with it.",
    )
    hold_seconds: int = Field(default=900, ge=1, description="How long a booking is held unpaid.")
    quote_seconds: int = Field(default=900, ge=1, le=86_400, description="How long a quote holds its price.")
    max_unpaid_bookings: int = Field(
        default=10, ge=0, description="How many bookings an account may hold unpaid at one time; 0 for any number."
    )
    max_account_share_percent: int = Field(
        default=50,
        ge=1,
        le=100,
        description="The percentage of a night's rooms that one account may hold unpaid; two rooms are always allowed.",
    )
    commission_percent: Decimal = Field(
        default=Decimal("0.00"),
        ge=0,
        le=100,
        decimal_places=2,
        description="The percentage of the money kept of a hotel's bookings that its statement deducts (two digits).",
    )
    merchant_name: str = Field(
        default="",
        max_length=200,
        description="The name of the business whose account at Stripe gets the guests' money; quotes and bookings show"
        " it as `paid_to`.",
    )
    required_terms: str = Field(
        default="",
        pattern=r"^[!-~]{0,100}$",
        description="The version of the general terms, such as 2026-11, that a guest accepts with each booking; a"
        " request for a stay without it as `accepted_terms` is refused, but not one of the desk. Without the setting,"
        " and while `LOG_READABLE_BY` is 0.1.0, no version is required.",
    )
    exchange_rates: str = Field(
        default="",
        description="Exchange rates for eyes only: a path or https address of the European Central Bank's XML or CSV,"
        " or of JSON (`base`, `date`, `rates`). Without them prices are shown in the hotel's currency alone.",
    )
    access_token_minutes: int = Field(default=30, ge=1, description="How long an access token is valid.")
    refresh_token_days: int = Field(default=7, ge=1, le=365, description="How long a login lasts without use.")
    refresh_grace_seconds: int = Field(
        default=10,
        ge=0,
        le=60,
        description="How long a refresh token may be used again, because the response got lost.",
    )
    host_signup: bool = Field(default=True, description="Whether anybody may become a host (`POST /users/host`).")
    jwt_issuer: str = Field(default="innkeeper", description="`iss` of access tokens.")
    jwt_audience: str = Field(default="innkeeper", description="`aud` of access tokens.")
    bcrypt_rounds: int = Field(default=12, ge=4, le=16, description="Cost of a password's hash, as a power of two.")
    password_threads: int = Field(default=2, ge=1, description="How many passwords are hashed at once.")
    password_queue: int = Field(default=64, ge=1, description="How many logins may wait for that before a 503.")
    room_facts_seconds: float = Field(
        default=5.0, gt=0, description="How long facts of hotels and rooms are used before they are read again."
    )
    ack_seconds: float = Field(
        default=5.0, gt=0, description="How long the broker may take to acknowledge a command before a 503."
    )
    request_seconds: float = Field(
        default=5.0,
        ge=1.0,
        description="How long a request may wait for the database and for the broker's acknowledgement, in all, before"
        " a 503. The body, the hash of a password and the wait for a decision are not counted; it begins anew after"
        " them.",
    )
    linger_ms: int = Field(default=1, ge=0, description="How long a command waits for others to share its batch.")
    database_pool_size: int = Field(default=10, ge=1, description="Connections of one ingress process.")
    rate_limits: bool = Field(default=True, description="Whether requests are counted and refused when too many.")
    user_requests_per_minute: int = Field(
        default=100, ge=1, le=MAX_REQUESTS, description="Of one user, from any address."
    )
    address_requests_per_minute: int = Field(
        default=1000, ge=1, le=MAX_REQUESTS, description="Of one address, without a user."
    )
    burst: int = Field(default=20, ge=1, description="How many of these requests may come at once.")
    login_delays: bool = Field(default=True, description="Whether failed logins have to pause.")
    cors_origins: str = Field(
        default="",
        description="Origins, such as https://app.example.com, separated by commas, whose pages may send requests.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Networks of our proxies, separated by commas; only they may name a client's address.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis, as redis://:password@host:port/0, where several ingress processes count together.",
    )
    body_seconds: float = Field(default=10.0, gt=0, description="How long a request's body may take to arrive.")

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets of which one must have signed a webhook."""
        secrets = self.stripe_webhook_secret.get_secret_value().split(",")
        return tuple(secret.strip() for secret in secrets if secret.strip())

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins whose pages may send requests from a browser."""
        return frozenset(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks of our proxies."""
        return tuple(ip_network(network.strip()) for network in self.trusted_proxies.split(",") if network.strip())

    @model_validator(mode="after")
    def _addresses_can_be_read(self) -> Self:
        try:
            _ = self.trusted_networks
        except ValueError:
            raise ValueError("TRUSTED_PROXIES is not a list of networks such as 10.0.0.0/8,fd00::/8.") from None
        if self.redis_url is not None and not _is_redis(self.redis_url.get_secret_value()):
            raise ValueError("REDIS_URL is not the address of a Redis.")
        return self

    @model_validator(mode="after")
    def _prefix_is_a_path(self) -> Self:
        if self.public_prefix and not _PUBLIC_PREFIX.fullmatch(self.public_prefix):
            raise ValueError("PUBLIC_PREFIX is not a path such as /booking: a slash first, none last.")
        return self

    @model_validator(mode="after")
    def _rates_are_read_safely(self) -> Self:
        if "://" in self.exchange_rates and not self.exchange_rates.startswith("https://"):
            raise ValueError("EXCHANGE_RATES is neither a path nor an https address.")
        return self

    @model_validator(mode="after")
    def _keys_are_long_enough(self) -> Self:
        for name, key in (("JWT_SECRET_KEY", self.jwt_secret_key), ("BOOKING_ID_KEY", self.booking_id_key)):
            if key is not None and len(key.get_secret_value().encode()) < MIN_KEY_BYTES:
                raise ValueError(f"{name} is shorter than {MIN_KEY_BYTES} bytes.")
        if not self.webhook_secrets:
            raise ValueError("STRIPE_WEBHOOK_SECRET is empty.")
        return self

    @model_validator(mode="after")
    def _origins_are_explicit(self) -> Self:
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("CORS_ORIGINS has something that is no origin, such as https://app.example.com.")
        return self

    @model_validator(mode="after")
    def _production_has_no_development_defaults(self) -> Self:
        if self.environment != "production":
            return self
        for name in ("jwt_secret_key", "stripe_webhook_secret"):
            if getattr(self, name) == type(self).model_fields[name].default:
                raise ValueError(f"{name.upper()} is not set: production needs one of its own.")
        if any(len(secret.encode()) < MIN_WEBHOOK_SECRET_BYTES for secret in self.webhook_secrets):
            raise ValueError(f"STRIPE_WEBHOOK_SECRET is shorter than {MIN_WEBHOOK_SECRET_BYTES} bytes.")
        if self.bcrypt_rounds < PRODUCTION_BCRYPT_ROUNDS:
            raise ValueError(f"BCRYPT_ROUNDS is below {PRODUCTION_BCRYPT_ROUNDS}.")
        return self

    def refuse_default_database(self, database: DatabaseSettings) -> None:
        """Refuse the development database as production.

        Raises:
            ValueError: in production, DATABASE_URL is not set.
        """
        default = DatabaseSettings.model_fields["database_url"].default
        if self.environment == "production" and database.database_url == default:
            raise ValueError("DATABASE_URL is not set: production needs one of its own.")


def _is_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # To read the port raises an error unless it is a number.
        return parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
