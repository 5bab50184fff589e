"""The broker's address, our credentials there and the shape of our topics, read from the environment."""

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics.catalogue import Topic
from topics.messages.releases import Release
from topics.secret_files import SECRETS


class KafkaSettings(BaseSettings):
    """The broker and our topics on it. Every process reads the same variables."""

    # An error names a refused value without showing it: it may be the password.
    model_config = SettingsConfigDict(
        env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    kafka_url: str = Field(default="127.0.0.1:9092", description="Bootstrap servers, host:port separated by commas.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="`PLAINTEXT`, `SSL` (encrypted), `SASL_PLAINTEXT` (we authenticate), or `SASL_SSL` (both).",
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512",
        description="How we authenticate: `PLAIN` (sends the password itself), `SCRAM-SHA-256`, or `SCRAM-SHA-512`.",
    )
    kafka_username: str | None = Field(
        default=None, description="The broker's name for us; each role should have its own."
    )
    kafka_password: SecretStr | None = Field(default=None, description="The user's password.")
    kafka_ca_file: Path | None = Field(
        default=None,
        description="The authority of the brokers' certificates, in PEM; without it, those that this machine trusts.",
    )
    kafka_certificate_file: Path | None = Field(
        default=None, description="Our own certificate, in PEM, for a broker that asks for one."
    )
    kafka_key_file: Path | None = Field(
        default=None, description="Its key, in PEM and not encrypted, unless it is in the certificate's file."
    )
    topic_prefix: str = Field(
        default="", description="Put before every topic and consumer group; several systems can share a broker."
    )
    topic_partitions: int = Field(
        default=12, ge=1, le=1000, description="Partitions of each topic; the number must never change."
    )
    topic_replication: int = Field(default=1, ge=1, description="Replicas of each partition.")
    topic_min_insync_replicas: int = Field(
        default=1, ge=1, description="Replicas that must have a record before it is acknowledged."
    )
    topic_create_time: bool = Field(
        default=False,
        description="Topics keep the producer's timestamps and everything for ever: only to replay a trace, "
        "or in a sandbox with --days-ahead.",
    )
    kafka_idempotent: bool = Field(
        default=True, description="Idempotent producer. Off only for a broker that refuses it (Tansu)."
    )

    inventory_changed_version: int = Field(
        default=1,
        ge=1,
        le=2,
        description="The version of `inventory.changed` that is written: 2 once every reader knows it.",
    )

    log_readable_by: Release = Field(
        default=Release.V0_2_0,
        description="The oldest release whose processes still run: during a rollout from 0.1.0 set `0.1.0`.",
    )

    def topic(self, topic: Topic) -> str:
        """Return the topic's name on this broker."""
        return self.topic_prefix + topic.name

    def group(self, role: str) -> str:
        """Return the consumer group of a role on this broker."""
        return f"{self.topic_prefix}innkeeper-{role}"

    def client_options(self) -> dict[str, Any]:
        """Return the broker's address and our credentials: the keyword arguments of every aiokafka client.

        Certificates are read from their files each time, so that a new client has the newest.

        Raises:
            OSError: the files cannot be read any more.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_url,
            "security_protocol": self.kafka_security_protocol,
        }
        if self._encrypts:
            options["ssl_context"] = self._trust()
        if self._authenticates and self.kafka_password is not None:
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_username
            options["sasl_plain_password"] = self.kafka_password.get_secret_value()
        return options

    @property
    def _encrypts(self) -> bool:
        return self.kafka_security_protocol in {"SSL", "SASL_SSL"}

    @property
    def _authenticates(self) -> bool:
        return self.kafka_security_protocol in {"SASL_PLAINTEXT", "SASL_SSL"}

    def _trust(self) -> ssl.SSLContext:
        """Return the trusted authorities and our own certificate; raises OSError with a sentence."""
        try:
            context = ssl.create_default_context(cafile=self.kafka_ca_file)
        except OSError as error:
            raise OSError(f"KAFKA_CA_FILE={self.kafka_ca_file}: {_in_words(error, 'no certificate in PEM')}") from None
        if self.kafka_certificate_file is not None:
            try:
                # The empty password makes an encrypted key fail, instead of a prompt at the terminal.
                context.load_cert_chain(self.kafka_certificate_file, self.kafka_key_file, password="")
            except OSError as error:
                reason = _in_words(error, "no certificate in PEM with the key that belongs to it, not encrypted")
                raise OSError(f"KAFKA_CERTIFICATE_FILE={self.kafka_certificate_file} and its key: {reason}") from None
        return context

    @field_validator("kafka_username", "kafka_password", "kafka_ca_file", "kafka_certificate_file", "kafka_key_file")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        # An empty variable of the environment overrides a value of .env.
        return None if value in {"", Path(), SecretStr("")} else value

    @model_validator(mode="after")
    def _credentials_are_complete(self) -> Self:
        protocol = f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        name_and_password = (self.kafka_username, self.kafka_password)
        if self._authenticates and None in name_and_password:
            raise ValueError(f"{protocol} needs both KAFKA_USERNAME and KAFKA_PASSWORD.")
        if not self._authenticates and name_and_password != (None, None):
            raise ValueError(
                f"{protocol} sends neither KAFKA_USERNAME nor KAFKA_PASSWORD: use SASL_SSL, or leave them out."
            )
        files = (self.kafka_ca_file, self.kafka_certificate_file, self.kafka_key_file)
        if not self._encrypts and files != (None, None, None):
            raise ValueError(f"{protocol} does not encrypt: use SSL or SASL_SSL, or leave the files out.")
        if self.kafka_key_file is not None and self.kafka_certificate_file is None:
            raise ValueError("KAFKA_KEY_FILE is of no use without KAFKA_CERTIFICATE_FILE.")
        return self

    @model_validator(mode="after")
    def _files_can_be_read(self) -> Self:
        if self._encrypts:
            try:
                self._trust()
            except OSError as error:
                raise ValueError(str(error)) from None
        return self


@contextmanager
def exit_on_invalid_settings() -> Iterator[None]:
    """End the process with status 78 when settings are refused, with plain sentences that show no value."""
    try:
        yield
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            name = " ".join(str(part).upper() for part in problem["loc"])
            sentence = problem["msg"].removeprefix("Value error, ")
            sys.stderr.write(f"{name}: {sentence}\n" if name else f"{sentence}\n")
        sys.exit(os.EX_CONFIG)


def _in_words(error: OSError, unreadable: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"there is {unreadable}."
    return f"{error.strerror}."
