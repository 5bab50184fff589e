"""The role's process: one of several leads, a pause ends its work, and neither Stripe's absence nor a kill harms."""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest
from psycopg import AsyncConnection

from storage import pauses, stripe_position
from storage.database import connect
from telemetry import metrics
from tests.operators.decided_log import HELD, PAID
from tests.operators.reconcile.paid_bookings import PaidBookings
from tests.support.waiting import MAX_WAIT_SECONDS, wait_until
from tests.workers.reconciliation.reconciler import on_topic, reconciling
from workers.reconciliation.stripe_client import StripeClient

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

#: The low half of the lock's key is the hash of the role; batches take other advisory locks for a moment.
LEADER = (
    "select pid from pg_locks where locktype = 'advisory' and granted"
    " and objid = (hashtext('innkeeper.reconciliation')::bigint & 4294967295)::oid"
)


async def turns(paid: PaidBookings, count: int = 2) -> None:
    """Wait until the role has looked so many times more."""
    for _ in range(count):
        before = await paid.rows("select saved_at from stripe_position")

        async def looked(before: list[dict[str, Any]] = before) -> bool:
            return await paid.rows("select saved_at from stripe_position") != before

        await wait_until(looked, message="the role has read Stripe's list")


async def has_arrived(paid: PaidBookings, count: int) -> None:
    async def there() -> bool:
        return len(await on_topic(paid.log)) == count

    await wait_until(there, message=f"{count} events are on the topic")


async def test_of_two_processes_one_works_and_the_other_follows_it(
    paid: PaidBookings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await paid.checkout(PAID, HELD)
    async with reconciling(paid):
        await wait_until(lambda: "reconciliation one leads" in caplog.text)
        async with reconciling(paid, "two"):
            await wait_until(lambda: "worker ready: reconciliation two" in caplog.text)
            await paid.pay(PAID)
            await has_arrived(paid, 1)
            assert "reconciliation two leads" not in caplog.text
            assert metrics.RECONCILIATION_LEADS.values() == {(): 1}

            # As if the first were killed: its session ends without a word.
            await paid.rows("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted")
            await paid.pay(HELD)
            await has_arrived(paid, 2)
            await turns(paid)

    assert set((await on_topic(paid.log)).values()) == {1}
    await paid.work()
    assert [await paid.status(each) for each in (PAID, HELD)] == ["CONFIRMED", "CONFIRMED"]
    assert metrics.RECONCILIATION_LEADS.values() == {(): 0}


async def test_a_paused_role_does_nothing_until_it_is_resumed(
    paid: PaidBookings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks, original = [0], pauses.of

    async def counted(*arguments: Any) -> pauses.Pause | None:
        looks[0] += 1
        return await original(*arguments)

    monkeypatch.setattr(pauses, "of", counted)
    await paid.checkout(PAID)
    async with await connect(paid.database, "a test") as operator, reconciling(paid):
        await turns(paid, 1)
        await pauses.begin(operator, "reconciliation", who="ines", reason=None)
        await wait_until(lambda: "reconciliation is paused" in caplog.text)
        before = await paid.rows("select saved_at from stripe_position")

        await paid.pay(PAID)
        # While it looks twenty times whether it is resumed, it would have worked several times.
        seen = looks[0]
        await wait_until(lambda: looks[0] > seen + 20)
        assert await paid.rows("select saved_at from stripe_position") == before
        assert await on_topic(paid.log) == {}

        await pauses.end(operator, "reconciliation", who="ines")
        await has_arrived(paid, 1)


async def test_a_pause_in_the_middle_of_statements_keeps_the_lead(
    paid: PaidBookings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saving = asyncio.Event()

    async def saving_for_ever(connection: AsyncConnection, *_: Any) -> None:
        while True:
            saving.set()
            await connection.execute("select 1")

    monkeypatch.setattr(stripe_position, "save", saving_for_ever)
    async with await connect(paid.database, "a test") as operator, reconciling(paid):
        for _ in range(2):
            saving.clear()
            await wait_until(saving.is_set)
            [leader] = await paid.rows(LEADER)
            caplog.clear()
            await pauses.begin(operator, "reconciliation", who="ines", reason=None)
            await wait_until(lambda: "reconciliation is paused" in caplog.text)
            assert await paid.rows(LEADER) == [leader]
            await pauses.end(operator, "reconciliation", who="ines")
            assert "waits for the database" not in caplog.text


async def test_while_payments_is_paused_nothing_is_compared(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    await paid.deliver_webhooks()
    await paid.rows("update checkout_session set status = 'open', payment_intent = null")

    async def status() -> str:
        (row,) = await paid.rows("select status from checkout_session")
        return str(row["status"])

    async def is_mended() -> bool:
        return await status() == "complete"

    async with await connect(paid.database, "a test") as operator:
        await pauses.begin(operator, "payments", who="ines", reason=None)
        async with reconciling(paid):
            await turns(paid, 4)
            assert await status() == "open"
            await pauses.end(operator, "payments", who="ines")
            await wait_until(is_mended)


async def test_stripe_may_be_away_for_a_while(paid: PaidBookings, caplog: pytest.LogCaptureFixture) -> None:
    await paid.checkout(PAID)
    down = {"match": "GET /v1/events", "fault": "status", "status": 503, "saved": False, "times": None}
    async with paid.http.post(f"{paid.stand_in.url}/_sandbox/faults", json=down) as answer:
        assert answer.status == 201
    async with reconciling(paid):
        await wait_until(lambda: "reconciliation waits, and tries every 0.05 s: Stripe does not answer" in caplog.text)
        await paid.pay(PAID)
        since = max(metrics.UNRECONCILED_SECONDS.values().values())
        await wait_until(lambda: max(metrics.UNRECONCILED_SECONDS.values().values()) > since + 0.5)
        async with paid.http.delete(f"{paid.stand_in.url}/_sandbox/faults") as answer:
            assert answer.status == 204

        await has_arrived(paid, 1)

    assert caplog.text.count("reconciliation waits") == 1
    assert "reconciliation works again" in caplog.text


async def test_a_comparison_that_hangs_at_stripe_delays_no_lost_webhook(
    paid: PaidBookings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    began, sessions = asyncio.Event(), StripeClient.sessions

    def asked(client: StripeClient, *times: Any) -> Any:
        began.set()
        return sessions(client, *times)

    monkeypatch.setattr(StripeClient, "sessions", asked)
    await paid.checkout(PAID)
    hangs = {"match": "GET /v1/checkout/sessions", "fault": "hang", "times": None}
    async with paid.http.post(f"{paid.stand_in.url}/_sandbox/faults", json=hangs) as answer:
        assert answer.status == 201
    async with reconciling(paid) as role:
        await asyncio.wait_for(began.wait(), MAX_WAIT_SECONDS)
        await paid.pay(PAID)
        await has_arrived(paid, 1)
        await turns(paid)

        assert not role.done()
        # The comparison has not given up: it still hangs.
        assert "tries every" not in caplog.text


async def test_a_gap_in_stripes_list_lets_all_bookings_be_compared(
    paid: PaidBookings, caplog: pytest.LogCaptureFixture
) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    # The booking is older than a usual comparison looks back, and the events since then are not listed any more.
    await paid.rows("update booking set created_at = now() - interval '20 days'")
    await paid.rows("insert into stripe_position (events_until) values (now() - interval '31 days')")
    await paid.deliver_webhooks()
    await paid.rows("update checkout_session set status = 'open', payment_intent = null")

    async with reconciling(paid):

        async def mended() -> bool:
            return await paid.rows("select status from checkout_session") == [{"status": "complete"}]

        await wait_until(mended, message="the row has Stripe's state")
        await turns(paid)

    assert "all bookings are compared once" in caplog.text.replace("\n", " ")
    assert await paid.rows("select 1 as is_new from stripe_position where events_until > now() - interval '1 day'")


async def test_a_process_killed_after_it_wrote_leaves_nothing_undone_and_writes_nothing_twice(
    paid: PaidBookings, environment: dict[str, str]
) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operators", "worker", "reconciliation"),
        env=os.environ
        | environment
        | {
            "STRIPE_API_URL": paid.stand_in.url,
            "RECONCILIATION_EVENTS_SECONDS": "0.05",
            "INNKEEPER_FAILPOINT": "reconciliation.after_produce",
        },
    )
    assert await asyncio.wait_for(process.wait(), MAX_WAIT_SECONDS) == -signal.SIGKILL
    await has_arrived(paid, 1)

    async with reconciling(paid):
        await turns(paid, 3)

    assert set((await on_topic(paid.log)).values()) == {1}
    await paid.work()
    assert await paid.status(PAID) == "CONFIRMED"
