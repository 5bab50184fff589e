"""How to reach the broker, and who to be there, read from the environment."""

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
from topics.secret_files import SECRETS


class KafkaSettings(BaseSettings):
    """The broker and our topics on it. Every process reads the same variables."""

    # A refused value is told by its name alone: it may be the password.
    model_config = SettingsConfigDict(
        env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    kafka_url: str = Field(default="127.0.0.1:9092", description="Bootstrap servers, host:port separated by commas.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="`PLAINTEXT`, `SSL` (encrypted), `SASL_PLAINTEXT` (we say who we are), or `SASL_SSL` (both).",
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512",
        description="How we prove it: `PLAIN` (shows the broker our password), `SCRAM-SHA-256`, or `SCRAM-SHA-512`.",
    )
    kafka_username: str | None = Field(default=None, description="Who we are; each role should be somebody else.")
    kafka_password: SecretStr | None = Field(default=None, description="The user's password.")
    kafka_ca_file: Path | None = Field(
        default=None, description="Who signs the brokers' certificates, in PEM; without it, whom this machine trusts."
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
        description="Topics keep the producer's timestamps and everything for ever: only to replay a trace.",
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

    def topic(self, topic: Topic) -> str:
        """Return the topic's name on this broker."""
        return self.topic_prefix + topic.name

    def group(self, role: str) -> str:
        """Return the consumer group of a role on this broker."""
        return f"{self.topic_prefix}innkeeper-{role}"

    def client_options(self) -> dict[str, Any]:
        """Return where the broker is and how to get in: keyword arguments that every aiokafka client is made with.

        Certificates are read from their files each time, so that a client made anew has the newest.

        Raises:
            OSError: the files cannot be read any more.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_url,
            "security_protocol": self.kafka_security_protocol,
        }
        if self._encrypts:
            options["ssl_context"] = self._trust()
        if self._says_who and self.kafka_password is not None:
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_username
            options["sasl_plain_password"] = self.kafka_password.get_secret_value()
        return options

    @property
    def _encrypts(self) -> bool:
        return self.kafka_security_protocol in {"SSL", "SASL_SSL"}

    @property
    def _says_who(self) -> bool:
        return self.kafka_security_protocol in {"SASL_PLAINTEXT", "SASL_SSL"}

    def _trust(self) -> ssl.SSLContext:
        """Return whom we trust and how we prove ourselves by certificate; raises OSError, in a sentence."""
        try:
            context = ssl.create_default_context(cafile=self.kafka_ca_file)
        except OSError as error:
            raise OSError(f"KAFKA_CA_FILE={self.kafka_ca_file}: {_in_words(error, 'no certificate in PEM')}") from None
        if self.kafka_certificate_file is not None:
            try:
                # An encrypted key would be asked for at the terminal: the empty password fails instead.
                context.load_cert_chain(self.kafka_certificate_file, self.kafka_key_file, password="")
            except OSError as error:
                told = _in_words(error, "no certificate in PEM with the key that belongs to it, not encrypted")
                raise OSError(f"KAFKA_CERTIFICATE_FILE={self.kafka_certificate_file} and its key: {told}") from None
        return context

    @field_validator("kafka_username", "kafka_password", "kafka_ca_file", "kafka_certificate_file", "kafka_key_file")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        # An empty variable of the environment takes back what .env says.
        return None if value in {"", Path(), SecretStr("")} else value

    @model_validator(mode="after")
    def _the_way_in_is_whole(self) -> Self:
        protocol = f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        name_and_password = (self.kafka_username, self.kafka_password)
        if self._says_who and None in name_and_password:
            raise ValueError(f"{protocol} needs both KAFKA_USERNAME and KAFKA_PASSWORD.")
        if not self._says_who and name_and_password != (None, None):
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
def refused_in_words() -> Iterator[None]:
    """End the process with status 78 where settings are refused: in plain sentences, without a value in them."""
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
