"""The rows of payments: two processes that record one payment, and the care for rows that 0.1.0 wrote."""

import asyncio
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from storage import payments
from storage.database import connect
from storage.settings import DatabaseSettings
from tests.support.locks import somebody_waits
from tests.support.waiting import wait_until


async def add_complete_session(connection: psycopg.AsyncConnection, booking_id: UUID, *, in_ledger: bool) -> None:
    """Add a session that was paid, whose row does not have its payment; the ledger has it if `in_ledger`."""
    session_id = f"cs_{booking_id}"
    await connection.execute(
        "insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, session_id,"
        " expires_at, causation, correlation) values (%s, 1, 7, 'complete', '{}', %s, %s, now(), '', '')",
        (booking_id, str(booking_id), session_id),
    )
    paid = [{"payment_intent": f"pi_{booking_id}", "session_id": session_id}] if in_ledger else []
    await connection.execute(
        "insert into booking (id, room_id, hotel_id, user_id, check_in, check_out, rooms_count, status, terms,"
        " amount_minor, currency, payment_attempt, payments, version, created_at, updated_at)"
        " values (%s, 7, 3, 1, '2030-12-24', '2030-12-27', 2, 'CONFIRMED', 'prepaid', 24000, 'EUR', 1, %s, 1,"
        " now(), now())",
        (booking_id, Jsonb(paid)),
    )


async def noted(connection: psycopg.AsyncConnection) -> set[UUID]:
    cursor = await connection.execute(
        "select booking_id from checkout_session where payment_intent = 'pi_' || booking_id"
    )
    return {row[0] for row in await cursor.fetchall()}


async def test_payments_of_sessions_are_noted_in_batches_each_of_which_is_committed(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payments, "NOTED_AT_ONCE", 2)
    ids = sorted(uuid4() for _ in range(7))
    # The ledger does not have one: it fills a place in a batch, and ends nothing.
    wanted = {id for id in ids if id != ids[1]}
    async with (
        await connect(database, "test") as ours,
        await connect(database, "keeps a row") as other,
        await connect(database, "notes") as noting,
    ):
        for id in ids:
            await add_complete_session(ours, id, in_ledger=id in wanted)
        async with other.transaction():
            await other.execute("select from checkout_session where booking_id = %s for update", (ids[4],))
            task = asyncio.create_task(payments.note_payments_of_sessions(noting))

            async def two_batches() -> bool:
                return await noted(ours) == wanted & set(ids[:4])

            await wait_until(two_batches)
            assert not task.done()
        await task

        assert await noted(ours) == wanted


async def test_a_process_that_waited_for_a_refund_sees_what_the_other_recorded(database: DatabaseSettings) -> None:
    report = payments.RefundReported(
        refund_id="re_1",
        payment_intent="pi_1",
        booking_id=uuid4(),
        amount_minor=24_000,
        currency="EUR",
        status="succeeded",
    )
    async with await connect(database, "first") as first, await connect(database, "second") as second:
        await first.execute(
            "insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor,"
            " currency, reason, causation, correlation)"
            " values ('pi_1', %s, 7, 'creating', '{}', 'key', 24000, 'EUR', 'cancelled', '', '')",
            (report.booking_id,),
        )
        async with first.transaction():
            assert await payments.lock_refund(first, "pi_1") is not None
            waiting = asyncio.create_task(payments.lock_refund(second, "pi_1"))
            await wait_until(lambda: somebody_waits(database))
            await payments.record_refund(first, report)
        row = await waiting

    assert row is not None
    assert [seen.refund_id for seen in row.seen] == ["re_1"]
