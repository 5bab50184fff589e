"""What a booking's explanation is made of: values that a command prints and the ingress answers.

Ids only, no names or addresses. Times are UTC; a step's time is the log's where the record was found.
"""

from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Kind(StrEnum):
    """What a step is, in the order in which steps of one moment follow from each other."""

    REQUEST = "request"
    WEBHOOK = "webhook"
    COMMAND = "command"
    EVENT = "event"
    DEAD_LETTER = "dead letter"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a record stands on the log."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """The operator who sent a record again, by which command (as `topics actions` names it), and when they did so."""

    who: str
    action: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing that happened. `place` None: it is not on the log, or no longer.

    `what` is the wire name of a message of ours or Stripe's name of an event, `id` the record's own (Stripe's for a
    webhook). `cause` is the id of what it follows from, `source` who wrote it. `seconds` have passed since the step
    before, None for the first. `details` are the message's fields that are worth a line. `sent_again`: the id of this
    command or webhook stood on the log already, or it is an event that came of one sent again. `sent_by`: the operator
    whose replay that was; None where a client or Stripe sent it, or where it cannot be told.
    """

    kind: Kind
    at: datetime
    what: str
    id: str | None = None
    place: Place | None = None
    sequence: int | None = None
    source: str | None = None
    cause: str | None = None
    details: str = ""
    sent_again: bool = False
    sent_by: Sender | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is known of the request that began it: `made_at` as the booking's id says, `trace` is W3C's trace id."""

    made_at: datetime | None
    user_id: int | None
    source: str | None
    correlation: str | None
    trace: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StripeObject:
    """What we know of an object at Stripe. `owed_at`: a call to Stripe is due then; None: none is owed."""

    kind: str
    id: str | None
    status: str
    attempt: int | None
    payment_intent: str | None
    created_at: datetime | None
    updated_at: datetime | None
    owed_at: datetime | None
    failures: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Awaited:
    """Who is to act, and on what. `behind` counts the records that a worker has before it."""

    who: str
    what: str
    since: datetime | None = None
    until: datetime | None = None
    behind: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stay:
    """What was booked, as the ledger has it; `amount_minor` in minor units of `currency`."""

    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    currency: str
    hold_expires_at: datetime | None
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """A booking from its request to what is awaited now; nothing is awaited of one whose `awaited` is empty.

    `stay` None: the ledger has not heard of the booking yet. `notes` say what could not be looked at.
    """

    booking_id: UUID
    status: str
    request: Request
    stay: Stay | None
    steps: tuple[Step, ...]
    stripe: tuple[StripeObject, ...]
    awaited: tuple[Awaited, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it in types that JSON has."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            return value
