"""The coordination role: events become commands to other keys, whose partitions decide what follows.

A booking with a promo code is claimed in the code's partition and reserved in its room's; a hotel's documents are
numbered in the hotel's; the legs of a trip are reserved in their rooms' partitions, and the trip is decided in one of
them. The reader follows `consumer` (the fenced transaction) and then the pure functions of `codes`, `documents` and
`trips`: event -> commands. `workers.decisions` decides those.
"""

from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings
from workers.coordination.consumer import Coordination
from workers.runtime.role import Role


def build(kafka: KafkaSettings, database: DatabaseSettings) -> Role:  # noqa: ARG001 - every role is built like this
    """Return the role; it needs no settings of its own."""
    return Role(name="coordination", consumers=(Coordination(kafka),))
