"""F10: the clock of one part, or of all, is wrong; a day of 23 hours begins, and the 29th of February.

Each process follows a file (libfaketime). Holds are judged by the log's time: by the broker's clock, or by that of the
programs where topics keep the times of the producers. A row notes how long a hold was kept by the log and by the wall.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import aiohttp

from sandbox import days_ahead
from sandbox.system import Plan
from tests.faults import groups
from tests.faults.breaking import for_seconds
from tests.faults.row import Group, Promise, Row, Scene
from tests.faults.rows._watching import equipped, tools_of
from tests.support.client import Client
from tests.support.waiting import wait_until
from tests.system.pipeline import chaos

#: Minutes by which a part's clock is wrong, one after the other.
_WRONG_SECONDS: Final = (1200, -1200)
_HOUR_SECONDS: Final = 3600
#: So long a clock is wrong: longer than a hold, where holds are looked at.
_LONG_SECONDS: Final = chaos.HOLD_SECONDS + 3.0
_SHORT_SECONDS: Final = 8.0
#: A process looks at its file every second.
_FOLLOWS_SECONDS: Final = 2.0
_WRONG: Final = "a clock was wrong"
_HELD: Final = "a hold ended"
_PASSED: Final = "the moment passed while a room was held"
OF_LOG: Final = "kafka"
#: The one clock of a system in which all parts have the same.
_ALL: Final = "all"


class Clocks:
    """The clocks of a system's parts, each of which follows a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, name: str, seconds: int = 0) -> Mapping[str, str]:
        """Return the variables of a part whose clock is so much ahead at first."""
        self.shift(name, seconds)
        return days_ahead.following(self.file(name))

    def shift(self, name: str, seconds: int) -> None:
        """Let the clock of a part be so much ahead of the machine's."""
        fresh = self.file(name).with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self.file(name))

    def file(self, name: str) -> Path:
        """Return the file of a clock."""
        return self._folder / name


def missing() -> str | None:
    """Return why this machine cannot run the system with other clocks."""
    return groups.missing() or days_ahead.unavailable()


_OTHERS: Final = ("payments", "expiry", "projections", "coordination", "reconciliation")
_PARTS: Final = (
    OF_LOG,
    "postgres",
    "stripe",
    "ingress",
    "reservations-1",
    "reservations-2",
    *(f"{role}-1" for role in _OTHERS),
)


@asynccontextmanager
async def _each(plan: Plan) -> AsyncIterator[Plan]:
    clocks = Clocks(plan.folder / "clocks")
    of_one = {name: {**plan.of_one.get(name, {}), **clocks.of(name)} for name in _PARTS}
    yield equipped(plan, {"clocks": clocks}, of_one=of_one)


CLOCKS: Final = Group(
    name="clocks",
    system="one broker, one database, two workers of reservations; each process with a clock of its own",
    plan=chaos.plan,
    around=_each,
    tools=tools_of,
    missing=missing,
)


def _night(name: str, what: str, begins: datetime) -> Group:
    """Return a group in whose time it is ten minutes before a moment when its system starts."""

    @asynccontextmanager
    async def around(plan: Plan) -> AsyncIterator[Plan]:
        clocks = Clocks(plan.folder / "clocks")
        clocks.shift(_ALL, _seconds_until(begins - timedelta(minutes=10)))
        yield equipped(plan, {"clocks": clocks, "begins": begins}, clock=clocks.file(_ALL))

    return Group(
        name=name,
        system=f"one broker, one database, two workers of reservations; for all parts but the broker it is {what}, and"
        " topics keep the times of the producers",
        plan=chaos.plan,
        around=around,
        tools=tools_of,
        missing=missing,
    )


def _seconds_until(moment: datetime) -> int:
    return int((moment - datetime.now(UTC)).total_seconds())


SHORT_NIGHT: Final = _night(
    "short-night",
    "the night of 28 March 2027, in which summer time begins in Europe",
    datetime(2027, 3, 28, 1, 0, tzinfo=UTC),
)
LEAP_DAY: Final = _night("leap-day", "the evening before 29 February 2028", datetime(2028, 2, 29, 0, 0, tzinfo=UTC))
_PROMISES: Final = (
    Promise.EVERY_PROMISE_IS_KEPT,
    Promise.NO_ROOM_SOLD_TWICE,
    Promise.MONEY_IS_EXPLAINED,
    Promise.HOLDS_END_IN_TIME,
    Promise.THE_LOG_HAS_NO_GAP,
    Promise.READ_MODELS_AGREE,
    Promise.IT_RECOVERS,
)


async def be_wrong(scene: Scene, names: Sequence[str], seconds: Sequence[int], *, hold: bool) -> None:
    """Let the clocks of parts be wrong, by one amount after the other; with a hold that nobody pays for, each time."""
    clocks: Clocks = scene.tools["clocks"]
    for wrong in seconds:
        held = await _begin_hold(scene) if hold else None
        async with asyncio.TaskGroup() as together:
            if held is not None:
                together.create_task(_end_hold(scene, held, f"{wrong / 60:+.0f} min"))
            try:
                for name in names:
                    clocks.shift(name, wrong)
                await for_seconds(_FOLLOWS_SECONDS)
                await _see(scene, names, wrong)
                await for_seconds(_LONG_SECONDS if hold else _SHORT_SECONDS)
            finally:
                for name in names:
                    clocks.shift(name, 0)
                await for_seconds(_FOLLOWS_SECONDS)


async def leap_of_the_log(scene: Scene) -> None:
    """Let the broker's clock leap ahead, back for longer than a hold lasts, and ahead again, where it stays.

    Back for good, it would let the holds of the time between last for 20 minutes. The database's clock follows the
    first leap, and stays ahead: by its time expiry looks for holds that are over, and their deadlines are by the log.
    """
    clocks: Clocks = scene.tools["clocks"]
    ahead = max(_WRONG_SECONDS)
    # Between a command and its event the log's time may leap by 20 minutes, in which nobody waits.
    scene.log_time_leaps = True
    held = await _begin_hold(scene)
    async with asyncio.TaskGroup() as together:
        together.create_task(_end_hold(scene, held, "20 minutes pass at once"))
        clocks.shift(OF_LOG, ahead)
    await _see(scene, [OF_LOG], ahead)
    clocks.shift("postgres", ahead)
    await for_seconds(_FOLLOWS_SECONDS)
    await _see(scene, ["postgres"], ahead)
    held = await _begin_hold(scene)
    async with asyncio.TaskGroup() as together:
        ending = together.create_task(_end_hold(scene, held, f"20 minutes back for {_LONG_SECONDS:.0f} s"))
        clocks.shift(OF_LOG, 0)
        try:
            await for_seconds(_FOLLOWS_SECONDS + _LONG_SECONDS)
            if ending.done():
                scene.problems.append("a hold ended although its time was not over by the log")
        finally:
            clocks.shift(OF_LOG, ahead)


async def pass_a_moment(scene: Scene) -> None:
    """Let the clock come to some seconds before the moment, and a hold last over it."""
    begins: datetime = scene.tools["begins"]
    clocks: Clocks = scene.tools["clocks"]
    if scene.system.now > begins:
        scene.problems.append(f"it is {scene.system.now} already")
        return
    scene.log_time_leaps = True
    clocks.shift(_ALL, _seconds_until(begins - timedelta(seconds=10)))
    await for_seconds(_FOLLOWS_SECONDS)
    await _end_hold(scene, await _begin_hold(scene), "over the moment")
    passed = scene.system.now - begins
    if passed > timedelta():
        scene.causes[_PASSED] += 1
    shown = await _clock_of_database(scene)
    if abs(shown - scene.system.now) > timedelta(seconds=2):
        scene.problems.append(f"the database has {shown}, the system {scene.system.now}")


async def _see(scene: Scene, names: Sequence[str], wrong: int) -> None:
    """Compare the clocks that can be seen from outside with what they should be."""
    seen: dict[str, Callable[[], Awaitable[datetime]]] = {
        "ingress": lambda: _clock_of(scene, scene.system.urls[0]),
        "stripe": lambda: _clock_of(scene, scene.system.stripe_url),
        "postgres": lambda: _clock_of_database(scene),
    }
    for name in names:
        if name in seen:
            off = (await seen[name]() - datetime.now(UTC)).total_seconds()
            if abs(off - wrong) > _FOLLOWS_SECONDS + 1:
                scene.problems.append(f"the clock of {name} is {off:+.0f} s ahead, and not {wrong:+d}")
                continue
        elif not _follows_a_file(scene.system.pid(name)):
            scene.problems.append(f"{name} has the clock of the machine")
            continue
        scene.causes[_WRONG] += 1


def _follows_a_file(pid: int) -> bool:
    return "faketime" in Path(f"/proc/{pid}/maps").read_text()


async def _clock_of(scene: Scene, url: str) -> datetime:
    async with scene.town.http.get(f"{url}/health/live") as answer:
        return parsedate_to_datetime(answer.headers["Date"])


async def _clock_of_database(scene: Scene) -> datetime:
    found: datetime
    ((found,),) = await scene.rows("select clock_timestamp()")
    return found


class _Held(NamedTuple):
    """A room that is held, and since when by the wall."""

    guest: Client
    booking: str
    since: float

    async def has(self, wanted: str) -> bool:
        """Whether the booking has this status."""
        try:
            answer = await self.guest.get(f"/v1/bookings/{self.booking}/status")
        except (aiohttp.ClientError, TimeoutError):
            return False
        return answer.status == 200 and bool(answer.body["booking_status"] == wanted)


async def _begin_hold(scene: Scene) -> _Held:
    """Hold a room for which nobody will pay."""
    guest = Client(scene.town.http, scene.guests.url, scene.guests.token)
    room = scene.town.rooms[-1]
    stay = {
        "hotel_id": room.hotel_id,
        "room_id": room.id,
        "check_in_date": scene.town.first_day.isoformat(),
        "check_out_date": (scene.town.first_day + timedelta(days=1)).isoformat(),
    }
    accepted = await guest.ask_until_answered("POST", "/v1/bookings/init", stay, key=uuid4().hex)
    assert accepted.status == 202, accepted
    booking = accepted.body["id"]
    scene.town.promises.booked(booking, None)
    clock = asyncio.get_running_loop().time
    held = _Held(guest, booking, clock())
    await wait_until(functools.partial(held.has, "RESERVED"), message="the room is held")
    return held._replace(since=clock())


async def _end_hold(scene: Scene, held: _Held, when: str) -> None:
    """Wait until a hold has ended; note how long it was kept, by the log and by the wall."""
    await wait_until(functools.partial(held.has, "EXPIRED"), message="the hold has ended")
    by_wall = asyncio.get_running_loop().time() - held.since
    by_log = await _by_log(scene, held.booking)
    scene.causes[_HELD] += 1
    scene.figures[f"hold of {chaos.HOLD_SECONDS} s, {when}"] = f"{by_log:.1f} s by the log, {by_wall:.1f} s by the wall"
    if (problem := early(by_log)) is not None:
        scene.problems.append(problem)


def early(by_log: float) -> str | None:
    """Return the problem of a hold that was kept for so many seconds by the log, if that is too short."""
    short_by = chaos.HOLD_SECONDS - by_log
    return f"a hold ended {short_by:.1f} s early by the log's time" if short_by > 0 else None


async def _by_log(scene: Scene, booking: str) -> float:
    """Return how long a hold was kept by the log's time, once the timeline has its end."""

    async def times() -> list[datetime]:
        rows = await scene.rows(
            "select time from booking_timeline where booking_id = %s"
            " and type in ('booking.reserved.v1', 'booking.expired.v1') order by sequence",
            (booking,),
        )
        found = [time for (time,) in rows]
        assert len(found) == 2
        return found

    begun, ended = await wait_until(times, message="the timeline has the hold's end")
    return float((ended - begun).total_seconds())


def _row(id: str, who: str, names: Sequence[str], *, hold: bool, wait: float = 15.0) -> Row:
    causes = (_WRONG, _HELD) if hold else (_WRONG,)
    return Row(
        id=id,
        fault=f"The clock of {who} is 20 minutes ahead, then 20 minutes behind",
        made_by="libfaketime follows a file",
        group=CLOCKS,
        promises=_PROMISES,
        breaks=functools.partial(be_wrong, names=names, seconds=_WRONG_SECONDS, hold=hold),
        max_wait_seconds=wait,
        causes=causes,
    )


def _over(id: str, fault: str, group: Group) -> Row:
    return Row(
        id=id,
        fault=fault,
        made_by="libfaketime follows a file, for all parts but the broker",
        group=group,
        promises=_PROMISES,
        breaks=pass_a_moment,
        max_wait_seconds=15.0,
        causes=(_PASSED, _HELD),
    )


ROWS: Final[tuple[Row, ...]] = (
    _row("F10", "the ingress", ["ingress"], hold=True),
    _row("F10b", "both workers of reservations", ["reservations-1", "reservations-2"], hold=True),
    _row("F10c", "expiry", ["expiry-1"], hold=True),
    _row("F10d", "the database", ["postgres"], hold=True),
    _row("F10e", "payments", ["payments-1"], hold=False),
    _row("F10f", "projections", ["projections-1"], hold=False),
    _row("F10g", "coordination", ["coordination-1"], hold=False),
    _row("F10h", "reconciliation", ["reconciliation-1"], hold=False),
    _row("F10i", "Stripe", ["stripe"], hold=False),
    Row(
        id="F10j",
        fault="All clocks but the broker's go back by an hour, and on again",
        made_by="libfaketime follows a file",
        group=CLOCKS,
        promises=_PROMISES,
        breaks=functools.partial(be_wrong, names=_PARTS[1:], seconds=[-_HOUR_SECONDS], hold=True),
        max_wait_seconds=15.0,
        causes=(_WRONG, _HELD),
    ),
    # The last of its group: it leaves the clocks of broker and database ahead.
    Row(
        id="F10k",
        fault=f"The broker's clock leaps ahead by 20 minutes, back for {_LONG_SECONDS:.0f} s, and ahead again",
        made_by="libfaketime follows a file; the database's clock leaps ahead too, after the broker's",
        group=CLOCKS,
        promises=_PROMISES,
        breaks=leap_of_the_log,
        max_wait_seconds=15.0,
        causes=(_WRONG, _HELD),
    ),
    _over("F10l", "A night of 23 hours passes (28 March 2027, summer time begins)", SHORT_NIGHT),
    _over("F10m", "The 29th of February begins (2028)", LEAP_DAY),
)
