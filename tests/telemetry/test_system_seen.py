"""One booking through real processes, as an operator observes it: one trace, lines with its ids, and all metrics."""

import json
import re
import secrets
from pathlib import Path

import aiohttp
import pytest

from sandbox.system import Plan, System
from telemetry.metrics import METRICS
from tests.support.caps import WITHOUT_CAPS
from tests.support.waiting import wait_until
from tests.system.path.guest import Guest, House, open_house
from tests.telemetry.collector import Collector, ReceivedSpan, open_collector

pytestmark = pytest.mark.system

PARTS = {"ingress", "reservations", "payments", "projections", "expiry", "coordination", "reconciliation"}


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """Skip the check for processes: the system's supervisor starts them again when they end, and ends them all."""


async def test_one_booking_is_one_trace_from_the_request_to_stripes_webhook(tmp_path: Path) -> None:
    async with open_collector() as collector:
        plan = Plan(
            folder=tmp_path,
            partitions=4,
            own_servers=True,
            quiet=True,
            environment={
                "RATE_LIMITS": "false",
                **WITHOUT_CAPS,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
                "METRICS_PORT": "0",
                "LOG_FORMAT": "json",
            },
        )
        async with System(plan) as system, open_house(system) as house:
            trace, booking = await booked_and_paid(house)
            spans = await whole_trace(collector, trace)
            assert_it_is_one_way(spans)
            assert_stripe_kept_nothing_but_ids(await house.stripe("GET", "/_sandbox/ledger"), booking, trace)
            # The timer counts the holds once in a while.
            await wait_until(lambda: every_process_reports_its_metrics(house, system.logs))
        assert_lines_name_the_booking(system.logs, booking, trace)


async def booked_and_paid(house: House) -> tuple[str, str]:
    """Book and pay as a client whose requests all belong to one trace; return the trace's and the booking's id."""
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    room, somebody = await house.room(), await house.guest()
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(60)) as session:
        guest = Guest(session, somebody.url, somebody.token)
        booking = await guest.booked(room)
        page = await guest.checkout(booking)
        # The browser that pays does not know the trace.
        assert await somebody.pay(page) == 303
        await guest.becomes(booking, "CONFIRMED")
    return trace, booking


async def whole_trace(collector: Collector, trace: str) -> list[ReceivedSpan]:
    """Return the trace once its end has arrived, from every process that had a part in it.

    Each process sends its spans in batches, so a span can arrive before its parent. The trace is complete when the only
    missing parent is the client's own request.
    """

    def complete() -> list[ReceivedSpan]:
        spans = [span for span in collector.spans if span.trace == trace]
        missing = {span.parent for span in spans} - {span.id for span in spans}
        assert len(missing) == 1, f"spans have missing parents: {missing}"
        steps = {(span.service.removeprefix("innkeeper-"), span.name) for span in spans}
        assert ("reservations", "reservations booking.confirm_payment.v1") in steps
        assert ("payments", "payments booking.confirmed.v1") in steps
        assert ("projections", "projections booking.confirmed.v1") in steps
        assert any("Stripe POST" in name for _, name in steps)
        assert any(trace in span.links and span.name == "reservations batch" for span in collector.spans)
        return spans

    return await wait_until(complete, message=lambda: f"of {sorted((s.service, s.name) for s in collector.spans)}")


def assert_it_is_one_way(spans: list[ReceivedSpan]) -> None:
    """Assert that the parent of each span is the step before."""
    by_id = {span.id: span for span in spans}

    def way_to(name: str) -> list[str]:
        span = next(span for span in spans if span.name == name)
        way = [span.name]
        while (above := by_id.get(span.parent)) is not None:
            span = above
            way.append(span.name)
        return way[::-1]

    pay = "POST /v1/bookings/{booking_id}/payments"
    request = [pay, "reservations booking.request_payment.v1"]
    assert way_to("payments booking.payment_requested.v1") == [*request, "payments booking.payment_requested.v1"]
    assert way_to("Stripe POST") == [*request, "payments creating", "Stripe POST"]
    until_webhook = [*request, "receive stripe.webhooks"]
    assert way_to("payments stripe.webhooks") == [*until_webhook, "payments stripe.webhooks"]
    assert way_to("payments booking.confirmed.v1") == [
        *until_webhook,
        "reservations booking.confirm_payment.v1",
        "payments booking.confirmed.v1",
    ]


def assert_stripe_kept_nothing_but_ids(
    ledger: dict[str, list[dict[str, dict[str, str]]]], booking: str, trace: str
) -> None:
    [paid] = [entry for entry in ledger["payment_intents"] if entry["metadata"].get("booking_id") == booking]
    assert set(paid["metadata"]) == {"booking_id", "room_id", "attempt", "mark", "traceparent"}
    assert paid["metadata"]["traceparent"].split("-")[1] == trace


def written_in(logs: Path) -> list[str]:
    return [log.read_text() for log in logs.glob("*.log")]


async def every_process_reports_its_metrics(house: House, logs: Path) -> bool:
    parts = set()
    for log in written_in(logs):
        for url in re.findall(r"metrics at (http://[\d.:]+/metrics)", log)[-1:]:
            async with house.session.get(url) as response:
                page = await response.text()
            [part] = re.findall(r'innkeeper_info\{name="[^"]+",part="(\w+)"\} 1.0', page)
            parts.add(part)
            families = set(re.findall(r"^# TYPE (innkeeper_\w+) ", page, re.MULTILINE))
            assert families == {metric.name for metric in METRICS if part in metric.services}
            if part == "reservations":
                assert 'innkeeper_decisions_total{event="booking.confirmed.v1"} 1.0' in page
                assert "innkeeper_confirmation_seconds_count 1.0" in page
                assert "innkeeper_lag_records{" in page
            if part == "expiry":
                assert 'innkeeper_holds{state="live"}' in page
    assert parts == PARTS
    return True


def assert_lines_name_the_booking(logs: Path, booking: str, trace: str) -> None:
    lines = [json.loads(line) for line in (logs / "payments-1.log").read_text().splitlines() if line.startswith("{")]
    # Stripe sends it a second time if the first response was slow.
    webhooks = [line for line in lines if "is paid (webhook" in line["event"]]
    assert webhooks
    for webhook in webhooks:
        assert booking in webhook["event"]
        assert webhook["trace_id"] == trace
        assert webhook["part"] == "payments"
        assert webhook["level"] == "info"
