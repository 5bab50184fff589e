"""Messages on the log stay readable: every message type is compared with its frozen example."""

import json
from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
import pytest

from tests.contracts import check
from tests.contracts.check import CORRECTED, WORDS, breaks, differences, frozen, present, published
from topics.catalogue import CATALOGUE
from topics.envelope import (
    EVERY_VERSION,
    MESSAGES,
    Envelope,
    Undecodable,
    UnknownType,
    UnknownVersion,
    command_record,
    decode_envelope,
    decode_value,
    encode_headers,
    encode_value,
)
from topics.messages import sale, values
from topics.messages.commands import ChangeInventory, Command
from topics.messages.message import Message
from topics.schemas import schema_of

FROZEN = frozen()
every_message = pytest.mark.parametrize("message_type", sorted(EVERY_VERSION))
every_contract = pytest.mark.parametrize("message_type", sorted(FROZEN))


def test_every_message_has_a_frozen_example() -> None:
    assert sorted(set(EVERY_VERSION) - set(FROZEN)) == []


def test_every_message_travels_on_exactly_one_topic() -> None:
    travelling = [kind.message_type for topic in CATALOGUE for kind in topic.messages]

    assert sorted(travelling) == sorted(MESSAGES)


@every_contract
def test_a_message_written_long_ago_is_still_read(message_type: str) -> None:
    contract = FROZEN[message_type]

    message = decode_value(message_type, json.dumps(contract["value"]).encode())

    assert decode_value(message.message_type, encode_value(message)) == message


@every_message
def test_a_message_still_means_what_it_meant(message_type: str) -> None:
    assert list(differences(EVERY_VERSION[message_type], FROZEN[message_type])) == []


@every_message
def test_every_field_is_in_the_frozen_example(message_type: str) -> None:
    required = {field.name for field in msgspec.structs.fields(EVERY_VERSION[message_type]) if field.required}

    assert required <= set(FROZEN[message_type]["value"])


@every_message
def test_the_frozen_example_is_valid_by_the_schema(message_type: str) -> None:
    schema = schema_of(EVERY_VERSION[message_type])
    jsonschema.Draft202012Validator.check_schema(schema)

    jsonschema.validate(
        FROZEN[message_type]["value"],
        schema,
        cls=jsonschema.Draft202012Validator,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


@every_message
def test_the_schema_describes_the_message(message_type: str) -> None:
    schema = schema_of(EVERY_VERSION[message_type])

    assert schema["$id"] == f"urn:innkeeper:{message_type}"
    assert schema["description"].endswith(".")


@every_contract
def test_headers_written_long_ago_are_still_read(message_type: str) -> None:
    headers = [(name, value.encode()) for name, value in FROZEN[message_type]["headers"].items()]

    envelope = decode_envelope(headers)

    assert envelope.type == message_type
    assert dict(encode_headers(envelope)) == dict(headers)


@pytest.mark.parametrize("message_type", [kind.message_type for kind in CATALOGUE[0].messages])
def test_a_command_is_written_as_its_frozen_example(message_type: str) -> None:
    contract = FROZEN[message_type]
    envelope = decode_envelope([(name, value.encode()) for name, value in contract["headers"].items()])
    command = decode_value(message_type, json.dumps(contract["value"]).encode())
    assert isinstance(command, Command)

    record = command_record(
        "booking.commands",
        command,
        id=envelope.id,
        source=envelope.source,
        time=envelope.time,
        causation=envelope.causation,
        correlation=envelope.correlation,
        traceparent=envelope.traceparent,
    )

    assert record.key.decode() == contract["key"]
    assert {name: value.decode() for name, value in record.headers} == contract["headers"]


def test_a_change_from_before_there_was_all_or_none_is_a_change_of_what_can_be_changed() -> None:
    long_ago = json.dumps(FROZEN["inventory.change.v1"]["value"]).encode()
    change = decode_value("inventory.change.v1", long_ago)
    assert isinstance(change, ChangeInventory)
    assert not change.all_or_none
    assert json.loads(encode_value(change)) == FROZEN["inventory.change.v1"]["value"]

    all_or_none = encode_value(msgspec.structs.replace(change, all_or_none=True))

    assert json.loads(all_or_none) == FROZEN["inventory.change.v1"]["value"] | {"all_or_none": True}
    assert decode_value("inventory.change.v1", all_or_none) == msgspec.structs.replace(change, all_or_none=True)


def test_no_word_that_was_ever_written_is_missing() -> None:
    known = {name: [word.value for word in kind] for name, kind in word_types()}
    for name, words in json.loads(WORDS.read_text()).items():
        assert set(words) <= set(known.get(name, [])), f"{name} lost a word that may be on the log"


def test_every_word_is_frozen() -> None:
    frozen_words = json.loads(WORDS.read_text())
    for name, kind in word_types():
        assert {word.value for word in kind} <= set(frozen_words.get(name, [])), f"add {name}'s new words"


def word_types() -> Iterator[tuple[str, type[StrEnum]]]:
    """Yield every type of words in messages, with its name."""
    for name, kind in (*vars(values).items(), *vars(sale).items()):
        if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum:
            yield name, kind


# The check can fail: each of these is a change that somebody may make to a message in good faith.


def changed(*fields: tuple[str, Any] | tuple[str, Any, Any]) -> type[Message]:
    """Return a message as `booking.expired.v1` would be with these fields."""
    kind = msgspec.defstruct("Changed", fields, bases=(Message,), frozen=True, kw_only=True)
    assert issubclass(kind, Message)
    return kind


SAME = (("room_id", int), ("booking_id", UUID))
CONTRACT = {"value": {"room_id": 412, "booking_id": "01931f3e-9c4a-8d27-b6e1-5f0c2a7d9e48"}}


def test_an_unchanged_message_passes() -> None:
    assert list(differences(changed(*SAME), CONTRACT)) == []


def test_a_new_field_with_a_default_breaks_nothing() -> None:
    grown = changed(*SAME, ("note", str | None, None))

    assert list(differences(grown, CONTRACT)) == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        pytest.param(changed(("room_id", int)), "the field booking_id is missing", id="removed"),
        pytest.param(changed(("room_id", int), ("booking", UUID)), "required field `booking`", id="renamed"),
        pytest.param(
            changed(("room_id", int), ("id", UUID | None, None)), "booking_id is missing", id="renamed, optional"
        ),
        pytest.param(changed(*SAME, ("night", date)), "required field `night`", id="required"),
        pytest.param(changed(("room_id", str), ("booking_id", UUID)), "Expected `str`, got `int`", id="retyped"),
        pytest.param(changed(("room_id", float), ("booking_id", UUID)), "something else: 412.0", id="widened"),
        pytest.param(changed(("room_id", int), ("booking_id", date)), "Invalid RFC3339", id="another format"),
    ],
)
def test_a_breaking_change_is_noticed(kind: type[Message], reason: str) -> None:
    found = list(differences(kind, CONTRACT))

    assert any(reason in difference for difference in found), found


# A published schema stays as it is, also if the frozen example does not show the change: others read it too.


@pytest.mark.parametrize("message_type", sorted(published()))
def test_no_published_schema_is_broken(message_type: str) -> None:
    assert list(breaks(published()[message_type], present().get(message_type))) == []


def test_everything_that_is_published_is_recorded() -> None:
    assert published() == present(), "add the new ones: python -m tests.contracts.check"


class Reason(StrEnum):
    """A reason."""

    NEWER = "newer"
    OLDER = "older"


class Cause(StrEnum):
    """A cause."""

    NEWER = "newer"
    OLDER = "older"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part."""

    night: date


def schema_with(*fields: tuple[str, Any] | tuple[str, Any, Any], meaning: str = "It happened.") -> dict[str, Any]:
    """Return the schema of a message with these fields."""
    names = {"__doc__": meaning, "message_type": "something.happened.v1"}
    kind = msgspec.defstruct("Happened", fields, bases=(Message,), namespace=names, frozen=True, kw_only=True)
    assert issubclass(kind, Message)
    return schema_of(kind)


def with_words(name: str, *words: str) -> Any:
    """Return an enum of this name, with these words."""
    return StrEnum(name, {word.upper(): word for word in words})


ANOTHER_PART: Any = msgspec.defstruct("Part", [("night", int)], kw_only=True)
FIELDS = {
    "room_id": ("room_id", int),
    "late": ("late", bool, False),
    "reason": ("reason", Reason),
    "why": ("why", Cause | None, None),
    "parts": ("parts", tuple[Part, ...]),
}


def happened(meaning: str = "It happened.", **changes: Any) -> dict[str, Any]:
    """Return the schema of the message with some of its fields changed, removed (None) or new."""
    fields = {name: field for name, field in (FIELDS | changes).items() if field is not None}
    return schema_with(*fields.values(), meaning=meaning)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(happened(), id="unchanged"),
        pytest.param(happened(note=("note", str | None, None)), id="a new field with a default"),
        pytest.param(happened(reason=("reason", with_words("Reason", "newer", "older", "other"))), id="a new word"),
    ],
)
def test_a_change_that_readers_do_not_notice_passes(after: dict[str, Any]) -> None:
    assert list(breaks(happened(), after)) == []


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        pytest.param(None, "the message is missing, and stays on the log for ever", id="message"),
        pytest.param(happened(late=None), "the field late is missing", id="removed"),
        pytest.param(
            happened(room_id=("room_id", float)),
            'the field room_id was {"type": "integer"} and is {"type": "number"}',
            id="retyped",
        ),
        pytest.param(
            happened(room_id=("room_id", int | None)),
            'the field room_id was {"type": "integer"} and is {"anyOf": [{"type": "integer"}, {"type": "null"}]}',
            id="may be null",
        ),
        pytest.param(
            happened("It did not happen."),
            "its description was 'It happened.' and is 'It did not happen.'",
            id="meaning",
        ),
        pytest.param(
            happened(late=("late", bool, True)),
            "the field late, left out, meant False and would mean True",
            id="meaning when left out",
        ),
        pytest.param(
            happened(note=("note", str)),
            "the new field note is required, and older records do not have it",
            id="required",
        ),
        pytest.param(
            happened(late=("late", bool)),
            "the field late is required, and older records do not have it",
            id="required now",
        ),
        pytest.param(
            happened(room_id=("room_id", int, 0)),
            "the field room_id was always there, and may now be left out",
            id="optional now",
        ),
        pytest.param(
            happened(reason=("reason", with_words("Reason", "newer", "elder"))),
            "the word 'older' of reason is missing",
            id="changed word",
        ),
        pytest.param(
            happened(why=("why", with_words("Cause", "newer") | None, None)),
            "the word 'older' of why is missing",
            id="removed word",
        ),
        pytest.param(
            happened(parts=("parts", tuple[ANOTHER_PART, ...])),
            'the field parts[].night was {"type": "string", "format": "date"} and is {"type": "integer"}',
            id="inside",
        ),
    ],
)
def test_a_change_of_what_was_published_is_refused_with_the_reason(after: dict[str, Any] | None, reason: str) -> None:
    assert list(breaks(happened(), after)) == [reason]


# Records that a reader cannot read.


def test_a_newer_version_of_a_known_message_stops_its_reader() -> None:
    with pytest.raises(UnknownVersion):
        decode_value("booking.reserved.v2", b"{}")


def test_a_message_of_an_unknown_type_is_distinguished_from_a_newer_version() -> None:
    with pytest.raises(UnknownType):
        decode_value("booking.teleported.v1", b"{}")


@pytest.mark.parametrize("message_type", ["", "booking", "booking.reserved", "booking.reserved.v", ".v1", "v1"])
def test_half_a_name_is_no_version_of_anything(message_type: str) -> None:
    with pytest.raises((UnknownType, UnknownVersion)):
        decode_value(message_type, b"{}")


@every_message
def test_a_field_from_the_future_is_ignored(message_type: str) -> None:
    value = FROZEN[message_type]["value"]

    message = decode_value(message_type, json.dumps({**value, "field_of_tomorrow": {"any": ["thing"]}}).encode())

    assert message == decode_value(message_type, json.dumps(value).encode())


@every_message
@pytest.mark.parametrize("value", [None, b"", b"not json", b"[]", b"{}", b"null", b'{"room_id": "412"}', b"\xff\xfe"])
def test_bad_bytes_are_undecodable_whatever_they_are(message_type: str, value: bytes | None) -> None:
    with pytest.raises(Undecodable):
        decode_value(message_type, value)


@pytest.mark.parametrize("missing", ["ce_id", "ce_type", "ce_source", "ce_subject", "ce_time"])
def test_a_record_without_a_required_header_is_undecodable(missing: str) -> None:
    headers = FROZEN["booking.expired.v1"]["headers"]

    with pytest.raises(Undecodable, match=missing):
        decode_envelope([(name, value.encode()) for name, value in headers.items() if name != missing])


@pytest.mark.parametrize(
    ("name", "value"),
    [("ce_time", b"yesterday"), ("ce_sequence", b"one"), ("ce_id", b"\xff"), ("ce_subject", b"\xc3\x28")],
)
def test_a_malformed_header_is_undecodable(name: str, value: bytes) -> None:
    headers = FROZEN["booking.expired.v1"]["headers"]

    with pytest.raises(Undecodable, match="malformed"):
        decode_envelope([*((each, text.encode()) for each, text in headers.items()), (name, value)])


def test_an_envelope_without_extensions_has_no_headers_for_them() -> None:
    envelope = decode_envelope(
        [(name, value.encode()) for name, value in FROZEN["inventory.open.v1"]["headers"].items()]
    )
    bare = Envelope(
        id=envelope.id, type=envelope.type, source=envelope.source, subject=envelope.subject, time=envelope.time
    )

    assert {name for name, _ in encode_headers(bare)} == {
        "ce_specversion",
        "content-type",
        "ce_id",
        "ce_type",
        "ce_source",
        "ce_subject",
        "ce_time",
    }


# A description that was false is corrected, and only by an entry in the list.


@pytest.mark.parametrize("message_type", sorted(CORRECTED))
def test_a_correction_has_a_reason_and_took_effect(message_type: str) -> None:
    false, reason = CORRECTED[message_type]

    assert reason.endswith(".")
    assert present()[message_type]["description"] != false


def test_a_description_changes_only_from_the_false_one_that_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = happened("It was free."), happened("It cost something.")
    refusal = "its description was 'It was free.' and is 'It cost something.'"
    assert list(breaks(before, after)) == [refusal]

    monkeypatch.setattr(check, "CORRECTED", {"something.happened.v1": ("It was dear.", "It was not.")})
    assert list(breaks(before, after)) == [refusal]

    monkeypatch.setattr(check, "CORRECTED", {"something.happened.v1": ("It was free.", "It was not.")})
    assert list(breaks(before, after)) == []
    assert list(breaks(before, happened("It cost something.", late=None))) == ["the field late is missing"]
