"""An event that no webhook brought is put on the log from Stripe's list, once; one that came is left alone."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from sandbox.stripe.till import API_VERSION
from storage import stripe_position
from storage.database import connect
from storage.settings import DatabaseSettings
from tests.operators.decided_log import PAID, REFUNDED
from tests.operators.reconcile.paid_bookings import AMOUNT, ROOM, PaidBookings
from tests.support.log import Log
from tests.workers.reconciliation.reconciler import lost_webhooks, on_topic, settings_of
from topics.catalogue import STRIPE_WEBHOOKS
from topics.envelope import Outgoing, header
from topics.messages.commands import CancelBooking
from topics.messages.events import BookingRefunded, CommandRepeated, DisputeOpened, RefundFailed
from workers.payments.webhooks import _KINDS
from workers.reconciliation import lost_webhooks as lost_webhooks_module
from workers.reconciliation.lost_webhooks import OVERLAP, LostWebhooks
from workers.reconciliation.stripe_client import Event, StripeClient, open_stripe
from workers.stripe.event_types import EVENT_TYPES

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


class Stripe:
    """Stripe's list of events, in which an event may show up late."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    @property
    def client(self) -> StripeClient:
        """The list, as the role reads it."""
        return cast("StripeClient", self)

    def lists(self, id: str, *, seconds_ago: int = 0) -> Event:
        """List an event that was made so long ago."""
        created = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds_ago)
        body = json.dumps({"id": id, "created": int(created.timestamp()), "type": EVENT_TYPES[0]}).encode()
        event = Event(id=id, type=EVENT_TYPES[0], created=created, object_id="cs_1", metadata={}, body=body)
        self._events.append(event)
        return event

    async def events(self, _: Sequence[str], since: datetime) -> AsyncIterator[Event]:
        """Yield the events since then, the newest first."""
        for event in sorted(self._events, key=lambda each: each.created, reverse=True):
            if event.created >= since:
                yield event


async def arrives(log: Log, event: Event) -> None:
    """Let the webhook of an event come."""
    await log.write(Outgoing(log.settings.topic(STRIPE_WEBHOOKS), b"1", event.body, []))


async def position(database: DatabaseSettings) -> datetime | None:
    async with await connect(database, "a test") as connection:
        saved = await stripe_position.read(connection)
    return None if saved is None else saved.events_until


async def save_position(database: DatabaseSettings, at: datetime) -> None:
    """Let the position be one that was saved in the past, at that time."""
    async with await connect(database, "a test") as connection:
        await connection.execute("insert into stripe_position (events_until, saved_at) values (%s, %s)", (at, at))


async def test_each_kind_of_lost_webhook_is_made_good(paid: PaidBookings) -> None:
    async def turn(lost: LostWebhooks) -> None:
        await lost.turn()
        await paid.work()

    await paid.checkout(PAID, REFUNDED)
    async with open_stripe(settings_of(paid)) as client, lost_webhooks(paid.log, paid.database, client) as lost:
        await lost.start()
        payment = await paid.pay(PAID)
        await turn(lost)
        assert await paid.status(PAID) == "CONFIRMED"

        by_hand = await paid.refund_by_hand(payment, 5_000)
        await paid.dispute(payment, amount_minor=1_000)
        await turn(lost)

        await paid.pay(REFUNDED)
        await turn(lost)
        await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
        await paid.call()
        await paid.work()
        ours = next(each["id"] for each in await paid.at_stripe("refunds") if each["id"] != by_hand)
        await paid.act(f"refunds/{ours}/fail")
        await turn(lost)

    events = [event for _, event in await paid.log.events()]
    refunded = [each for each in events if isinstance(each, BookingRefunded)]
    amounts = [(each.refund_id, each.amount_minor, each.by_hand) for each in refunded]
    assert amounts == [(by_hand, 5_000, True), (ours, AMOUNT, False)]
    assert [each.refund_id for each in events if isinstance(each, RefundFailed)] == [ours]
    assert [each.amount_minor for each in events if isinstance(each, DisputeOpened)] == [1_000]
    found, listed = await on_topic(paid.log), await paid.at_stripe("events")
    assert set(found) == {event["id"] for event in listed if event["type"] in EVENT_TYPES}
    assert set(found.values()) == {1}

    # The webhooks come after all, and change nothing.
    before = [envelope.id for envelope, _ in await paid.log.events()]
    await paid.deliver_webhooks()
    after = [event for envelope, event in await paid.log.events() if envelope.id not in before]
    assert after
    assert all(isinstance(event, CommandRepeated) for event in after), after


async def test_the_record_is_as_the_ingress_would_have_written_it_and_names_its_source(
    paid: PaidBookings, caplog: pytest.LogCaptureFixture
) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    async with open_stripe(settings_of(paid)) as client, lost_webhooks(paid.log, paid.database, client) as lost:
        await lost.start()
        await lost.turn()
        await lost.turn()

    ((record,),) = (await paid.log.read(STRIPE_WEBHOOKS)).values()
    event = json.loads(record.value)
    assert (record.key, event["type"], event["api_version"]) == (b"1", "checkout.session.completed", API_VERSION)
    assert header(record.headers, "source") == b"innkeeper/reconciliation"
    (line,) = [each for each in caplog.records if each.levelno == logging.WARNING and event["id"] in each.getMessage()]
    assert "no webhook brought 1 checkout.session.completed" in line.getMessage()


async def test_an_event_whose_webhook_came_is_left_alone(log: Log, database: DatabaseSettings) -> None:
    stripe = Stripe()
    await arrives(log, stripe.lists("evt_1"))
    # Payments sends these to the dead-letter topic.
    topic = log.settings.topic(STRIPE_WEBHOOKS)
    await log.write(Outgoing(topic, b"1", b"\xff", []), Outgoing(topic, b"1", b"[]", []))

    async with lost_webhooks(log, database, stripe.client) as lost:
        await lost.start()
        await lost.turn()
        await arrives(log, stripe.lists("evt_2"))
        await lost.turn()

    records = [record.value for records in (await log.read(STRIPE_WEBHOOKS)).values() for record in records]
    assert len(records) == 4


async def test_an_event_waits_for_its_webhook_and_the_position_waits_with_it(
    log: Log, database: DatabaseSettings
) -> None:
    stripe = Stripe()
    first, second = stripe.lists("evt_1", seconds_ago=20), stripe.lists("evt_2")

    async with lost_webhooks(log, database, stripe.client, arrival_seconds=600) as lost:
        await lost.start()
        await lost.turn()
        await lost.turn()
        assert (await on_topic(log), await position(database)) == ({}, first.created)

        await arrives(log, first)
        await lost.turn()
        assert await position(database) == second.created
        await arrives(log, second)
        await lost.turn()

    assert await on_topic(log) == {"evt_1": 1, "evt_2": 1}


async def test_many_lost_events_come_in_turns_the_oldest_first(
    log: Log, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_webhooks_module, "MAX_LOST_TOGETHER", 2)
    stripe = Stripe()
    events = [stripe.lists(f"evt_{number}", seconds_ago=50 - 10 * number) for number in range(5)]

    async with lost_webhooks(log, database, stripe.client) as lost:
        await lost.start()
        for count in (2, 4):
            await lost.turn()
            assert await on_topic(log) == {event.id: 1 for event in events[:count]}
            assert await position(database) == events[count].created
        await lost.turn()

    assert await on_topic(log) == {event.id: 1 for event in events}


async def test_an_event_written_before_a_process_ended_is_not_written_again(
    log: Log, database: DatabaseSettings
) -> None:
    stripe = Stripe()
    stripe.lists("evt_1")
    async with lost_webhooks(log, database, stripe.client) as first:
        await first.start()
        # As if it were killed before it saved its position.
        await first.turn(saving=False)
    assert (await on_topic(log), await position(database)) == ({"evt_1": 1}, None)

    async with lost_webhooks(log, database, stripe.client) as second:
        await second.start()
        await second.turn()

    assert await on_topic(log) == {"evt_1": 1}


async def test_events_of_the_time_without_a_process_are_found_at_the_next_start(
    log: Log, database: DatabaseSettings
) -> None:
    stripe = Stripe()
    day = 24 * 60 * 60
    await save_position(database, datetime.now(UTC) - timedelta(days=29))
    stripe.lists("evt_20", seconds_ago=20 * day)
    stripe.lists("evt_10", seconds_ago=10 * day)
    await arrives(log, stripe.lists("evt_15", seconds_ago=15 * day))

    async with lost_webhooks(log, database, stripe.client) as lost:
        assert await lost.start()
        await lost.turn()
        await lost.turn()

    assert await on_topic(log) == {"evt_20": 1, "evt_15": 1, "evt_10": 1}
    until = await position(database)
    assert until is not None
    assert until > datetime.now(UTC) - 2 * OVERLAP


async def test_a_position_older_than_stripes_list_is_a_gap(log: Log, database: DatabaseSettings) -> None:
    await save_position(database, datetime.now(UTC) - timedelta(days=31))

    async with lost_webhooks(log, database, Stripe().client) as lost:
        assert not await lost.start()


async def test_an_event_that_stripe_lists_late_is_found_behind_the_position(
    log: Log, database: DatabaseSettings
) -> None:
    stripe = Stripe()
    async with lost_webhooks(log, database, stripe.client) as lost:
        await lost.start()
        young = stripe.lists("evt_young", seconds_ago=5)
        await lost.turn()
        assert await position(database) == young.created

        stripe.lists("evt_late", seconds_ago=300)
        await lost.turn()
        await lost.turn()

    assert await on_topic(log) == {"evt_young": 1, "evt_late": 1}
    assert await position(database) == young.created


def test_every_event_that_is_looked_for_has_an_effect_and_one_question_names_them_all() -> None:
    assert set(EVENT_TYPES) <= _KINDS.keys()
    assert len(EVENT_TYPES) <= 20
