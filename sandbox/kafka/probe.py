"""Asks a broker on 127.0.0.1 whether it answers."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from typing_extensions import override

from topics.kafka.settings import KafkaSettings

ANSWER_WITHIN_MS = 2000
#: The variables of a client that needs no name; empty ones undo settings for another broker.
NO_NAME: Final[Mapping[str, str]] = {
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "KAFKA_USERNAME": "",
    "KAFKA_PASSWORD": "",
    "KAFKA_CA_FILE": "",
    "KAFKA_CERTIFICATE_FILE": "",
    "KAFKA_KEY_FILE": "",
}


class _FromArguments(KafkaSettings):
    """Settings that come from nowhere but their arguments."""

    @override
    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def as_client(variables: Mapping[str, str]) -> KafkaSettings:
    """Return the settings of a process that finds these variables, and nothing else, in its environment."""
    return _FromArguments(**{name.lower(): value for name, value in variables.items()})  # type: ignore[arg-type]


async def answers(variables: Mapping[str, str], node_id: int | None = None) -> bool:
    """Whether the broker that a client with these variables reaches has a cluster that can take consumer groups.

    With a node id, that one must be among the cluster's brokers.

    To ask for a group's coordinator makes a new broker create the topic that it keeps offsets in; so
    the first worker does not have to wait, and complain, until that is done.
    """
    host, _, port = variables["KAFKA_URL"].rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False  # Asking the client instead would log an error for every attempt.
    writer.close()
    kafka = as_client(variables)
    admin = AIOKafkaAdminClient(**kafka.client_options(), request_timeout_ms=ANSWER_WITHIN_MS)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        await admin.find_coordinator("sandbox")
        found = {broker["node_id"] for broker in cluster["brokers"]}
        return bool(found) if node_id is None else node_id in found
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
