"""A trace continues through the decisions of a room and through Stripe."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from storage.payments import RefundToMake, SessionToOpen
from storage.settings import DatabaseSettings
from telemetry import traces
from telemetry.spans import Tracing
from tests.support.log import Log, open_processor, process_all
from tests.telemetry.test_metrics import nights, stay
from topics.catalogue import BOOKING_COMMANDS
from topics.envelope import Envelope, command_record
from topics.messages.commands import Command
from topics.messages.events import PaymentRequested, RefundRequested
from topics.messages.values import RefundReason
from workers.payments.pending_calls import CallContext, calls_for
from workers.reservations import handler
from workers.stripe.marks import Marks

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KEPT, NOT_KEPT = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Trace this process while the test runs."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), 1.0, "reservations", "reservations-1")
    traces.use(tracing)
    yield exporter
    traces.use(None)
    tracing.provider.shutdown()


async def decide(log: Log, database: DatabaseSettings, *traced: tuple[Command, str | None]) -> list[str | None]:
    """Decide commands, each with its `traceparent`; return those of the events."""
    topic = log.settings.topic(BOOKING_COMMANDS)
    await log.write(
        *(
            command_record(topic, command, id=str(uuid4()), source="test", time=NOW, traceparent=trace)
            for command, trace in traced
        )
    )
    role = handler.build(log.settings, database)
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
    return [envelope.traceparent for envelope, _ in await log.events()]


async def test_a_decision_is_a_part_of_its_own_span_and_linked_with_its_batch(
    log: Log, database: DatabaseSettings, spans: InMemorySpanExporter
) -> None:
    _, published = await decide(log, database, (nights(rooms=1), None), (stay(), KEPT))

    decision, batch = spans.get_finished_spans()
    assert decision.name == "reservations booking.reserve.v1"
    assert decision.parent is not None
    assert f"{decision.parent.span_id:016x}" == SPAN
    assert published == f"00-{TRACE}-{decision.context.span_id:016x}-01"
    assert batch.name == "reservations batch"
    assert batch.parent is None
    assert [link.context for link in batch.links] == [decision.context]
    assert [link.context for link in decision.links] == [batch.context]


async def test_a_trace_that_is_not_kept_passes_through_and_costs_nothing(
    log: Log, database: DatabaseSettings, spans: InMemorySpanExporter
) -> None:
    _, published = await decide(log, database, (nights(rooms=1), None), (stay(), NOT_KEPT))

    assert published == NOT_KEPT
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("trace", [KEPT, None])
def test_stripe_is_given_the_events_own_trace_and_the_same_at_each_repetition(
    trace: str | None, spans: InMemorySpanExporter
) -> None:
    booking = uuid4()
    envelope = Envelope(id="e", type="t", source="s", subject=str(booking), time=NOW, traceparent=trace)
    pay = PaymentRequested(room_id=1, booking_id=booking, attempt=1, amount_minor=100, currency="EUR")
    refund = RefundRequested(
        room_id=1,
        booking_id=booking,
        session_id="cs_1",
        payment_intent="pi_1",
        amount_minor=100,
        currency="EUR",
        reason=RefundReason.BOOKING_CANCELLED,
    )

    context = CallContext(marks=Marks("key", uuid4()), frontend_url="http://127.0.0.1")
    once, again = (calls_for(pay, envelope, NOW, context=context) for _ in range(2))
    assert once == again
    for call in (*once, *calls_for(refund, envelope, NOW, context=context)):
        if isinstance(call, SessionToOpen | RefundToMake):
            assert call.params["metadata"].get("traceparent") == trace


@pytest.mark.parametrize("given", ["", "00", "00-xyz-1-01", KEPT.upper(), f"{KEPT}-more", 7, None])
def test_a_malformed_traceparent_is_none(given: object) -> None:
    assert traces.well_formed(given) is None
    assert traces.well_formed(KEPT) == KEPT
