"""Turns a worker's batches into the positioned events that projections apply."""

from collections.abc import Sequence

from storage.projections.positioned_event import PositionedEvent
from topics.messages.events import Event
from workers.runtime.role import PartitionBatch


def positioned_events(batches: Sequence[PartitionBatch]) -> list[PositionedEvent]:
    """Return the events of the batches with their positions, batch after batch."""
    return [
        PositionedEvent(
            received.envelope,
            received.message,
            received.record.value or b"",
            batch.partition,
            sequence,
            received.record.topic,
            received.record.offset,
        )
        for batch in batches
        for received in batch.received
        if isinstance(received.message, Event)
        and received.envelope is not None
        # The batch processor stops at an event without a sequence.
        and (sequence := received.envelope.sequence) is not None
    ]
