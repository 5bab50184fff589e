"""Guests race for the last uses of a promo code, while the worker that connects code and rooms is killed."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from sandbox import kafka
from sandbox.system import System
from tests.support.waiting import wait_until
from tests.system.path.guest import House
from tests.system.pipeline import log, reckoning
from tests.system.pipeline.faults import all_run, arm
from topics.messages.commands import ClaimCode, ExpireHold, OpenInventory, ReserveStay, SetCode
from topics.messages.sale import CodeTerms

HOTEL, CODE = 1, 71
ROOMS = (1, 2, 3, 4)
GUESTS = 20
USES = 3
TODAY = datetime.now(UTC).date()
CHECK_IN, CHECK_OUT = TODAY + timedelta(days=10), TODAY + timedelta(days=12)
TERMS = CodeTerms(version=1, code="LAST-MINUTE", percent_milli=50_000, max_uses=USES)
HALF_MINOR = 100_00
COORDINATION = "coordination-1"


def claim(number: int, *, hold_seconds: int = 900) -> ClaimCode:
    """Return the request of a guest who books with the code."""
    reserve = ReserveStay(
        room_id=ROOMS[number % len(ROOMS)],
        booking_id=uuid4(),
        user_id=100 + number,
        hotel_id=HOTEL,
        check_in=CHECK_IN,
        check_out=CHECK_OUT,
        hold_seconds=hold_seconds,
    )
    return ClaimCode(code_id=CODE, reserve=reserve)


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system of all tests has its own supervisor, which ends its processes."""


@pytest.mark.system
@pytest.mark.timeout(600)
@pytest.mark.skipif(kafka.available() is not None, reason=kafka.available() or "")
@pytest.mark.asyncio(loop_scope="package")
async def test_the_last_uses_of_a_code_have_so_many_winners_whenever_coordination_dies(coordinated: House) -> None:
    house, system = coordinated, coordinated.system
    await on_sale(house)
    armed = await armed_coordination(system)
    await a_race_for_the_last_uses(house)
    assert system.pid(COORDINATION) != armed, "it died with the commands of some claims"
    await an_expired_hold_gives_its_use_back(house)
    await all_run(system, [COORDINATION])
    await each_booking_was_decided_once(system)


async def on_sale(house: House) -> None:
    """Put the rooms on sale, and make the code."""
    nights: dict[str, Any] = {"first_night": TODAY, "end_night": TODAY + timedelta(days=30), "total_count": GUESTS}
    await house.send(
        *(OpenInventory(room_id=room, hotel_id=HOTEL, price_minor=100_00, currency="EUR", **nights) for room in ROOMS),
        SetCode(code_id=CODE, hotel_id=HOTEL, terms=TERMS),
    )
    await house.eventually("select count(*) = %s as so from inventory where hotel_id = %s", 30 * len(ROOMS), HOTEL)
    await used(house, 0)


async def armed_coordination(system: System) -> int:
    """Let coordination die when its next commands are committed and not published; return its process id."""

    async def nothing_is_left() -> bool:
        behind = await reckoning.behind(system.kafka_url, system.database_url, "coordination", [reckoning.EVENTS])
        return not behind

    await wait_until(nothing_is_left, message="coordination has read everything")
    return await arm(system, COORDINATION, "coordination.after_commit:1")


async def a_race_for_the_last_uses(house: House) -> None:
    """Given three uses, when twenty guests of four rooms claim one at once, then three of them have it."""
    await asyncio.gather(*(house.send(claim(number)) for number in range(GUESTS)))

    await house.eventually("select count(*) = %s as so from booking where hotel_id = %s", GUESTS, HOTEL)
    rows = await house.rows("select status, rejection, amount_minor, sale from booking where hotel_id = %s", HOTEL)
    won = [row for row in rows if row["status"] == "RESERVED"]
    assert [(row["amount_minor"], row["sale"]["discount"]["code_id"]) for row in won] == [(HALF_MINOR, CODE)] * USES
    lost = [(row["status"], row["rejection"]) for row in rows if row["status"] != "RESERVED"]
    assert lost == [("REJECTED", "code_used_up")] * (GUESTS - USES)
    await used(house, USES)


async def an_expired_hold_gives_its_use_back(house: House) -> None:
    """Given a use that a short hold has, when the hold ends while coordination is dead, then another guest gets it."""
    more = CodeTerms(version=2, code=TERMS.code, percent_milli=50_000, max_uses=USES + 1)
    short, early, late = claim(31, hold_seconds=1), claim(32), claim(33)
    await house.send(SetCode(code_id=CODE, hotel_id=HOTEL, terms=more), short)
    await becomes(house, short, "RESERVED")
    await house.send(early)
    await becomes(house, early, "REJECTED")

    await house.system.kill_part(COORDINATION)
    await expired(house, short)
    await used(house, USES + 1)
    await house.system.start_part(COORDINATION)

    await used(house, USES)
    await house.send(late)
    await becomes(house, late, "RESERVED")
    [row] = await house.rows("select amount_minor from booking where id = %s", late.asked.booking_id)
    assert row["amount_minor"] == HALF_MINOR
    await used(house, USES + 1)


async def used(house: House, count: int) -> None:
    """Wait until the code counts so many uses, and has as many uses that were not given back."""
    query = """
        select used_count = %s
           and used_count = (select count(*) from promo_code_use where code_id = promo_code.id and not returned) as so
        from promo_code where id = %s union all select false where not exists (select from promo_code where id = %s)
    """
    await house.eventually(query, count, CODE, CODE)


async def becomes(house: House, claimed: ClaimCode, status: str) -> None:
    """Wait until the booking of a claim has this status."""
    query = "select coalesce((select status from booking where id = %s), '') = %s as so"
    await house.eventually(query, claimed.asked.booking_id, status)


async def expired(house: House, claimed: ClaimCode) -> None:
    """Ask for the end of a hold, as the timer does, until its time has come."""
    reserve = claimed.asked

    async def ended() -> bool:
        await house.send(ExpireHold(room_id=reserve.room_id, booking_id=reserve.booking_id))
        [row] = await house.rows("select status from booking where id = %s", reserve.booking_id)
        return bool(row["status"] == "EXPIRED")

    await wait_until(ended, message="the short hold ends")


async def each_booking_was_decided_once(system: System) -> None:
    """Compare the commands with the events, and the events with the ledger; nothing is a dead letter."""
    commands = await log.read(system.kafka_url, reckoning.COMMANDS)
    published, _, wrong = reckoning.first_publications(await log.read(system.kafka_url, reckoning.EVENTS))
    assert not wrong
    assert not reckoning.decided_once(commands, published)
    assert reckoning.last_status(published) == await reckoning.statuses(system.database_url)
    assert not await reckoning.miscounted(system.database_url)
    assert not await log.read(system.kafka_url, reckoning.DEAD_LETTERS)
    types = [event.type for events in published.values() for event in events if is_of_code(event.body)]
    assert types.count("booking.reserved.v1") == types.count("code.claimed.v1") == USES + 2
    assert (types.count("code.rejected.v1"), types.count("code.returned.v1")) == (GUESTS - USES + 1, 1)


def is_of_code(event: Mapping[str, Any]) -> bool:
    """Return whether an event is about the code or about a booking of its hotel."""
    return event.get("code_id") == CODE or event.get("hotel_id") == HOTEL
