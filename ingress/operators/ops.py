"""What operators read over HTTP, for a console: lag, one booking's life, and the dead letters. Changes nothing.

Everything is read when it is asked for, by a reader of the log that is opened then and closed again: nothing of it is
near a booking's way. Few are answered at once, each within some seconds, lest a console that asks too often be felt.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Annotated, Final, TypeVar
from uuid import UUID

import psycopg
from aiokafka.errors import KafkaError
from pydantic import Field

from ingress.http.models import NoBody, NoQuery, OutModel, Query, Several
from ingress.http.problems import Problem, unavailable
from ingress.http.responses import Response, json_response
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from operators.dead_letters import DeadLetter, State, listed
from operators.explain import Kind, NoSuchBooking, explain
from operators.lag import lags
from storage.database import connect
from storage.settings import DatabaseSettings
from topics.kafka.admin import TopicsFailed
from topics.kafka.log_reader import NoSuchTopic, RecordsMissing
from topics.kafka.settings import KafkaSettings

_SECONDS: Final = 10.0
_AT_ONCE: Final = 2
_CONNECT_SECONDS: Final = 3
T = TypeVar("T")


class ConsumerLag(OutModel):
    """How far one consumer has come in one partition; `seconds` is how long the first record that waits has waited."""

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


class StepPlace(OutModel):
    """Where a record stands on the log."""

    topic: str
    partition: int
    offset: int


class Replayer(OutModel):
    """The operator who sent a record again, by which command, and when."""

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
    place: StepPlace | None
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
    """What is known of the request that began it."""

    made_at: datetime | None
    user_id: int | None
    source: str | None
    correlation: str | None
    trace: str | None
    actor: str | None = Field(description="The person who sent it, as a kind and an id: user/17.")
    request_id: str | None


class BookedStay(OutModel):
    """What was booked, as the ledger has it."""

    hotel_id: int
    room_id: int
    check_in: date
    check_out: date
    rooms_count: int
    amount_minor: int
    currency: str
    hold_expires_at: datetime | None
    reason: str | None


class AtStripe(OutModel):
    """What we know of an object at Stripe; `owed_at`: a call to Stripe is due then."""

    kind: str
    id: str | None
    status: str
    attempt: int | None
    payment_intent: str | None
    created_at: datetime | None
    updated_at: datetime | None
    owed_at: datetime | None
    failures: int


class AwaitedNow(OutModel):
    """Who is to act, and on what; `behind` are the records that a worker has before it."""

    who: str
    what: str
    since: datetime | None
    until: datetime | None
    behind: int | None


class BookingLife(OutModel):
    """A booking's whole life. Nothing is awaited of one that is final."""

    booking_id: UUID
    status: str
    request: BookingRequest
    stay: BookedStay | None
    steps: list[BookingStep]
    stripe: list[AtStripe]
    awaited: list[AwaitedNow]
    notes: list[str]


class WantedLetters(Query):
    """Which dead letters, the newest first."""

    state: Annotated[Several[State], Field(max_length=len(State))] = Field(
        default_factory=list,
        description="Only those in one of these states. `begun`: a replay was cut off, or goes on just now.",
    )
    open_only: bool = Field(default=False, description="Only those that no operator has replayed or discarded.")
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class BuriedRecord(OutModel):
    """A record that could not be understood, without what it says; `origin` is where it stood."""

    id: str
    at: datetime
    state: State
    consumer: str | None
    reason: str
    type: str | None
    booking: UUID | None
    origin: StepPlace | None


class Ops:
    """Answers operators."""

    def __init__(self, kafka: KafkaSettings, database: DatabaseSettings) -> None:
        self._kafka = kafka
        self._database = database
        self._room = asyncio.Semaphore(_AT_ONCE)

    @operation(
        "GET /ops/lag",
        access=Access.OPERATOR,
        summary="How far is who behind?",
        responses={200: ResponseSpec(list[ConsumerLag], "A row for each consumer and partition.")},
        example=Example(),
    )
    async def lag(self, context: RequestContext[NoBody, NoQuery]) -> Response:  # noqa: ARG002 - every operation is called like this
        """Tell of every consumer and partition how many records and seconds it is behind, and who owns it.

        `innkeeper lag` tells the same.
        """
        found = await self._answered(lambda: lags(self._kafka, self._database))
        return json_response(200, [ConsumerLag.model_validate(lag) for lag in found])

    @operation(
        "GET /ops/bookings/{booking_id}",
        access=Access.OPERATOR,
        summary="What happened to this booking?",
        responses={200: BookingLife},
        example=Example(path={"booking_id": "01980000-0000-8000-8000-000000000000"}),
    )
    async def explain_booking(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Tell a booking's whole life, each step with its place on the log, and what is awaited now.

        `innkeeper explain` tells the same. Ids only: no names, no addresses.
        """
        try:
            life = await self._answered(lambda: explain(self._kafka, self._database, context.path["booking_id"]))
        except NoSuchBooking:
            raise Problem(404, "no such booking") from None
        return json_response(200, BookingLife.model_validate(life))

    @operation(
        "GET /ops/dead-letters",
        access=Access.OPERATOR,
        summary="What could not be understood?",
        responses={200: ResponseSpec(list[BuriedRecord], "The newest first.")},
        example=Example(query={"state": "open", "limit": 50}),
    )
    async def dead_letters(self, context: RequestContext[NoBody, WantedLetters]) -> Response:
        """Tell which records were buried, where they came from, why, and what became of them.

        What they say is left out; `innkeeper dead-letters show` has it, and replays and discards.
        """
        found = await self._answered(lambda: self._letters(context.query))
        return json_response(200, [BuriedRecord.model_validate(letter) for letter in found])

    async def _letters(self, wanted: WantedLetters) -> list[DeadLetter]:
        async with await connect(self._database, "innkeeper ops", connect_seconds=_CONNECT_SECONDS) as connection:
            found = await listed(self._kafka, connection, open_only=wanted.open_only)
        return [letter for letter in reversed(found) if letter.state in (wanted.state or State)][: wanted.limit]

    async def _answered(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work within some seconds.

        Raises:
            Problem: 503, the broker or the database is away, or it took too long.
        """
        try:
            async with asyncio.timeout(_SECONDS), self._room:
                return await work()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise unavailable("the database", retry_after_seconds=2) from error
        except (KafkaError, TopicsFailed, NoSuchTopic, RecordsMissing) as error:
            raise unavailable("the broker", retry_after_seconds=2) from error
        except (TimeoutError, OSError) as error:
            raise unavailable("the broker or the database", retry_after_seconds=2) from error
