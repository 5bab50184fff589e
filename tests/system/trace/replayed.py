"""The whole real trace, replayed once for every test that asks for its outcome, its log or its ledger."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sandbox.kafka import Kafka, available
from sandbox.postgres import Postgres
from storage.settings import DatabaseSettings
from tests.system.trace.test_trace import TRACE
from topics.kafka.settings import KafkaSettings


@dataclass(frozen=True, kw_only=True)
class ReplayedTrace:
    """The result of the replay, its log and its ledger: all tests share them, and none may write there."""

    result: dict[str, Any]
    kafka: KafkaSettings
    database: DatabaseSettings


def replay(file: Path, *options: str, **variables: str) -> dict[str, Any]:
    """Replay as an operator does and return the line that it ends with."""
    command = (sys.executable, "-m", "sandbox", "replay", str(file), *options)
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="session")
def replayed_trace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayedTrace]:
    """All of the trace, decided by three workers where every type has 1,000 rooms; its servers run again, no worker."""
    if (reason := available()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("trace")
    result = replay(TRACE, "--rooms", "1000", "--workers", "3", "--keep", TMPDIR=str(folder))
    (kept,) = folder.glob("innkeeper-replay-*")
    with Kafka(kept / "kafka") as kafka, Postgres(kept / "postgres") as postgres:
        yield ReplayedTrace(
            result=result,
            kafka=KafkaSettings(_env_file=None, kafka_url=kafka.url, topic_create_time=True),
            database=DatabaseSettings(_env_file=None, database_url=SecretStr(postgres.url)),
        )
