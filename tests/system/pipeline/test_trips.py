"""Guests race for trips of which one alone can have all its rooms, while the workers that decide them are killed."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from operators.audit import audit
from sandbox import kafka
from storage.settings import DatabaseSettings
from tests.support.waiting import wait_until
from tests.system.path.guest import House
from tests.system.pipeline import log, reckoning
from tests.system.pipeline.faults import Fault, all_run, arm, inject
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    Command,
    ConfirmPayment,
    ExpireHold,
    OpenInventory,
    RequestPayment,
    ReserveTrip,
)
from topics.messages.sale import LegRequest

TODAY = datetime.now(UTC).date()
CHECK_IN, CHECK_OUT = TODAY + timedelta(days=10), TODAY + timedelta(days=12)
NIGHT_MINOR = 100_00
LEG_MINOR = 2 * NIGHT_MINOR
COORDINATION, RESERVATIONS = "coordination-1", "reservations-1"
#: Every point at which a worker can die with work half done, in its first batch and in a later one.
DEATHS = [
    (part, f"{part.removesuffix('-1')}.{point}:{passes}")
    for part in (COORDINATION, RESERVATIONS)
    for point in ("in_batch", "after_commit", "after_publish")
    for passes in (1, 3)
]


class Inn(NamedTuple):
    """A hotel with three room types; of the last there is one room, which two trips want."""

    hotel_id: int

    @property
    def rooms(self) -> tuple[int, int, int]:
        """The ids of the room types."""
        return 10 * self.hotel_id, 10 * self.hotel_id + 1, 10 * self.hotel_id + 2

    def trip(self, *numbers: int, hold_seconds: int = 900) -> ReserveTrip:
        """Return the request for a trip with a room of each of these types, by another account each time."""
        legs = tuple(LegRequest(booking_id=uuid4(), room_id=self.rooms[number]) for number in numbers)
        return ReserveTrip(
            room_id=legs[0].room_id,
            booking_id=uuid4(),
            user_id=next(_accounts),
            hotel_id=self.hotel_id,
            check_in=CHECK_IN,
            check_out=CHECK_OUT,
            legs=legs,
            hold_seconds=hold_seconds,
        )


_accounts = count(1_000)

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    pytest.mark.skipif(kafka.available() is not None, reason=kafka.available() or ""),
]


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system of all tests has its own supervisor, which ends its processes."""


@pytest.mark.asyncio(loop_scope="package")
async def test_a_trip_has_all_its_rooms_or_none_whenever_the_workers_die(coordinated: House) -> None:
    house, system, inn = coordinated, coordinated.system, Inn(101)
    await on_sale(house, inn)
    armed = await arm(system, COORDINATION, "coordination.after_commit:1")
    winner = await a_race_for_the_last_room(house, inn)
    assert system.pid(COORDINATION) != armed, "it died with commands that no room had"
    await a_paid_trip_is_confirmed_as_a_whole(house, winner, kill=RESERVATIONS)
    await a_cancelled_leg_sends_its_part_back(house, inn, winner)
    await an_unpaid_trip_gives_all_its_rooms_back(house, inn)
    await everything_holds(house)


@pytest.mark.long
@pytest.mark.parametrize(("hotel_id", "part", "failpoint"), [(200 + n, *death) for n, death in enumerate(DEATHS)])
@pytest.mark.asyncio(loop_scope="package")
async def test_a_trip_has_all_its_rooms_or_none_wherever_a_worker_dies(
    coordinated: House, hotel_id: int, part: str, failpoint: str
) -> None:
    house, inn = coordinated, Inn(hotel_id)
    await on_sale(house, inn)
    await arm(house.system, part, failpoint)
    winner = await a_race_for_the_last_room(house, inn)
    await arm(house.system, part, failpoint)
    await a_paid_trip_is_confirmed_as_a_whole(house, winner)
    await arm(house.system, part, failpoint)
    await a_cancelled_leg_sends_its_part_back(house, inn, winner)
    await arm(house.system, part, failpoint)
    await an_unpaid_trip_gives_all_its_rooms_back(house, inn)
    await everything_holds(house)


async def on_sale(house: House, inn: Inn) -> None:
    """Put the rooms on sale, and wait until coordination has read of them."""
    counts = dict(zip(inn.rooms, (3, 3, 1), strict=True))
    nights: dict[str, Any] = {"first_night": CHECK_IN, "end_night": CHECK_OUT, "price_minor": NIGHT_MINOR}
    await house.send(
        *(
            OpenInventory(room_id=room, hotel_id=inn.hotel_id, currency="EUR", total_count=count, **nights)
            for room, count in counts.items()
        )
    )
    await house.eventually(
        "select count(*) = %s as so from inventory where hotel_id = %s", 2 * len(counts), inn.hotel_id
    )

    async def nothing_is_left() -> bool:
        system = house.system
        return not await reckoning.behind(system.kafka_url, system.database_url, "coordination", [reckoning.EVENTS])

    await wait_until(nothing_is_left, message="coordination has read everything")


async def a_race_for_the_last_room(house: House, inn: Inn) -> ReserveTrip:
    """Given one room in the tower, when two trips want it at once, then one has all its rooms and the other none."""
    rivals = [inn.trip(0, 2), inn.trip(1, 2)]
    await asyncio.gather(*(house.send(rival) for rival in rivals))

    for rival in rivals:
        await house.eventually(
            "select count(*) = 1 as so from booking where id = %s and status in ('RESERVED', 'REJECTED')",
            rival.booking_id,
        )
    found = {rival.booking_id: (await statuses(house, rival))[0] for rival in rivals}
    assert sorted(found.values()) == ["REJECTED", "RESERVED"]
    winner, loser = sorted(rivals, key=lambda rival: found[rival.booking_id], reverse=True)
    assert await statuses(house, winner) == ["RESERVED"] * 3
    await become(house, loser, "REJECTED", "CANCELLED", "REJECTED")
    assert await taken(house, inn.hotel_id) == {leg.room_id: 1 for leg in winner.legs}
    return winner


async def a_paid_trip_is_confirmed_as_a_whole(house: House, winner: ReserveTrip, kill: str | None = None) -> None:
    """Given a reserved trip, when it is paid and a worker is killed, then each leg is confirmed for its guests."""
    await house.send(*paying(winner))
    if kill is not None:
        await inject(house.system, Fault(at_seconds=0, kind="kill", part=kill))
    await become(house, winner, "CONFIRMED", "CONFIRMED", "CONFIRMED")
    named = "select count(*) = %s as so from booking_guest join booking on id = booking_id where trip_id = %s"
    await house.eventually(named, len(winner.legs), winner.booking_id)


def paying(winner: ReserveTrip) -> list[Command]:
    """Return the commands of a guest who names people, and pays."""
    of: dict[str, Any] = {"room_id": winner.room_id, "booking_id": winner.booking_id}
    return [
        AddGuests(**of, user_id=winner.user_id, guest_ids=(5,)),
        RequestPayment(**of, user_id=winner.user_id),
        ConfirmPayment(
            **of,
            session_id=f"cs_{winner.booking_id}",
            payment_intent=f"pi_{winner.booking_id}",
            amount_minor=2 * LEG_MINOR,
            currency="EUR",
            attempt=1,
        ),
    ]


async def a_cancelled_leg_sends_its_part_back(house: House, inn: Inn, winner: ReserveTrip) -> None:
    """Given a paid trip, when its guest cancels one leg, then that part is due, and the other leg stays."""
    leg = winner.legs[1]
    await house.send(CancelBooking(room_id=leg.room_id, booking_id=leg.booking_id, user_id=winner.user_id))

    await become(house, winner, "CONFIRMED", "CONFIRMED", "CANCELLED")
    due = "select payments -> 0 ->> 'due_minor' = %s as so from booking where id = %s"
    await house.eventually(due, str(LEG_MINOR), winner.booking_id)
    assert await taken(house, inn.hotel_id) == {winner.room_id: 1}


async def an_unpaid_trip_gives_all_its_rooms_back(house: House, inn: Inn) -> None:
    """Given a trip with a short hold, when it ends unpaid, then no room of it is held."""
    before, short = await taken(house, inn.hotel_id), inn.trip(0, 1, 2, hold_seconds=2)
    await house.send(short)

    async def ended() -> bool:
        await house.send(ExpireHold(room_id=short.room_id, booking_id=short.booking_id))
        return (await statuses(house, short))[:1] in (["EXPIRED"], ["REJECTED"])

    await wait_until(ended, message="the short hold ends")
    await become(house, short, "EXPIRED", "CANCELLED", "CANCELLED", "CANCELLED")
    assert await taken(house, inn.hotel_id) == before


async def statuses(house: House, wanted: ReserveTrip) -> list[str]:
    """Return the statuses of a trip and of its legs, those that the ledger has."""
    ids = [wanted.booking_id, *(leg.booking_id for leg in wanted.legs)]
    rows = await house.rows("select id, status from booking where id = any(%s)", ids)
    found: dict[UUID, str] = {row["id"]: row["status"] for row in rows}
    return [found[id] for id in ids if id in found]


async def become(house: House, wanted: ReserveTrip, *expected: str) -> None:
    """Wait until a trip and its legs have these statuses."""

    async def there() -> bool:
        return await statuses(house, wanted) == [*expected]

    await wait_until(there, message=f"the trip {wanted.booking_id} and its legs become {expected}")


async def taken(house: House, hotel_id: int) -> dict[int, int]:
    """Return the rooms that are held or booked in every night of the stay, by room type, if there are any."""
    rows = await house.rows(
        "select room_id, min(reserved_count + booked_count) as least, max(reserved_count + booked_count) as most"
        " from inventory where hotel_id = %s group by 1 having max(reserved_count + booked_count) > 0",
        hotel_id,
    )
    assert all(row["least"] == row["most"] for row in rows), rows
    return {row["room_id"]: row["most"] for row in rows}


async def everything_holds(house: House) -> None:
    """Compare commands, events and ledger; nothing is a dead letter, and the audit finds no fault."""
    system = house.system
    await all_run(system, [COORDINATION, RESERVATIONS])

    async def caught_up() -> bool:
        left = [
            *await reckoning.behind(system.kafka_url, system.database_url, "coordination", [reckoning.EVENTS]),
            *await reckoning.behind(system.kafka_url, system.database_url, "reservations", [reckoning.COMMANDS]),
        ]
        return not left

    await wait_until(caught_up, message="all workers have read everything")
    published, _, wrong = reckoning.first_publications(await log.read(system.kafka_url, reckoning.EVENTS))
    assert not wrong
    assert not reckoning.decided_once(await log.read(system.kafka_url, reckoning.COMMANDS), published)
    assert not reckoning.sold_again(published)
    assert reckoning.last_status(published) == await reckoning.statuses(system.database_url)
    assert not await reckoning.miscounted(system.database_url)
    assert not await reckoning.oversold(system.database_url)
    assert not await log.read(system.kafka_url, reckoning.DEAD_LETTERS)
    report = await audit(house.kafka, DatabaseSettings(_env_file=None, database_url=system.database_url))
    assert report.problems() == [], report.problems()
