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
from tests.operators.decided_log import PAID, REFUNDED
from tests.operators.reconcile.paid_bookings import AMOUNT, ROOM, PaidBookings
from tests.workers.reconciliation.reconciler import lost_webhooks, on_topic
from topics.catalogue import STRIPE_WEBHOOKS
from topics.envelope import Outgoing, header
from topics.messages.commands import CancelBooking
from topics.messages.events import BookingRefunded, CommandRepeated, DisputeOpened, RefundFailed
from workers.payments.webhooks import _KINDS
from workers.reconciliation.lost_webhooks import OVERLAP, LostWebhooks
from workers.reconciliation.stripe_client import Event, StripeClient
from workers.stripe.event_types import EVENT_TYPES

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


async def listed(paid: PaidBookings) -> set[str]:
    """Return the ids of the events at Stripe that payments must be sent."""
    return {event["id"] for event in await paid.at_stripe("events") if event["type"] in EVENT_TYPES}


async def position(paid: PaidBookings) -> datetime:
    (row,) = await paid.rows("select events_until from stripe_position")
    until: datetime = row["events_until"]
    return until


async def turn(lost: LostWebhooks, paid: PaidBookings) -> None:
    """Look once, and let payments and the room follow."""
    await lost.turn()
    await paid.work()


async def test_each_kind_of_lost_webhook_is_made_good(paid: PaidBookings) -> None:
    await paid.checkout(PAID, REFUNDED)
    async with lost_webhooks(paid) as lost:
        await lost.start()
        payment = await paid.pay(PAID)
        await turn(lost, paid)
        assert await paid.status(PAID) == "CONFIRMED"

        by_hand = await paid.refund_by_hand(payment, 5_000)
        await paid.dispute(payment, amount_minor=1_000)
        await turn(lost, paid)

        await paid.pay(REFUNDED)
        await turn(lost, paid)
        await paid.work(CancelBooking(room_id=ROOM, booking_id=REFUNDED, user_id=7))
        await paid.call()
        await paid.work()
        ours = next(each["id"] for each in await paid.at_stripe("refunds") if each["id"] != by_hand)
        await paid.act(f"refunds/{ours}/fail")
        await turn(lost, paid)

    events = [event for _, event in await paid.log.events()]
    refunded = [
        (each.refund_id, each.amount_minor, each.by_hand) for each in events if isinstance(each, BookingRefunded)
    ]
    assert refunded == [(by_hand, 5_000, True), (ours, AMOUNT, False)]
    assert [each.refund_id for each in events if isinstance(each, RefundFailed)] == [ours]
    assert [each.amount_minor for each in events if isinstance(each, DisputeOpened)] == [1_000]
    found = await on_topic(paid)
    assert (set(found), set(found.values())) == (await listed(paid), {1})


async def test_an_event_whose_webhook_came_is_left_alone(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    await paid.refund_by_hand(payment, 5_000)
    await paid.deliver_webhooks()
    before = await on_topic(paid)
    assert before

    async with lost_webhooks(paid) as lost:
        await lost.start()
        await lost.turn()
        await lost.turn()

    assert await on_topic(paid) == before


async def test_an_event_waits_for_its_webhook_and_the_position_waits_with_it(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    (completed,) = [each for each in await paid.at_stripe("events") if each["type"] == "checkout.session.completed"]

    async with lost_webhooks(paid, arrival_seconds=600) as lost:
        await lost.start()
        await lost.turn()
        await lost.turn()
        assert await on_topic(paid) == {}
        assert await position(paid) <= datetime.fromtimestamp(completed["created"], UTC)

        await paid.deliver_webhooks()
        before = await on_topic(paid)
        await lost.turn()

    assert await on_topic(paid) == before
    assert await paid.status(PAID) == "CONFIRMED"


async def test_a_webhook_that_comes_after_all_changes_nothing(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    payment = await paid.pay(PAID)
    async with lost_webhooks(paid) as lost:
        await lost.start()
        await turn(lost, paid)
        await paid.refund_by_hand(payment, 5_000)
        await turn(lost, paid)
    before = [envelope.id for envelope, _ in await paid.log.events()]

    await paid.deliver_webhooks()

    after = [event for envelope, event in await paid.log.events() if envelope.id not in before]
    assert after
    assert all(isinstance(event, CommandRepeated) for event in after), after


async def test_an_event_written_before_a_process_ended_is_not_written_again(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    async with lost_webhooks(paid) as first:
        await first.start()
        # As if it were killed before it saved its position.
        await first.turn(saving=False)
    before = await on_topic(paid)
    assert before
    assert await paid.rows("select 1 as saved from stripe_position") == []

    async with lost_webhooks(paid) as second:
        await second.start()
        await second.turn()

    assert await on_topic(paid) == before


async def test_events_of_the_time_without_a_process_are_found_at_the_next_start(paid: PaidBookings) -> None:
    await paid.checkout(PAID)
    async with lost_webhooks(paid) as lost:
        await lost.start()
        await lost.turn()
    await paid.rows("update stripe_position set events_until = now() - interval '29 days', saved_at = events_until")
    await paid.pay(PAID)

    async with lost_webhooks(paid) as lost:
        assert await lost.start()
        await turn(lost, paid)

    assert await paid.status(PAID) == "CONFIRMED"
    assert await position(paid) > datetime.now(UTC) - 2 * OVERLAP


async def test_a_position_older_than_stripes_list_is_a_gap(paid: PaidBookings) -> None:
    async with await connect(paid.database, "a test") as connection:
        await stripe_position.save(connection, datetime.now(UTC) - timedelta(days=31))

    async with lost_webhooks(paid) as lost:
        assert not await lost.start()


async def test_an_event_that_stripe_lists_late_is_found_behind_the_position(paid: PaidBookings) -> None:
    stripe = LateList()
    async with lost_webhooks(paid, client=cast("StripeClient", stripe)) as lost:
        await lost.start()
        young = stripe.lists("evt_young", seconds_ago=5)
        await lost.turn()
        assert await position(paid) == young.created

        stripe.lists("evt_late", seconds_ago=300)
        await lost.turn()
        await lost.turn()

    assert await on_topic(paid) == {"evt_young": 1, "evt_late": 1}
    assert await position(paid) == young.created


class LateList:
    """Stripe's list of events, in which an event may show up late."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def lists(self, id: str, *, seconds_ago: int) -> Event:
        created = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds_ago)
        body = json.dumps({"id": id, "created": int(created.timestamp()), "type": EVENT_TYPES[0]}).encode()
        event = Event(id=id, type=EVENT_TYPES[0], created=created, object_id="cs_1", metadata={}, body=body)
        self._events.append(event)
        return event

    async def events(self, _: Sequence[str], since: datetime) -> AsyncIterator[Event]:
        for event in sorted(self._events, key=lambda each: each.created, reverse=True):
            if event.created >= since:
                yield event


async def test_the_record_is_as_the_ingress_would_have_written_it_and_names_its_source(
    paid: PaidBookings, caplog: pytest.LogCaptureFixture
) -> None:
    await paid.checkout(PAID)
    await paid.pay(PAID)
    async with lost_webhooks(paid) as lost:
        await lost.start()
        await lost.turn()
        await lost.turn()

    ((record,),) = (await paid.log.read(STRIPE_WEBHOOKS)).values()
    event = json.loads(record.value)
    assert (record.key, event["type"], event["api_version"]) == (b"1", "checkout.session.completed", API_VERSION)
    assert header(record.headers, "source") == b"innkeeper/reconciliation"
    (line,) = [each for each in caplog.records if each.levelno == logging.WARNING and event["id"] in each.getMessage()]
    assert "no webhook brought 1 checkout.session.completed" in line.getMessage()


async def test_bytes_on_the_topic_that_are_no_event_are_passed_over(paid: PaidBookings) -> None:
    topic = paid.log.settings.topic(STRIPE_WEBHOOKS)
    await paid.log.write(Outgoing(topic, b"1", b"\xff", []), Outgoing(topic, b"1", b"[]", []))

    async with lost_webhooks(paid) as lost:
        await lost.start()
        await lost.turn()


def test_every_event_that_is_looked_for_has_an_effect_and_one_question_names_them_all() -> None:
    assert set(EVENT_TYPES) <= _KINDS.keys()
    assert len(EVENT_TYPES) <= 20
