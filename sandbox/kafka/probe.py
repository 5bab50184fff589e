"""Asks a broker on 127.0.0.1 whether it answers."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

ANSWER_WITHIN_MS = 2000


async def answers(port: int) -> bool:
    """Whether the broker on this port leads a cluster and can take consumer groups.

    To ask for a group's coordinator makes a new broker create the topic that it keeps offsets in; so
    the first worker does not have to wait, and complain, until that is done.
    """
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False  # Asking the client instead would log an error for every attempt.
    writer.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=ANSWER_WITHIN_MS)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        await admin.find_coordinator("sandbox")
        return bool(cluster["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
