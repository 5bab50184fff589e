"""The day the log is lost, and the day both are: an operator follows docs/restore.md, with whole processes.

As in `test_lost_database` all is killed in the middle of a storm of bookings, and the servers' folders are deleted.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.operators.restore.test_lost_database import (
    BUSY,
    BUSY_TOTAL,
    CHANGING,
    NO_KAFKA,
    Accepted,
    Hotel,
    Stay,
    after_the_backup,
    assert_ledger_and_money_are_right,
    day,
    every_state,
    lose_everything,
    open_hotel,
)
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(NO_KAFKA is not None, reason=NO_KAFKA or ""),
    # The short form: test_lost_log.py does the same in one process.
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(900),
]


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor ends and starts processes in the middle of this test, and ends them all."""


async def typed(hotel: Hotel, *arguments: str) -> Any:
    """Type a command, which succeeds; return its JSON if it has any."""
    ended = await hotel.operator(*arguments)
    assert ended.status == 0, ended.err + ended.out
    return json.loads(ended.out) if "--json" in arguments else None


async def export(hotel: Hotel) -> str:
    """Export the events of a running system; return the folder of the files."""
    folder = str(hotel.system.folder / "export")
    await typed(hotel, "export", "booking.events", "--out", folder, "--until", "now", "--format", "jsonl")
    return folder


async def answers(accepted: Accepted) -> list[Mapping[str, Any]]:
    """Return the state of each booking that was accepted, once none is pending."""
    found: list[Mapping[str, Any]] = []

    async def ended() -> bool:
        nonlocal found
        asked = [guest.ask("GET", f"/v1/bookings/{id}/status") for guest, id in accepted.bookings]
        found = [answer.body for answer in await asyncio.gather(*asked)]
        return "PENDING" not in {each["booking_status"] for each in found}

    await wait_until(ended, message="a booking whose request was lost waits for ever")
    return found


async def assert_shown_as_before(stays: Mapping[str, Stay], before: Mapping[str, Any]) -> None:
    for name in stays.keys() - CHANGING:
        assert await stays[name].complete() == before[name], name


async def assert_ana_can_continue(hotel: Hotel, stays: Mapping[str, Stay]) -> None:
    """An open page can be paid, a cancellation that was lost is sent again, and ids are the same as before."""
    ana = hotel.ana
    assert await ana.pay(stays["waiting"].page) == 303
    await ana.becomes(stays["waiting"].id, "CONFIRMED")
    assert (await ana.ask("POST", f"/v1/bookings/{stays['leaving'].id}/cancel")).status == 204
    refunded = "select count(*) = 1 as so from booking_timeline where booking_id = %s and type = 'booking.refunded.v1'"
    await hotel.house.eventually(refunded, stays["leaving"].id)
    new = await ana.booked(hotel.quiet, 70)
    assert await ana.pay(await ana.checkout(new)) == 303
    await ana.becomes(new, "CONFIRMED")


async def assert_log_is_whole(hotel: Hotel) -> None:
    """No event is twice on the log, and none is missing."""
    tail = await hotel.operator("tail", "booking.events", "--from-beginning", "--json")
    events = [json.loads(line) for line in tail.out.splitlines()]
    ids = [event["id"] for event in events]
    assert len(ids) == len(set(ids))
    for partition in {event["kafkapartition"] for event in events}:
        sequences = [event["sequence"] for event in events if event["kafkapartition"] == partition]
        assert sorted(sequences) == list(range(1, len(sequences) + 1))


async def test_a_lost_log_is_continued_and_no_booking_that_was_decided_is_lost(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, OUTBOX_KEPT_HOURS="48") as hotel:
        stays = await every_state(hotel)
        folder = await export(hotel)
        before = {name: await stay.complete() for name, stay in stays.items()}

        accepted = await lose_everything(hotel, stays["leaving"], "kafka")
        ledger = await hotel.house.rows("select id, status from booking where room_id = %s", hotel.busy.id)
        await hotel.system.start_part("kafka")
        await typed(hotel, "topics", "create")
        done = await typed(hotel, "restore", "--from-ledger", "--from-export", folder, "--yes", "--json")
        assert done["gaps"] == []
        await hotel.start_again()

        states = await answers(accepted)
        decided = {str(row["id"]) for row in ledger}
        lost = [each for each in states if each["id"] not in decided]
        assert len(lost) >= accepted.undecided - 1 > 0
        assert {(each["booking_status"], each["reason"]) for each in lost} == {("REJECTED", "lost")}
        held = {each["id"] for each in states if each["booking_status"] == "RESERVED"}
        assert held <= {str(row["id"]) for row in ledger if row["status"] == "RESERVED"}
        night = (await hotel.nights(hotel.busy))[day(BUSY)]
        assert night["reserved_count"] == sum(row["status"] == "RESERVED" for row in ledger) <= BUSY_TOTAL
        await assert_shown_as_before(stays, before)
        assert (await hotel.ana.ask("GET", f"/v1/bookings/{stays['leaving'].id}")).body["booking_status"] == "CONFIRMED"
        await assert_ana_can_continue(hotel, stays)
        await assert_log_is_whole(hotel)
        await assert_ledger_and_money_are_right(hotel)


async def test_a_system_that_is_lost_altogether_comes_back_from_its_files_and_its_backup(tmp_path: Path) -> None:
    async with open_hotel(tmp_path) as hotel:
        stays = await every_state(hotel)
        late = await after_the_backup(hotel, stays)
        assert late is not hotel.ana
        await hotel.back_up()
        folder = await export(hotel)
        before = {name: await stay.complete() for name, stay in stays.items()}
        after_the_files = await hotel.ana.booked(hotel.quiet, 60)

        accepted = await lose_everything(hotel, stays["leaving"], "kafka", "postgres")
        await asyncio.gather(*(hotel.system.start_part(name) for name in ("kafka", "postgres")))
        await typed(hotel, "topics", "create")
        await typed(hotel, "migrate")
        await hotel.load_backup()
        restored = await typed(hotel, "restore", "--from-export", folder, "--yes", "--json")
        assert restored["undecided"] == restored["unpublished"] == 0
        assert {each["missing"] for each in restored["backup_check"]} == {0}
        await hotel.start_again()

        accepted.bookings.append((hotel.ana, after_the_files))
        assert {(each["booking_status"], each["reason"]) for each in await answers(accepted)} == {("REJECTED", "lost")}
        await assert_shown_as_before(stays, before)
        await assert_ana_can_continue(hotel, stays)
        await assert_log_is_whole(hotel)
        await assert_ledger_and_money_are_right(hotel)
