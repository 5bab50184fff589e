"""The projections role: turns `booking.events` into the rows that the ingress reads.

Reads `booking.events`, and from the ledger the fields of a booking that an event does not have; writes the read models
of its consumers, and publishes nothing. Each consumer's cursor moves in the transaction of its rows; a failure undoes
both, and the batch is read again. A rebuild (rows and cursor removed, the whole log read again) gives the same rows.

All workers take their locks in the order of the consumers, which is the same in all of them.
"""

from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings
from workers.projections.daily_report import DailyReport
from workers.projections.money_movements import MoneyMovements
from workers.projections.room_nights import RoomNights
from workers.projections.timeline import BookingTimeline
from workers.runtime.role import Role


def build(kafka: KafkaSettings, database: DatabaseSettings) -> Role:  # noqa: ARG001 - every role is built like this
    """Return the role; it needs no settings of its own."""
    return Role(name="projections", consumers=(BookingTimeline(), RoomNights(), DailyReport(), MoneyMovements()))
