"""Ways in which an auditor found that a command could be lost, decided twice, or stop its partition for good."""

import asyncio
from datetime import date
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from storage.settings import DatabaseSettings
from tests.support.log import Log, open_processor, process_all
from tests.support.waiting import MAX_WAIT_SECONDS
from tests.workers.runtime.test_batch_processor import ROOM, Witness, event, nights_on_sale, record, retyped, rows, stay
from topics.catalogue import BOOKING_COMMANDS, DEAD_LETTERS
from topics.envelope import Outgoing
from topics.messages.commands import AddGuests, CancelBooking, ChangeInventory, RecordRefund
from workers.reservations import handler
from workers.runtime import batch_processor
from workers.runtime.role import Role

TAKEN_NIGHTS = "select distinct total_count, reserved_count from inventory where reserved_count > 0"


@pytest.fixture
def role(log: Log, database: DatabaseSettings) -> Role:
    return handler.build(log.settings, database)


def rooms_from_now_on(total_count: int) -> ChangeInventory:
    return ChangeInventory(
        room_id=ROOM, first_night=date(2027, 5, 1), end_night=date(2027, 5, 11), total_count=total_count
    )


async def test_rooms_that_a_manager_adds_can_be_booked_in_the_same_batch(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    await log.send(nights_on_sale(rooms=1))
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await log.send(rooms_from_now_on(3), stay(), stay(), stay())
        await process_all(processor, role, log)

    assert await rows(connection, TAKEN_NIGHTS) == [(3, 3)]


async def test_rooms_that_a_guest_gives_back_can_be_taken_off_sale_in_the_same_batch(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    given_up = stay()
    await log.send(nights_on_sale(rooms=2), stay(), given_up)
    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await log.send(CancelBooking(room_id=ROOM, booking_id=given_up.booking_id, user_id=1), rooms_from_now_on(1))
        await process_all(processor, role, log)

    assert await rows(connection, TAKEN_NIGHTS) == [(1, 1)]


async def test_a_header_without_a_value_harms_nobody(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any]
) -> None:
    bare: Any = ("trace", None)
    good, spoilt = record(log, nights_on_sale()), record(log, stay())
    await log.write(
        good._replace(headers=[*good.headers, bare]),
        spoilt._replace(headers=[*spoilt.headers, bare], value=b"{"),
        record(log, stay()),
    )

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)

    [dead_letters] = (await log.read(DEAD_LETTERS)).values()
    assert ("trace", None) in dead_letters[0].headers
    assert await rows(connection, "select status, count(*) from booking group by 1") == [("RESERVED", 1)]


@pytest.mark.parametrize("where", ["the type", "the id", "the correlation", "the event"])
async def test_a_zero_character_becomes_a_dead_letter_wherever_it_comes_in(
    log: Log, role: Role, database: DatabaseSettings, where: str
) -> None:
    good = record(log, stay())
    refund = RecordRefund(room_id=ROOM, booking_id=uuid4(), payment_intent="pi_1", refund_id="re_\0", amount_minor=1)
    spoilt = {
        "the type": retyped(good, "booking.\0stroke_the_cat.v1"),
        "the id": good._replace(headers=[(n, b"a\0b" if n == "ce_id" else v) for n, v in good.headers]),
        "the correlation": good._replace(
            headers=[(n, b"a\0b" if n == "ce_correlationid" else v) for n, v in good.headers]
        ),
        "the event": record(log, refund),
    }[where]
    await log.write(record(log, nights_on_sale()), spoilt, record(log, stay()))

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)

    [dead_letters] = (await log.read(DEAD_LETTERS)).values()
    assert [record.value for record in dead_letters] == [spoilt.value]
    assert [type(event).__name__ for _, event in await log.events()] == ["InventoryOpened", "BookingReserved"]


@pytest.mark.parametrize("megabytes", [3, 8.5])
async def test_poison_of_any_size_becomes_a_dead_letter_and_the_next_guest_is_served(
    log: Log, role: Role, database: DatabaseSettings, connection: psycopg.AsyncConnection[Any], megabytes: float
) -> None:
    first = stay()
    await log.send(nights_on_sale(), first)
    # It can be read as a command, and its event could be too large to be published.
    guest_ids = tuple(range(10_000_000, 10_000_000 + int(megabytes * 2**20 / 9)))
    named = AddGuests(room_id=ROOM, booking_id=first.booking_id, user_id=1, guest_ids=guest_ids)
    await write_large(log, record(log, named))
    await log.send(stay())

    async with open_processor(role, log, database) as processor, asyncio.timeout(MAX_WAIT_SECONDS):
        await process_all(processor, role, log)

    [[dead_letter]] = (await log.read(DEAD_LETTERS)).values()
    assert dict(dead_letter.headers)["dl_offset"] == b"2"
    assert ("dl_left_behind" in dict(dead_letter.headers)) == (megabytes > 8)
    assert await rows(connection, "select status, count(*) from booking group by 1") == [("RESERVED", 2)]


async def write_large(log: Log, large: Outgoing) -> None:
    """Write a record that our own producer would refuse."""
    client = AIOKafkaProducer(bootstrap_servers=log.settings.kafka_url, max_request_size=10 * 2**20)
    await client.start()
    try:
        await client.send_and_wait(large.topic, large.value, large.key, headers=large.headers)
    finally:
        await client.stop()


async def test_records_that_got_lost_between_two_others_are_read_again(
    log: Log, role: Role, database: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(), stay(), stay(), stay())
    [(partition, records)] = (await log.read(BOOKING_COMMANDS)).items()

    async with open_processor(role, log, database) as processor:
        assert await processor.process([records[:1], records[3:]]) == {partition: 0}
        assert await processor.process([records]) == {}

    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3, 4]


async def test_records_that_are_read_twice_in_one_batch_are_decided_once(
    log: Log, role: Role, database: DatabaseSettings
) -> None:
    await log.send(nights_on_sale(), stay(), stay())
    [(_, records)] = (await log.read(BOOKING_COMMANDS)).items()

    async with open_processor(role, log, database) as processor:
        assert await processor.process([records[:2], records]) == {}

    assert [envelope.sequence for envelope, _ in await log.events()] == [1, 2, 3]


async def test_a_gap_in_a_partition_that_somebody_else_reads_now_stops_nobody(
    log: Log, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Role("witness", (Witness(),))
    await log.write(event(log, 1), event(log, 3))

    async with open_processor(role, log, database) as processor:
        await process_all(processor, role, log)
        await processor.on_revoked()
        monkeypatch.setattr(batch_processor, "MAX_GAP_SECONDS", 0)
        await processor.mark_published()
