"""Paid stays move to other room types, or do not, while the workers that decide them are killed: never half."""

import asyncio
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from sandbox import kafka
from tests.support.waiting import wait_until
from tests.system.path.guest import House
from tests.system.pipeline import log, reckoning
from tests.system.pipeline.faults import Fault, arm, inject
from tests.system.pipeline.test_trips import (
    CHECK_IN,
    CHECK_OUT,
    COORDINATION,
    DEATHS,
    NIGHT_MINOR,
    RESERVATIONS,
    everything_holds,
    taken,
)
from topics.messages.commands import (
    AddGuests,
    CancelBooking,
    ChangeStay,
    Command,
    ConfirmPayment,
    ExpireHold,
    OpenInventory,
    RequestPayment,
    ReserveStay,
    WithdrawChange,
)

GUEST = 2_000
STAY_MINOR = NIGHT_MINOR * (CHECK_OUT - CHECK_IN).days
DEARER_MINOR, CHEAPER_MINOR = 3 * STAY_MINOR // 2, STAY_MINOR // 2

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    pytest.mark.skipif(kafka.available() is not None, reason=kafka.available() or ""),
]


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system of all tests has its own supervisor, which ends its processes."""


class PaidStay(NamedTuple):
    """A paid stay, and the change that moves it to another room type: the change's id is that of the leg there."""

    booking_id: UUID
    leg_id: UUID


class Inn(NamedTuple):
    """A hotel with a room type of six rooms, a dearer one of four, and a cheaper one of one room."""

    hotel_id: int

    @property
    def room(self) -> int:
        """The room type in which all stays begin."""
        return 10 * self.hotel_id

    @property
    def dearer(self) -> int:
        """The id of the dearer room type."""
        return self.room + 1

    @property
    def cheaper(self) -> int:
        """The id of the cheaper room type."""
        return self.room + 2

    def about(self, move: PaidStay) -> dict[str, Any]:
        """Return the key of commands about a stay."""
        return {"room_id": self.room, "booking_id": move.booking_id}

    def paid(self, move: PaidStay, attempt: int, amount_minor: int) -> ConfirmPayment:
        """Return the report that an attempt was paid."""
        return ConfirmPayment(
            **self.about(move),
            session_id=f"cs_{move.booking_id}_{attempt}",
            payment_intent=f"pi_{move.booking_id}_{attempt}",
            amount_minor=amount_minor,
            currency="EUR",
            attempt=attempt,
        )

    def change(self, move: PaidStay, to_room_id: int, hold_seconds: int = 900) -> ChangeStay:
        """Return the guest's request to move."""
        return ChangeStay(
            **self.about(move),
            change_id=move.leg_id,
            user_id=GUEST,
            check_in=CHECK_IN,
            check_out=CHECK_OUT,
            rooms_count=1,
            hold_seconds=hold_seconds,
            to_room_id=to_room_id,
        )


@pytest.mark.asyncio(loop_scope="package")
async def test_a_stay_is_in_one_room_type_alone_whenever_the_workers_die(coordinated: House) -> None:
    house, inn = coordinated, Inn(301)
    first, second, third, fourth, fifth = await paid_stays(house, inn, 5)
    armed = await arm(house.system, COORDINATION, "coordination.after_commit:1")
    moved = await a_race_for_the_last_cheaper_room(house, inn, first, second)
    assert house.system.pid(COORDINATION) != armed, "it died with commands that no room had"
    await two_dearer_moves_are_held(house, inn, third, fourth)
    await house.send(inn.paid(third, 2, DEARER_MINOR - STAY_MINOR))
    await house.send(WithdrawChange(**inn.about(fourth), change_id=fourth.leg_id, user_id=GUEST))
    await inject(house.system, Fault(at_seconds=0, kind="kill", part=RESERVATIONS))
    await one_is_paid_and_the_other_ended(house, inn, third, fourth)
    await a_move_that_nobody_pays_ends(house, inn, fifth)
    await a_stay_that_moved_is_cancelled(house, inn, moved)
    await no_move_is_torn(house)


@pytest.mark.long
@pytest.mark.parametrize(("hotel_id", "part", "failpoint"), [(400 + n, *death) for n, death in enumerate(DEATHS)])
@pytest.mark.asyncio(loop_scope="package")
async def test_a_stay_is_in_one_room_type_alone_wherever_a_worker_dies(
    coordinated: House, hotel_id: int, part: str, failpoint: str
) -> None:
    house, inn = coordinated, Inn(hotel_id)
    first, second, third, fourth, fifth = await paid_stays(house, inn, 5)
    await arm(house.system, part, failpoint)
    moved = await a_race_for_the_last_cheaper_room(house, inn, first, second)
    await arm(house.system, part, failpoint)
    await two_dearer_moves_are_held(house, inn, third, fourth)
    await arm(house.system, part, failpoint)
    await house.send(inn.paid(third, 2, DEARER_MINOR - STAY_MINOR))
    await house.send(WithdrawChange(**inn.about(fourth), change_id=fourth.leg_id, user_id=GUEST))
    await one_is_paid_and_the_other_ended(house, inn, third, fourth)
    await arm(house.system, part, failpoint)
    await a_move_that_nobody_pays_ends(house, inn, fifth)
    await arm(house.system, part, failpoint)
    await a_stay_that_moved_is_cancelled(house, inn, moved)
    await no_move_is_torn(house)


async def paid_stays(house: House, inn: Inn, count: int) -> list[PaidStay]:
    """Put the rooms on sale, and let a guest pay so many stays in the first room type."""
    nights: dict[str, Any] = {"hotel_id": inn.hotel_id, "first_night": CHECK_IN, "end_night": CHECK_OUT}
    moves = [PaidStay(uuid4(), uuid4()) for _ in range(count)]
    commands: list[Command] = [
        OpenInventory(room_id=room, currency="EUR", total_count=total, price_minor=price, **nights)
        for room, total, price in (
            (inn.room, 6, NIGHT_MINOR),
            (inn.dearer, 4, 3 * NIGHT_MINOR // 2),
            (inn.cheaper, 1, NIGHT_MINOR // 2),
        )
    ]
    for move in moves:
        of = inn.about(move)
        commands += [
            ReserveStay(**of, user_id=GUEST, hotel_id=inn.hotel_id, check_in=CHECK_IN, check_out=CHECK_OUT),
            AddGuests(**of, user_id=GUEST, guest_ids=(5,)),
            RequestPayment(**of, user_id=GUEST),
            inn.paid(move, 1, STAY_MINOR),
        ]
    await house.send(*commands)
    await asyncio.gather(*(become(house, move, "CONFIRMED") for move in moves))
    return moves


async def a_race_for_the_last_cheaper_room(house: House, inn: Inn, *rivals: PaidStay) -> PaidStay:
    """Given one cheaper room, when two stays move there at once, then one does, and the other is what it was."""
    before = await taken(house, inn.hotel_id)
    await house.send(*(inn.change(rival, inn.cheaper) for rival in rivals))

    async def decided() -> bool:
        return sorted([(await statuses(house, rival))[1:] for rival in rivals]) == [["CONFIRMED"], ["REJECTED"]]

    await wait_until(decided, message="one stay has moved, and the other has not")
    found = {(await statuses(house, rival))[1]: rival for rival in rivals}
    winner, loser = found["CONFIRMED"], found["REJECTED"]
    await waits_for_nothing(house, loser)
    assert [(await row(house, rival))["status"] for rival in rivals] == ["CONFIRMED", "CONFIRMED"]
    assert (await row(house, winner))["amount_minor"] == CHEAPER_MINOR
    assert (await row(house, winner))["due_minor"] == str(STAY_MINOR - CHEAPER_MINOR)
    assert (await row(house, loser))["amount_minor"] == STAY_MINOR
    assert await taken(house, inn.hotel_id) == before | {inn.room: before[inn.room] - 1, inn.cheaper: 1}
    return winner


async def two_dearer_moves_are_held(house: House, inn: Inn, *moves: PaidStay) -> None:
    """Given dearer rooms, when two stays move there, then both rooms are held until the differences are paid."""
    before = await taken(house, inn.hotel_id)
    await house.send(*(inn.change(move, inn.dearer) for move in moves))

    for move in moves:
        await house.eventually(
            "select count(*) = 1 as so from booking where id = %s and payment_attempt = 2", move.booking_id
        )
        assert await statuses(house, move) == ["CONFIRMED", "RESERVED"]
    assert await taken(house, inn.hotel_id) == before | {inn.dearer: 2}


async def one_is_paid_and_the_other_ended(house: House, inn: Inn, paid: PaidStay, ended: PaidStay) -> None:
    """Then the stay whose difference was paid has moved, and the other is what it was."""
    await become(house, paid, "CONFIRMED", "CONFIRMED")
    await become(house, ended, "CONFIRMED", "CANCELLED")
    await waits_for_nothing(house, ended)
    assert [(await row(house, move))["amount_minor"] for move in (paid, ended)] == [DEARER_MINOR, STAY_MINOR]
    assert [(await row(house, move))["rooms_count"] for move in (paid, ended)] == [0, 1]
    assert (await taken(house, inn.hotel_id))[inn.dearer] == 1


async def a_move_that_nobody_pays_ends(house: House, inn: Inn, move: PaidStay) -> None:
    """Given a move with a short hold, open or held, when it ends unpaid, then the other room is free again."""
    before = await taken(house, inn.hotel_id)
    await house.send(inn.change(move, inn.dearer, hold_seconds=1))

    async def ended() -> bool:
        await house.send(ExpireHold(**inn.about(move)))
        rows = await house.rows("select ended_change_ids from booking where id = %s", move.booking_id)
        return bool(rows[0]["ended_change_ids"] == [str(move.leg_id)])

    await wait_until(ended, message="the short hold ends")
    await become(house, move, "CONFIRMED", "CANCELLED")
    assert await taken(house, inn.hotel_id) == before


async def a_stay_that_moved_is_cancelled(house: House, inn: Inn, move: PaidStay) -> None:
    """Given a stay that moved, when its guest cancels it, then the room is free, and all its money is due."""
    await house.send(CancelBooking(**inn.about(move), user_id=GUEST))

    await become(house, move, "CANCELLED", "CANCELLED")
    assert (await row(house, move))["due_minor"] == str(STAY_MINOR)
    assert inn.cheaper not in await taken(house, inn.hotel_id)


async def no_move_is_torn(house: House) -> None:
    """Compare commands, events and ledger: each stay is in one room type."""
    await everything_holds(house)
    published, _, _ = reckoning.first_publications(await log.read(house.system.kafka_url, reckoning.EVENTS))
    assert not reckoning.torn_moves(published, await reckoning.statuses(house.system.database_url))


async def row(house: House, move: PaidStay) -> dict[str, Any]:
    """Return a stay as the ledger has it, with what is due of its first payment."""
    query = "select *, payments -> 0 ->> 'due_minor' as due_minor from booking where id = %s"
    (found,) = await house.rows(query, move.booking_id)
    return found


async def waits_for_nothing(house: House, move: PaidStay) -> None:
    """Wait until a stay has no change and no deadline."""
    query = "select pending_change is null and hold_expires_at is null as so from booking where id = %s"
    await house.eventually(query, move.booking_id)


async def statuses(house: House, move: PaidStay) -> list[str]:
    """Return the statuses of a stay and of its leg, those that the ledger has."""
    rows = await house.rows("select id, status from booking where id = any(%s)", list(move))
    found: dict[UUID, str] = {row["id"]: row["status"] for row in rows}
    return [found[id] for id in move if id in found]


async def become(house: House, move: PaidStay, *expected: str) -> None:
    """Wait until a stay and its leg have these statuses."""

    async def there() -> bool:
        return await statuses(house, move) == [*expected]

    await wait_until(there, message=f"booking {move.booking_id} and its leg become {expected}")
