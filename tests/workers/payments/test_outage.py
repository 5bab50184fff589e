"""Stripe is away: the caller makes no calls, loses nothing, and begins with refunds and closings afterwards."""

import asyncio
import logging
from typing import Any
from uuid import uuid4

import pytest
import stripe

from storage import stripe_circuits
from storage.stripe_circuits import Circuit, CircuitState
from telemetry import metrics
from tests.support.waiting import wait_until
from tests.workers.payments.desk import ROOM, Desk, payment_requested, refund_requested
from topics.messages.commands import RecordRefund, RecordSession
from topics.messages.events import BookingExpired
from workers.payments import caller, gateway, steps
from workers.payments.breaker import CircuitOpen
from workers.payments.gateway import new_breaker, open_gateway
from workers.payments.settings import PaymentSettings

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CREATE = "POST /v1/checkout/sessions"
EXPIRE = "POST /v1/checkout/sessions/*/expire"
ANYTHING = ("GET /v1/*", "POST /v1/*")
OPEN_SECONDS = 30


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests wait for a poll or a pause only for a moment; on a slow machine a call takes longer than usual."""
    monkeypatch.setattr(gateway, "TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(caller, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(caller, "CIRCUIT_POLL_SECONDS", 0.05)
    monkeypatch.setattr(caller, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(steps, "MAX_RETRY_DELAY_SECONDS", 0.3)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every request to Stripe, from the moment that it is made: `POST /v1/refunds`."""
    made: list[str] = []
    send = stripe.HTTPXClient.request_async

    async def noted(client: Any, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        made.append(f"{method.upper()} /{url.partition('//')[2].partition('/')[2].partition('?')[0]}")
        return await send(client, method, url, headers, post_data)

    monkeypatch.setattr(stripe.HTTPXClient, "request_async", noted)
    return made


async def stripe_is_away(desk: Desk, fault: str = "reset") -> None:
    await desk.plan(*({"match": match, "fault": fault, "times": None} for match in ANYTHING))


async def circuit(desk: Desk) -> Circuit | None:
    """Return the circuit of the caller, as operators see it; None while it is closed."""
    found = await stripe_circuits.not_closed(desk.connection)
    return found[0] if found else None


async def until_state(desk: Desk, state: CircuitState) -> Circuit:
    async def reached() -> Circuit | None:
        found = await circuit(desk)
        return found if found is not None and found.state is state else None

    found = await wait_until(reached, message=f"the circuit is {state}")
    assert found is not None
    return found


async def until_closed(desk: Desk) -> None:
    async def reached() -> bool:
        return await circuit(desk) is None

    await wait_until(reached, message="the circuit is closed")


async def until_all_wait(desk: Desk, count: int) -> None:
    """Wait until so many calls are due and no caller has claimed any of them."""

    async def reached() -> bool:
        return await stripe_circuits.waiting_calls(desk.connection) == count

    await wait_until(reached, message=f"{count} calls wait")


async def the_caller_has_looked(desk: Desk) -> None:
    """Wait until the caller has sent the command of a session that was opened before: it looked for due rows."""
    sent = len(await desk.sent(RecordSession))
    booking_id = uuid4()
    await desk.read_events(payment_requested(booking_id))
    await desk.connection.execute(
        "update checkout_session set status = 'open', session_id = %s where booking_id = %s",
        (f"cs_{booking_id}", booking_id),
    )
    await desk.until_session("open", booking_id)
    assert len(await desk.sent(RecordSession)) == sent + 1


async def until_made(requests: list[str], count: int) -> None:
    await wait_until(lambda: len(requests) == count, message=f"{count} requests are made")


def allowing(desk: Desk, failures: int) -> None:
    """Let so many calls without an answer open the circuit."""
    desk.settings = desk.settings.model_copy(update={"stripe_circuit_failures": failures})


@pytest.mark.parametrize("fault", ["reset", "answer_lost"])
async def test_calls_wait_while_stripe_is_away_and_one_probe_goes_out_at_a_time(
    desk: Desk, requests: list[str], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level(logging.WARNING, "workers.payments")
    openings = metrics.STRIPE_CIRCUIT_OPENINGS.values[()]
    guests = [uuid4() for _ in range(8)]
    await stripe_is_away(desk, fault)
    await desk.read_events(*map(payment_requested, guests))

    async with desk.caller():
        shown = await until_state(desk, CircuitState.OPEN)
        await until_all_wait(desk, 8)
        made = len(requests)
        # Those that were under way with the fifth are made too; their repetitions are not.
        assert 5 <= made <= 8
        assert shown.reason.startswith("calls in a row without an answer: 5, the last: R")
        await the_caller_has_looked(desk)
        assert len(requests) == made
        for probes in (1, 2):
            desk.clock.advance(OPEN_SECONDS)
            await until_made(requests, made + probes)
            await until_all_wait(desk, 8)
            await until_state(desk, CircuitState.OPEN)
            await the_caller_has_looked(desk)
            assert len(requests) == made + probes
        assert _states() == {"closed": 0, "open": 1, "half_open": 0}
        assert {row["failures"] for row in await desk.sessions()} == {0}
        await desk.end_of_faults()
        desk.clock.advance(OPEN_SECONDS)
        for booking_id in guests:
            await desk.until_session("open", booking_id)
        await until_closed(desk)
        assert _states() == {"closed": 1, "open": 0, "half_open": 0}

    sessions = await desk.at_stripe("checkout/sessions")
    assert sorted(session["client_reference_id"] for session in sessions) == sorted(map(str, guests))
    assert metrics.STRIPE_CIRCUIT_OPENINGS.values[()] - openings == 1
    opened, closed = [record.message for record in caplog.records if record.message.startswith("Stripe ")]
    assert opened.startswith("Stripe does not answer (calls in a row: 5, the last: R")
    assert closed.startswith("Stripe answers again")


def _states() -> dict[str, float]:
    return {state: value for (state,), value in metrics.STRIPE_CIRCUIT.values().items()}


async def test_refunds_and_closings_come_before_new_sessions_after_stripe_was_away(
    desk: Desk, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    allowing(desk, 1)
    # Without an order, sessions would be opened as soon as this one slot is taken.
    monkeypatch.setattr(caller, "ENDING_SLOTS", 1)
    paid = [await desk.paid_booking() for _ in range(3)]
    unpaid, guests = [uuid4() for _ in range(3)], [uuid4() for _ in range(3)]
    await desk.read_events(*map(payment_requested, unpaid))
    async with desk.caller():
        for booking_id in unpaid:
            await desk.until_session("open", booking_id)
    await stripe_is_away(desk)
    await desk.read_events(payment_requested(guests[0]))

    async with desk.caller():
        await until_state(desk, CircuitState.OPEN)
        # Events are read meanwhile; the sessions that guests want have waited for the longest time.
        await desk.read_events(*map(payment_requested, guests[1:]))
        await desk.read_events(*(BookingExpired(room_id=ROOM, booking_id=booking_id) for booking_id in unpaid))
        await desk.read_events(*(refund_requested(booking_id, payment) for booking_id, payment in paid))
        await until_all_wait(desk, 9)
        await desk.end_of_faults()
        requests.clear()
        desk.clock.advance(OPEN_SECONDS)
        for booking_id in guests:
            await desk.until_session("open", booking_id)
        for booking_id in unpaid:
            await desk.until_session("expired", booking_id)
        for booking_id, _ in paid:
            await desk.until_refund("succeeded", booking_id)

    first = requests.index(CREATE)
    assert [request.rpartition("/")[2] for request in requests[:first]].count("expire") == 3
    assert requests[:first].count("POST /v1/refunds") == 3
    assert requests.count(CREATE) == 3
    assert len(await desk.at_stripe("refunds")) == 3
    assert len(await desk.sent(RecordRefund)) == 3


async def test_an_error_that_stripe_saved_does_not_keep_the_circuit_open(desk: Desk, requests: list[str]) -> None:
    allowing(desk, 1)
    booking_id = uuid4()
    await desk.plan({"match": CREATE, "fault": "status", "status": 500, "times": 1})
    await desk.read_events(payment_requested(booking_id))

    async with desk.caller():
        await until_state(desk, CircuitState.OPEN)
        await until_all_wait(desk, 1)
        assert requests == [CREATE]
        # Stripe repeats its answer to the key, and works.
        desk.clock.advance(OPEN_SECONDS)
        await desk.until_session("open", booking_id)

    assert len(await desk.at_stripe("checkout/sessions")) == 1


async def test_too_many_requests_do_not_open_the_circuit(desk: Desk, requests: list[str]) -> None:
    guests = [uuid4() for _ in range(6)]
    openings = metrics.STRIPE_CIRCUIT_OPENINGS.values[()]
    await desk.plan({"match": CREATE, "fault": "status", "status": 429, "times": 12})
    await desk.read_events(*map(payment_requested, guests))

    async with desk.caller():
        for booking_id in guests:
            await desk.until_session("open", booking_id)

    assert metrics.STRIPE_CIRCUIT_OPENINGS.values[()] == openings
    assert requests.count(CREATE) == 18


async def test_a_row_whose_call_is_never_answered_does_not_keep_the_circuit_open(desk: Desk) -> None:
    allowing(desk, 1)
    broken, guest = uuid4(), uuid4()
    async with desk.caller():
        await desk.read_events(payment_requested(broken))
        await desk.until_session("open", broken)
        await desk.plan({"match": EXPIRE, "fault": "reset", "times": None})
        await desk.read_events(BookingExpired(room_id=ROOM, booking_id=broken))
        await until_state(desk, CircuitState.OPEN)
        await desk.read_events(payment_requested(guest))

        async def opened() -> bool:
            desk.clock.advance(OPEN_SECONDS)
            return [row["status"] for row in await desk.sessions(guest)] == ["open"]

        await wait_until(opened, message="the guest can pay")


async def test_refunds_that_stripe_never_answers_leave_room_for_guests_who_want_to_pay(
    desk: Desk, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_can_pay() -> bool:
        found = await circuit(desk)
        if found is not None and found.state is CircuitState.OPEN:
            desk.clock.advance(OPEN_SECONDS)
        return {row["status"] for row in await desk.sessions()} == {"open"}

    allowing(desk, 1)
    monkeypatch.setattr(caller, "ENDING_SLOTS", 1)
    paid = [await desk.paid_booking() for _ in range(6)]
    guests = [uuid4() for _ in range(20)]
    await desk.plan({"match": "POST /v1/refunds", "fault": "reset", "times": None})
    await desk.read_events(*(refund_requested(booking_id, payment) for booking_id, payment in paid))

    async with desk.caller():
        await until_state(desk, CircuitState.OPEN)
        await desk.read_events(*map(payment_requested, guests))
        await wait_until(all_can_pay, message="all guests can pay")

    # If refunds always came first, sessions would be opened as probes alone: that took more than a hundred refunds.
    assert requests.count("POST /v1/refunds") < 40


async def test_a_worker_that_ends_takes_its_circuit_along(desk: Desk) -> None:
    allowing(desk, 1)
    await stripe_is_away(desk)
    await desk.read_events(payment_requested(uuid4()))

    async with desk.caller():
        await until_state(desk, CircuitState.OPEN)

    assert await (await desk.connection.execute("select * from stripe_circuit")).fetchall() == []


@pytest.mark.process
async def test_an_answer_that_never_ends_is_no_answer(
    payment_settings: PaymentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begin_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(begin_an_answer, "127.0.0.1")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = payment_settings.model_copy(update={"stripe_api_url": url, "stripe_circuit_failures": 1})
    breaker = new_breaker(settings)

    async with server, open_gateway(settings, breaker) as opened:
        # httpx keeps the longer limit, as if a byte came from time to time.
        monkeypatch.setattr(gateway, "TIMEOUT_SECONDS", 0.2)
        with pytest.raises(CircuitOpen):
            await opened.retrieve_session("cs_1")

    assert breaker.status.reason == "calls in a row without an answer: 1, the last: TimeoutError"
