"""The ingress' producer: it looks for the broker until it finds one, and no request waits for that.

While no broker acknowledges, requests are refused at once, and unsent records are dropped: a command whose guest was
asked to try again must not reach the log a minute later.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from contextlib import AsyncExitStack
from typing import Final

from aiokafka.errors import KafkaError

from ingress.http.problems import unanswered, unavailable
from telemetry import metrics
from topics.backoff import Backoff
from topics.catalogue import Topic
from topics.envelope import Outgoing
from topics.failpoints import failpoint
from topics.kafka import admin
from topics.kafka.producer import Producer, open_producer
from topics.kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.2
_MAX_RETRY_SECONDS: Final = 5.0
_START_SECONDS: Final = 15.0
ACKNOWLEDGED: Final = metrics.ACKNOWLEDGED_SECONDS.of()


class WrongTopics(Exception):
    """The broker's topics are not those of the catalogue; nothing may be written to them."""


class Broker:
    """Sends records while there is a broker; `run` keeps looking for one."""

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
        self._ack_seconds = ack_seconds
        self._linger_ms = linger_ms
        self._producer: Producer | None = None
        self._broken = asyncio.Event()
        self._backoff = Backoff(
            "commands wait for the broker", first_seconds=_FIRST_PAUSE_SECONDS, max_seconds=_MAX_RETRY_SECONDS
        )
        self._sent = 0
        # The time at which each unacknowledged record was sent, oldest first.
        self._unacknowledged: dict[int, float] = {}
        self.topics_checked = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether records can be sent now."""
        return self._producer is not None

    async def send(self, record: Outgoing) -> None:
        """Send one record; returns when the broker has it.

        Raises:
            Problem: 503, the broker is away or did not acknowledge in time.
        """
        producer = self._producer
        if producer is None:
            raise unavailable("the broker", retry_after_seconds=2)
        failpoint("ingress.before_produce")
        self._sent += 1
        number = self._sent
        self._unacknowledged[number] = time.monotonic()
        try:
            await producer.send(record)
        except KafkaError as error:
            if self._producer is producer:
                log.warning("the broker did not take a record: %r", error)
                self._broken.set()
            raise unanswered("the broker", retry_after_seconds=2) from error
        finally:
            sent_at = self._unacknowledged.pop(number)
            if metrics.are_read:
                ACKNOWLEDGED.observe(time.monotonic() - sent_at)
        failpoint("ingress.after_ack")

    async def run(self) -> None:
        """Keep a producer open until the process ends.

        Raises:
            WrongTopics: a topic has another number of partitions, or another setting that would lose records.
        """
        while True:
            try:
                await self._check_topics()
                await self._send_until_broken()
            except (KafkaError, admin.TopicsFailed, OSError, TimeoutError) as error:
                await self._backoff.wait(error)

    async def _check_topics(self) -> None:
        if self.topics_checked.is_set():
            return
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

    async def _send_until_broken(self) -> None:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(_START_SECONDS):
                producer = await stack.enter_async_context(
                    open_producer(
                        self._settings,
                        client_id="innkeeper-ingress",
                        linger_ms=self._linger_ms,
                        request_timeout_seconds=self._ack_seconds,
                    )
                )
            # However the producer ends: records that it has not sent by then must not be sent later.
            stack.push_async_callback(producer.abandon)
            self._broken.clear()
            self._producer = producer
            self._backoff.reset()
            log.info("the broker takes commands")
            try:
                await self._until_broken()
            finally:
                self._producer = None

    async def _until_broken(self) -> None:
        while not self._broken.is_set():
            try:
                async with asyncio.timeout(self._ack_seconds / 4):
                    await self._broken.wait()
            except TimeoutError:
                oldest = next(iter(self._unacknowledged.values()), None)
                if oldest is not None and time.monotonic() - oldest > self._ack_seconds:
                    log.warning("the broker has not acknowledged anything for %.1f s", self._ack_seconds)
                    return
