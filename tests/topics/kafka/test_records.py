"""A record's position, time and sequence, and the partition of its key."""

from datetime import UTC, datetime

import pytest
from aiokafka import ConsumerRecord
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from topics.kafka.partitions import partition_of
from topics.kafka.positions import LogPosition, position_text
from topics.kafka.records import sequence_of, time_of


def record(*headers: tuple[str, bytes | None], timestamp: int = 0) -> ConsumerRecord:
    return ConsumerRecord("booking.events", 3, 17, timestamp, 1, b"412", b"{}", None, 3, 2, headers)


def test_a_record_has_the_position_that_it_was_read_from() -> None:
    assert LogPosition.of(record()) == LogPosition("booking.events", 3, 17)
    assert position_text(record()) == str(LogPosition.of(record())) == "booking.events[3]@17"


def test_the_time_of_a_record_is_the_log_s_in_utc() -> None:
    assert time_of(record(timestamp=1_798_761_600_250)) == datetime(2027, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)


def test_an_event_has_its_sequence() -> None:
    assert sequence_of(record(("ce_id", b"c:12"), ("ce_sequence", b"12"))) == 12


@pytest.mark.parametrize("value", [None, b"", b"-1", b"1.5", b"twelve", b"\xd9\xa1", b"9" * 5000])
def test_a_header_that_is_no_sequence_of_ours_is_none(value: bytes | None) -> None:
    assert sequence_of(record(("ce_sequence", value))) is None
    assert sequence_of(record()) is None


@given(st.binary(max_size=40), st.integers(1, 200))
def test_a_key_is_in_the_partition_that_every_client_chooses(key: bytes, count: int) -> None:
    every = list(range(count))

    assert partition_of(key, count) == DefaultPartitioner()(key, every, every)
