"""One event on its way into read models: what a worker and a rebuild both hand to the projections' folding."""

from typing import NamedTuple

from topics.envelope import Envelope
from topics.messages.events import Event


class Heard(NamedTuple):
    """An event with its envelope, its data as the log has them, and its position; `sequence` is the partition's."""

    envelope: Envelope
    event: Event
    value: bytes
    partition: int
    sequence: int
    topic: str
    offset: int
