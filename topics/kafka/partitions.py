"""The partition that a key chooses: the same one in every topic, because all have the same number of partitions."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


# The hash is written in Python and costs more than all else about a record's partition; rooms come again and again.
@lru_cache(maxsize=100_000)
def partition_of(key: bytes, count: int) -> int:
    """Return the partition of a key among `count`, as every Kafka client with the default partitioner computes it."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)
