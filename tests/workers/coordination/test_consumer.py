"""The consumer on a real ledger: events become commands, keyed by the object that they are about."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiokafka.structs import ConsumerRecord
from psycopg import AsyncConnection

from storage.database import connect
from storage.settings import DatabaseSettings
from telemetry import metrics
from tests.support.scenario import NOON
from tests.workers.coordination.carried import AFTER_DEADLINE, ASK, LEGS, TRIP, Hotel
from tests.workers.decisions.words import CANCEL, EXPIRE, EXPIRED, OPENED, RESERVE, ROOM, but
from tests.workers.decisions.words_of_changes import ended
from tests.workers.decisions.words_of_codes import CLAIM, DISCOUNT, DISCOUNTED, GIVE_BACK, SPRING, claimed
from tests.workers.decisions.words_of_moves import HAS_MOVED, MOVE_OPENED, MOVED, move_ended
from tests.workers.decisions.words_of_sale import FOR_SALE
from topics.catalogue import BOOKING_EVENTS
from topics.envelope import Envelope, Outgoing, decode_envelope, decode_value
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ReleaseLeg
from topics.messages.events import (
    BookingConfirmed,
    BookingEvent,
    BookingExpired,
    BookingReserved,
    Event,
    TripCancelRequested,
    TripOpened,
)
from topics.messages.releases import Release
from topics.messages.values import ChangeEnd
from workers.coordination.consumer import Coordination
from workers.reservations.write_batch import WriteBatch
from workers.runtime.role import PartitionBatch, Received, Stopped

CLAIMED = claimed(CLAIM)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def batch(*events: Event) -> PartitionBatch:
    """Return the events as they are read from one partition."""
    received = []
    for offset, event in enumerate(events):
        record: Any = ConsumerRecord(
            topic="booking.events",
            partition=2,
            offset=offset,
            timestamp=0,
            timestamp_type=0,
            key=b"",
            value=b"",
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            headers=(),
        )
        envelope = Envelope(
            id=f"e-{offset}:0",
            type=event.message_type,
            source="test",
            subject=event.subject,
            time=NOON,
            correlation="asked",
            traceparent=TRACE,
            actor="user/11",
            request_id="r-1",
        )
        received.append(Received(envelope, event, record, NOON))
    return PartitionBatch(BOOKING_EVENTS, 2, cast("Any", None), received)


async def handled(connection: AsyncConnection, *events: Event, release: Release = Release.V0_2_0) -> Sequence[Outgoing]:
    """Return the commands that follow from events."""
    settings = KafkaSettings(_env_file=None, log_readable_by=release)
    [records] = await Coordination(settings).handle(connection, [batch(*events)])
    return records


async def test_commands_have_the_key_of_their_object_and_the_thread_of_their_event(database: DatabaseSettings) -> None:
    async with await connect(database, "test") as connection:
        [reserve] = await handled(connection, CLAIMED)

    assert reserve.key == b"%d" % ROOM
    assert decode_value(RESERVE.message_type, reserve.value) == but(RESERVE, discount=DISCOUNT)
    envelope = decode_envelope(reserve.headers)
    assert (envelope.id, envelope.causation, envelope.correlation) == ("e-0:0:reserve", "e-0:0", "asked")
    assert (envelope.actor, envelope.request_id, envelope.traceparent) == ("user/11", "r-1", TRACE)
    assert envelope.causation_position == "booking.events[2]@0"


async def test_the_ledger_has_the_code_of_a_booking_that_expired(database: DatabaseSettings) -> None:
    async with await connect(database, "test") as connection:
        assert await handled(connection, EXPIRED) == []
        rows = WriteBatch({})
        state = rows.state(RESERVE.booking_id, [])
        for event in (*FOR_SALE, DISCOUNTED, EXPIRED):
            state = rows.apply(state, event, NOON)
        await rows.write(connection)
        [returned] = await handled(connection, OPENED, EXPIRED)

    assert (returned.key, decode_value(GIVE_BACK.message_type, returned.value)) == (b"%d" % SPRING, GIVE_BACK)
    assert decode_envelope(returned.headers).id == "e-1:0:return"


async def in_ledger(connection: AsyncConnection, hotel: Hotel) -> list[BookingEvent]:
    """Write the trip of the hotel into the ledger, and return its events."""
    decided = [event for event in hotel.log if isinstance(event, BookingEvent) and event.booking_id == TRIP]
    rows = WriteBatch({})
    state = rows.state(TRIP, [])
    for event in decided:
        state = rows.apply(state, event, NOON)
    await rows.write(connection)
    return decided


async def test_the_end_of_a_trip_in_the_ledger_goes_to_the_rooms_of_its_legs(database: DatabaseSettings) -> None:
    hotel = Hotel().send(ASK).send(but(EXPIRE, booking_id=TRIP), at=AFTER_DEADLINE)
    async with await connect(database, "test") as connection:
        records = await handled(connection, *await in_ledger(connection, hotel))

    sent = [(decode_envelope(record.headers), record.key) for record in records]
    rooms = [b"%d" % room_id for room_id in LEGS.values()]
    releases = [key for envelope, key in sent if envelope.type == ReleaseLeg.message_type]
    assert releases == rooms
    requests = [key for envelope, key in sent if envelope.type == RESERVE.message_type]
    assert requests == rooms
    assert len({envelope.id for envelope, _ in sent}) == len(sent) == 6


async def test_a_command_that_the_older_release_cannot_decide_is_not_sent(database: DatabaseSettings) -> None:
    before = sum(metrics.WITHHELD_COMMANDS.values.values())
    async with await connect(database, "test") as connection:
        assert await handled(connection, CLAIMED, release=Release.V0_1_0) == []

    assert sum(metrics.WITHHELD_COMMANDS.values.values()) == before + 1


EXPIRED_TRIP = Hotel().send(ASK).send(but(EXPIRE, booking_id=TRIP), at=AFTER_DEADLINE)
CANCELLED_TRIP = Hotel().send(ASK).pay().send(but(CANCEL, booking_id=TRIP))
LEG_RESERVED = next(event for event in EXPIRED_TRIP.log if isinstance(event, BookingReserved))


@pytest.mark.parametrize(
    ("hotel", "event_type"),
    [
        (EXPIRED_TRIP, TripOpened),
        (EXPIRED_TRIP, BookingExpired),
        (CANCELLED_TRIP, BookingConfirmed),
        # The older release would cancel the legs.
        (CANCELLED_TRIP, TripCancelRequested),
    ],
)
async def test_a_trip_stops_coordination_while_the_older_release_may_read_the_log(
    database: DatabaseSettings, hotel: Hotel, event_type: type[BookingEvent]
) -> None:
    async with await connect(database, "test") as connection:
        decided = await in_ledger(connection, hotel)
        [event] = [event for event in decided if isinstance(event, event_type)]
        with pytest.raises(Stopped, match=r"booking.events\[2\]@1: .* remove LOG_READABLE_BY=0.1.0"):
            await handled(connection, EXPIRED, event, release=Release.V0_1_0)


async def test_a_leg_stops_coordination_while_the_older_release_may_read_the_log(database: DatabaseSettings) -> None:
    async with await connect(database, "test") as connection:
        assert await handled(connection, but(LEG_RESERVED, trip_id=None), release=Release.V0_1_0) == []
        with pytest.raises(Stopped, match="RecordLeg"):
            await handled(connection, LEG_RESERVED, release=Release.V0_1_0)


async def test_a_move_stops_coordination_while_the_older_release_may_read_the_log(database: DatabaseSettings) -> None:
    async with await connect(database, "test") as connection:
        rows = WriteBatch({})
        state = rows.state(HAS_MOVED.booking_id, ())
        for event in MOVED:
            if event.key == HAS_MOVED.room_id:
                state = rows.apply(state, event, NOON)
        await rows.write(connection)
        # An ordinary change needs nothing.
        assert await handled(connection, ended(ChangeEnd.EXPIRED), release=Release.V0_1_0) == []
        for of_move, command in (
            (MOVE_OPENED, "ReserveStay"),
            (move_ended(ChangeEnd.EXPIRED), "ReleaseLeg"),
            (HAS_MOVED, "ConfirmLeg"),
        ):
            with pytest.raises(Stopped, match=f"a trip or a move to another room type needs {command}"):
                await handled(connection, of_move, release=Release.V0_1_0)
