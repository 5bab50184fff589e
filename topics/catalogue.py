"""The catalogue of topics: what each carries, who writes and reads it, and how long it is kept."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from topics.commands import COMMANDS
from topics.events import EVENTS
from topics.message import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """One topic. `retention` None means for ever; `messages` are the types it may carry (none: foreign bytes)."""

    name: str
    key: str
    written_by: str
    read_by: str
    retention: timedelta | None
    messages: tuple[type[Message], ...] = ()


BOOKING_COMMANDS: Final = Topic(
    name="booking.commands",
    key="room_id",
    written_by="ingress, payments, expiry",
    read_by="reservations",
    retention=timedelta(days=7),
    messages=COMMANDS,
)
BOOKING_EVENTS: Final = Topic(
    name="booking.events",
    key="room_id",
    written_by="reservations",
    read_by="payments, projections, notifications, ingress (waiters), analytics",
    retention=None,
    messages=EVENTS,
)
STRIPE_WEBHOOKS: Final = Topic(
    name="stripe.webhooks",
    key="room_id from the object's metadata, else the object's id",
    written_by="ingress",
    read_by="payments",
    retention=timedelta(days=30),
)
DEAD_LETTERS: Final = Topic(
    name="dead.letters",
    key="as the origin",
    written_by="every worker",
    read_by="operators",
    retention=timedelta(days=30),
)

CATALOGUE: Final = (BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS, DEAD_LETTERS)
