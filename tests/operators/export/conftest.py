"""An export as an analyst calls it, of topics that keep the times that a test gives them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from operators.cli.main import app
from tests.support.stack import Server
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings

Export = Callable[..., Result]


@pytest.fixture
async def timed(kafka: Server) -> AsyncIterator[KafkaSettings]:
    """This test's own topics, which keep the time of each record."""
    settings = KafkaSettings(
        _env_file=None,
        kafka_url=kafka.url,
        topic_prefix=f"test-{uuid4().hex[:12]}.",
        topic_partitions=4,
        topic_create_time=True,
    )
    await admin.create(settings)
    yield settings
    await admin.delete(settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "export"


@pytest.fixture
def export(timed: KafkaSettings, folder: Path) -> Export:
    """`innkeeper export booking.events --out export ...`."""

    def run(*options: str, **variables: str) -> Result:
        environment = {
            "KAFKA_URL": timed.kafka_url,
            "TOPIC_PREFIX": timed.topic_prefix,
            "TOPIC_PARTITIONS": str(timed.topic_partitions),
            **variables,
        }
        return CliRunner().invoke(app, ["export", "booking.events", "--out", str(folder), *options], env=environment)

    return run
