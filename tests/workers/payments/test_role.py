"""The payments role in a worker: events and webhooks are read from the log, commands are written to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from storage.settings import DatabaseSettings
from tests.support.log import open_processor, process_all
from tests.support.waiting import wait_until
from tests.workers.payments.desk import ROOM, Desk, payment_requested
from topics.catalogue import BOOKING_EVENTS, DEAD_LETTERS, STRIPE_WEBHOOKS
from topics.envelope import Envelope, Outgoing, encode_headers, encode_value
from topics.messages.commands import ConfirmPayment, RecordSession
from topics.messages.events import BookingEvent
from workers.payments import build, caller
from workers.runtime.batch_processor import BatchProcessor
from workers.runtime.role import Role

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def role(desk: Desk) -> Role:
    return build(desk.log.settings, desk.database, desk.settings)


@pytest.fixture
async def processor(role: Role, desk: Desk, database: DatabaseSettings) -> AsyncIterator[BatchProcessor]:
    async with open_processor(role, desk.log, database) as opened:
        yield opened


def record_of(desk: Desk, event: BookingEvent, sequence: int) -> Outgoing:
    envelope = Envelope(
        id=f"{uuid4()}:0",
        type=event.message_type,
        source="innkeeper/reservations",
        subject=str(event.booking_id),
        time=datetime.now(UTC),
        sequence=sequence,
    )
    topic = desk.log.settings.topic(BOOKING_EVENTS)
    return Outgoing(topic, b"%d" % ROOM, encode_value(event), encode_headers(envelope))


def posted(desk: Desk, body: bytes) -> Outgoing:
    return Outgoing(desk.log.settings.topic(STRIPE_WEBHOOKS), b"%d" % ROOM, body, [])


async def test_a_guest_pays_and_the_room_gets_the_command_also_when_the_log_is_read_twice(
    desk: Desk, role: Role, processor: BatchProcessor
) -> None:
    booking_id = uuid4()
    await desk.log.write(record_of(desk, payment_requested(booking_id), sequence=1))
    await process_all(processor, role, desk.log)
    async with desk.caller():
        row = await desk.until_session("open", booking_id)
    await desk.pay(row["session_id"])
    await desk.log.write(*(posted(desk, body) for body in 2 * await desk.events()))

    for _ in range(2):
        await process_all(processor, role, desk.log)

    await wait_until(lambda: _confirmed(desk, booking_id))
    kinds = [type(command) for _, command in await desk.commands()]
    assert sorted(kind.message_type for kind in kinds) == sorted(
        [RecordSession.message_type, ConfirmPayment.message_type, ConfirmPayment.message_type]
    )
    assert len(await desk.sent(ConfirmPayment)) == 1


async def _confirmed(desk: Desk, booking_id: UUID) -> bool:
    return any(command.booking_id == booking_id for command in (await desk.sent(ConfirmPayment)).values())  # type: ignore[attr-defined]


async def test_a_webhook_that_cannot_be_read_goes_to_the_dead_letter_topic_and_the_next_one_is_read(
    desk: Desk, role: Role, processor: BatchProcessor
) -> None:
    booking_id = uuid4()
    session = {
        "id": "cs_1",
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 24_000,
        "currency": "eur",
        "client_reference_id": str(booking_id),
        "payment_intent": "pi_1",
        "metadata": desk.metadata(booking_id, 1),
    }
    event = {"id": "evt_1", "type": "checkout.session.completed", "livemode": False, "data": {"object": session}}
    await desk.log.write(posted(desk, b"no event"), posted(desk, json.dumps(event).encode()))

    await process_all(processor, role, desk.log)

    await wait_until(lambda: _confirmed(desk, booking_id))
    (dead_letters,) = (await desk.log.read(DEAD_LETTERS)).values()
    assert [record.value for record in dead_letters] == [b"no event"]


async def test_a_commit_wakes_the_caller(desk: Desk, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    assert role.background is not None
    # No poll comes in time, so the caller works, also after a failure, only because it was woken.
    monkeypatch.setattr(caller, "POLL_SECONDS", 3600)
    first, second = uuid4(), uuid4()
    await desk.read_events(payment_requested(first))
    background = asyncio.ensure_future(role.background())
    await wait_until(lambda: _opened_when_woken(desk, role, first))

    await desk.read_events(payment_requested(second))

    await wait_until(lambda: _opened_when_woken(desk, role, second))
    background.cancel()
    await asyncio.wait([background])


async def _opened_when_woken(desk: Desk, role: Role, booking_id: UUID) -> bool:
    assert role.committed is not None
    role.committed()
    return [row["status"] for row in await desk.sessions(booking_id)] == ["open"]
