"""The address and timeouts of PostgreSQL, read from the environment."""

from collections.abc import Sequence
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics.secret_files import SECRETS

#: The connect timeout of an operator's command; a loaded machine may take seconds.
CONNECT_SECONDS: Final = 15


class DatabaseSettings(BaseSettings):
    """The database. Every process reads the same variables."""

    model_config = SettingsConfigDict(env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True)

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://innkeeper:innkeeper@127.0.0.1:5432/innkeeper"),
        description="PostgreSQL, as postgresql://user:password@host:port/name.",
    )
    database_read_urls: SecretStr = Field(
        default=SecretStr(""),
        description="Replicas of the database that the ingress may read from, like `DATABASE_URL`, comma-separated.",
    )
    database_read_lag_ms: int = Field(
        default=100,
        ge=1,
        description="The longest wait of a read for a replica to be as new as the primary; a slower one is left out"
        " until it keeps up again.",
    )
    lock_timeout_ms: int = Field(
        default=5000, ge=1, description="The longest wait of a writer for a lock before it tries again."
    )
    idle_in_transaction_timeout_ms: int = Field(
        default=10000, ge=1, description="A frozen writer loses its transaction after being idle for this long."
    )

    def conninfo(self) -> str:
        """Return the address for psycopg."""
        return self.database_url.get_secret_value()

    @property
    def read_addresses(self) -> Sequence[str]:
        """The addresses of the replicas, for psycopg."""
        return [url.strip() for url in self.database_read_urls.get_secret_value().split(",") if url.strip()]

    def sqlalchemy_url(self) -> str:
        """Return the address for SQLAlchemy with the psycopg driver."""
        return sqlalchemy_url(self.conninfo())


def sqlalchemy_url(address: str) -> str:
    """Return an address for psycopg in SQLAlchemy's form."""
    return "postgresql+psycopg://" + address.partition("://")[2]
