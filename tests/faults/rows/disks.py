"""F19: the disk of the broker and that of the database are full for a while; both are small and in memory."""

import asyncio
import errno
import functools
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from sandbox.system import Plan
from tests.faults import groups
from tests.faults.breaking import for_seconds
from tests.faults.row import Group, Promise, Row, Scene
from tests.faults.rows._watching import Readiness, equipped, tools_of
from tests.faults.rows.crowds import FIRST_NIGHT, ask_at_once
from tests.support.waiting import wait_until
from tests.system.path.guest import Room, open_house, stay
from tests.system.pipeline import chaos

#: Where the parts keep their data, in the folder of a system, and how much room they have for all rows of the group.
_DISKS: Final = {"kafka": ("kafka/log", "256m"), "postgres": ("postgres", "640m")}
_FULL_SECONDS: Final = 15.0
#: Keys of requests, of which some forty fill a page of their table.
_KEYS: Final = 200
_CHUNK: Final = b"\0" * 65_536
_CAN_MOUNT: Final = ("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of memory at a folder for as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@functools.cache
def no_disk() -> str | None:
    """Return why no disk can be mounted, in one sentence; None when one can."""
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    tried = subprocess.run(_CAN_MOUNT, capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no small disk can be mounted: {tried.stderr.strip()}"


def fill(file: Path) -> None:
    """Write a file until its disk is full."""
    try:
        with file.open("ab", buffering=0) as filler:
            while True:
                filler.write(_CHUNK)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def missing() -> str | None:
    """Return why this machine cannot run the system with small disks."""
    return groups.missing() or no_disk()


@asynccontextmanager
async def _around(plan: Plan) -> AsyncIterator[Plan]:
    with ExitStack() as stack:
        disks = {
            name: stack.enter_context(small_disk(plan.folder / place, size)) for name, (place, size) in _DISKS.items()
        }
        yield equipped(plan, disks)


DISKS: Final = Group(
    name="disks",
    system="one broker, one database, two workers of reservations; broker and database each on a small disk of its own",
    plan=chaos.plan,
    around=_around,
    tools=tools_of,
    missing=missing,
)
_PROMISES: Final = (
    Promise.EVERY_PROMISE_IS_KEPT,
    Promise.NO_ROOM_SOLD_TWICE,
    Promise.ONE_KEY_ONE_BOOKING,
    Promise.MONEY_IS_EXPLAINED,
    Promise.THE_LOG_HAS_NO_GAP,
    Promise.READ_MODELS_AGREE,
    Promise.IT_RECOVERS,
)
_BROKER_ENDED: Final = "the broker ended for want of room, and was started again"
_FULL: Final = "no room is left"


async def _ask_for_stays(scene: Scene) -> None:
    """Ask for stays under keys: the ingress writes down more of them than the pages have room for that exist."""
    room = Room(scene.town.rooms[-1].hotel_id, scene.town.rooms[-1].id)
    async with open_house(scene.system) as house:
        await ask_at_once(scene, house, [stay(room, FIRST_NIGHT, 1)] * _KEYS)


async def fill_disks(scene: Scene, names: Sequence[str], part: str | None) -> None:
    """Fill disks, and free them some seconds later; readiness names `part` as soon as something was to be written."""
    fillers = [scene.tools[name] / "filler" for name in names]
    broker = scene.system.supervisor["kafka"]
    before = broker.running_pid
    asking: list[asyncio.Task[None]] = []
    try:
        for filler in fillers:
            await asyncio.to_thread(fill, filler)
            scene.causes[_FULL] += 1
        if part == "database":
            asking.append(asyncio.create_task(_ask_for_stays(scene)))
        if part is not None:
            await Readiness(scene, scene.system.urls[0]).names(part)
        for _ in range(int(_FULL_SECONDS)):
            await for_seconds(1.0)
            # Room that was freed meanwhile is taken too.
            for filler in fillers:
                await asyncio.to_thread(fill, filler)
    finally:
        for filler in fillers:
            # One that could not be made is not the failure to be reported.
            filler.unlink(missing_ok=True)
        scene.over()
    await asyncio.gather(*asking)
    if "kafka" in names:
        await wait_until(lambda: broker.running_pid not in {None, before}, message="the broker runs again")
        scene.causes[_BROKER_ENDED] += 1


def _row(id: str, fault: str, names: Sequence[str], part: str | None, *causes: str) -> Row:
    return Row(
        id=id,
        fault=fault,
        made_by=f"a file fills a small disk in memory (tmpfs) for {_FULL_SECONDS:.0f} s",
        group=DISKS,
        promises=_PROMISES,
        breaks=functools.partial(fill_disks, names=names, part=part),
        max_wait_seconds=60.0,
        causes=(_FULL, *causes),
        may_end=frozenset(names),
    )


ROWS: Final[tuple[Row, ...]] = (
    _row("F19", "The disk of the broker is full", ["kafka"], "broker", _BROKER_ENDED, "readiness named the broker"),
    _row("F19b", "The disk of the database is full", ["postgres"], "database", "readiness named the database"),
    _row("F19c", "The disks of broker and database are full", ["kafka", "postgres"], None, _BROKER_ENDED),
)
