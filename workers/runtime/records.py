"""Decodes records of the log, and makes dead letters of those that cannot be decoded. No I/O."""

import hashlib
from datetime import datetime
from typing import Final

from topics.catalogue import BOOKING_EVENTS, Topic
from topics.envelope import Envelope, Outgoing, Undecodable, UnknownType, UnknownVersion, decode_envelope, decode_value
from topics.kafka.positions import position_text
from workers.runtime.role import Received, Record, Stopped, Unreadable

#: The largest command that is decided: far larger than any of ours, and small enough for its events to be published.
MAX_COMMAND_BYTES: Final = 2**20
#: The largest record that a dead letter carries whole: with our headers it is below a producer's limit.
MAX_DEAD_LETTER_BYTES: Final = 7 * 2**20


def read(topic: Topic, record: Record, at: datetime) -> Received:
    """Decode one record of the topic.

    Raises:
        Unreadable: the record cannot be understood.
        Stopped: the record is an event, or of a version that this worker does not know.
    """
    if not topic.messages:
        return Received(None, None, record, at)
    try:
        envelope = decode_envelope(record.headers)
        message = decode_value(envelope.type, record.value)
    except UnknownVersion as error:
        raise Stopped(f"{position_text(record)}: {error} is newer than this worker; upgrade it first") from error
    except (Undecodable, UnknownType) as error:
        if topic is BOOKING_EVENTS:
            raise Stopped(cannot_be_applied(record, error)) from error
        raise Unreadable(record, f"{type(error).__name__}: {error}") from error
    if type(message) not in topic.messages:
        raise Unreadable(record, f"{envelope.type} does not belong on {topic.name}")
    if topic is not BOOKING_EVENTS and _repeated_bytes(record, envelope) > MAX_COMMAND_BYTES:
        raise Unreadable(record, f"larger than {MAX_COMMAND_BYTES} bytes")
    return Received(envelope, message, record, at)


def fingerprint(record: Record) -> bytes:
    """Return a hash of the record, 16 bytes."""
    digest = hashlib.blake2b(record.key or b"", digest_size=16)
    digest.update(record.value or b"")
    for name, value in record.headers:
        digest.update(name.encode() + (value or b""))
    return digest.digest()


def dead_letter(topic: str, consumer: str, record: Record, reason: str) -> Outgoing:
    """Return the record for the dead-letter topic: the same bytes and key, its position and the reason as headers.

    A record that is too large to be sent again stays on its own topic alone; the dead letter has its size in a header.
    """
    key, value = record.key or b"", record.value or b""
    headers = [(name, text) for name, text in record.headers if not name.startswith("dl_")]
    size_bytes = len(key) + len(value) + sum(len(name) + len(text or b"") for name, text in headers)
    if size_bytes > MAX_DEAD_LETTER_BYTES:
        key, value, headers = b"", b"", [("dl_left_behind", b"%d" % size_bytes)]
    headers += [
        ("dl_consumer", consumer.encode()),
        ("dl_topic", record.topic.encode()),
        ("dl_partition", b"%d" % record.partition),
        ("dl_offset", b"%d" % record.offset),
        ("dl_reason", reason.encode()),
    ]
    return Outgoing(topic, key, value, headers)


def _repeated_bytes(record: Record, envelope: Envelope) -> int:
    """Return how many bytes of a command its events may repeat, some of them three times."""
    names = len(envelope.id) + len(envelope.correlation or "") + len(envelope.traceparent or "")
    people = len(envelope.actor or "") + len(envelope.request_id or "")
    return names + people + len(record.value or b"")


def cannot_be_applied(record: Record, error: Exception) -> str:
    """Return the sentence with which an event stops its role."""
    return f"{position_text(record)}: an event cannot be applied ({error}); an operator must decide"
