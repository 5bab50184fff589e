"""Prints every booking event from the first on: `python examples/subscriber.py`. Needs aiokafka, nothing of ours."""

import asyncio
import contextlib
import json
import os

from aiokafka import AIOKafkaConsumer

BROKER = os.environ.get("KAFKA_URL", "127.0.0.1:9092")


async def main() -> None:
    """Read in a group of our own: started again, it resumes after the last record it read."""
    events = AIOKafkaConsumer(
        "booking.events", bootstrap_servers=BROKER, group_id="innkeeper-analytics", auto_offset_reset="earliest"
    )
    seen: dict[int, int] = {}
    async with events:
        async for record in events:
            headers = {name: value.decode() for name, value in record.headers}
            # An event may be on the log twice, with the same sequence in its partition.
            if int(headers["ce_sequence"]) > seen.get(record.partition, 0):
                seen[record.partition] = int(headers["ce_sequence"])
                print(headers["ce_time"], headers["ce_type"], json.loads(record.value), flush=True)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
