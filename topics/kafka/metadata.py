"""A request for topics with their ids.

aiokafka 0.14, the newest release on PyPI, implements Metadata up to version 5 only, and an answer has a topic's id from
version 10 on (ADR 0019). Source: the Kafka protocol guide, Metadata (API key 3) version 12. From version 9 on messages
are "flexible": compact lengths, and tagged fields at the end.
"""

from collections.abc import Collection
from io import BytesIO
from typing import Final

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

NO_ID: Final = bytes(16)
_UUID_BYTES: Final = 16


class Uuid(AbstractType[bytes]):
    """Sixteen bytes without a length prefix."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """Return the bytes as they are."""
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        """Read sixteen bytes."""
        return data.read(_UUID_BYTES)


class DescribeTopicsResponse(Response):
    """The brokers, and the id and partitions of each requested topic."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeTopicsRequestV12(RequestStruct):
    """The encoded request."""

    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeTopicsResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class DescribeTopicsRequest(Request[DescribeTopicsRequestV12]):
    """A request about the named topics, or about all (None); it creates none."""

    API_KEY = 3

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names

    def build(self, request_struct_class: type[DescribeTopicsRequestV12]) -> DescribeTopicsRequestV12:
        """Return the request in the version that the broker supports."""
        return request_struct_class(
            topics=None if self._names is None else [(NO_ID, name, {}) for name in self._names],
            allow_auto_topic_creation=False,
            include_topic_authorized_operations=False,
            tags={},
        )
