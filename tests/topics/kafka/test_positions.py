"""A position of the log is written in one way, and read back; and a record's header names the replay that sent it."""

from datetime import UTC, datetime

import pytest

from topics.envelope import Envelope, Replay, decode_envelope, decode_replay, encode_headers, with_replay
from topics.kafka.positions import LogPosition

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
REPLAY = Replay(id="a1", action="replay", by="inês@till 2", at=NOON, of="booking.commands[3]@17")


@pytest.mark.parametrize(
    "position",
    [
        LogPosition("booking.events", 3, 17),
        LogPosition("booking.events", 0, 0),
        LogPosition("house-2.booking.commands", 999_999_999, 10**18 - 1),
        LogPosition("odd[1]@2", 3, 4),
    ],
)
def test_a_position_is_read_as_it_was_written(position: LogPosition) -> None:
    assert LogPosition.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "booking.events",
        "booking.events[3]",
        "booking.events[3]@",
        "booking.events[]@17",
        "booking.events[-1]@17",
        "booking.events[3]@-1",
        "booking.events[3]@17 ",
        "[3]@17",
        "booking.events[3]@\u0661\u0667",
        "booking.events[3000000000]@17",
        "booking.events[3]@10000000000000000000",
    ],
)
def test_a_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no position"):
        LogPosition.parse(text)


def test_an_envelope_carries_the_position_of_its_cause_and_the_person_who_caused_it() -> None:
    envelope = Envelope(
        id="c:1",
        type="booking.reserved.v1",
        source="innkeeper/reservations",
        subject="room/1",
        time=NOON,
        causation="c",
        causation_position="booking.commands[3]@17",
        actor="user/17",
        request_id="r-9",
    )

    headers = encode_headers(envelope)

    assert decode_envelope(headers) == envelope
    assert dict(headers) | {"ce_causationposition": b"booking.commands[3]@17"} == dict(headers)
    assert dict(headers) | {"ce_actor": b"user/17", "ce_requestid": b"r-9"} == dict(headers)


def test_names_of_attributes_are_lower_case_letters_and_digits_as_cloudevents_wants_them() -> None:
    envelope = Envelope(
        id="1",
        type="t",
        source="s",
        subject="s",
        time=NOON,
        causation="c",
        correlation="c",
        sequence=1,
        traceparent="t",
        causation_position="t[0]@1",
        actor="user/1",
        request_id="r",
    )

    names = [name.removeprefix("ce_") for name, _ in with_replay(encode_headers(envelope), REPLAY)]

    assert [name for name in names if name != "content-type" and not (name.isalnum() and name.islower())] == []


def test_a_replay_is_named_once_and_its_operator_in_any_alphabet() -> None:
    first = with_replay([("ce_id", b"c")], REPLAY)
    second = with_replay(first, Replay(id="a2", action="replay", by="ines", at=NOON, of="booking.commands[3]@18"))

    assert decode_replay(first) == REPLAY
    named = decode_replay(second)
    assert named is not None
    assert (named.id, len(second)) == ("a2", 2)


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"[]", b'{"id": 1}', b"yesterday"])
def test_a_header_that_names_no_replay_is_ignored(value: bytes) -> None:
    assert decode_replay([("ce_replay", value)]) is None
    assert decode_replay([]) is None
