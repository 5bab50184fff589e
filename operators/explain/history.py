"""The parts of a booking's explanation: values that a command prints and the ingress answers.

They hold ids only, no names or addresses of guests. Times are UTC; a step's time is the log's where its record was
found.
"""

from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from topics.kafka.positions import LogPosition


class Kind(StrEnum):
    """The kinds of steps, in the order in which steps of one moment follow from each other."""

    REQUEST = "request"
    WEBHOOK = "webhook"
    COMMAND = "command"
    EVENT = "event"
    DEAD_LETTER = "dead letter"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """The operator who sent a record again, by which command (as `innkeeper actions` names it), and when."""

    who: str
    action: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of a booking's history. `place` None: it is not on the log, or no longer.

    `what` is the type of a message of ours or Stripe's name of an event, `id` the record's own (Stripe's for a
    webhook). `cause` is the id of the message that it follows from, `source` its writer. `actor` and `request_id` are
    the person who caused it and their request, where the record names them. `seconds` have passed since the step
    before, None for the first. `details` are the message's fields that are worth a line. `sent_again`: a record before
    this command or webhook has the same id, or it is an event that followed from a command that was sent again.
    `sent_by`: the operator whose replay sent it; None where a client or Stripe sent it.
    """

    kind: Kind
    at: datetime
    what: str
    id: str | None = None
    place: LogPosition | None = None
    sequence: int | None = None
    source: str | None = None
    cause: str | None = None
    actor: str | None = None
    request_id: str | None = None
    details: str = ""
    sent_again: bool = False
    sent_by: Sender | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The request that began the booking: `made_at` is the time in the booking's id, `trace` W3C's trace id.

    `actor` and `request_id` are those of the first command's envelope.
    """

    made_at: datetime | None
    user_id: int | None
    source: str | None
    correlation: str | None
    trace: str | None
    actor: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StripeObject:
    """An object at Stripe, as our tables have it. `owed_at`: a call to Stripe is due then; None: none is due."""

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
class Document:
    """An invoice or a credit note about the booking; `amount_minor` is in minor units of `currency`.

    `number` is the document's in the hotel's series of its kind, and `corrects_id` the document that it corrects.
    """

    id: UUID
    kind: str
    number: int
    reason: str
    amount_minor: int
    currency: str
    corrects_id: UUID | None
    issued_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeUse:
    """The use of a promo code by the booking; `returned`: the booking gave the use back, and it counts no more."""

    code_id: int
    code: str
    returned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Awaited:
    """An action that is awaited: its actor, and their part.

    `behind` counts the records that a worker reads before it.
    """

    who: str
    what: str
    since: datetime | None = None
    until: datetime | None = None
    behind: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """A leg of a trip: a booking of its own in the room `room_id`, with its state by the trip."""

    booking_id: UUID
    room_id: int
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stay:
    """The stay that was booked, as the ledger has it; `amount_minor` is in minor units of `currency`.

    `legs` are those of a trip, which has no rooms of its own; `trip_id` is the trip of a leg.
    """

    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    currency: str
    hold_expires_at: datetime | None
    reason: str | None
    legs: tuple[Leg, ...] = ()
    trip_id: UUID | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BookingHistory:
    """A booking from its request to what is awaited now; nothing is awaited of a booking that is final.

    `stay` None: the ledger does not have the booking yet. `notes` name what could not be looked at.
    """

    booking_id: UUID
    status: str
    request: Request
    stay: Stay | None
    steps: tuple[Step, ...]
    stripe: tuple[StripeObject, ...]
    awaited: tuple[Awaited, ...]
    notes: tuple[str, ...]
    documents: tuple[Document, ...] = ()
    code_uses: tuple[CodeUse, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it in types that JSON has."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    match value:
        case LogPosition():
            return value._asdict()
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
