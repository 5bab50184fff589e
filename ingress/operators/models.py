"""The queries and responses of the operations for operators and for probes."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from ingress.http.models import OutModel, Problems, Query, Several
from operators.dead_letters import State
from operators.explain import Kind
from topics.messages.values import DocumentKind, DocumentReason, LegState


class Live(OutModel):
    """The process answers."""

    status: str


class Ready(Live):
    """Bookings can be taken; `parts` are `ready`, `not ready` or, for roles that an operator paused, `paused`.

    The part `database` may be a reason: `away`, `busy` (all connections are in use), `full`, `locked`, `no right` or
    `read-only`. If bookings can be taken, the reason is that of a change that failed in the last half minute.

    The part `stripe` is there while a payments worker makes no calls to Stripe, which does not answer: `open`, or
    `half open` when the next call decides. Bookings can be taken all the same.
    """

    parts: dict[str, str]
    zone_data: str = Field(
        description="The release of the tzdata package that hotels' time zones are read from.", examples=["2026.6"]
    )


class NotReady(Problems):
    """A part is missing; `parts` names it."""

    parts: dict[str, str]


class ConsumerLag(OutModel):
    """The position of one consumer in one partition; `seconds` is how long the first record that waits has waited."""

    consumer: str
    role: str | None
    topic: str
    partition: int
    applied: int = Field(description="The last offset that took effect; -1: none.")
    end: int = Field(description="The offset that the next record will get.")
    lag: int
    seconds: float
    last_time: datetime | None
    started: bool
    paused: bool
    owner: str | None


class LogPositionOut(OutModel, title="StepPlace"):
    """The position of a record on the log."""

    topic: str
    partition: int
    offset: int


class Replayer(OutModel):
    """The operator who sent a record again, the command, and the time."""

    who: str
    action: str
    at: datetime


class BookingStep(OutModel):
    """One thing that happened; `seconds` have passed since the one before, `place` is null off the log.

    `sent_again`: a record before it has the same id, or it is an event that followed from a command that was sent
    again. `sent_by` is the operator whose replay sent it.
    """

    kind: Kind
    at: datetime
    what: str
    id: str | None
    place: LogPositionOut | None
    sequence: int | None
    source: str | None
    cause: str | None
    actor: str | None = Field(description="The person who caused it, as a kind and an id; null where none did.")
    request_id: str | None
    details: str
    sent_again: bool
    sent_by: Replayer | None
    seconds: float | None


class BookingRequest(OutModel):
    """The request that began it, as far as it is known."""

    made_at: datetime | None
    user_id: int | None
    source: str | None
    correlation: str | None
    trace: str | None
    actor: str | None = Field(description="The person who sent it, as a kind and an id: user/17.")
    request_id: str | None


class TripLeg(OutModel):
    """A leg of a trip: a booking of its own in the room `room_id`, with its state by the trip."""

    booking_id: UUID
    room_id: int
    state: LegState


class BookedStay(OutModel):
    """The stay that was booked, as the ledger has it.

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
    legs: list[TripLeg]
    trip_id: UUID | None


class AtStripe(OutModel):
    """An object at Stripe, as our tables have it; `owed_at`: a call to Stripe is due then."""

    kind: str
    id: str | None
    status: str
    attempt: int | None
    payment_intent: str | None
    created_at: datetime | None
    updated_at: datetime | None
    owed_at: datetime | None
    failures: int


class IssuedDocument(OutModel):
    """An invoice or a credit note about the booking: its number in the hotel's series, and what it corrects."""

    id: UUID
    kind: DocumentKind
    number: int
    reason: DocumentReason
    amount_minor: int
    currency: str
    corrects_id: UUID | None
    issued_at: datetime


class UsedCode(OutModel):
    """The use of a promo code by the booking; `returned`: the booking gave the use back."""

    code_id: int
    code: str
    returned: bool


class AwaitedNow(OutModel):
    """An actor that the booking waits for, and its part; `behind` are the records that a worker reads before it."""

    who: str
    what: str
    since: datetime | None
    until: datetime | None
    behind: int | None


class BookingHistory(OutModel):
    """A booking's whole history. Nothing is awaited of a booking that is final."""

    booking_id: UUID
    status: str
    request: BookingRequest
    stay: BookedStay | None
    steps: list[BookingStep]
    stripe: list[AtStripe]
    awaited: list[AwaitedNow]
    notes: list[str]
    documents: list[IssuedDocument]
    code_uses: list[UsedCode]


class DeadLettersQuery(Query):
    """The dead letters to list, the newest first."""

    state: Annotated[Several[State], Field(max_length=len(State))] = Field(
        default_factory=list,
        description="Only those in one of these states. `begun`: a replay was cut off, or is under way.",
    )
    open_only: bool = Field(default=False, description="Only those that no operator has replayed or discarded.")
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class DeadLetterOut(OutModel, title="DeadLetter"):
    """A record that no worker could read, without its contents; `origin` is its position."""

    id: str
    at: datetime
    state: State
    consumer: str | None
    reason: str
    type: str | None
    booking: UUID | None
    origin: LogPositionOut | None
