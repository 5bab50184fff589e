"""The catalogue of topics: the messages, writers, readers and retention of each."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from topics.messages.commands import COMMANDS
from topics.messages.events import EVENTS
from topics.messages.message import Message


class Service(StrEnum):
    """The services that write and read topics; the value is the name that a broker with access control knows."""

    INGRESS = "ingress"
    RESERVATIONS = "reservations"
    PAYMENTS = "payments"
    EXPIRY = "expiry"
    PROJECTIONS = "projections"
    COORDINATION = "coordination"
    RECONCILIATION = "reconciliation"
    OPERATORS = "operators"
    NOTIFICATIONS = "notifications"
    ANALYTICS = "analytics"

    @property
    def ours(self) -> bool:
        """Whether it is part of this system, and not an outside reader of the public record."""
        return self not in {Service.NOTIFICATIONS, Service.ANALYTICS}

    @property
    def in_a_group(self) -> bool:
        """Whether its processes share the partitions, as workers do; others read all partitions, without a group."""
        return self not in {Service.INGRESS, Service.OPERATORS, Service.RECONCILIATION}


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """One topic. `retention` None means for ever; `messages` are the types it may carry (none: foreign bytes)."""

    name: str
    key: str
    written_by: tuple[Service, ...]
    read_by: tuple[Service, ...]
    retention: timedelta | None
    messages: tuple[type[Message], ...] = ()


BOOKING_COMMANDS: Final = Topic(
    name="booking.commands",
    key="room_id, or else code_id or hotel_id",
    written_by=(Service.INGRESS, Service.PAYMENTS, Service.EXPIRY, Service.COORDINATION, Service.RECONCILIATION),
    read_by=(Service.RESERVATIONS,),
    retention=timedelta(days=7),
    messages=COMMANDS,
)
BOOKING_EVENTS: Final = Topic(
    name="booking.events",
    key="room_id, or else code_id or hotel_id",
    written_by=(Service.RESERVATIONS,),
    read_by=(
        Service.PAYMENTS,
        Service.PROJECTIONS,
        Service.COORDINATION,
        Service.NOTIFICATIONS,
        Service.INGRESS,
        Service.ANALYTICS,
    ),
    retention=None,
    messages=EVENTS,
)
STRIPE_WEBHOOKS: Final = Topic(
    name="stripe.webhooks",
    key="room_id from the object's metadata, else the object's id",
    written_by=(Service.INGRESS, Service.RECONCILIATION),
    read_by=(Service.PAYMENTS, Service.RECONCILIATION),
    retention=timedelta(days=30),
)
DEAD_LETTERS: Final = Topic(
    name="dead.letters",
    key="the key of the record",
    # Services that read only events write none: an event is never skipped.
    written_by=(Service.RESERVATIONS, Service.PAYMENTS),
    read_by=(Service.OPERATORS,),
    retention=timedelta(days=30),
)

CATALOGUE: Final = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, DEAD_LETTERS)
