"""An event with its position on the log: the input of every projection, from a worker or from a rebuild."""

from typing import NamedTuple

from topics.envelope import Envelope
from topics.messages.events import Event


class PositionedEvent(NamedTuple):
    """An event with its envelope, its data as the log has them, and its position; `sequence` is the partition's."""

    envelope: Envelope
    event: Event
    value: bytes
    partition: int
    sequence: int
    topic: str
    offset: int
