"""The controller of a cluster: the one that its quorum follows now.

In an answer with metadata, brokers without ZooKeeper name any broker as the controller. aiokafka 0.14 has no request
for the quorum. Source: the Kafka protocol guide, DescribeQuorum (API key 55) version 0.
"""

from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from topics.kafka.settings import KafkaSettings

_METADATA_LOG: Final = "__cluster_metadata"
_REPLICAS = CompactArray(("replica_id", Int32), ("log_end_offset", Int64), ("tags", TaggedFields))


class _Response(Response):
    API_KEY = 55
    API_VERSION = 0
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                ("name", CompactString()),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", _REPLICAS),
                        ("observers", _REPLICAS),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _RequestV0(RequestStruct):
    API_KEY = 55
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", CompactString()),
                ("partitions", CompactArray(("partition", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeQuorum(Request[_RequestV0]):
    API_KEY = 55

    def build(self, request_struct_class: type[_RequestV0]) -> _RequestV0:
        return request_struct_class(topics=[(_METADATA_LOG, [(0, {})], {})], tags={})


async def active_controller(kafka: KafkaSettings) -> int:
    """Return the node id of the controller that acts now."""
    client = AIOKafkaClient(**kafka.client_options())
    await client.bootstrap()
    try:
        answer: Any = await client.send(client.get_random_node(), _DescribeQuorum())
    finally:
        await client.close()
    if answer.error_code:
        raise for_code(answer.error_code)
    [(_, [(_, _, leader, *_)], _)] = answer.topics
    return int(leader)
