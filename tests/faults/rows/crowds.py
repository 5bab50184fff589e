"""Crowds: many payments at their deadlines, many guests for one room, and many holds that end in one second."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid4

import aiohttp

from tests.faults.breaking import for_seconds
from tests.faults.groups import ONE_BROKER
from tests.faults.row import Promise, Row, Scene
from tests.support.client import Answer, Client
from tests.support.waiting import wait_until
from tests.system.money.desk import Desk
from tests.system.money.late_payments import CALLS_SECONDS, ends_of, pay_near_deadlines
from tests.system.path.guest import House, Room, open_house, stay
from tests.system.pipeline import chaos
from topics.messages.commands import ReserveStay

LATE_PAYMENTS: Final = 1_000
CROWD: Final = 1_000
#: The rooms and nights that the crowd of overlapping stays wants.
SCARCE_ROOMS: Final = 2
SCARCE_NIGHTS: Final = 12
MAX_STAY_NIGHTS: Final = 4
FIRST_NIGHT: Final = 10
HOLDS: Final = 10_000
#: The room types over which the holds are spread, each of many rooms.
HOLD_ROOMS: Final = 5
#: From the first command of a hold until all of them end: time to send and to decide them.
HOLDS_END_AFTER_SECONDS: Final = 30
#: A hold that is longer overdue breaks the promise.
MAX_OVERDUE_SECONDS: Final = 10.0
_BATCH: Final = 500
_MAX_DECISION_SECONDS: Final = 60.0
_MAX_END_SECONDS: Final = 120.0
#: A crowd that comes back at once, again and again, is another fault.
_MAX_DOUBLINGS: Final = 3
#: The last night that is on sale from the start; visitors ask for earlier ones.
_LAST_NIGHT: Final = chaos.NIGHTS - 1

CONFIRMED: Final = "a payment near its deadline was confirmed"
WENT_BACK: Final = "a payment near its deadline went back"
ONE_GOT_IT: Final = "one of the crowd got the last room"
SOLD_OUT: Final = "a guest of the crowd was refused for want of a room"
ENDED: Final = "a hold of the crowd ended by itself"


async def pays_at_the_last_second(scene: Scene) -> None:
    """Let each payment come within half a second of its hold's end, before it or after it."""
    async with open_house(scene.system) as house:
        desk = Desk(house)
        inn = await desk.inn(total=LATE_PAYMENTS)
        began = time.monotonic()
        bookings = await pay_near_deadlines(desk, inn, LATE_PAYMENTS)
        paid = time.monotonic()
        for booking in bookings:
            scene.town.promises.booked(str(booking), None)
        seconds = LATE_PAYMENTS * CALLS_SECONDS
        try:
            ends = await wait_until(lambda: ends_of(desk, bookings), seconds)
        except AssertionError as error:
            ends = Counter()
            scene.problems.append(f"not each payment was confirmed or went back: {error.__cause__ or error}")
        scene.problems += neither_nor(ends, LATE_PAYMENTS)
        scene.causes[CONFIRMED] += ends["confirmed"]
        scene.causes[WENT_BACK] += ends["gone back"]
        scene.figures["payments near their deadlines"] = (
            f"{ends['confirmed']} confirmed, {ends['gone back']} gone back, all {time.monotonic() - paid:.1f} s after"
            f" the last, which came after {paid - began:.1f} s"
        )


def neither_nor(ends: Counter[str], payments: int) -> list[str]:
    """Return what is wrong with the ends of payments, of which each must have one."""
    wrong = [f"{count} payments are {end}" for end, count in ends.items() if end not in {"confirmed", "gone back"}]
    if ends.total() != payments:
        wrong.append(f"{ends.total()} of {payments} payments have an end")
    return wrong


async def wants_the_last_room(scene: Scene) -> None:
    """Let a crowd ask for the one room of one night at once: one holds it, the others are refused."""
    async with open_house(scene.system) as house:
        room = await house.room(total=1)
        decided = await _asked_at_once(scene, house, [stay(room, FIRST_NIGHT, 1)] * CROWD)
    scene.causes[ONE_GOT_IT] += decided["reserved"]
    scene.causes[SOLD_OUT] += decided["sold_out"]
    # A hold may end while the crowd still asks; then the next guest gets the room, as the model of rooms checks.
    if not decided["reserved"]:
        scene.problems.append("nobody got the last room")


async def wants_overlapping_stays(scene: Scene) -> None:
    """Let a crowd ask for stays of some nights that overlap in every way, of very few rooms."""

    def any_stay(room: Room) -> dict[str, Any]:
        nights = scene.chance.randint(1, MAX_STAY_NIGHTS)
        return stay(room, FIRST_NIGHT + scene.chance.randrange(SCARCE_NIGHTS - nights + 1), nights)

    async with open_house(scene.system) as house:
        room = await house.room(total=SCARCE_ROOMS)
        decided = await _asked_at_once(scene, house, [any_stay(room) for _ in range(CROWD)])
    scene.causes[ONE_GOT_IT] += decided["reserved"]
    scene.causes[SOLD_OUT] += decided["sold_out"]


async def _asked_at_once(scene: Scene, house: House, wishes: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Let each wish be asked for at once, until it is answered; count the decisions, by reason if refused."""
    began = time.monotonic()
    bookings = await ask_at_once(scene, house, wishes)
    answered = time.monotonic()
    select = (
        "select type, event ->> 'reason' as reason from booking_timeline where booking_id = any(%s)"
        " and type in ('booking.reserved.v1', 'booking.rejected.v1')"
    )
    rows: list[dict[str, Any]] = []

    async def all_are_decided() -> bool:
        rows[:] = await house.rows(select, [UUID(booking) for booking in bookings])
        return len(rows) >= len(bookings)

    with suppress(AssertionError):
        await wait_until(all_are_decided, _MAX_DECISION_SECONDS)
    decided = Counter(row["reason"] or "reserved" for row in rows)
    scene.problems += strange_decisions(decided, len(bookings))
    scene.figures["requests at once"] = (
        f"{len(bookings)}, answered in {answered - began:.1f} s, decided {time.monotonic() - answered:.1f} s later"
    )
    scene.figures["decisions"] = ", ".join(f"{count} {kind}" for kind, count in sorted(decided.items()))
    return decided


def strange_decisions(decided: Counter[str], asked: int) -> list[str]:
    """Return what is wrong with the decisions on stays that are all well formed."""
    wrong = [f"{n} stays were refused: {why}" for why, n in decided.items() if why not in {"reserved", "sold_out"}]
    if decided.total() != asked:
        wrong.append(f"{decided.total()} decisions on {asked} stays")
    return wrong


async def ask_at_once(scene: Scene, house: House, wishes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Let the town's accounts ask for each wish at once, under keys, until it is accepted; return the bookings."""
    clients = [Client(house.session, scene.system.url, account.token) for account in scene.town.accounts]
    return await asyncio.gather(
        *(_asks(scene, clients[number % len(clients)], wish) for number, wish in enumerate(wishes))
    )


async def _asks(scene: Scene, client: Client, wish: Mapping[str, Any]) -> str:
    """Ask for a stay under one key until it is accepted; return the booking."""
    promises, key, asked_at = scene.town.promises, uuid4().hex, time.monotonic()
    for tries in count():
        try:
            answer = await client.post("/v1/bookings/init", wish, key=key)
        except (aiohttp.ClientError, TimeoutError):
            promises.answers["none"] += 1
            continue
        promises.answers[str(answer.status)] += 1
        if not answer.try_again:
            assert answer.status in {201, 202, 409}, answer
            promises.booked(answer.body["id"], key, asked_at)
            return str(answer.body["id"])
        await for_seconds(pause_seconds(answer, tries, scene.chance))
    raise AssertionError("the numbers have ended")


def pause_seconds(answer: Answer, tries: int, chance: random.Random) -> float:
    """Return how long a guest waits after an answer to try again: `Retry-After`, and longer each time."""
    seconds = float(answer.headers["Retry-After"]) * chance.uniform(0.5, 1.5)
    return float(seconds * 2 ** min(tries, _MAX_DOUBLINGS))


async def holds_end_together(scene: Scene) -> None:
    """Let thousands of holds be made in seconds, and end in one and the same second."""
    bookings = [uuid4() for _ in range(HOLDS)]
    for booking in bookings:
        scene.town.promises.booked(str(booking), None)
    # The last of the town's room types have thousands of rooms.
    rooms = scene.town.rooms[-HOLD_ROOMS:]
    check_in = datetime.now(UTC).date() + timedelta(days=_LAST_NIGHT)
    async with open_house(scene.system) as house:
        ends_at = int(time.time()) + HOLDS_END_AFTER_SECONDS
        for first in range(0, HOLDS, _BATCH):
            now = time.time()
            await house.send(
                *(
                    ReserveStay(
                        room_id=rooms[number % len(rooms)].id,
                        hotel_id=rooms[number % len(rooms)].hotel_id,
                        booking_id=booking,
                        user_id=1,
                        check_in=check_in,
                        check_out=check_in + timedelta(days=1),
                        hold_seconds=hold_seconds(now, ends_at),
                    )
                    for number, booking in enumerate(bookings[first : first + _BATCH])
                )
            )
        sent_seconds = time.time() - (ends_at - HOLDS_END_AFTER_SECONDS)
        await _until_ended(scene, house, bookings, ends_at, sent_seconds)


def hold_seconds(now: float, ends_at: int) -> int:
    """Return the whole seconds for which a hold that is made now lasts, so that it ends in the second of `ends_at`."""
    return ends_at - int(now)


async def _until_ended(scene: Scene, house: House, bookings: Sequence[UUID], ends_at: int, sent_seconds: float) -> None:
    # The town's hotels cancel bookings, and may choose one of these.
    select = (
        "select count(*) filter (where status = 'EXPIRED') as expired, count(*) as decided,"
        " count(*) filter (where status = 'EXPIRED' or cancel_reason = 'by_hotel') as ended"
        " from booking where id = any(%s)"
    )
    seen: dict[str, Any] = {}

    async def all_have_ended() -> bool:
        seen.update((await house.rows(select, bookings))[0])
        return bool(seen["ended"] == len(bookings))

    with suppress(AssertionError):
        await wait_until(all_have_ended, ends_at - time.time() + _MAX_END_SECONDS)
    overdue_seconds = time.time() - (ends_at + 1)
    scene.causes[ENDED] += seen["expired"]
    scene.figures["holds"] = f"{seen['decided']}, asked for in {sent_seconds:.1f} s"
    scene.figures["all ended"] = f"{overdue_seconds:.1f} s after the last deadline"
    scene.problems += overdue(seen["ended"], len(bookings), overdue_seconds)


def overdue(ended: int, holds: int, seconds: float) -> list[str]:
    """Return what is wrong when so many of the holds have ended, so many seconds after their deadlines."""
    wrong = [] if ended == holds else [f"{holds - ended} of {holds} holds have not ended"]
    if seconds > MAX_OVERDUE_SECONDS:
        wrong.append(f"the last hold ended {seconds:.1f} s after its deadline, {MAX_OVERDUE_SECONDS:g} s are allowed")
    return wrong


_FAIR: Final = (
    Promise.NO_ROOM_SOLD_TWICE,
    Promise.COUNTS_ADD_UP,
    Promise.EVERY_PROMISE_IS_KEPT,
    Promise.ONE_KEY_ONE_BOOKING,
)

ROWS: Final = (
    Row(
        id="F15",
        fault=f"{LATE_PAYMENTS:,} payments within a second of their deadlines",
        made_by="sessions opened before their stays are held for a second; others take half of the rooms",
        group=ONE_BROKER,
        promises=(Promise.MONEY_IS_EXPLAINED, Promise.EVERY_PROMISE_IS_KEPT, Promise.HOLDS_END_IN_TIME),
        breaks=pays_at_the_last_second,
        is_crowd=True,
        max_wait_seconds=10.0,
        max_recovery_seconds=45.0,
        causes=(CONFIRMED, WENT_BACK),
    ),
    Row(
        id="F17",
        fault=f"one room left, {CROWD:,} guests at once",
        made_by="as many requests at once for the one room of one night",
        group=ONE_BROKER,
        promises=_FAIR,
        breaks=wants_the_last_room,
        is_crowd=True,
        max_wait_seconds=10.0,
        causes=(ONE_GOT_IT, SOLD_OUT),
    ),
    Row(
        id="F17b",
        fault=f"{CROWD:,} stays at once that overlap",
        made_by=f"requests for 1 to {MAX_STAY_NIGHTS} of {SCARCE_NIGHTS} nights, for {SCARCE_ROOMS} rooms",
        group=ONE_BROKER,
        promises=_FAIR,
        breaks=wants_overlapping_stays,
        is_crowd=True,
        max_wait_seconds=10.0,
        causes=(ONE_GOT_IT, SOLD_OUT),
    ),
    Row(
        id="F4b",
        fault=f"{HOLDS:,} holds end in one second",
        made_by="commands whose holds last until the same second, with visitors and guests beside",
        group=ONE_BROKER,
        promises=(
            Promise.HOLDS_END_IN_TIME,
            Promise.COUNTS_ADD_UP,
            Promise.EVERY_PROMISE_IS_KEPT,
            Promise.IT_RECOVERS,
        ),
        breaks=holds_end_together,
        is_crowd=True,
        max_wait_seconds=15.0,
        causes=(ENDED,),
    ),
)
