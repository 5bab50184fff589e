"""The consumers of the workers: the names of their cursors, their roles, and the topics that they read."""

from dataclasses import dataclass
from typing import Final

from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, Service, Topic


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumer:
    """A name in `log_cursor`; the processes of `role` are one consumer group."""

    name: str
    role: Service
    topics: tuple[Topic, ...]


#: A test compares these with the workers, which `topics` must not import.
CONSUMERS: Final = (
    Consumer(name="reservations", role=Service.RESERVATIONS, topics=(BOOKING_COMMANDS,)),
    Consumer(name="payments", role=Service.PAYMENTS, topics=(BOOKING_EVENTS, STRIPE_WEBHOOKS)),
    Consumer(name="booking_timeline", role=Service.PROJECTIONS, topics=(BOOKING_EVENTS,)),
    Consumer(name="room_nights", role=Service.PROJECTIONS, topics=(BOOKING_EVENTS,)),
    Consumer(name="daily_report", role=Service.PROJECTIONS, topics=(BOOKING_EVENTS,)),
    Consumer(name="money_movements", role=Service.PROJECTIONS, topics=(BOOKING_EVENTS,)),
    Consumer(name="coordination", role=Service.COORDINATION, topics=(BOOKING_EVENTS,)),
)

#: The consumer, by the name of its cursor, of each topic that has only one.
PROCESSED_BY: Final = {
    topic.name: consumer.name for consumer in CONSUMERS for topic in consumer.topics if topic is not BOOKING_EVENTS
}
