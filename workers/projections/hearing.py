"""The runs that the adapter hands over, as the read models take them up."""

from collections.abc import Sequence

from storage.projections.positioned_event import Heard
from topics.messages.events import Event
from workers.runtime.role import PartitionBatch


def heard(runs: Sequence[PartitionBatch]) -> list[Heard]:
    """Return the runs' events with their places, run after run."""
    return [
        Heard(
            received.envelope,
            received.message,
            received.record.value or b"",
            run.partition,
            sequence,
            received.record.topic,
            received.record.offset,
        )
        for run in runs
        for received in run.received
        if isinstance(received.message, Event)
        and received.envelope is not None
        # The adapter stops at an event that has none.
        and (sequence := received.envelope.sequence) is not None
    ]
