"""F7 and F8 with more than one server: a broker of three, or the primary of two databases, dies, hangs or leaves."""

from collections import Counter
from dataclasses import replace
from typing import Final

from sandbox.kafka.probe import as_client
from sandbox.postgres.standby import fail_over, folders_of
from tests.faults.breaking import REFUSED, for_seconds, frozen, refused, until_refused
from tests.faults.groups import STANDBY, THREE_BROKERS
from tests.faults.row import Promise, Row, Scene
from tests.support.replicas import replicas, until_in_sync
from tests.support.waiting import wait_until
from topics.catalogue import BOOKING_COMMANDS
from topics.kafka.settings import KafkaSettings

_AWAY_SECONDS: Final = 15.0
_BOOKINGS: Final = 3


def _settings(scene: Scene) -> KafkaSettings:
    assert scene.system.kafka is not None
    return as_client(scene.system.kafka.variables())


async def _leader(scene: Scene) -> str:
    """Return the broker that leads most partitions of the commands."""
    kafka = _settings(scene)
    found = await replicas(kafka, kafka.topic(BOOKING_COMMANDS))
    ((node_id, _),) = Counter(state.leader for state in found.values()).most_common(1)
    return scene.system.broker_names[node_id - 1]


async def _in_sync(scene: Scene) -> None:
    await until_in_sync(_settings(scene), len(scene.system.broker_names))


async def _leader_is_killed(scene: Scene) -> None:
    name = await _leader(scene)
    await scene.system.kill_part(name)
    await scene.guests.every_room_decides()
    scene.causes["every room was decided while the broker was away"] += 1
    await scene.system.start_part(name)
    scene.over()
    await _in_sync(scene)


async def _leader_freezes(scene: Scene) -> None:
    name = await _leader(scene)
    async with frozen(scene, name):
        await scene.guests.every_room_decides()
        scene.causes["every room was decided while the broker hung"] += 1
        if await _leader(scene) != name:
            scene.causes["others lead"] += 1
    scene.over()
    await _in_sync(scene)


async def _each_is_restarted(scene: Scene) -> None:
    for name in scene.system.broker_names:
        await _in_sync(scene)
        await scene.system.stop_part(name)
        await scene.guests.every_room_decides()
        scene.causes["every room was decided while a broker was away"] += 1
        await scene.system.start_part(name)
    scene.over()
    await _in_sync(scene)
    if refused(scene) or scene.guests.unanswered:
        scene.problems.append(f"{refused(scene)} requests were refused, {len(scene.guests.unanswered)} got no answer")


async def _two_are_away(scene: Scene) -> None:
    _, *others = scene.system.broker_names
    for name in others:
        await scene.system.kill_part(name)
    await until_refused(scene)
    await for_seconds(_AWAY_SECONDS)
    for name in others:
        await scene.system.start_part(name)
    scene.over()
    await _in_sync(scene)


async def _one_falls_out_of_sync(scene: Scene) -> None:
    kafka = _settings(scene)
    # Not the leader of most partitions: the others go on, and it misses their records.
    leader = await _leader(scene)
    name = next(name for name in reversed(scene.system.broker_names) if name != leader)
    node_id = scene.system.broker_names.index(name) + 1

    async def is_out() -> bool:
        found = (await replicas(kafka, kafka.topic(BOOKING_COMMANDS))).values()
        return all(node_id != state.leader and node_id not in state.in_sync for state in found)

    async with frozen(scene, name):
        await wait_until(is_out, message="the broker is not in sync any more")
        scene.causes["the broker was out of those in sync"] += 1
        await scene.guests.every_room_decides()
    scene.over()
    await _in_sync(scene)
    scene.causes["the broker caught up"] += 1


async def _has_standby(scene: Scene) -> bool:
    return await scene.rows("select sync_state from pg_stat_replication where state = 'streaming'") == [("sync",)]


async def _until_more_are_booked(scene: Scene) -> None:
    before = len(scene.town.promises.bookings)
    await wait_until(lambda: len(scene.town.promises.bookings) >= before + _BOOKINGS, message="bookings are accepted")


async def _primary_is_killed(scene: Scene) -> None:
    await _switch(scene, in_order=False)


async def _primaries_switch(scene: Scene) -> None:
    await _switch(scene, in_order=True)


async def _switch(scene: Scene, *, in_order: bool) -> None:
    """Let the other database server be the primary, and wait until the former one is its standby."""
    first, second = folders_of(scene.system.folder)
    name = await _primary(scene)
    scene.over()
    if in_order:
        # Its sessions end, and the standby has everything.
        await scene.system.stop_part(name)
    promoted = await fail_over(first, second)
    assert promoted == (second if name == "postgres" else first)
    await _until_more_are_booked(scene)
    scene.causes["the standby was promoted"] += await _primary(scene) != name
    if in_order:
        await scene.system.start_part(name)
    await wait_until(lambda: _has_standby(scene), message="the old primary is a standby in step")


async def _primary(scene: Scene) -> str:
    ((port,),) = await scene.rows("select inet_server_port()")
    names = ("postgres", "postgres-2")
    return next(name for name in names if getattr(scene.system.supervisor[name], "port", None) == port)


_BROKERS: Final = Row(
    id="",
    fault="",
    made_by="",
    group=THREE_BROKERS,
    promises=(
        Promise.NO_ROOM_SOLD_TWICE,
        Promise.COUNTS_ADD_UP,
        Promise.EVERY_PROMISE_IS_KEPT,
        Promise.ONE_KEY_ONE_BOOKING,
        Promise.THE_LOG_HAS_NO_GAP,
        Promise.IT_RECOVERS,
    ),
    breaks=_leader_is_killed,
    max_wait_seconds=20.0,
    answers=frozenset({"503"}),
)
_DATABASES: Final = replace(
    _BROKERS,
    group=STANDBY,
    promises=(*_BROKERS.promises, Promise.MONEY_IS_EXPLAINED, Promise.READ_MODELS_AGREE),
    causes=("the standby was promoted",),
    max_wait_seconds=10.0,
    max_recovery_seconds=10.0,
)

ROWS: Final[tuple[Row, ...]] = (
    replace(
        _BROKERS,
        id="F7d",
        fault="The leader of most partitions is killed",
        made_by="SIGKILL of one of three brokers until every room decides",
        causes=("every room was decided while the broker was away",),
    ),
    replace(
        _BROKERS,
        id="F7e",
        fault="The leader of most partitions hangs",
        made_by="SIGSTOP of one of three brokers until every room decides",
        breaks=_leader_freezes,
        causes=("every room was decided while the broker hung", "others lead"),
        max_wait_seconds=15.0,
    ),
    replace(
        _BROKERS,
        id="F7f",
        fault="All brokers are restarted, one after the other",
        made_by="SIGTERM and a start of each of three, once all are in sync",
        breaks=_each_is_restarted,
        causes=("every room was decided while a broker was away",),
        answers=frozenset(),
    ),
    replace(
        _BROKERS,
        id="F7g",
        fault="Two of three brokers are away",
        made_by=f"SIGKILL of two, until requests are refused and {_AWAY_SECONDS:.0f} s more",
        breaks=_two_are_away,
        causes=(REFUSED,),
        max_wait_seconds=60.0,
    ),
    replace(
        _BROKERS,
        id="F7h",
        fault="A broker falls out of those in sync, and catches up",
        made_by="SIGSTOP of one of three until no partition counts on it",
        breaks=_one_falls_out_of_sync,
        causes=("the broker was out of those in sync", "the broker caught up"),
    ),
    replace(
        _DATABASES,
        id="F8g",
        fault="The primary database is killed, and its standby promoted",
        made_by="SIGKILL of all its processes, and `pg_promote`; nothing that was acknowledged is lost",
        breaks=_primary_is_killed,
    ),
    replace(
        _DATABASES,
        id="F8h",
        fault="The primary database hands over to its standby",
        made_by="a fast shutdown of the primary, and `pg_promote`; the other starts again as the standby",
        breaks=_primaries_switch,
    ),
)
