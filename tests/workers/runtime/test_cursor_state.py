"""A process remembers the last events of a partition by their digests, and names one that comes again otherwise."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from workers.runtime.cursor_state import CursorState, EventSequence


def event(sequence: int, value: bytes) -> Any:
    """Return an event as it is received."""
    record = SimpleNamespace(topic="booking.events", partition=0, offset=sequence, value=value)
    return SimpleNamespace(record=record, envelope=SimpleNamespace(sequence=sequence))


def events_after(state: CursorState, sequence: int) -> EventSequence:
    return EventSequence(cast("Any", SimpleNamespace(sequence=sequence)), state)


def test_an_event_that_comes_again_is_named_if_it_differs_and_no_body_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = CursorState(0, 0)
    first = events_after(state, 0)
    assert all(first.is_next(event(sequence, b"%d" % sequence * 1_000)) for sequence in range(1, 601))

    assert max(len(digest) for _, digest in state.recent.values()) <= 8
    assert len(state.recent) == 500

    # The next batch of the partition begins with the same state.
    second = events_after(state, 600)
    assert not second.is_next(event(599, b"599" * 1_000))
    assert not caplog.messages
    assert not second.is_next(event(599, b"another"))
    [message] = caplog.messages
    assert "sequence 599 is there twice, as different events" in message
