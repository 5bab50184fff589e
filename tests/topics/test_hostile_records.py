"""A record of a foreign producer is read or refused as undecodable; none of its bytes raises anything else."""

from datetime import UTC, datetime

import pytest

from topics.envelope import (
    Envelope,
    Headers,
    Undecodable,
    decode_envelope,
    decode_replay,
    decode_value,
    encode_headers,
)

ENVELOPE = Envelope(
    id="1",
    type="booking.reserve.v1",
    source="test",
    subject="b",
    time=datetime(2027, 1, 1, tzinfo=UTC),
    causation_position="booking.commands[3]@17",
    actor="user/17",
    request_id="r1",
)
#: Deeper than any data of ours, and than a decoder follows.
NESTED = b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


def with_header(name: str, value: bytes | None) -> Headers:
    return [(key, value if key == name else old) for key, old in encode_headers(ENVELOPE)]  # type: ignore[misc]


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source", "ce_subject", "ce_time"])
@pytest.mark.parametrize("value", [None, b"\xff"], ids=["null", "no UTF-8"])
def test_a_malformed_required_header_is_undecodable(name: str, value: bytes | None) -> None:
    with pytest.raises(Undecodable, match="header"):
        decode_envelope(with_header(name, value))


@pytest.mark.parametrize("name", ["ce_causationposition", "ce_actor", "ce_requestid"])
@pytest.mark.parametrize("value", [None, b"\xff", b"\0"], ids=["null", "no UTF-8", "a zero character"])
def test_a_malformed_header_that_decides_nothing_is_left_out(name: str, value: bytes | None) -> None:
    attribute = {"ce_causationposition": "causation_position", "ce_actor": "actor", "ce_requestid": "request_id"}[name]

    envelope = decode_envelope(with_header(name, value))

    assert getattr(envelope, attribute) is None
    assert envelope.id == ENVELOPE.id


def test_data_that_is_nested_too_deep_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        decode_value("booking.cancel.v1", NESTED)


def test_a_replay_that_cannot_be_read_is_none() -> None:
    assert [decode_replay([("ce_replay", value)]) for value in (b"{", b"\xff", NESTED)] == [None, None, None]
