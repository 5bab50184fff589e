"""The operations for operators and probes: health, lag, one booking's history, dead letters. They change nothing.

Answers to operators are read from the log and the database for each request, by a reader that is opened and closed for
it, so they do not slow down bookings. Few are answered at once, each within some seconds, so that a console which asks
too often takes little.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import psycopg
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from ingress.database import Database
from ingress.http.deadlines import suspended
from ingress.http.models import NoBody, NoQuery
from ingress.http.problems import no_such, unavailable
from ingress.http.responses import Response, json_response
from ingress.log.broker import Broker
from ingress.log.waiters import Waiters
from ingress.operations import Access, Example, RequestContext, ResponseSpec, operation
from ingress.operators.models import (
    BookingHistory,
    ConsumerLag,
    DeadLetterOut,
    DeadLettersQuery,
    Live,
    NotReady,
    Ready,
)
from operators.dead_letters import DeadLetter, State, find_dead_letters
from operators.explain import NoSuchBooking, explain
from operators.lag import lags
from storage import pauses, stripe_circuits
from storage.database import connect
from storage.failures import Reason
from storage.settings import DatabaseSettings
from topics.kafka.admin import TopicsFailed
from topics.kafka.log_reader import NoSuchTopic, RecordsMissing
from topics.kafka.settings import KafkaSettings
from topics.zones import ZONE_DATA_VERSION

#: A probe waits for a second; kubelet's limit is that by default.
_PROBE_SECONDS: Final = 0.8
_OPS_ANSWER_SECONDS: Final = 10.0
_MAX_ANSWERS_AT_ONCE: Final = 2
_OPS_CONNECT_SECONDS: Final = 3
T = TypeVar("T")


class Health:
    """The operations for probes of the process."""

    def __init__(self, database: Database, broker: Broker, waiters: Waiters) -> None:
        self._database = database
        self._broker = broker
        self._waiters = waiters

    @operation(
        "GET /health/live",
        access=Access.ANYBODY,
        summary="Does the process run?",
        responses={200: Live},
        example=Example(),
        limited=False,
        service=True,
    )
    async def live(self, context: RequestContext[NoBody, NoQuery]) -> Response:  # noqa: ARG002 - every operation is called like this
        """Answer, even while the broker or the database is away."""
        return json_response(200, Live(status="live"))

    @operation(
        "GET /health/ready",
        access=Access.ANYBODY,
        summary="Can bookings be taken?",
        responses={
            200: Ready,
            503: ResponseSpec(NotReady, "Something is missing.", {"Retry-After": "In how many seconds."}),
        },
        example=Example(),
        limited=False,
        service=True,
    )
    async def ready(self, context: RequestContext[NoBody, NoQuery]) -> Response:  # noqa: ARG002 - every operation is called like this
        """Report whether bookings can be taken and, if not, which parts are missing."""
        notices, reason = await self._notices()
        parts = {"database": notices is not None, "broker": self._broker.ready, "events": self._waiters.ready}
        states = {name: "ready" if ready else "not ready" for name, ready in parts.items()}
        if reason is not None:
            states["database"] = str(reason)
        # Bookings are accepted all the same, and wait on the log: an ingress out of the balancer would help no guest.
        states |= notices or {}
        if (replicas := self._database.replicas) is not None:
            states["replicas"] = replicas
        missing = [name for name, ready in parts.items() if not ready]
        if missing:
            body = NotReady(detail=f"not ready: {', '.join(missing)}", parts=states)
            return json_response(503, body, {"Retry-After": "1"})
        return json_response(200, Ready(status="ready", parts=states, zone_data=ZONE_DATA_VERSION))

    async def _notices(self) -> tuple[dict[str, str] | None, Reason | None]:
        """Return the roles that an operator paused, and `stripe` if a payments worker's circuit to it is not closed.

        None when the database does not answer, and why; also why it made no change, which bookings do not wait for.
        """
        try:
            async with asyncio.timeout(_PROBE_SECONDS), self._database.reading() as connection:
                notices = dict.fromkeys(await pauses.paused_roles(connection), "paused")
                circuit = await stripe_circuits.worst(connection)
        except TimeoutError:
            return None, self._database.reason_of(None)
        except (SQLAlchemyError, OSError) as error:
            return None, self._database.reason_of(error) or Reason.AWAY
        if circuit is not None:
            notices["stripe"] = circuit.words
        return notices, self._database.failure_of_changes


class Ops:
    """Answers operators."""

    def __init__(self, kafka: KafkaSettings, database: DatabaseSettings) -> None:
        self._kafka = kafka
        self._database = database
        self._semaphore = asyncio.Semaphore(_MAX_ANSWERS_AT_ONCE)

    @operation(
        "GET /ops/lag",
        access=Access.OPERATOR,
        summary="How far is each consumer behind?",
        responses={200: ResponseSpec(list[ConsumerLag], "A row for each consumer and partition.")},
        example=Example(),
    )
    async def lag(self, context: RequestContext[NoBody, NoQuery]) -> Response:  # noqa: ARG002 - every operation is called like this
        """Return how many records and seconds each consumer is behind in each partition, and its assigned process.

        `innkeeper lag` shows the same.
        """
        found = await self._run(lambda: lags(self._kafka, self._database))
        return json_response(200, [ConsumerLag.model_validate(lag) for lag in found])

    @operation(
        "GET /ops/bookings/{booking_id}",
        access=Access.OPERATOR,
        summary="What happened to this booking?",
        responses={200: BookingHistory},
        example=Example(path={"booking_id": "01980000-0000-8000-8000-000000000000"}),
    )
    async def explain_booking(self, context: RequestContext[NoBody, NoQuery]) -> Response:
        """Return a booking's whole history, each step with its position on the log, and the part that it waits for now.

        `innkeeper explain` shows the same. Ids only: no names, no addresses.
        """
        try:
            history = await self._run(lambda: explain(self._kafka, self._database, context.path["booking_id"]))
        except NoSuchBooking:
            raise no_such("booking") from None
        return json_response(200, BookingHistory.model_validate(history))

    @operation(
        "GET /ops/dead-letters",
        access=Access.OPERATOR,
        summary="Which records could no worker read?",
        responses={200: ResponseSpec(list[DeadLetterOut], "The newest first.")},
        example=Example(query={"state": "open", "limit": 50}),
    )
    async def dead_letters(self, context: RequestContext[NoBody, DeadLettersQuery]) -> Response:
        """Return the records that no worker could read, with their origin, the reason, and how each was resolved.

        Their contents are left out; `innkeeper dead-letters show` has them, and operators replay and discard there.
        """
        found = await self._run(lambda: self._newest(context.query))
        return json_response(200, [DeadLetterOut.model_validate(dead_letter) for dead_letter in found])

    async def _newest(self, query: DeadLettersQuery) -> list[DeadLetter]:
        async with await connect(self._database, "innkeeper ops", connect_seconds=_OPS_CONNECT_SECONDS) as connection:
            found = await find_dead_letters(self._kafka, connection, open_only=query.open_only)
        states = query.state or State
        return [dead_letter for dead_letter in reversed(found) if dead_letter.state in states][: query.limit]

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run the work within some seconds.

        Raises:
            Problem: 503, the broker or the database is away, or it took too long.
        """
        working = asyncio.create_task(self._in_turn(work))
        working.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            with suspended():
                await asyncio.wait([working], timeout=_OPS_ANSWER_SECONDS)
        finally:
            # The readers of operators have no limits of their own: a cancelled one may take seconds to end.
            working.cancel()
        if not working.done():
            raise unavailable("the broker or the database", retry_after_seconds=2)
        try:
            return working.result()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise unavailable("the database", retry_after_seconds=2) from error
        except (KafkaError, TopicsFailed, NoSuchTopic, RecordsMissing) as error:
            raise unavailable("the broker", retry_after_seconds=2) from error
        except (TimeoutError, OSError) as error:
            raise unavailable("the broker or the database", retry_after_seconds=2) from error

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._semaphore:
            return await work()
