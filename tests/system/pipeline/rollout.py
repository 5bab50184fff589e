"""A rollout: workers of an older and of this release side by side over one log, replaced one by one under load."""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from uuid import uuid4

import msgspec
import psycopg
from pydantic import SecretStr

from operators.audit import audit
from operators.lag import lags
from sandbox.system import Plan, System
from storage.settings import DatabaseSettings
from tests.support.log import open_log
from tests.support.waiting import wait_until
from tests.system.pipeline import log, reckoning
from topics.catalogue import Service
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import (
    BlockNights,
    CancelBooking,
    ChangeInventory,
    Command,
    OpenInventory,
    ReleaseBlock,
    ReserveStay,
    SetSaleTerms,
)
from topics.messages.sale import NO_SALE_TERMS
from topics.messages.values import BlockReason, StayTimes, Terms

ROOT = Path(__file__).parents[3]
#: The commit of the release before, 0.1.0, whose workers must run beside this one's. Nothing older runs beside it.
RELEASE_BEFORE = "4187a9f2ace02b50f9662fb89e43fa6f1c641e52"
ROOMS = range(1, 25)
#: The variables of the newer release while the older one runs.
ROLLOUT = {"INVENTORY_CHANGED_VERSION": "1", "LOG_READABLE_BY": "0.1.0"}
#: Words of refusals that the older release does not know.
NEW_WORDS = frozenset({"stay_over", "account_share"})
CHANGED_V1, CHANGED_V2 = "inventory.changed.v1", "inventory.changed.v2"


class NoSuchRelease(Exception):
    """The code of a release is not in the history."""


@dataclass(kw_only=True)
class Rollout:
    """A rollout as it was seen: the partitions of each worker while both releases worked, and the events decided."""

    partitions: Counter[str | None] = field(default_factory=Counter)
    side_by_side: int = 0
    events: Counter[str] = field(default_factory=Counter)
    doubles: int = 0


def release_before(folder: Path) -> Mapping[str, str]:
    """Unpack the release before into a new folder; return the variables that make a program of ours one of it.

    Raises:
        NoSuchRelease: the history does not go back to it.
    """
    packed = subprocess.run(["git", "archive", RELEASE_BEFORE], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        raise NoSuchRelease(f"the history does not go back to {RELEASE_BEFORE}: {packed.stderr.decode().strip()}")
    folder.mkdir()
    subprocess.run(["tar", "x"], input=packed.stdout, cwd=folder, check=True)
    # A safe path does not begin with the folder in which a program starts, so that PYTHONPATH goes first.
    variables = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(folder), "INVENTORY_CHANGED_VERSION": "1"}
    where = [sys.executable, "-c", "import workers; print(*workers.__path__)"]
    found = subprocess.run(where, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(folder / "workers")], "the older release is not the code that is run"
    return variables


async def roll_out(folder: Path, older: Mapping[str, str]) -> Rollout:
    """Roll a release out under load; then it writes what the older could not read. `folder` is the system's.

    Raises:
        AssertionError: something was lost or decided twice, or is written that a running worker cannot read.
    """
    newest = {"INVENTORY_CHANGED_VERSION": "2"}
    plan = Plan(
        folder=folder,
        workers={"reservations": 2, "projections": 1},
        ingress=0,
        stripe=False,
        partitions=4,
        own_servers=True,
        quiet=True,
        # The variables of a part's first start; after a stop it starts with those of `of_one` alone.
        first_start={
            "reservations-1": older,
            "reservations-2": ROLLOUT,
            "projections-1": older,
        },
        of_one={"reservations-2": newest},
    )
    async with System(plan) as system:
        # Given a worker of each release, which share the partitions.
        seen = Rollout(partitions=await both_own_partitions(system))
        await decided(system, *(nights for room in ROOMS for nights in nights_on_sale(room)))

        # When they work side by side, the older is replaced, and then the newer version is switched on in one of two.
        await decided(system, *commands())
        assert await versions(system) == {CHANGED_V1}
        assert not await reasons(system) & NEW_WORDS
        seen.side_by_side = len(await log.read(system.kafka_url, reckoning.EVENTS))
        assert await newer_rows(system) == 0
        for part in ("projections-1", "reservations-1"):
            await system.stop_part(part)
            await system.start_part(part)
        await decided(system, *commands())
        assert await versions(system) == {CHANGED_V1}
        await system.stop_part("reservations-2")
        await system.start_part("reservations-2")
        await both_own_partitions(system)
        await decided(system, *commands())
        await decided(system, *(command for room in ROOMS for command in newer_commands(room)))
        assert await newer_rows(system) == 7 * len(ROOMS)

        # Then both versions are on the log, refusals have their own words, and nothing is lost, decided twice, or
        # published again with other bytes.
        assert await versions(system) == {CHANGED_V1, CHANGED_V2}
        assert await reasons(system) >= NEW_WORDS
        found = await log.read(system.kafka_url, reckoning.EVENTS)
        published, seen.doubles, wrong = reckoning.first_publications(found)
        assert not wrong
        assert not reckoning.decided_once(await log.read(system.kafka_url, reckoning.COMMANDS), published)
        kafka_settings, database = settings(system)
        assert (await audit(kafka_settings, database)).problems() == []
        seen.events = Counter(event.type for events in published.values() for event in events)
        return seen


def commands() -> list[Command]:
    """Return the commands of managers and guests, for each room: some are refused, by the hotel's clock or a share."""
    return [command for room in ROOMS for command in (change(room), stay(room), *cancelled_stays(room), share(room))]


def newer_commands(room: int) -> list[Command]:
    """Return commands that the release before does not know: they allow more in 2 nights, and block 2."""
    first, second, end = date(2030, 5, 24), date(2030, 5, 25), date(2030, 5, 26)
    terms = msgspec.structs.replace(NO_SALE_TERMS, version=1)
    block = BlockNights(
        room_id=room, first_night=first, end_night=end, block_id=uuid4(), rooms_count=1, reason=BlockReason.OTHER
    )
    return [
        ChangeInventory(room_id=room, first_night=first, end_night=end, allowance_count=1),
        block,
        msgspec.structs.replace(block, block_id=uuid4(), first_night=second, end_night=date(2030, 5, 27)),
        ReleaseBlock(room_id=room, block_id=block.block_id),
        SetSaleTerms(room_id=room, hotel_id=1, terms=terms),
    ]


def nights_on_sale(room: int) -> list[OpenInventory]:
    """Return the commands that put nights of the past and to come on sale."""
    return [
        OpenInventory(
            room_id=room,
            hotel_id=1,
            first_night=date(year, 5, 1),
            end_night=date(year, 6, 1),
            # The release before knows no share, and sells the stays that this one refuses for it.
            total_count=100,
            price_minor=10_000,
            currency="EUR",
        )
        for year in (2020, 2030)
    ]


def change(room: int) -> ChangeInventory:
    return ChangeInventory(
        room_id=room, first_night=date(2030, 5, 3), end_night=date(2030, 5, 20), price_minor=9_000 + room
    )


def stay(room: int) -> ReserveStay:
    return ReserveStay(
        room_id=room,
        booking_id=uuid4(),
        user_id=1,
        hotel_id=1,
        check_in=date(2030, 5, 2),
        check_out=date(2030, 5, 5),
    )


def cancelled_stays(room: int) -> list[Command]:
    """Return a stay to come that is cancelled, and one that is over long ago when its guest wants to cancel."""
    held = stay(room)
    over = msgspec.structs.replace(
        stay(room),
        check_in=date(2020, 5, 2),
        check_out=date(2020, 5, 5),
        terms=Terms.AT_HOTEL,
        stay_times=StayTimes(time_zone="America/Vancouver", check_in_time=time(15), check_out_time=time(11)),
    )
    return [held, cancellation(held), over, cancellation(over)]


def cancellation(reserved: ReserveStay) -> CancelBooking:
    assert reserved.user_id is not None
    return CancelBooking(room_id=reserved.room_id, booking_id=reserved.booking_id, user_id=reserved.user_id)


def share(room: int) -> ReserveStay:
    """Return a request for more rooms than one account may hold unpaid."""
    return msgspec.structs.replace(stay(room), rooms_count=3, account_share_percent=2)


async def both_own_partitions(system: System) -> Counter[str | None]:
    """Wait until each of the two workers has partitions to decide; return how many each has."""
    kafka_settings, database = settings(system)
    seen: Counter[str | None] = Counter()

    async def so() -> bool:
        seen.clear()
        seen.update(each.owner for each in await lags(kafka_settings, database) if each.role is Service.RESERVATIONS)
        return len(seen) == 2 and None not in seen

    await wait_until(so, 120, lambda: f"both workers have partitions: {seen}")
    return seen


async def decided(system: System, *commands: Command) -> None:
    """Send commands, and wait until they are decided and the read models have followed."""
    async with open_log(settings(system)[0]) as opened:
        await opened.send(*commands)
    left: list[str] = []

    async def nothing_is_left() -> bool:
        left[:] = await reckoning.behind(system.kafka_url, system.database_url, "reservations", [reckoning.COMMANDS])
        for consumer in ("booking_timeline", "room_nights", "daily_report"):
            left.extend(await reckoning.behind(system.kafka_url, system.database_url, consumer, [reckoning.EVENTS]))
        return not left

    await wait_until(nothing_is_left, 120, lambda: "; ".join(left))


async def newer_rows(system: System) -> int:
    """Return how many rows have something that the release before does not know."""
    query = """
        select (select count(*) from booking where status in ('CHECKED_IN', 'CHECKED_OUT', 'NO_SHOW')
                                               or sale is not null or policy is not null)
             + (select count(*) from inventory where allowance_count > 0) + (select count(*) from room_sale_terms)
             + (select count(*) from inventory where blocked_count > 0) + (select count(*) from room_block)
    """
    async with await psycopg.AsyncConnection.connect(system.database_url) as connection:
        (count,) = await (await connection.execute(query)).fetchone() or (0,)
        return int(count)


async def versions(system: System) -> set[str]:
    """Return which versions of a change are on the log."""
    found = await log.read(system.kafka_url, reckoning.EVENTS)
    return {entry.type for entry in found if entry.type.startswith("inventory.changed.")}


async def reasons(system: System) -> set[str]:
    """Return the reasons of all events on the log."""
    found = await log.read(system.kafka_url, reckoning.EVENTS)
    return {reason for entry in found if (reason := entry.body.get("reason")) is not None}


def settings(system: System) -> tuple[KafkaSettings, DatabaseSettings]:
    return (
        KafkaSettings(_env_file=None, kafka_url=system.kafka_url, topic_partitions=4),
        DatabaseSettings(_env_file=None, database_url=SecretStr(system.database_url)),
    )
