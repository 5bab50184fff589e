"""`python -m benchmarks.empty_worker`: the workers' own Faust agent, reading the same log, with nothing to do.

Its cost is that of Faust, its Kafka client and our transport in every worker.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import faust
import uvloop
from psycopg import AsyncConnection

from storage.settings import DatabaseSettings
from telemetry import garbage, logs
from topics.catalogue import BOOKING_COMMANDS, Topic
from topics.envelope import Outgoing
from topics.kafka.settings import KafkaSettings
from workers.runtime import agent
from workers.runtime.batch_metrics import BatchMetrics
from workers.runtime.role import PartitionBatch, Role


class _Reader:
    """A consumer of the commands that is never called."""

    name = "nothing"
    topics: tuple[Topic, ...] = (BOOKING_COMMANDS,)

    def forget(self) -> None:
        """Nothing is kept in memory."""

    async def handle(self, _: AsyncConnection, batches: Sequence[PartitionBatch]) -> list[list[Outgoing]]:
        """Decide nothing."""
        return [[] for _ in batches]


class _NoWork:
    """Takes the place of `workers.runtime.batch_processor.BatchProcessor`: every batch is done at once."""

    def __init__(self, role: Role, *_: Any, **__: Any) -> None:
        self.metrics = BatchMetrics(role, {}, dict)

    async def on_assigned(self, _: Iterable[Any]) -> dict[Any, int]:
        return {}

    async def process(self, batches: Iterable[Any]) -> dict[Any, int]:
        for _ in batches:
            pass
        return {}

    async def mark_published(self) -> None: ...

    async def on_revoked(self) -> None: ...

    async def close(self) -> None: ...


def main() -> None:
    """Run until SIGTERM or Ctrl-C."""
    logs.configure("console", "empty", "empty")
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    # The measured agent is the real one; only the processor of its records is replaced.
    setattr(agent, "BatchProcessor", _NoWork)  # noqa: B010 - the types rightly forbid it
    app = agent.build_app(Role("nothing", (_Reader(),)), KafkaSettings(), DatabaseSettings())
    worker = faust.Worker(app, loglevel="WARNING", override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    garbage.collect_seldom()
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
