"""An export as an analyst calls it, of topics that keep the times that a test gives them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from topics import admin
from topics.__main__ import app
from topics.settings import KafkaSettings

Export = Callable[..., Result]


@pytest.fixture
async def timed(kafka_settings: KafkaSettings) -> AsyncIterator[KafkaSettings]:
    """Topics that keep the time of each record."""
    settings = kafka_settings.model_copy(
        update={"topic_create_time": True, "topic_prefix": f"{kafka_settings.topic_prefix}timed."}
    )
    await admin.create(settings)
    yield settings
    await admin.delete(settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "export"


@pytest.fixture
def export(timed: KafkaSettings, folder: Path) -> Export:
    """`python -m topics export booking.events --out export ...`."""

    def run(*options: str, **variables: str) -> Result:
        environment = {
            "KAFKA_URL": timed.kafka_url,
            "TOPIC_PREFIX": timed.topic_prefix,
            "TOPIC_PARTITIONS": str(timed.topic_partitions),
            **variables,
        }
        return CliRunner().invoke(app, ["export", "booking.events", "--out", str(folder), *options], env=environment)

    return run
