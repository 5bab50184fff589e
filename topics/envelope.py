"""The envelope and the codec: a message becomes a Kafka record in CloudEvents 1.0 binary mode, and back.

Source: CloudEvents 1.0 "Kafka Protocol Binding", binary content mode: attributes are headers `ce_...`, the data is the
value. Extensions:

- `sequence`: counts the events of a partition of `booking.events`, without a gap;
- `causationid`: the id of the command that an event answers, or of the event that a command follows from;
- `causationposition`: the position on the log of that command, or of the webhook that a command follows from;
- `correlationid`: the id of the first command, which a client's request led to;
- `actor` and `requestid`: the person who caused the message, if one did, and the id of that person's request;
- `traceparent`: W3C Trace Context;
- `replay`: only on records that an operator sent again; see `Replay`.

Readers ignore extensions that they do not know.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple, Protocol
from uuid import UUID

import msgspec

from topics.messages.commands import COMMANDS, Command
from topics.messages.events import EVENTS
from topics.messages.message import Message
from topics.messages.upcasting import OLDER, Older

Headers = list[tuple[str, bytes]]


class Undecodable(Exception):
    """The record's headers or value cannot be decoded as the message that its type names."""


class UnknownType(Exception):
    """No message of ours has this name."""


class UnknownVersion(Exception):
    """The name is ours but its version is newer than this reader: upgrade readers before writers."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Names the operator's replay that sent a record again.

    `id` is the replay's own, which `operator_action.details` has as `replay_id`. `action` is the operator's command
    (`replay`, `dead-letters replay`), `by` their login name, `at` when the replay began (UTC), and `of` the position of
    the record that was sent again, as `LogPosition` writes it.
    """

    id: str
    action: str
    by: str
    at: datetime
    of: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of a message. `time` is UTC; ids are at most 200 characters.

    `causation_position` is written as `LogPosition` writes it: `booking.commands[3]@17`. `actor` is the person who
    caused the message, without a name or an address: `user/17` is an account, `operator/4` is the operator of the
    action of that number (`innkeeper actions`). A command that no person caused has none, and so have the events that
    answer it.
    """

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    causation: str | None = None
    correlation: str | None = None
    sequence: int | None = None
    traceparent: str | None = None
    causation_position: str | None = None
    actor: str | None = None
    request_id: str | None = None


class Outgoing(NamedTuple):
    """A record that is ready to be produced; `partition` None lets the key choose."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    partition: int | None = None
    timestamp_ms: int | None = None


class _Decoder(Protocol):
    def decode(self, value: bytes, /) -> Message: ...


class _Upcasting:
    """Reads an older version as the one that replaced it."""

    def __init__(self, older: Older) -> None:
        self._decoder = msgspec.json.Decoder(older.kind)
        self._upcast = older.upcast

    def decode(self, value: bytes, /) -> Message:
        return self._upcast(self._decoder.decode(value))


#: The messages of today, by message type.
MESSAGES: Final[dict[str, type[Message]]] = {kind.message_type: kind for kind in (*COMMANDS, *EVENTS)}
#: Every message that may be on the log: those, and the versions that they replaced.
EVERY_VERSION: Final[dict[str, type[Message]]] = MESSAGES | {older.kind.message_type: older.kind for older in OLDER}
_FAMILIES: Final = {message_type.rpartition(".v")[0] for message_type in MESSAGES}
_DECODERS: Final[dict[str, _Decoder]] = {
    **{message_type: msgspec.json.Decoder(kind) for message_type, kind in MESSAGES.items()},
    **{older.kind.message_type: _Upcasting(older) for older in OLDER},
}
_ENCODER: Final = msgspec.json.Encoder()
#: The errors of msgspec for bytes that are no JSON of the type; data that is nested too deep is a RecursionError.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_REPLAY: Final = "ce_replay"
_REPLAY_DECODER: Final = msgspec.json.Decoder(Replay)
_CONSTANT_HEADERS: Final[Headers] = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]


def encode_value(message: Message) -> bytes:
    """Return the message's data as JSON."""
    return _ENCODER.encode(message)


def encode_headers(envelope: Envelope) -> Headers:
    """Return the envelope as Kafka headers; attributes that are None are left out."""
    headers = [
        *_CONSTANT_HEADERS,
        ("ce_id", envelope.id.encode()),
        ("ce_type", envelope.type.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_subject", envelope.subject.encode()),
        ("ce_time", format_time(envelope.time)),
    ]
    if envelope.causation is not None:
        headers.append(("ce_causationid", envelope.causation.encode()))
    if envelope.correlation is not None:
        headers.append(("ce_correlationid", envelope.correlation.encode()))
    if envelope.sequence is not None:
        headers.append(("ce_sequence", b"%d" % envelope.sequence))
    if envelope.traceparent is not None:
        headers.append(("ce_traceparent", envelope.traceparent.encode()))
    if envelope.causation_position is not None:
        headers.append(("ce_causationposition", envelope.causation_position.encode()))
    if envelope.actor is not None:
        headers.append(("ce_actor", envelope.actor.encode()))
    if envelope.request_id is not None:
        headers.append(("ce_requestid", envelope.request_id.encode()))
    return headers


def decode_envelope(headers: Sequence[tuple[str, bytes]]) -> Envelope:
    """Read the envelope from Kafka headers.

    Raises:
        Undecodable: a required attribute is missing or malformed.
    """
    found = dict(headers)
    try:
        sequence = found.get("ce_sequence")
        return Envelope(
            id=_text(found["ce_id"]),
            type=found["ce_type"].decode(),
            source=found["ce_source"].decode(),
            subject=found["ce_subject"].decode(),
            time=_time(found["ce_time"]),
            causation=_text_or_none(found.get("ce_causationid")),
            correlation=_text_or_none(found.get("ce_correlationid")),
            sequence=None if sequence is None else int(sequence),
            traceparent=_text_or_none(found.get("ce_traceparent")),
            causation_position=_text_if_well_formed(found.get("ce_causationposition")),
            actor=_text_if_well_formed(found.get("ce_actor")),
            request_id=_text_if_well_formed(found.get("ce_requestid")),
        )
    except KeyError as error:
        raise Undecodable(f"header {error} is missing") from error
    except (ValueError, AttributeError, TypeError) as error:
        # A header of a foreign producer may have no value at all.
        raise Undecodable(f"a header is malformed: {error}") from error


def with_replay(headers: Sequence[tuple[str, bytes]], replay: Replay) -> Headers:
    """Return a record's headers with the header that names the replay, in place of an earlier replay's."""
    return [*((name, value) for name, value in headers if name != _REPLAY), (_REPLAY, _ENCODER.encode(replay))]


def decode_replay(headers: Sequence[tuple[str, bytes]]) -> Replay | None:
    """Return the replay that sent a record again; None for a record that no replay sent, or that does not name it."""
    value = header(headers, _REPLAY)
    try:
        return None if value is None else _REPLAY_DECODER.decode(value)
    except UNREADABLE:
        return None


def decode_value(message_type: str, value: bytes | None) -> Message:
    """Read a message's data by its message type; an older version becomes the one that replaced it.

    Raises:
        UnknownVersion: the type is known, its version is not.
        UnknownType: the name is not known.
        Undecodable: the data is not what the name promises.
    """
    decoder = _DECODERS.get(message_type)
    if decoder is None:
        if message_type.rpartition(".v")[0] in _FAMILIES:
            raise UnknownVersion(message_type)
        raise UnknownType(message_type)
    if value is None:
        raise Undecodable(f"{message_type} without data")
    if b"\\u0000" in value:
        # As in the headers.
        raise Undecodable(f"{message_type}: the data has a zero character")
    try:
        return decoder.decode(value)
    except UNREADABLE as error:
        raise Undecodable(f"{message_type}: {error}") from error


@lru_cache(maxsize=100)
def message_types(kinds: tuple[type[Message], ...]) -> frozenset[str]:
    """Return the message types of these messages in all their versions."""
    return frozenset(
        [kind.message_type for kind in kinds] + [older.kind.message_type for older in OLDER if older.now in kinds]
    )


def header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    """Return one header's value, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def format_id(id: UUID) -> str:
    """Return `str(id)`; this takes a third of the time."""
    return _ENCODER.encode(id)[1:-1].decode()


def format_time(time: datetime) -> bytes:
    """Return a UTC time in RFC 3339 with milliseconds."""
    # Every record has a time. msgspec writes `"2030-01-01T00:00:00.123456Z"` faster than isoformat does.
    text = _ENCODER.encode(time if time.tzinfo is UTC else time.astimezone(UTC))
    return b"%b.%bZ" % (text[1:20], text[21:24] if time.microsecond else b"000")


def command_record(
    topic: str,
    command: Command,
    *,
    id: str,
    source: str,
    time: datetime,
    causation: str | None = None,
    correlation: str | None = None,
    traceparent: str | None = None,
    causation_position: str | None = None,
    actor: str | None = None,
    request_id: str | None = None,
) -> Outgoing:
    """Return the record of a command; its subject is the booking, or else the object that its key names."""
    booking_id: UUID | None = getattr(command, "booking_id", None)
    envelope = Envelope(
        id=id,
        type=command.message_type,
        source=source,
        subject=command.subject if booking_id is None else format_id(booking_id),
        time=time,
        causation=causation,
        correlation=correlation or id,
        traceparent=traceparent,
        causation_position=causation_position,
        actor=actor,
        request_id=request_id,
    )
    return Outgoing(topic, b"%d" % command.key, encode_value(command), encode_headers(envelope))


def _time(value: bytes) -> datetime:
    time = datetime.fromisoformat(value.decode())
    if time.tzinfo is None:
        raise ValueError(f"ce_time {value!r} has no time zone")
    return time


def _text(value: bytes) -> str:
    """Decode an attribute that readers store in PostgreSQL, which has no zero character in texts."""
    if b"\0" in value:
        raise ValueError(f"{value!r} has a zero character")
    return value.decode()


def _text_or_none(value: bytes | None) -> str | None:
    return None if value is None else _text(value)


def _text_if_well_formed(value: bytes | None) -> str | None:
    """Decode an attribute that decides nothing; None where it is malformed, so that its record is still processed."""
    try:
        return _text_or_none(value)
    except ValueError:
        return None
