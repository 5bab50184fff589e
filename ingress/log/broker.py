"""The ingress' producers: they look for the brokers until they find them, and no request waits for that.

While the leader of a partition does not acknowledge, requests for it are refused at once, and unsent records are
dropped: a command whose guest was asked to try again must not reach the log a minute later. Other leaders go on.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Final

from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from ingress.http.problems import refused, unanswered, unavailable
from telemetry import metrics
from topics.backoff import Backoff
from topics.catalogue import Topic
from topics.envelope import Outgoing
from topics.failpoints import failpoint
from topics.kafka import admin
from topics.kafka.leader_producers import LeaderProducers, NotSent
from topics.kafka.producer import REFUSALS
from topics.kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.2
_MAX_RETRY_SECONDS: Final = 5.0
_START_SECONDS: Final = 15.0
ACKNOWLEDGED: Final = metrics.ACKNOWLEDGED_SECONDS.of()


class WrongTopics(Exception):
    """The broker's topics are not those of the catalogue; nothing may be written to them."""


class Broker:
    """Sends records while there are brokers; `run` keeps looking for them."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Collection[Topic],
        *,
        ack_seconds: float,
        linger_ms: int,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._backoff = Backoff(
            "commands wait for the broker", first_seconds=_FIRST_PAUSE_SECONDS, max_seconds=_MAX_RETRY_SECONDS
        )
        self._producers = LeaderProducers(
            settings,
            [settings.topic(topic) for topic in topics],
            client_id="innkeeper-ingress",
            ack_seconds=ack_seconds,
            linger_ms=linger_ms,
            backoff=self._backoff,
        )
        self.topics_checked = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether records can be sent now, to some partitions at least."""
        return self._producers.ready

    async def send(self, record: Outgoing) -> None:
        """Send one record; returns when the broker has it.

        Raises:
            Problem: 503, the leader of the record's partition is away, refused the record or did not acknowledge it in
                time.
        """
        sent_at = time.monotonic()
        try:
            while (producer := self._producers.producer_for(record)) is None:
                await self._producers.change_over(record)
        except NotSent as error:
            raise unavailable("the broker", retry_after_seconds=2) from error
        failpoint("ingress.before_produce")
        try:
            await producer.send(record)
        except REFUSALS as error:
            log.warning("the broker refuses a record of %s: %r", record.topic, error)
            raise refused(_state_of(error)) from error
        except KafkaError as error:
            self._producers.failed(producer, error)
            raise unanswered("the broker", retry_after_seconds=2) from error
        finally:
            if metrics.are_read:
                ACKNOWLEDGED.observe(time.monotonic() - sent_at)
        failpoint("ingress.after_ack")

    async def run(self) -> None:
        """Keep producers open until the process ends.

        Raises:
            WrongTopics: a topic has another number of partitions, or another setting that would lose records.
        """
        while not self.topics_checked.is_set():
            try:
                await self._check_topics()
            except (KafkaError, admin.TopicsFailed, OSError, TimeoutError) as error:
                await self._backoff.wait(error)
        await self._producers.run()

    async def _check_topics(self) -> None:
        names = [self._settings.topic(topic) for topic in self._topics]
        async with asyncio.timeout(_START_SECONDS):
            missing = set(names).difference(await admin.partition_counts(self._settings, names))
            if missing:
                # The command that makes them may run after this process has started.
                raise admin.TopicsFailed(f"No topic yet by the name of {', '.join(sorted(missing))}.")
            mismatches = await admin.check(self._settings, self._topics)
        for mismatch in mismatches:
            if mismatch.fatal:
                raise WrongTopics(str(mismatch))
            log.warning("%s", mismatch)
        self.topics_checked.set()


def _state_of(refusal: KafkaError) -> str:
    if isinstance(refusal, ClusterAuthorizationFailedError | TopicAuthorizationFailedError):
        return "a right is missing at the broker"
    return "the broker refuses what it was sent"
