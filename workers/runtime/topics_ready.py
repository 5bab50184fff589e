"""Waits at a worker's start until the broker has the topics that the role needs."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka.errors import KafkaError

from topics.backoff import Backoff
from topics.catalogue import Topic
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings
from workers.runtime.role import Stopped

_MAX_CHECK_SECONDS: Final = 10


async def wait_for_topics(settings: KafkaSettings, topics: Sequence[Topic], group: str | None) -> None:
    """Wait until the broker answers, has the topics, and admits us to the group, if there is one.

    Raises:
        Stopped: a topic is not as the catalogue has it, in a way that would lose records.
    """
    names = [settings.topic(topic) for topic in topics]
    backoff = Backoff("the worker waits for the broker and its topics")
    while True:
        try:
            async with asyncio.timeout(_MAX_CHECK_SECONDS):
                missing = set(names).difference(await admin.partition_counts(settings, names))
                mismatches = [] if missing else await admin.check(settings, topics)
                if group is not None:
                    await admin.check_group(settings, group)
        except (KafkaError, admin.TopicsFailed, OSError) as error:
            await backoff.wait(error)
            continue
        if fatal := [str(mismatch) for mismatch in mismatches if mismatch.fatal]:
            raise Stopped(" ".join(fatal))
        if not missing:
            backoff.reset()
            return
        await backoff.wait(LookupError(f"no topic yet by the name of {', '.join(sorted(missing))}"))
