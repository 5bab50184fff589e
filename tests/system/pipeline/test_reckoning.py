"""The reckoning has teeth: it finds each fault that is put into the data."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.database import connect
from storage.settings import DatabaseSettings
from tests.support.scenario import NOON
from tests.system.pipeline.load import Promises
from tests.system.pipeline.log import Entry
from tests.system.pipeline.reckoning import (
    decided_once,
    first_publications,
    last_status,
    miscounted,
    oversold,
    overused_codes,
    sold_again,
    torn_moves,
    torn_trips,
    unfinished,
    unpaid_for,
    without_dead_letters,
)
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


def test_a_command_without_an_answer_is_found_unless_a_dead_letter_has_it_with_its_reason() -> None:
    commands = [command(0, "a"), command(1, "b")]
    position = {"dl_topic": b"booking.commands", "dl_partition": b"0", "dl_offset": b"1"}
    letter, without_reason, of_other_topic = (
        Entry(0, 0, 0, b"7", BOOKING, position | more)
        for more in ({"dl_reason": b"no JSON"}, {}, {"dl_reason": b"no JSON", "dl_topic": b"stripe.webhooks"})
    )

    assert without_dead_letters(commands, [letter]) == commands[:1]
    assert without_dead_letters(commands, [without_reason, of_other_topic]) == commands


def test_a_command_that_took_effect_twice_is_found() -> None:
    published = {0: [event(0, 1, "a"), event(1, 2, "a")]}

    assert decided_once([command(0, "a")], published)
    assert sold_again(published)


def test_answers_that_overtook_each_other_are_found() -> None:
    published = {0: [event(0, 1, "b", "booking.cancelled.v1"), event(1, 2, "a")]}

    assert decided_once([command(0, "a"), command(1, "b", "booking.cancel.v1")], published)


def test_an_answer_to_nothing_is_found() -> None:
    assert decided_once([], {0: [event(0, 1, "a")]})


def decided(*events: tuple[str, dict[str, Any]]) -> dict[int, list[Entry]]:
    """Return the events of one partition, by their types and fields."""
    return {
        0: [
            event(number, number + 1, f"cause-{number}", message_type, json.dumps(fields).encode())
            for number, (message_type, fields) in enumerate(events)
        ]
    }


OPENED_TRIP = ("booking.trip_opened.v1", {"booking_id": "trip", "legs": [{"booking_id": "a"}, {"booking_id": "b"}]})


def bought(*ids: str) -> list[tuple[str, dict[str, Any]]]:
    return [("booking.confirmed.v1", {"booking_id": id}) for id in ids]


@pytest.mark.parametrize(
    ("ids", "statuses", "problems"),
    [
        (["trip", "b", "a"], {"trip": "CONFIRMED", "a": "CONFIRMED", "b": "CANCELLED"}, 0),
        ([], {"trip": "EXPIRED", "a": "CANCELLED", "b": "CANCELLED"}, 0),
        ([], {"trip": "REJECTED", "a": "CANCELLED"}, 0),
        (["trip", "a"], {"trip": "CONFIRMED", "a": "CONFIRMED", "b": "CANCELLED"}, 1),
        (["a"], {"trip": "EXPIRED", "a": "CONFIRMED", "b": "CANCELLED"}, 1),
        (["a", "b"], {"trip": "EXPIRED", "a": "CONFIRMED", "b": "CONFIRMED"}, 1),
        ([], {"trip": "REJECTED", "a": "RESERVED"}, 1),
    ],
    ids=["whole", "expired", "refused", "one leg missing", "one leg too many", "not paid", "a leg is held on"],
)
def test_a_trip_that_is_bought_in_part_is_found(ids: list[str], statuses: dict[str, str], problems: int) -> None:
    assert len(torn_trips(decided(OPENED_TRIP, *bought(*ids)), statuses)) == problems


@pytest.mark.parametrize(
    ("ends", "ids", "leg", "problems"),
    [
        (["changed"], ["x", "leg"], "CONFIRMED", 0),
        (["changed"], ["x", "leg"], "CANCELLED", 0),
        (["change_ended"], ["x"], "CANCELLED", 0),
        (["change_ended"], ["x"], "REJECTED", 0),
        ([], ["x"], "RESERVED", 0),
        (["changed"], ["x"], "RESERVED", 1),
        (["changed"], ["x"], "CANCELLED", 1),
        (["change_ended"], ["x", "leg"], "CONFIRMED", 1),
        ([], ["x", "leg"], "CONFIRMED", 1),
        (["change_ended"], ["x"], "RESERVED", 1),
        (["changed", "change_ended"], ["x", "leg"], "CONFIRMED", 1),
    ],
)
def test_a_stay_that_is_in_two_rooms_or_in_none_is_found(
    ends: list[str], ids: list[str], leg: str, problems: int
) -> None:
    move = {"booking_id": "x", "change_id": "leg"}
    events = [("booking.change_opened.v1", move), *((f"booking.{end}.v1", move) for end in ends), *bought(*ids)]

    assert len(torn_moves(decided(*events), {"x": "CONFIRMED", "leg": leg})) == problems


def use(kind: str, booking: str) -> tuple[str, dict[str, Any]]:
    return f"code.{kind}.v1", {"code_id": 7, "booking_id": booking}


def test_a_use_of_a_promo_code_beyond_its_limit_is_found() -> None:
    one = ("code.changed.v1", {"code_id": 7, "terms": {"max_uses": 1}})

    assert not overused_codes(decided(one, use("claimed", "a"), use("returned", "a"), use("claimed", "b")))
    assert overused_codes(decided(one, use("claimed", "a"), use("claimed", "b"), use("returned", "a")))


def test_a_stay_whose_change_waits_for_a_payment_is_confirmed_by_its_events() -> None:
    asked = ("booking.payment_requested.v1", {"booking_id": "a"})
    reserved = ("booking.reserved.v1", {"booking_id": "a"})

    assert last_status(decided(reserved, asked)) == {"a": "PAYMENTS_PENDING"}
    assert last_status(decided(reserved, asked, *bought("a"), asked)) == {"a": "CONFIRMED"}


def test_a_trip_that_is_decided_twice_is_found() -> None:
    twice = [("booking.trip_reserved.v1", {"booking_id": "trip"}), ("booking.trip_rejected.v1", {"booking_id": "trip"})]

    assert not sold_again(decided(*twice[:1]))
    assert sold_again(decided(*twice))


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


def payment(booking: UUID, captured_minor: int, refunded_minor: int = 0) -> dict[str, Any]:
    amounts = {"captured_minor": captured_minor, "refunded_minor": refunded_minor}
    return {"metadata": {"booking_id": str(booking)}, **amounts}


async def test_money_that_is_not_that_of_its_booking_is_found(database: DatabaseSettings) -> None:
    url = await ledger_of(database, OPENED, RESERVED, PAID)
    amount = RESERVED.amount_minor

    assert await unpaid_for(url, [payment(RESERVED.booking_id, amount)]) == []
    assert len(await unpaid_for(url, [payment(RESERVED.booking_id, amount, 1)])) == 1
    assert len(await unpaid_for(url, [payment(uuid4(), 1), payment(RESERVED.booking_id, amount)])) == 1


async def test_the_money_of_a_trip_is_that_of_its_legs(database: DatabaseSettings) -> None:
    url, trip, amount = await ledger_of(database, OPENED, RESERVED, PAID), uuid4(), RESERVED.amount_minor
    async with await connect(database, "a test") as connection:
        await connection.execute("update booking set trip_id = %s", (trip,))

    assert await unpaid_for(url, [payment(trip, amount)]) == []
    assert len(await unpaid_for(url, [payment(RESERVED.booking_id, amount)])) == 2

    async with await connect(database, "a test") as connection:
        await connection.execute("""update booking set status = 'CANCELLED', policy = '{"kept_minor": 1}'""")

    assert await unpaid_for(url, [payment(trip, amount, amount - 1)]) == []
    assert len(await unpaid_for(url, [payment(trip, amount, amount)])) == 1


async def test_a_booking_that_is_paid_at_the_hotel_has_no_money_at_stripe(database: DatabaseSettings) -> None:
    url = await ledger_of(database, OPENED, RESERVED, PAID)
    async with await connect(database, "a test") as connection:
        await connection.execute("update booking set terms = 'at_hotel'")

    assert await unpaid_for(url, []) == []
    assert len(await unpaid_for(url, [payment(RESERVED.booking_id, 1)])) == 1


@pytest.mark.parametrize("unended", ["status = 'RESERVING'", "status = 'RESERVED'", "pending_change = '{}'"])
async def test_work_that_is_not_finished_is_found(unended: str, database: DatabaseSettings) -> None:
    url = await ledger_of(database, OPENED, RESERVED, PAID)
    assert await unfinished(url) == []

    async with await connect(database, "a test") as connection:
        await connection.execute(f"update booking set {unended}".encode())

    assert len(await unfinished(url)) == 1


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
