"""How to reach PostgreSQL, read from the environment."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseSettings):
    """The database. Every process reads the same variables."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://innkeeper:innkeeper@127.0.0.1:5432/innkeeper"),
        description="PostgreSQL, as postgresql://user:password@host:port/name.",
    )
    lock_timeout_ms: int = Field(
        default=5000, ge=1, description="How long a writer waits for a lock before it tries again."
    )
    idle_in_transaction_timeout_ms: int = Field(
        default=10000, ge=1, description="After this long without a word a frozen writer loses its transaction."
    )

    def conninfo(self) -> str:
        """Return the address for psycopg."""
        return self.database_url.get_secret_value()

    def sqlalchemy_url(self) -> str:
        """Return the address for SQLAlchemy with the psycopg driver."""
        return "postgresql+psycopg://" + self.conninfo().partition("://")[2]
