"""Prometheus reads every metric of a process once, and the numbers are those of the events."""

import re
import socket
import urllib.request
from datetime import UTC, date, datetime
from uuid import UUID, uuid4
from weakref import WeakSet

import pytest
from prometheus_client import generate_latest

import telemetry
from storage.settings import DatabaseSettings
from telemetry import metrics
from telemetry.metrics import METRICS, Counter, Histogram, Series
from telemetry.scraped import registry_of, serve
from telemetry.settings import TelemetrySettings
from tests.ingress.conftest import run_ingress_alone
from tests.support.log import Log, open_processor, process_all
from topics import backoff
from topics.backoff import Backoff
from topics.envelope import Envelope, encode_headers
from topics.messages.commands import OpenInventory, ReserveStay
from workers.reservations import handler
from workers.runtime.batch_metrics import _TYPE, requested_at_ms

PARTS = ("ingress", "reservations", "payments", "projections", "expiry", "coordination", "reconciliation")
ROOM = 7


def scraped(part: str) -> dict[str, float]:
    """Return every sample that a process of this part reports, by name and labels as Prometheus writes them."""
    lines = generate_latest(registry_of(part)).decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: str(metric.name))
def test_a_metric_is_named_once_as_operators_expect_names(metric: metrics.Metric) -> None:
    assert [other.name for other in METRICS].count(metric.name) == 1
    assert re.fullmatch(r"innkeeper_[a-z][a-z_]+", metric.name)
    assert metric.name.endswith("_total") == isinstance(metric, Counter)
    assert ("seconds" in metric.name) == (metric.unit == "seconds")
    assert metric.help.endswith(".")
    assert set(metric.services) <= set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_each_process_reports_its_own_metrics_and_no_others(part: str) -> None:
    page = generate_latest(registry_of(part)).decode()
    families = set(re.findall(r"^# TYPE (innkeeper_\w+) ", page, re.MULTILINE))
    assert families == {metric.name for metric in METRICS if part in metric.services}
    assert "process_resident_memory_bytes" in page


def test_a_histogram_puts_each_value_below_the_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram("test_seconds", "Test.", unit="seconds", services=(), bounds=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.of().observe(value)
    histogram.of().observe(2.0, times=3)

    assert histogram.of().counts == [2, 4, 1]
    assert histogram.of().total == 18.0


def test_series_begin_at_nought_so_that_the_first_increase_is_seen() -> None:
    counter = Counter("test_total", "Test.", unit="", services=(), labels=("kind",))
    counter.add(0, "one")
    assert counter.values == {("one",): 0}
    assert Series((1.0,)).counts == [0, 0]


async def test_decisions_of_a_room_are_counted_by_event(log: Log, database: DatabaseSettings) -> None:
    role = handler.build(log.settings, database)
    await log.send(nights(rooms=1), stay(), stay())

    async with open_processor(role, log, database) as processor:
        before = scraped("reservations")
        processor.metrics.read_ends_from(lambda _: 10)
        await process_all(processor, role, log)
        after = scraped("reservations")
        lags = {name: value for name, value in after.items() if name.startswith("innkeeper_lag_records")}

    grown = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    assert grown['innkeeper_decisions_total{event="booking.reserved.v1"}'] == 1
    assert grown['innkeeper_decisions_total{event="booking.rejected.v1"}'] == 1
    assert grown['innkeeper_rejections_total{reason="sold_out"}'] == 1
    assert grown["innkeeper_decision_seconds_count"] == 3
    assert grown["innkeeper_batch_records_sum"] == 3
    assert grown["innkeeper_transaction_seconds_count"] >= 1
    assert sorted(lags.values()) == [7, 10, 10, 10], "ten records in each of four partitions, three of them applied"


async def test_a_broken_dependency_is_trouble_for_as_long_as_somebody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A waiter of an earlier test may not be gone yet: Python decides when.
    monkeypatch.setattr(backoff, "_waiting", WeakSet())

    def waiting() -> float:
        return scraped("expiry")['innkeeper_troubles{reason="other"}']

    one, other = Backoff("one"), Backoff("other")
    await one.wait(OSError("away"))
    await other.wait(OSError("away"))
    assert waiting() == 2
    one.reset()
    assert waiting() == 1
    del other
    assert waiting() == 0


@pytest.mark.process
async def test_answers_of_the_ingress_are_counted_by_operation_and_class() -> None:
    before = scraped("ingress")
    async with run_ingress_alone() as house:
        await house.get("/health/live")
        await house.get("/v1/nowhere")
        await house.get("/v1/users/guests")
    after = scraped("ingress")

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown('innkeeper_http_request_seconds_count{answer="2xx",operation="live"}') == 1
    assert grown('innkeeper_http_request_seconds_count{answer="4xx",operation="none"}') == 1
    assert grown('innkeeper_http_answers_total{status="401"}') == 1
    assert after['innkeeper_ready{dependency="broker"}'] == 0
    assert after['innkeeper_pool_connections{state="most"}'] == 10


@pytest.mark.process
def test_prometheus_reads_them_at_a_port_of_their_own() -> None:
    server = serve("expiry", "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            page = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
    assert "innkeeper_expiry_leads 0.0" in page


def test_a_port_that_somebody_has_is_named_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit):
            telemetry.serve_metrics(TelemetrySettings(_env_file=None, metrics_port=port), "expiry")
    assert f"METRICS_PORT={port}: Address already in use" in capsys.readouterr().err


def test_a_booking_id_of_the_ingress_shows_when_it_was_asked_for() -> None:
    asked = UUID(int=1_770_000_000_123 << 80 | 8 << 76 | 0b10 << 62)
    for booking_id, expected in ((asked, 1_770_000_000_123), (uuid4(), None)):
        headers = encode_headers(
            Envelope(id="a", type="booking.confirmed.v1", source="s", subject=str(booking_id), time=datetime.now(UTC))
        )
        assert headers[_TYPE] == ("ce_type", b"booking.confirmed.v1")
        assert requested_at_ms(headers) == expected


def nights(*, rooms: int) -> OpenInventory:
    return OpenInventory(
        room_id=ROOM,
        hotel_id=1,
        first_night=date(2027, 5, 1),
        end_night=date(2027, 5, 11),
        total_count=rooms,
        price_minor=10_000,
        currency="EUR",
    )


def stay() -> ReserveStay:
    return ReserveStay(
        room_id=ROOM,
        booking_id=uuid4(),
        user_id=1,
        hotel_id=1,
        check_in=date(2027, 5, 1),
        check_out=date(2027, 5, 3),
    )
