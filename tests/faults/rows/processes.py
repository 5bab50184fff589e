"""F1 to F6: each process of ours dies at its worst moments, freezes, leaves, and comes back."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaProducer

from sandbox.processes import Program
from tests.faults import breaking
from tests.faults.breaking import died_at, dies_at, for_seconds, frozen, inject_now, killed, leave_in_order
from tests.faults.groups import ONE_BROKER
from tests.faults.row import Promise, Row, Scene
from tests.support.waiting import wait_until
from tests.system.pipeline import log, reckoning
from tests.system.pipeline.faults import RESERVATIONS, all_run

_ALWAYS: Final = (
    Promise.NO_ROOM_SOLD_TWICE,
    Promise.COUNTS_ADD_UP,
    Promise.EVERY_PROMISE_IS_KEPT,
    Promise.THE_LOG_HAS_NO_GAP,
    Promise.IT_RECOVERS,
)
#: The ingress itself is away: connections are refused or cut.
_CUT: Final = frozenset({"none", "503"})
#: A start takes about 2 s on two busy cores, and a group forgets a killed worker at once when its name joins again.
_RESTART_SECONDS: Final = 15.0


def _at(part: str, failpoint: str) -> Callable[[Scene], Awaitable[None]]:
    async def breaks(scene: Scene) -> None:
        await dies_at(scene, part, failpoint)

    return breaks


def _killed(*parts: str) -> Callable[[Scene], Awaitable[None]]:
    async def breaks(scene: Scene) -> None:
        for part in parts:
            await killed(scene, part, f"{part} was killed")
        await all_run(scene.system, parts)

    return breaks


async def _ingress_is_killed(scene: Scene) -> None:
    for _ in range(3):
        await killed(scene, "ingress", "the ingress was killed")
        await for_seconds(3.0)
    await all_run(scene.system, ["ingress"])


_COORDINATION: Final = ("coordination.in_batch:2", "coordination.after_commit:2", "coordination.after_publish:2")


async def _coordination_dies(scene: Scene) -> None:
    for failpoint in _COORDINATION:
        await dies_at(scene, "coordination-1", failpoint)


_HOLDS: Final = 3_000
_HOLD_SECONDS: Final = 12
_STAYS: Final = 25


async def _expiry_is_dead_over_many_holds(scene: Scene) -> None:
    await scene.system.kill_part("expiry-1")
    ids = [str(UUID(int=scene.chance.getrandbits(128), version=4)) for _ in range(_HOLDS)]
    await _hold(scene, ids)
    held = time.monotonic()
    await wait_until(lambda: _are(scene, ids, "RESERVED"), message="all holds are there")
    await for_seconds(max(0.0, held + _HOLD_SECONDS + 3.0 - time.monotonic()))
    # No other process ends holds: they are overdue, and keep their rooms. A command about one of them ends it, though,
    # and the host meddles with some.
    overdue = await _count(scene, ids, "RESERVED")
    scene.figures["overdue holds"] = f"{overdue:,}"
    if overdue > 0.9 * _HOLDS:
        scene.causes["the holds were overdue"] += 1
    await scene.system.start_part("expiry-1")
    began = time.monotonic()
    await wait_until(lambda: _are(scene, ids, "EXPIRED"), message="all holds have expired")
    scene.figures["all expired after its start within"] = f"{time.monotonic() - began:.1f} s"


async def _hold(scene: Scene, ids: list[str]) -> None:
    """Put commands that hold one room for a night onto the log; those that the broker has are promises."""
    rooms = [room for room in scene.town.rooms if room.weight == 1.0][2:]
    async with AIOKafkaProducer(bootstrap_servers=scene.system.kafka_url, acks="all", linger_ms=5) as producer:
        sent = []
        for number, id in enumerate(ids):
            room = rooms[number % len(rooms)]
            check_in = scene.town.first_day + timedelta(days=number % _STAYS)
            fields = {
                "room_id": room.id,
                "booking_id": id,
                "user_id": scene.town.accounts[number % len(scene.town.accounts)].id,
                "hotel_id": room.hotel_id,
                "check_in": check_in.isoformat(),
                "check_out": (check_in + timedelta(days=1)).isoformat(),
                "hold_seconds": _HOLD_SECONDS,
            }
            headers = log.command_headers(f"hold-{id}", "booking.reserve.v1", fields)
            value = json.dumps(fields).encode()
            sent.append(await producer.send(reckoning.COMMANDS, value, key=b"%d" % room.id, headers=headers))
        await asyncio.gather(*sent)
    for id in ids:
        scene.town.promises.booked(id, None)


async def _are(scene: Scene, ids: list[str], status: str) -> bool:
    return await _count(scene, ids, status) == len(ids)


async def _count(scene: Scene, ids: list[str], status: str) -> int:
    query: Final = "select count(*) from booking where id = any(%s::uuid[]) and status = %s"
    ((found,),) = await scene.rows(query, (ids, status))
    return int(found)


async def _workers_come_and_go(scene: Scene) -> None:
    for number in range(4):
        await leave_in_order(scene, RESERVATIONS[number % 2], "a worker left in order")
        await for_seconds(5.0)
    await all_run(scene.system, RESERVATIONS)


_FREEZE_SECONDS: Final = 14.0


async def _a_frozen_worker_thaws(scene: Scene) -> None:
    async with frozen(scene, RESERVATIONS[0]):
        await for_seconds(_FREEZE_SECONDS)
        # The other has its partitions: each room is decided while it is frozen.
        await scene.guests.every_room_decides()
        scene.causes["the other worker took its rooms over"] += 1


async def _one_of_two_is_killed_again_and_again(scene: Scene) -> None:
    undisturbed = scene.system.pid(RESERVATIONS[1])
    for _ in range(2):
        await inject_now(scene, "kill", RESERVATIONS[0])
        await for_seconds(10.0)
    if scene.system.pid(RESERVATIONS[1]) == undisturbed:
        scene.causes["the other worker went on"] += 1


async def _two_processes_have_one_name(scene: Scene) -> None:
    program = scene.system.supervisor[RESERVATIONS[0]]
    assert isinstance(program, Program)
    other = await asyncio.create_subprocess_exec(
        *program.command(),
        env={**os.environ, **program.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(other.communicate(), breaking.MAX_SEEN_SECONDS)
        if b"A name belongs to one process" in output:
            scene.causes["the second process ended and named the reason"] += 1
        scene.figures["exit status of the second process"] = str(other.returncode)
    finally:
        if other.returncode is None:
            other.kill()
            await other.wait()


_WITH_KEYS: Final = (*_ALWAYS, Promise.ONE_KEY_ONE_BOOKING)
_WITH_MONEY: Final = (*_ALWAYS, Promise.MONEY_IS_EXPLAINED)
#: The rows of this module differ from it in what they name; clients see nothing of a fault behind the log.
_PLAIN: Final = Row(
    id="",
    fault="",
    made_by="",
    group=ONE_BROKER,
    promises=_ALWAYS,
    breaks=_killed(),
    max_wait_seconds=_RESTART_SECONDS,
    answers=frozenset(),
)


def _dying(row: Row, part: str, failpoint: str) -> Row:
    """Return the row whose part dies at a failpoint, such as `ingress.after_ack:5`."""
    name, _, number = failpoint.partition(":")
    made_by = f"SIGKILL of `{part}` at its failpoint `{name}`, at pass {number}"
    return replace(row, made_by=made_by, breaks=_at(part, failpoint), causes=(died_at(part, failpoint),))


_F1: Final = replace(_PLAIN, answers=_CUT, promises=_WITH_KEYS)
_F3: Final = replace(_PLAIN, promises=_WITH_MONEY)

ROWS: Final[tuple[Row, ...]] = (
    _dying(
        replace(_F1, id="F1", fault="The ingress dies before the broker has a command"),
        "ingress",
        "ingress.before_produce:5",
    ),
    _dying(
        replace(_F1, id="F1b", fault="The ingress dies after the broker's acknowledgement and before its answer"),
        "ingress",
        "ingress.after_ack:5",
    ),
    replace(
        _F1,
        id="F1c",
        fault="The ingress is killed three times",
        made_by="SIGKILL of `ingress`, every 3 s",
        breaks=_ingress_is_killed,
        causes=("the ingress was killed",),
    ),
    _dying(
        replace(_PLAIN, id="F2", fault="A worker of reservations dies inside a batch"),
        "reservations-1",
        "reservations.in_batch:5",
    ),
    _dying(
        replace(_PLAIN, id="F2b", fault="A worker of reservations dies after its commit and before it publishes"),
        "reservations-1",
        "reservations.after_commit:5",
    ),
    _dying(
        replace(_PLAIN, id="F2c", fault="A worker of reservations dies after it published, before it commits offsets"),
        "reservations-2",
        "reservations.after_publish:5",
    ),
    _dying(
        replace(_F3, id="F3", fault="The payments worker dies before a call to Stripe"),
        "payments-1",
        "payments.before_call:2",
    ),
    _dying(
        replace(_F3, id="F3b", fault="The payments worker dies after Stripe's answer and before it is recorded"),
        "payments-1",
        "payments.after_call:2",
    ),
    _dying(
        replace(_F3, id="F3c", fault="The payments worker dies after it recorded an answer and before the event"),
        "payments-1",
        "payments.after_record:2",
    ),
    _dying(
        replace(_F3, id="F3d", fault="The payments worker dies after the event and before its row is done"),
        "payments-1",
        "payments.after_produce:2",
    ),
    replace(
        _PLAIN,
        id="F4",
        fault="The expiry timer is dead over thousands of holds",
        made_by=f"SIGKILL of `expiry-1`; {_HOLDS:,} holds of {_HOLD_SECONDS} s are overdue when it starts again",
        breaks=_expiry_is_dead_over_many_holds,
        is_crowd=True,
        promises=(*_ALWAYS, Promise.HOLDS_END_IN_TIME),
        causes=("the holds were overdue",),
    ),
    replace(
        _PLAIN,
        id="F5",
        fault="The projections are killed",
        made_by="SIGKILL of `projections-1`",
        breaks=_killed("projections-1"),
        promises=(*_ALWAYS, Promise.READ_MODELS_AGREE, Promise.NO_STATUS_GOES_BACK),
        causes=("projections-1 was killed",),
    ),
    replace(
        _PLAIN,
        id="F5b",
        fault="Coordination dies at each of its steps",
        made_by="SIGKILL of `coordination-1` at `coordination.in_batch`, `.after_commit` and `.after_publish`",
        breaks=_coordination_dies,
        promises=(*_ALWAYS, Promise.TRIPS_ARE_WHOLE),
        causes=tuple(died_at("coordination-1", failpoint) for failpoint in _COORDINATION),
    ),
    replace(
        _PLAIN,
        id="F6",
        fault="Workers of reservations come and go every 5 s",
        made_by="SIGTERM to each in turn, for 20 s",
        breaks=_workers_come_and_go,
        causes=("a worker left in order",),
    ),
    replace(
        _PLAIN,
        id="F6b",
        fault=f"A worker of reservations freezes for {_FREEZE_SECONDS:.0f} s and thaws",
        made_by="SIGSTOP, and SIGCONT after the group has given it up",
        breaks=_a_frozen_worker_thaws,
        causes=("the other worker took its rooms over",),
        max_wait_seconds=20.0,
    ),
    replace(
        _PLAIN,
        id="F6c",
        fault="One of two workers of reservations is killed every 10 s",
        made_by="SIGKILL of `reservations-1`, twice",
        breaks=_one_of_two_is_killed_again_and_again,
        causes=("the other worker went on",),
    ),
    replace(
        _PLAIN,
        id="F6d",
        fault="Two processes have one name",
        made_by="a second process `--name reservations-1` is started beside the first",
        breaks=_two_processes_have_one_name,
        causes=("the second process ended and named the reason",),
    ),
)
