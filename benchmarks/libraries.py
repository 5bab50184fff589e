"""`python -m benchmarks.libraries`: our own parts beside the libraries' parts for the same purpose (ADR 0019).

Both sides run in this process in turns (ABBA), on the same input, and the CPU time of this process counts, so that
other load on the machine disturbs little. A line gives the median of the paired ratios, with its 95 % interval.
"""

import asyncio
import json
import random
import tempfile
import time
from collections import Counter as Multiset
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import prometheus_client
import uvloop
from aiokafka import AIOKafkaProducer

from sandbox.kafka import Kafka
from telemetry import metrics
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings

ROUNDS: Final = 100
BATCH_RECORDS: Final = 64
_PARTITION_COUNT: Final = 6
# The ages of 10 records in each of 6 partitions, in seconds: they came in 8 different milliseconds.
_PARTITION_AGES: Final = [[(7 * number + partition) % 8 / 1000 for number in range(10)] for partition in range(6)]
_EVENT_COUNTS: Final = {"booking.reserved.v1": 20, "booking.confirmed.v1": 20, "booking.rejected.v1": 20}

Side = Callable[[], Awaitable[None]]


async def compare(ours: Side, theirs: Side, *, count: int) -> str:
    """Run both sides in turns; return CPU microseconds for each of `count` things a round, and the ratio."""
    taken: dict[Side, list[float]] = {ours: [], theirs: []}
    for number in range(ROUNDS):
        for side in (ours, theirs) if number % 2 else (theirs, ours):
            began = time.process_time()
            await side()
            taken[side].append((time.process_time() - began) / count * 1e6)
    ratios = [their / our for our, their in zip(taken[ours], taken[theirs], strict=True)]
    low, high = _interval(ratios)
    return (
        f"ours {median(taken[ours]):.2f} us, theirs {median(taken[theirs]):.2f} us,"
        f" theirs / ours {median(ratios):.3f} ({low:.3f} to {high:.3f})"
    )


def _interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median, by bootstrap."""
    chance = random.Random(1)
    medians = sorted(median(chance.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


class OtherWork:
    """Work like that of a request or a batch, so that counting meets cold caches as it does there."""

    def __init__(self) -> None:
        chance = random.Random(3)
        self._documents = [
            json.dumps({"id": number, "amounts": [chance.random() for _ in range(10)]}) for number in range(3000)
        ]
        self._rows = {str(number): [number] * 10 for number in range(100_000)}
        self._keys = chance.sample(list(self._rows), len(self._rows))
        self._done = 0

    def __call__(self) -> None:
        """Work for some 20 us."""
        json.dumps(json.loads(self._documents[self._done % 3000]), sort_keys=True)
        first = self._done * 7 % 99_000
        for key in self._keys[first : first + 60]:
            self._rows[key].index(int(key))
        self._done += 1


class OurCounters:
    """Counts a request as the ingress does, and a batch as a worker does, with `telemetry.metrics`."""

    def __init__(self) -> None:
        self._seconds, self._records, self._ages = (
            metrics.Histogram(name, "-", unit="", services=(), bounds=metrics.QUERY_SECONDS.bounds).of()
            for name in ("seconds", "records", "ages")
        )
        self._answers, self._topics, self._decisions = (
            metrics.Counter(name, "-", unit="", services=(), labels=("label",))
            for name in ("answers", "topics", "decisions")
        )

    def request(self) -> None:
        """Count an answer, its time, an acknowledgement and two statements."""
        self._answers.add(1, "202")
        for seconds in (0.004, 0.003, 0.001, 0.001):
            self._seconds.observe(seconds)

    def batch(self) -> None:
        """Count 60 records of 6 partitions, and the events that they led to."""
        for ages in _PARTITION_AGES:
            self._topics.add(len(ages), "booking.commands")
            self._records.observe(len(ages))
            for age, times in Multiset(ages).items():
                self._ages.observe(age, times)
        for name, times in _EVENT_COUNTS.items():
            self._decisions.add(times, name)
        for seconds in (0.004, 0.003, 60.0):
            self._seconds.observe(seconds)


class TheirCounters:
    """The same with prometheus_client."""

    def __init__(self) -> None:
        registry = prometheus_client.CollectorRegistry()
        self._seconds, self._records, self._ages = (
            prometheus_client.Histogram(name, "-", registry=registry, buckets=metrics.QUERY_SECONDS.bounds)
            for name in ("seconds", "records", "ages")
        )
        self._answers, self._topics, self._decisions = (
            prometheus_client.Counter(name, "-", ["label"], registry=registry)
            for name in ("answers", "topics", "decisions")
        )
        self._answered = self._answers.labels("202")

    def request(self) -> None:
        """Count as `OurCounters.request` does."""
        self._answered.inc()
        for seconds in (0.004, 0.003, 0.001, 0.001):
            self._seconds.observe(seconds)

    def batch(self) -> None:
        """Count as `OurCounters.batch` does."""
        for ages in _PARTITION_AGES:
            self._topics.labels("booking.commands").inc(len(ages))
            self._records.observe(len(ages))
            for age in ages:  # There is no way to observe one value several times.
                self._ages.observe(age)
        for name, times in _EVENT_COUNTS.items():
            self._decisions.labels(name).inc(times)
        for seconds in (0.004, 0.003, 60.0):
            self._seconds.observe(seconds)


async def counting() -> AsyncIterator[tuple[str, str]]:
    """Count requests after some 70 and 140 us of other work, and batches after some 3,000 us."""
    work, ours, theirs = OtherWork(), OurCounters(), TheirCounters()

    async def run(count: Callable[[], None], pieces: int, times: int) -> None:
        for _ in range(times):
            for _ in range(pieces):
                work()
            count()

    for name, pieces, times in (("request", 4, 200), ("request", 8, 100), ("batch", 160, 5)):
        line = await compare(
            partial(run, getattr(ours, name), pieces, times),
            partial(run, getattr(theirs, name), pieces, times),
            count=times,
        )
        yield f"{pieces} pieces of other work, and counting a {name}", line


async def producing() -> AsyncIterator[tuple[str, str]]:
    """Send as a worker does (64 events at once) and as the ingress does (64 commands, each waited for)."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        kafka = await stack.enter_async_context(Kafka(Path(folder)))
        settings = KafkaSettings(_env_file=None, kafka_url=kafka.url, topic_partitions=_PARTITION_COUNT)
        await admin.create(settings, [BOOKING_EVENTS])
        topic = settings.topic(BOOKING_EVENTS)
        records = [_record(topic, number) for number in range(BATCH_RECORDS)]
        client = AIOKafkaProducer(
            **settings.client_options(), acks="all", enable_idempotence=True, max_batch_size=256 * 1024
        )
        await client.start()
        stack.push_async_callback(client.stop)
        producer = await stack.enter_async_context(open_producer(settings, client_id="benchmark"))
        pairs: dict[str, tuple[Side, Side]] = {
            "an event of a worker, sent with 63 others": (
                lambda: _times(lambda: producer.send_all(records)),
                lambda: _times(lambda: _send_all(client, records)),
            ),
            "a command of the ingress, beside 63 others": (
                lambda: _times(lambda: asyncio.gather(*map(producer.send, records))),
                lambda: _times(lambda: asyncio.gather(*[_send(client, record) for record in records])),
            ),
        }
        for name, (ours, theirs) in pairs.items():
            yield name, await compare(ours, theirs, count=5 * BATCH_RECORDS)


async def _times(work: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(5):
        await work()


async def _send_all(client: AIOKafkaProducer, records: Sequence[Outgoing]) -> None:
    await asyncio.gather(*[await client.send(r.topic, r.value, key=r.key, headers=r.headers) for r in records])


async def _send(client: AIOKafkaProducer, record: Outgoing) -> None:
    await client.send_and_wait(record.topic, record.value, key=record.key, headers=record.headers)


def _record(topic: str, number: int) -> Outgoing:
    return Outgoing(topic, str(number % 200).encode(), b'{"room_id":1}' * 20, [("ce_id", b"x" * 36)] * 8)


async def main() -> None:
    """Measure each part and print a line for it."""
    for package in ("aiokafka", "prometheus-client"):
        print(package, version(package))
    for part in (counting, producing):
        async for name, line in part():
            print(f"{name}: {line}", flush=True)


if __name__ == "__main__":
    uvloop.run(main())
