"""The reckoning has teeth: it finds each fault that is put into the data."""

import pytest

from storage.database import connect
from storage.settings import DatabaseSettings
from tests.support.scenario import NOON
from tests.system.pipeline.load import Promises
from tests.system.pipeline.log import Entry
from tests.system.pipeline.reckoning import decided_once, first_publications, miscounted, oversold, sold_again
from tests.workers.decisions.words import CANCELLED, CHANGED, OPENED, PAID, RESERVED, but, march
from tests.workers.decisions.words_at_hotel import ARRIVED, DID_NOT_ARRIVE, LEFT
from topics.messages.events import BookingEvent, Event
from workers.decisions import State
from workers.reservations.write_batch import WriteBatch

BOOKING = b'{"booking_id":"b"}'


def command(offset: int, id: str, message_type: str = "booking.reserve.v1") -> Entry:
    return Entry(0, offset, 0, b"7", BOOKING, {"ce_id": id.encode(), "ce_type": message_type.encode()})


def event(
    offset: int, sequence: int, cause: str, message_type: str = "booking.reserved.v1", value: bytes = BOOKING
) -> Entry:
    headers = {
        "ce_id": f"{cause}:0".encode(),
        "ce_type": message_type.encode(),
        "ce_causationid": cause.encode(),
        "ce_sequence": str(sequence).encode(),
    }
    return Entry(0, offset, 0, b"7", value, headers)


def test_doubles_are_counted_and_dropped() -> None:
    published, doubles, wrong = first_publications([event(0, 1, "a"), event(1, 2, "b"), event(2, 1, "a")])

    assert (len(published[0]), doubles, wrong) == (2, 1, [])


def test_a_gap_is_found() -> None:
    assert first_publications([event(0, 1, "a"), event(1, 3, "c")])[2]


def test_a_double_with_another_content_is_found() -> None:
    assert first_publications([event(0, 1, "a"), event(1, 1, "a", value=b"{}")])[2]


def test_a_command_without_an_answer_is_found() -> None:
    assert not decided_once([command(0, "a")], {0: [event(0, 1, "a")]})
    assert decided_once([command(0, "a"), command(1, "b")], {0: [event(0, 1, "a")]})


def test_a_command_that_took_effect_twice_is_found() -> None:
    published = {0: [event(0, 1, "a"), event(1, 2, "a")]}

    assert decided_once([command(0, "a")], published)
    assert sold_again(published)


def test_answers_that_overtook_each_other_are_found() -> None:
    published = {0: [event(0, 1, "b", "booking.cancelled.v1"), event(1, 2, "a")]}

    assert decided_once([command(0, "a"), command(1, "b", "booking.cancel.v1")], published)


def test_an_answer_to_nothing_is_found() -> None:
    assert decided_once([], {0: [event(0, 1, "a")]})


def test_a_status_that_goes_back_is_found() -> None:
    promises = Promises()
    for status in ("PENDING", "RESERVED", "RESERVED", "EXPIRED", "CONFIRMED"):
        promises.saw("late", status)
    for status in ("PENDING", "RESERVED", "PENDING"):
        promises.saw("back", status)

    assert [line.partition(":")[0] for line in promises.gone_back()] == ["back"]


def test_a_key_that_stood_for_two_bookings_is_found() -> None:
    promises = Promises()
    for booking, key in (("a", "one"), ("a", "one"), ("b", "two"), ("c", "two"), ("d", None)):
        promises.booked(booking, key)

    assert [line.partition(":")[0] for line in promises.broken_keys()] == ["two"]


@pytest.mark.parametrize(
    "ends",
    [
        (but(CANCELLED, freed_from=march(11)),),
        (ARRIVED, but(LEFT, freed_from=march(11))),
        (but(DID_NOT_ARRIVE, freed_from=march(11)),),
    ],
    ids=["cancelled", "left early", "no show"],
)
async def test_nights_before_a_stay_ended_early_stay_counted(
    ends: tuple[BookingEvent, ...], database: DatabaseSettings
) -> None:
    url = await ledger_of(database, OPENED, RESERVED, PAID, *ends)
    assert await miscounted(url) == []
    assert await oversold(url) == []

    async with await connect(database, "a test") as connection:
        await connection.execute("update booking set freed_from = null")

    assert len(await miscounted(url)) == 1


@pytest.mark.parametrize("ends", [(ARRIVED,), (ARRIVED, LEFT)], ids=["there", "left on their day"])
async def test_all_nights_of_guests_who_arrived_stay_counted(
    ends: tuple[BookingEvent, ...], database: DatabaseSettings
) -> None:
    url = await ledger_of(database, OPENED, RESERVED, PAID, *ends)
    assert await miscounted(url) == []

    async with await connect(database, "a test") as connection:
        await connection.execute("update booking set status = 'CANCELLED'")

    assert len(await miscounted(url)) == 2


async def test_rooms_beyond_total_and_allowance_are_found(database: DatabaseSettings) -> None:
    url = await ledger_of(database, but(OPENED, total_count=0), but(CHANGED, allowance_count=1), RESERVED)
    assert await oversold(url) == []

    async with await connect(database, "a test") as connection:
        await connection.execute("update inventory set total_count = 1, blocked_count = 1")

    assert await oversold(url) == []
    async with await connect(database, "a test") as connection:
        await connection.execute("update booking set rooms_count = 2")
    assert len(await oversold(url)) == 2


async def ledger_of(database: DatabaseSettings, *events: Event) -> str:
    """Write what became of the events into the ledger, and return the address of the database."""
    async with await connect(database, "a test") as connection, connection.transaction():
        batch = WriteBatch({})
        state = State(None, {})
        for event in events:
            state = batch.apply(state, event, NOON)
        await batch.write(connection)
    return database.database_url.get_secret_value()
