"""A booking is explained whatever state its records, its read model and its workers are in."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner
from msgspec.structs import replace

from operators.explain import BookingHistory, CodeUse, Kind, NoSuchBooking, explain, explanation
from operators.explain.awaiting import _FOLLOWED_BY_PAYMENTS
from operators.explain.snapshot import Snapshot, load
from storage.settings import DatabaseSettings
from tests.support.locks import somebody_waits
from tests.support.log import Log, open_log, open_processor, process_all
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, STRIPE_WEBHOOKS
from topics.envelope import Outgoing, command_record
from topics.kafka import admin
from topics.kafka.partitions import partition_of
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import (
    AddGuests,
    BookingCommand,
    CancelBooking,
    ChangeInventory,
    ChangeStay,
    ClaimCode,
    ConfirmPayment,
    OpenInventory,
    RequestPayment,
    ReserveStay,
    ReserveTrip,
    SetCode,
    WithdrawChange,
)
from topics.messages.sale import CodeTerms, LegRequest
from workers import coordination, projections
from workers.reservations import handler
from workers.runtime.role import Role

pytestmark = pytest.mark.system

ROOM = 7
FIRST = date(2027, 3, 1)
OPEN = OpenInventory(
    room_id=ROOM,
    hotel_id=1,
    first_night=FIRST,
    end_night=FIRST + timedelta(days=30),
    total_count=1000,
    price_minor=10_000,
    currency="EUR",
)


def reserve(booking_id: UUID, *, hold_seconds: int = 900) -> ReserveStay:
    return ReserveStay(
        room_id=ROOM,
        booking_id=booking_id,
        user_id=3,
        hotel_id=1,
        check_in=FIRST,
        check_out=FIRST + timedelta(days=2),
        hold_seconds=hold_seconds,
    )


class Desk:
    """One test's log and ledger, on which workers work when a test lets them."""

    def __init__(self, log: Log, database: DatabaseSettings) -> None:
        self.log = log
        self.database = database

    async def decide(self) -> None:
        """Let the reservations worker decide every command on the log."""
        await self._work(handler.build(self.log.settings, self.database))

    async def project(self) -> None:
        """Let the read models follow."""
        await self._work(projections.build(self.log.settings, self.database))

    async def coordinate(self) -> None:
        """Let coordination send what follows from the events."""
        await self._work(coordination.build(self.log.settings, self.database))

    async def explained(self, booking_id: UUID) -> BookingHistory:
        return await explain(self.log.settings, self.database, booking_id)

    async def sql(self, statement: str, *parameters: object) -> None:
        async with await psycopg.AsyncConnection.connect(self.database.conninfo(), autocommit=True) as connection:
            await connection.execute(statement.encode(), parameters)

    async def _work(self, role: Role) -> None:
        async with open_processor(role, self.log, self.database) as processor:
            await process_all(processor, role, self.log)


@pytest.fixture
async def desk(kafka_settings: KafkaSettings, database: DatabaseSettings) -> AsyncIterator[Desk]:
    async with open_log(kafka_settings) as log:
        await log.send(OPEN)
        yield Desk(log, database)


@pytest.fixture
async def booking(desk: Desk) -> UUID:
    """A booking that waits for its payment, with others around it."""
    booking_id = uuid4()
    mine: list[BookingCommand] = [
        reserve(booking_id),
        AddGuests(room_id=ROOM, booking_id=booking_id, user_id=3, guest_ids=(1,)),
        RequestPayment(room_id=ROOM, booking_id=booking_id, user_id=3),
    ]
    for command in mine:
        await desk.log.send(*(reserve(uuid4()) for _ in range(5)))
        await desk.log.send(command)
    await desk.decide()
    return booking_id


COMMANDS = ["booking.reserve.v1", "booking.add_guests.v1", "booking.request_payment.v1"]
EVENTS = ["booking.reserved.v1", "booking.guests_added.v1", "booking.payment_requested.v1"]


def types_of(history: BookingHistory, kind: Kind) -> list[str]:
    return [step.what for step in history.steps if step.kind is kind]


def awaited(history: BookingHistory) -> list[tuple[str, str]]:
    return [(each.who, each.what) for each in history.awaited]


async def test_a_booking_is_explained_before_its_read_model_has_it(desk: Desk, booking: UUID) -> None:
    history = await desk.explained(booking)

    assert (types_of(history, Kind.COMMAND), types_of(history, Kind.EVENT)) == (COMMANDS, EVENTS)
    assert history.notes == ()
    assert all(step.place is not None for step in history.steps)

    await desk.project()
    again = await desk.explained(booking)
    assert again.steps == history.steps


async def test_a_booking_that_changes_meanwhile_is_explained_as_of_one_moment(
    desk: Desk, booking: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await desk.explained(booking)

    async def load_and_decide(*arguments: Any, **options: Any) -> Snapshot:
        """Read the tables, and have another command decided before the log is read."""
        snapshot = await load(*arguments, **options)
        await desk.log.send(CancelBooking(room_id=ROOM, booking_id=booking, user_id=3))
        await desk.decide()
        return snapshot

    with monkeypatch.context() as patch:
        patch.setattr(explanation, "load", load_and_decide)
        during = await desk.explained(booking)
    after = await desk.explained(booking)

    assert during == before
    assert (after.status, types_of(after, Kind.EVENT)) == ("CANCELLED", [*EVENTS, "booking.cancelled.v1"])
    assert types_of(after, Kind.COMMAND) == [*COMMANDS, "booking.cancel.v1"]


async def test_the_tables_are_read_in_one_snapshot(desk: Desk, booking: UUID) -> None:
    async with await psycopg.AsyncConnection.connect(desk.database.conninfo()) as somebody:
        # Whichever table is waited for, the others are not read before it.
        await somebody.execute("lock table checkout_session in access exclusive mode")
        explaining = asyncio.create_task(desk.explained(booking))
        await wait_until(lambda: somebody_waits(desk.database), message="the sessions are asked for")
        await desk.log.send(CancelBooking(room_id=ROOM, booking_id=booking, user_id=3))
        await desk.decide()

    during, after = await explaining, await desk.explained(booking)

    assert (during.status, types_of(during, Kind.EVENT)) == ("CANCELLED", [*EVENTS, "booking.cancelled.v1"])
    assert during.steps == after.steps


async def test_a_broker_that_is_slow_to_give_records_changes_nothing_in_the_history(
    desk: Desk, booking: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = await desk.explained(booking)
    getmany, looks = AIOKafkaConsumer.getmany, itertools.count()

    async def slowly(*arguments: Any, **options: Any) -> Any:
        return await getmany(*arguments, **options) if next(looks) % 3 == 2 else {}

    # As on a machine that is frozen for a moment: nothing arrives while a fetch waits.
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", slowly)

    assert (await desk.explained(booking)).steps == history.steps
    assert next(looks) > 3


async def test_events_that_the_log_has_twice_are_shown_once(desk: Desk, booking: UUID) -> None:
    # Given a publication that was repeated: the same ids and sequences once more, and what came after it
    partitions = await desk.log.read(BOOKING_EVENTS)
    [records] = partitions.values()
    again = [Outgoing(r.topic, r.key, r.value, list(r.headers), r.partition) for r in records]
    await desk.log.write(*again, *again[4:])
    await desk.log.send(CancelBooking(room_id=ROOM, booking_id=booking, user_id=3))
    await desk.decide()
    await desk.project()

    history = await desk.explained(booking)

    assert types_of(history, Kind.EVENT) == [*EVENTS, "booking.cancelled.v1"]
    assert all(step.place is not None for step in history.steps)


async def test_records_that_an_operator_replays_are_marked_with_their_answers(desk: Desk, booking: UUID) -> None:
    # Given a replay of everything, and a replay of the replay, with the times of one moment
    [records] = (await desk.log.read(BOOKING_COMMANDS)).values()
    again = [Outgoing(r.topic, r.key, r.value, list(r.headers), r.partition) for r in records]
    await desk.log.write(*again, *again, *again)
    await desk.decide()
    await desk.project()

    history = await desk.explained(booking)

    first, repeats = ([step for step in history.steps if step.sent_again is is_again] for is_again in (False, True))
    assert [step.what for step in first if step.kind is Kind.COMMAND] == COMMANDS
    assert [step.what for step in first if step.kind is Kind.EVENT] == EVENTS
    assert [step.what for step in repeats if step.kind is Kind.COMMAND] == COMMANDS * 3
    answers = {step.what for step in repeats if step.kind is Kind.EVENT}
    assert answers <= {"booking.command_repeated.v1", "booking.command_refused.v1"}
    assert len(repeats) == 2 * 3 * len(COMMANDS)


async def test_a_webhook_that_stripe_sent_again_is_marked(desk: Desk, booking: UUID) -> None:
    partition = DefaultPartitioner()(b"%d" % ROOM, list(range(4)), list(range(4)))
    body = f'{{"id": "evt_1", "type": "checkout.session.expired", "data": {{"object": {{"id": "{booking}"}}}}}}'
    record = Outgoing(desk.log.settings.topic(STRIPE_WEBHOOKS), b"%d" % ROOM, body.encode(), [], partition)
    await desk.log.write(record, record)

    history = await desk.explained(booking)

    assert [step.sent_again for step in history.steps if step.kind is Kind.WEBHOOK] == [False, True]


async def test_commands_that_the_log_keeps_no_more_are_shown_by_their_ids(desk: Desk, booking: UUID) -> None:
    await desk.project()
    settings = desk.log.settings
    only_commands = (BOOKING_COMMANDS,)
    await admin.delete(settings, only_commands)
    await admin.create(settings, only_commands)

    history = await desk.explained(booking)

    gone = [step for step in history.steps if step.kind is Kind.COMMAND]
    assert [(step.what, step.place) for step in gone] == [("a command", None)] * 3
    assert all(step.id for step in gone)
    assert types_of(history, Kind.EVENT) == EVENTS
    assert history.notes == ("commands that are no longer on the log, which keeps them for 7 days: 3",)


async def test_a_command_that_waits_names_its_worker_and_who_paused_it(desk: Desk, booking: UUID) -> None:
    await desk.log.send(reserve(uuid4()), CancelBooking(room_id=ROOM, booking_id=booking, user_id=3), reserve(uuid4()))
    await desk.sql("insert into paused_role (role, who) values ('reservations', 'grace')")

    history = await desk.explained(booking)

    assert types_of(history, Kind.COMMAND) == [*COMMANDS, "booking.cancel.v1"]
    [decision] = [each for each in history.awaited if each.what == "to decide booking.cancel.v1"]
    assert (decision.who, decision.behind) == ("the reservations worker (paused by grace)", 3)


async def test_a_payment_that_was_asked_for_awaits_payments_and_then_stripe_and_then_the_guest(
    desk: Desk, booking: UUID
) -> None:
    history = await desk.explained(booking)
    assert awaited(history) == [("the payments worker", "to follow booking.payment_requested.v1")]

    await desk.sql(
        """insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, expires_at,
           causation, correlation, next_attempt_at, failures)
           values (%s, 1, %s, 'creating', '{}', 'key', now(), 'c', 'c', now(), 2)""",
        booking,
        ROOM,
    )
    await desk.sql(
        """insert into log_cursor (consumer, topic, partition, generation, applied, published)
           select 'payments', topic, partition, generation, 1000, 1000 from log_cursor where consumer = 'reservations'
           union select 'payments', %s, partition, generation, 1000, 1000 from log_cursor""",
        desk.log.settings.topic(BOOKING_EVENTS),
    )
    [due] = (await desk.explained(booking)).awaited
    assert due.who == "Stripe"
    assert due.what.startswith("to open a Checkout Session (failed 2 times, again at ")

    await desk.sql("update checkout_session set status = 'open', next_attempt_at = null, session_id = 'cs_1'")
    history = await desk.explained(booking)
    [guests] = history.awaited
    assert (guests.who, guests.what) == ("the guest", "to pay")
    assert guests.until is not None
    assert [(each.kind, each.id, each.status) for each in history.stripe] == [("Checkout Session", "cs_1", "open")]

    await desk.sql(
        """insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor,
           currency, reason, causation, correlation)
           values ('pi_1', %s, %s, 'failed', '{}', 'key', 1, 'EUR', 'second_payment', 'c', 'c')""",
        booking,
        ROOM,
    )
    close = "innkeeper refunds retry pi_1, or innkeeper refunds close pi_1 --reason ... --yes"
    given_up = f"to look at the refund of pi_1, which 0.1.0 gave up: {close}"
    assert ("an operator", given_up) in awaited(await desk.explained(booking))


async def test_a_refund_in_full_and_one_by_policy_await_payments(desk: Desk, booking: UUID) -> None:
    wrong = ConfirmPayment(
        room_id=ROOM, booking_id=booking, session_id="cs_9", payment_intent="pi_9", amount_minor=1, currency="EUR"
    )
    await desk.log.send(wrong)
    await desk.decide()

    assert ("the payments worker", "to follow booking.refund_requested.v1") in awaited(await desk.explained(booking))
    assert {"booking.refund_requested.v1", "booking.refund_requested.v2"} <= _FOLLOWED_BY_PAYMENTS


async def test_money_that_must_go_back_awaits_payments_stripe_an_operator_or_the_bank(
    desk: Desk, booking: UUID
) -> None:
    await desk.project()
    await desk.sql(
        """insert into log_cursor (consumer, topic, partition, generation, applied, sequence)
           select 'payments', topic, partition, generation, 1000, 1000 from log_cursor where consumer = 'reservations'
           union select 'payments', %s, partition, generation, 1000, 1000 from log_cursor""",
        desk.log.settings.topic(BOOKING_EVENTS),
    )
    paid = '[{"payment_intent": "pi_1", "session_id": "cs_1", "amount_minor": 20000, "state": "%s"%s}]'
    due = paid % ("refund_requested", ', "due_minor": 15000')
    await desk.sql("update booking set status = 'CANCELLED', hold_expires_at = null, payments = %s", due)

    assert awaited(await desk.explained(booking)) == [
        ("the payments worker", "to send 15000 (minor units) of pi_1 back")
    ]

    await desk.sql(
        """insert into refund (payment_intent, booking_id, room_id, status, params, idempotency_key, amount_minor,
           currency, reason, causation, correlation, next_attempt_at, failures)
           values ('pi_1', %s, %s, 'creating', '{}', 'key', 20000, 'EUR', 'booking_cancelled', 'c', 'c', now(), 1)""",
        booking,
        ROOM,
    )
    [(who, what)] = awaited(await desk.explained(booking))
    assert (who, what.partition(" (failed once, again at")[0]) == ("Stripe", "to answer the refund of pi_1")

    # Calls without an answer are no reason to look at it.
    await desk.sql("update refund set failures = 7, refusals = 4")
    assert [who for who, _ in awaited(await desk.explained(booking))] == ["Stripe"]
    await desk.sql("update refund set refusals = 5")
    operators, _ = awaited(await desk.explained(booking))
    commands = "innkeeper refunds retry pi_1, or innkeeper refunds close pi_1 --reason ... --yes"
    assert operators == (
        "an operator",
        f"to look at the refund of pi_1, which Stripe refused 5 times (tries without success: 7): {commands}",
    )

    insert = (
        "insert into payment_refund (refund_id, payment_intent, booking_id, amount_minor, currency, status, by_hand)"
    )
    await desk.sql(
        f"{insert} values ('re_1', 'pi_1', %s, 15000, 'EUR', 'failed', false), ('re_2', 'pi_1', %s, 5000, 'EUR',"
        " 'succeeded', true)",
        booking,
        booking,
    )
    history = await desk.explained(booking)
    operators, _ = awaited(history)
    assert operators == (
        "an operator",
        f"to look at the refund of pi_1, which failed once after Stripe had taken it: {commands}",
    )
    assert [(each.kind, each.id, each.status) for each in history.stripe if each.kind != "Checkout Session"] == [
        ("Payment Intent", "pi_1", "refund_requested"),
        ("Refund", "re_1", "failed"),
        ("Refund by hand", "re_2", "succeeded"),
        ("Refund due", None, "creating"),
    ]

    await desk.sql("update refund set status = 'closed', next_attempt_at = null")
    await desk.sql(
        """insert into payment_dispute (dispute_id, payment_intent, booking_id, amount_minor, currency, status, reason)
           values ('dp_1', 'pi_1', %s, 20000, 'EUR', 'open', 'fraudulent')""",
        booking,
    )
    history = await desk.explained(booking)
    assert awaited(history) == [("the cardholder's bank", "to decide dispute dp_1 of pi_1")]
    assert [(each.kind, each.id, each.status) for each in history.stripe[-2:]] == [
        ("Refund closed", None, "closed"),
        ("Dispute", "dp_1", "open"),
    ]

    await desk.sql("update payment_dispute set status = 'lost'")
    await desk.sql("update refund set status = 'succeeded', refund_id = 're_1'")
    history = await desk.explained(booking)
    assert history.awaited == ()
    assert [each.kind for each in history.stripe[-3:]] == ["Refund", "Refund by hand", "Dispute"]


async def test_a_refund_by_hand_that_failed_awaits_an_operator_until_one_is_made_again(
    desk: Desk, booking: UUID
) -> None:
    await desk.project()
    kept = '[{"payment_intent": "pi_1", "session_id": "cs_1", "amount_minor": 20000, "state": "kept"}]'
    await desk.sql("update booking set status = 'CONFIRMED', hold_expires_at = null, payments = %s", kept)
    made = (
        "insert into payment_refund (refund_id, payment_intent, booking_id, amount_minor, currency, status, by_hand,"
        " failure, created_at) values (%s, 'pi_1', %s, 5000, 'EUR', %s, true, %s, now() + %s * interval '1 second')"
    )
    await desk.sql(made, "re_1", booking, "failed", "expired_or_canceled_card", 0)
    await desk.sql(made, "re_0", booking, "succeeded", None, -10)
    failed = (
        "an operator",
        (
            "to look at re_1, a refund of pi_1 by hand: it failed (expired_or_canceled_card), and we send nothing"
            " again; make it again at Stripe, or pay the guest otherwise"
        ),
    )
    assert failed in awaited(await desk.explained(booking))

    await desk.sql(made, "re_2", booking, "pending", None, 10)
    assert [each for each in awaited(await desk.explained(booking)) if "by hand" in each[1]] == []

    # Of a payment that pays no booking, payments sends the amount again.
    await desk.sql("delete from payment_refund where refund_id = 're_2'")
    assert failed in awaited(await desk.explained(booking))
    await desk.sql("update booking set payments = %s", kept.replace("kept", "refund_requested"))
    assert failed not in awaited(await desk.explained(booking))


async def test_webhooks_about_it_are_shown_without_their_fields_about_people(desk: Desk, booking: UUID) -> None:
    partition = DefaultPartitioner()(b"%d" % ROOM, list(range(4)), list(range(4)))
    body = (
        '{"id": "evt_1", "type": "checkout.session.completed", "data": {"object": {"id": "cs_1",'
        f' "customer_email": "ana@example.com", "metadata": {{"booking_id": "{booking}"}}}}}}}}'
    )
    topic = desk.log.settings.topic(STRIPE_WEBHOOKS)
    await desk.log.write(Outgoing(topic, b"%d" % ROOM, body.encode(), [], partition))

    history = await desk.explained(booking)

    [webhook] = [step for step in history.steps if step.kind is Kind.WEBHOOK]
    assert (webhook.what, webhook.id, webhook.details) == ("checkout.session.completed", "evt_1", "object=cs_1")
    assert ("the payments worker", "to read checkout.session.completed") in awaited(history)
    assert "ana@" not in str(history.as_json())


async def test_a_hold_that_is_over_awaits_the_timer(desk: Desk) -> None:
    booking_id = uuid4()
    await desk.log.send(reserve(booking_id, hold_seconds=0))
    await desk.decide()

    history = await desk.explained(booking_id)

    assert awaited(history) == [("the timer", "to end the hold with booking.expire_hold.v1")]


async def test_a_change_that_is_held_awaits_payments_then_the_guest_and_at_last_the_timer(
    desk: Desk, booking: UUID
) -> None:
    await desk.sql(
        """update booking set status = 'CONFIRMED', hold_expires_at = now() + interval '1 hour',
                              pending_change = '{"id": "00000000-0000-0000-0000-000000000009", "extra_minor": 1}'"""
    )
    await desk.sql(
        """insert into checkout_session (booking_id, attempt, room_id, status, params, idempotency_key, expires_at,
           causation, correlation) values (%s, 1, %s, 'complete', '{}', 'key', now(), 'c', 'c')""",
        booking,
        ROOM,
    )
    assert awaited(await desk.explained(booking)) == [("the payments worker", "to follow booking.payment_requested.v1")]

    await desk.sql("update checkout_session set status = 'open', session_id = 'cs_2'")
    *_, guests = (await desk.explained(booking)).awaited
    assert (guests.who, guests.what) == ("the guest", "to pay for the change of the stay")
    assert guests.until is not None

    await desk.sql("update booking set hold_expires_at = now() where pending_change is not null")
    *_, timers = (await desk.explained(booking)).awaited
    assert (timers.who, timers.what) == ("the timer", "to end the change with booking.expire_hold.v1")

    # A confirmed booking without a change waits for nobody.
    await desk.sql("update booking set pending_change = null, hold_expires_at = null")
    await desk.sql("delete from checkout_session")
    assert all(who == "the payments worker" for who, _ in awaited(await desk.explained(booking)))


async def test_a_booking_with_a_promo_code_is_explained_from_its_claim_on(desk: Desk) -> None:
    # The id holds the time, so that the log is not read from its beginning. The code's partition is not the room's.
    booking_id = UUID(int=(int(time.time() * 1000) << 80) | (8 << 76) | (2 << 62) | 7)
    codes = {number: partition_of(b"%d" % number, desk.log.settings.topic_partitions) for number in range(1, 9)}
    code_id = next(number for number, partition in codes.items() if partition != codes[ROOM])
    terms = CodeTerms(version=1, code="SPRING", percent_milli=10_000)
    await desk.log.send(SetCode(code_id=code_id, hotel_id=1, terms=terms))
    await desk.decide()
    await desk.log.send(*(ClaimCode(code_id=code_id, reserve=reserve(id)) for id in (uuid4(), booking_id, uuid4())))

    history = await desk.explained(booking_id)
    assert types_of(history, Kind.COMMAND) == ["code.claim.v1"]
    assert awaited(history) == [("the reservations worker", "to decide code.claim.v1")]
    assert history.request.source == "test"

    await desk.decide()
    history = await desk.explained(booking_id)
    assert (types_of(history, Kind.COMMAND), types_of(history, Kind.EVENT)) == (["code.claim.v1"], ["code.claimed.v1"])
    assert awaited(history) == [("the coordination worker", "to follow code.claimed.v1")]

    await desk.coordinate()
    history = await desk.explained(booking_id)
    assert awaited(history) == [("the reservations worker", "to decide booking.reserve.v1")]

    await desk.decide()
    await desk.project()
    history = await desk.explained(booking_id)
    assert types_of(history, Kind.COMMAND) == ["code.claim.v1", "booking.reserve.v1"]
    assert types_of(history, Kind.EVENT) == ["code.claimed.v1", "booking.reserved.v1"]
    assert history.request.source == "test"
    assert awaited(history) == [("the guest", "to name the guests")]
    assert "reserve=" not in str(history.as_json())
    assert history.code_uses == (CodeUse(code_id=code_id, code="SPRING", returned=False),)

    await desk.log.send(CancelBooking(room_id=ROOM, booking_id=booking_id, user_id=3))
    for follow in (desk.decide, desk.coordinate, desk.decide):
        await follow()
    assert [use.returned for use in (await desk.explained(booking_id)).code_uses] == [True]


async def test_the_documents_of_a_booking_are_shown_in_the_order_in_which_they_were_issued(
    desk: Desk, booking: UUID
) -> None:
    await desk.project()
    ids = [UUID(int=number) for number in (9, 3)]
    for number, kind, corrects, amount_minor in ((0, "invoice", None, 24_000), (1, "credit_note", ids[0], 4_000)):
        await desk.sql(
            "insert into hotel_document (id, hotel_id, kind, number, reason, booking_id, amount_minor, currency, lines,"
            " corrects_id, credited_minor, booking_version, issued_at)"
            " values (%s, 1, %s, 7, 'stay', %s, %s, 'EUR', '[]', %s, 0, 1, %s)",
            *(ids[number], kind, booking, amount_minor, corrects, datetime(2026, 12, 1 + number, tzinfo=UTC)),
        )
    shown = (await desk.explained(booking)).documents
    assert [(each.id, each.kind, each.number, each.amount_minor, each.corrects_id) for each in shown] == [
        (ids[0], "invoice", 7, 24_000, None),
        (ids[1], "credit_note", 7, 4_000, ids[0]),
    ]


async def test_a_trip_is_explained_with_its_legs_and_a_leg_with_its_trip(desk: Desk) -> None:
    trip, legs = uuid4(), {ROOM: uuid4(), ROOM + 1: uuid4()}
    await desk.log.send(replace(OPEN, room_id=ROOM + 1))
    await desk.log.send(
        ReserveTrip(
            room_id=ROOM,
            booking_id=trip,
            user_id=3,
            hotel_id=1,
            check_in=FIRST,
            check_out=FIRST + timedelta(days=2),
            legs=tuple(LegRequest(booking_id=leg, room_id=room) for room, leg in legs.items()),
            hold_seconds=900,
        )
    )
    await desk.decide()
    to_reserve = [(f"room {room}", f"to reserve leg {leg}") for room, leg in legs.items()]
    assert awaited(await desk.explained(trip)) == [
        ("the coordination worker", "to follow booking.trip_opened.v1"),
        *to_reserve,
    ]

    await desk.coordinate()
    assert awaited(await desk.explained(trip)) == to_reserve
    assert awaited(await desk.explained(legs[ROOM])) == [("the reservations worker", "to decide booking.reserve.v1")]

    await desk.decide()
    held = await desk.explained(legs[ROOM + 1])
    bought_or_ends = (f"trip {trip}", "to be bought, or to end")
    assert awaited(held) == [("the coordination worker", "to follow booking.reserved.v1"), bought_or_ends]
    assert held.stay is not None
    assert held.stay.trip_id == trip

    await desk.coordinate()
    await desk.decide()
    history = await desk.explained(trip)
    assert awaited(history) == [("the guest", "to name the guests")]
    assert history.stay is not None
    assert {leg.room_id: (leg.booking_id, leg.state) for leg in history.stay.legs} == {
        room: (leg, "held") for room, leg in legs.items()
    }
    assert awaited(await desk.explained(legs[ROOM])) == [bought_or_ends]

    await desk.log.send(CancelBooking(room_id=ROOM, booking_id=trip, user_id=3))
    await desk.decide()
    assert awaited(await desk.explained(trip)) == [("the coordination worker", "to follow booking.cancelled.v1")]


async def test_a_change_to_another_room_type_awaits_that_room_and_is_explained_on_both_sides(
    desk: Desk, booking: UUID
) -> None:
    about: dict[str, Any] = {"room_id": ROOM, "booking_id": booking}
    paid = ConfirmPayment(
        **about, attempt=1, session_id="cs_1", payment_intent="pi_1", amount_minor=20_000, currency="EUR"
    )
    await desk.log.send(replace(OPEN, room_id=ROOM + 1, price_minor=12_000), paid)
    change, first = uuid4(), uuid4()
    move = ChangeStay(
        **about,
        change_id=first,
        user_id=3,
        check_in=FIRST,
        check_out=FIRST + timedelta(days=2),
        rooms_count=1,
        hold_seconds=900,
        to_room_id=ROOM + 1,
    )
    await desk.log.send(move)
    await desk.decide()
    opened, hold = (
        ("the coordination worker", "to follow booking.change_opened.v1"),
        f"to hold the stay, as leg {first}",
    )
    room = f"room {ROOM + 1}"
    assert not_here(await desk.explained(booking)) == [opened, (room, hold)]
    await desk.coordinate()
    assert not_here(await desk.explained(booking)) == [(room, hold)]
    assert awaited(await desk.explained(first)) == [("the reservations worker", "to decide booking.reserve.v1")]

    await desk.decide()
    await desk.coordinate()
    await desk.decide()
    assert awaited(await desk.explained(first)) == [(f"trip {booking}", "to be bought, or to end")]
    await desk.log.send(WithdrawChange(**about, change_id=first, user_id=3))
    await desk.decide()
    ended = ("the coordination worker", "to follow booking.change_ended.v1")
    assert not_here(await desk.explained(booking)) == [ended]
    await desk.coordinate()
    await desk.decide()
    await desk.coordinate()
    assert awaited(await desk.explained(first)) == []

    # By the hotel, for the same price: the booking is a trip of one leg.
    nights = ChangeInventory(
        room_id=ROOM + 1, first_night=FIRST, end_night=FIRST + timedelta(days=2), price_minor=10_000
    )
    await desk.log.send(nights, replace(move, change_id=change, user_id=None))
    for _ in range(2):
        await desk.decide()
        await desk.coordinate()
    await desk.decide()
    changed = ("the coordination worker", "to follow booking.changed.v1")
    history = await desk.explained(booking)
    assert changed in awaited(history)
    assert history.stay is not None
    assert [(leg.booking_id, leg.room_id, leg.state) for leg in history.stay.legs] == [(change, ROOM + 1, "held")]
    await desk.coordinate()
    await desk.decide()
    assert not_here(await desk.explained(booking)) == []
    of_leg = await desk.explained(change)
    assert of_leg.stay is not None
    assert of_leg.stay.trip_id == booking
    assert types_of(of_leg, Kind.EVENT)[-1] == "booking.confirmed.v1"


def not_here(history: BookingHistory) -> list[tuple[str, str]]:
    """Return all that is awaited of coordination and of other rooms: no test of changes lets payments work."""
    return [
        (who, what) for who, what in awaited(history) if who == "the coordination worker" or who.startswith("room ")
    ]


async def test_a_request_that_could_not_be_read_awaits_an_operator(desk: Desk) -> None:
    booking_id = uuid4()
    topic = desk.log.settings.topic(BOOKING_COMMANDS)
    now = datetime.now(UTC)
    whole = command_record(topic, reserve(booking_id), id="broken", source="innkeeper/ingress", time=now)
    await desk.log.send(reserve(booking_id))
    await desk.decide()
    await desk.log.write(whole._replace(value=b"{"))
    await desk.decide()

    history = await desk.explained(booking_id)

    [dead_letter] = [step for step in history.steps if step.kind is Kind.DEAD_LETTER]
    assert dead_letter.what.startswith("Undecodable: booking.reserve.v1")
    assert dead_letter.place is not None
    assert ("an operator", f"to look at the dead letter of {dead_letter.place}") in awaited(history)


async def test_a_first_command_that_is_a_dead_letter_is_found_though_the_ingress_clock_is_ahead(desk: Desk) -> None:
    # The id holds the time at which an ingress made it, whose clock is two seconds ahead of the database's.
    ahead_ms = int(time.time() * 1000) + 2_000
    booking_id = UUID(int=(ahead_ms << 80) | (8 << 76) | (2 << 62) | 7)
    topic = desk.log.settings.topic(BOOKING_COMMANDS)
    now = datetime.now(UTC)
    whole = command_record(topic, reserve(booking_id), id="broken", source="innkeeper/ingress", time=now)
    await desk.log.write(whole._replace(value=b"{"))
    await desk.decide()

    history = await desk.explained(booking_id)

    assert [step.kind for step in history.steps if step.kind is Kind.DEAD_LETTER] == [Kind.DEAD_LETTER]


async def test_a_booking_that_nobody_made_has_no_history(desk: Desk) -> None:
    with pytest.raises(NoSuchBooking, match="neither the ledger nor the log"):
        await desk.explained(uuid4())
