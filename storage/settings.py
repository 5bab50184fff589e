"""The address and timeouts of PostgreSQL, read from the environment."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage import addresses
from topics.catalogue import DEAD_LETTERS
from topics.secret_files import SECRETS

#: The broker deletes whole files, each with the records of a week at most, by its newest record.
_FILE_DAYS: Final = 7
DEAD_LETTERS_DAYS: Final = (DEAD_LETTERS.retention or timedelta()).days + _FILE_DAYS
#: The connect timeout of an operator's command; a loaded machine may take seconds.
CONNECT_SECONDS: Final = 15


class DatabaseSettings(BaseSettings):
    """The database. Every process reads the same variables."""

    model_config = SettingsConfigDict(env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True)

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://innkeeper:innkeeper@127.0.0.1:5432/innkeeper"),
        description="PostgreSQL, as libpq reads it: postgresql://user:password@host:port/name, a list of keywords"
        " (host=... dbname=...), a socket's folder as host, several hosts (h1,h2: the writable one is used, unless"
        " target_session_attrs is given). Its options are kept; the product's own limits, keepalives and"
        " application_name have precedence. A service file is refused.",
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
    database_connect_seconds: int = Field(
        default=3,
        ge=2,
        description="The longest wait of the ingress and of workers for a connection to one host of the database.",
    )
    database_request_seconds: float = Field(
        default=4.0,
        ge=0.1,
        description="The longest statement of a request to the ingress; the server ends it then, and the ingress closes"
        " the connection to a server that is silent.",
    )
    database_statement_seconds: float = Field(
        default=10.0,
        ge=0.1,
        description="The longest statement of a worker; the server ends it then, and the worker closes the connection"
        " to a server that is silent.",
    )
    database_transaction_seconds: float = Field(
        default=30.0,
        ge=0.0,
        description="The longest transaction of a worker, from PostgreSQL 17 on: longer than a batch and than"
        " `DATABASE_STATEMENT_SECONDS`. A request's is three times `DATABASE_REQUEST_SECONDS` at most. The server then"
        " ends the session, also of a client that vanished behind a proxy. 0: no limit.",
    )
    database_load_seconds: float = Field(
        default=60.0,
        ge=0.1,
        description="The longest statement with which the ingress loads the search index, for which no request waits;"
        " more hotels, room types and nights may need more.",
    )
    lock_timeout_ms: int = Field(
        default=5000,
        ge=1,
        description="The longest wait of a worker for a lock before it tries again; a request waits for half of"
        " `DATABASE_REQUEST_SECONDS` at most.",
    )
    idle_in_transaction_timeout_ms: int = Field(
        default=10000, ge=1, description="A frozen writer loses its transaction after being idle for this long."
    )

    outbox_kept_hours: float = Field(
        default=0.0,
        ge=0.0,
        description="How long the database keeps records after the broker has them. If the log is lost, a restore puts"
        " back from here what no exported file has: longer than the time from one export to the next.",
    )

    dead_letters_kept_days: int = Field(
        default=60,
        ge=DEAD_LETTERS_DAYS,
        description="How long the database keeps which records are dead letters, and how each was resolved: longer than"
        " the topic `dead.letters` keeps a record, whose resolved ones would be open again.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_address(cls, value: SecretStr) -> SecretStr:
        addresses.parse(value.get_secret_value())
        return value

    @field_validator("database_read_urls")
    @classmethod
    def _are_addresses(cls, value: SecretStr) -> SecretStr:
        for address in addresses.split(value.get_secret_value()):
            addresses.parse(address)
        return value

    def conninfo(self) -> str:
        """Return the address of the primary as it was given."""
        return self.database_url.get_secret_value()

    def parameters(self) -> Mapping[str, str]:
        """Return libpq's parameters of the primary. Of several hosts it is the one that can be written to."""
        parameters = addresses.parse(self.conninfo())
        if addresses.count_of_hosts(parameters) > 1:
            parameters.setdefault("target_session_attrs", "read-write")
        return parameters

    @property
    def read_addresses(self) -> Sequence[str]:
        """The addresses of the replicas, for psycopg."""
        return addresses.split(self.database_read_urls.get_secret_value())
