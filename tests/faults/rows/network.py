"""F9: two of every role and two ingress processes behind nginx, each part in a network of its own.

Any part is killed or hangs, and any pair is cut: one way, both ways, or by 200 ms and 5 % loss.
"""

import functools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil

from sandbox import nginx
from sandbox.nginx import Nginx
from sandbox.ports import free_port
from sandbox.system import ONE_OF_EACH, Plan
from tests.faults import groups
from tests.faults.breaking import for_seconds, frozen
from tests.faults.row import OF_NETWORKS, Group, Row, Scene
from tests.faults.rows._watching import Readiness, equipped, tools_of
from tests.support import namespaces
from tests.support.namespaces import LOST, Impairment, Network
from tests.support.waiting import wait_until
from tests.system.pipeline import chaos

ROLES: Final = tuple(ONE_OF_EACH)
INGRESSES: Final = ("ingress", "ingress-2")
NGINX: Final = "nginx"
#: Those for whom no guest waits: beside them rooms are decided.
BACKGROUND: Final = tuple(f"{role}-1" for role in ROLES if role != "reservations")
_PARTS: Final = ("kafka", "postgres", "stripe", NGINX, *INGRESSES, *(f"{role}-{n}" for role in ROLES for n in (1, 2)))
_HANG_SECONDS: Final = 15.0
_CUT_SECONDS: Final = 10.0
#: Each direction of a pair, one after the other.
_ONE_WAY_SECONDS: Final = 6.0
#: A worker may send nothing to Stripe for some seconds.
_TRIES: Final = 5
_AWAY_SECONDS: Final = 5.0
_BETWEEN_KILLS_SECONDS: Final = 5.0
_SLOW: Final = Impairment(delay_seconds=0.2, lost_share=0.05)
_LOST_PACKETS: Final = "packets were lost"
_TOOK_BOOKINGS: Final = "the other ingress took bookings"
_LATE_PACKETS: Final = "packets came late"


def _plan(folder: Path) -> Plan:
    plan = chaos.plan(folder)
    trusted = {"TRUSTED_PROXIES": "198.18.0.0/15,127.0.0.0/8"}
    return replace(plan, workers=dict.fromkeys(ROLES, 2), ingress=2, environment={**plan.environment, **trusted})


@asynccontextmanager
async def _around(plan: Plan) -> AsyncIterator[Plan]:
    async with Network(_PARTS) as network:
        locations = {name: network.location(name, free_port()) for name in _PARTS if name != NGINX}
        urls = [f"http://{locations[name].host}:{locations[name].port}" for name in INGRESSES]
        async with Nginx(plan.folder / NGINX, urls, location=network.location(NGINX), tls=False) as proxy:
            tools = {"network": network, NGINX: proxy}
            yield equipped(plan, tools, locations=locations, public_url=proxy.url)


def missing() -> str | None:
    """Return why this machine cannot run the system or give its parts networks."""
    return groups.missing() or nginx.available() or namespaces.missing()


NETWORK: Final = Group(
    name="network",
    system="two workers of every role and two ingress processes behind nginx, broker, database and the stand-in for"
    " Stripe, each in a network namespace of its own",
    plan=_plan,
    around=_around,
    tools=tools_of,
    missing=missing,
)


def _again(name: str) -> str:
    return f"{name} was started again"


def _runs_anew(scene: Scene, name: str, before: int) -> bool:
    return scene.system.supervisor[name].running_pid not in {None, before}


async def kill_in_turn(scene: Scene, parts: Sequence[Sequence[str]]) -> None:
    """Kill the first parts, and some seconds later the next."""
    for together in parts:
        before = {name: scene.system.pid(name) for name in together}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        scene.over()
        for name, pid in before.items():
            await wait_until(functools.partial(_runs_anew, scene, name, pid), message=_again(name))
            await wait_until(scene.system.supervisor[name].is_ready, message=f"{name} is ready")
            scene.causes[_again(name)] += 1
        await for_seconds(_BETWEEN_KILLS_SECONDS)


async def away(scene: Scene, name: str) -> None:
    """Kill a server as a loss of power would, and start it again some seconds later."""
    before = scene.system.pid(name)
    await scene.system.kill_part(name)
    await for_seconds(_AWAY_SECONDS)
    await scene.system.start_part(name)
    scene.causes[_again(name)] += _runs_anew(scene, name, before)


async def hang(scene: Scene, names: Sequence[str], part: str | None = None) -> None:
    """Freeze parts; readiness of the first ingress names `part`, if there is one."""
    decided = len(scene.guests.bookings)
    async with frozen(scene, *names):
        if part is not None:
            await Readiness(scene, scene.system.urls[0]).names(part)
        await for_seconds(_HANG_SECONDS)
        scene.figures["bookings accepted meanwhile"] = str(len(scene.guests.bookings) - decided)
        # One that was killed and started again meanwhile did not hang.
        for name in names:
            scene.causes[f"{name} hung"] += psutil.Process(scene.system.pid(name)).status() == psutil.STATUS_STOPPED


async def hang_an_ingress(scene: Scene) -> None:
    """Freeze one ingress; guests whose connection nginx gave to it wait, and others book through the other ingress."""
    before = len(scene.guests.bookings)
    async with frozen(scene, INGRESSES[0]):
        await for_seconds(_HANG_SECONDS)
        await wait_until(lambda: len(scene.guests.bookings) > before, message="the other ingress takes bookings")
        scene.causes[_TOOK_BOOKINGS] += len(scene.guests.bookings) - before


async def _impaired(scene: Scene, pairs: Sequence[tuple[str, str]], how: Impairment, seconds: float) -> int:
    """Impair these directions for some seconds, again while nothing is sent; return how many packets it concerned."""
    network: Network = scene.tools["network"]
    counts = network.lost if how is LOST else network.delayed
    found = 0
    for _ in range(_TRIES):
        before = sum(counts[pair] for pair in pairs)
        try:
            for sender, receiver in pairs:
                await network.impair(sender, receiver, how)
            await for_seconds(seconds)
        finally:
            for sender, receiver in pairs:
                await network.mend(sender, receiver)
        if found := sum(counts[pair] for pair in pairs) - before:
            break
    return found


async def cut(scene: Scene, one: str, other: str, how: Impairment) -> None:
    """Impair both directions between two parts."""
    found = await _impaired(scene, ((one, other), (other, one)), how, _CUT_SECONDS)
    scene.causes[_LOST_PACKETS if how is LOST else _LATE_PACKETS] += found


async def cut_one_way(scene: Scene, one: str, other: str) -> None:
    """Lose the packets of one direction, and then those of the other."""
    for sender, receiver in ((one, other), (other, one)):
        found = await _impaired(scene, [(sender, receiver)], LOST, _ONE_WAY_SECONDS)
        if not found:
            scene.problems.append(f"no packet from {sender} to {receiver} was lost")
        scene.causes[_LOST_PACKETS] += found


def _row(
    id: str,
    fault: str,
    made_by: str,
    breaks: Callable[[Scene], Awaitable[None]],
    *causes: str,
    wait: float,
    recovery: float = 30.0,
) -> Row:
    return Row(
        id=id,
        fault=fault,
        made_by=made_by,
        group=NETWORK,
        promises=OF_NETWORKS,
        breaks=breaks,
        max_wait_seconds=wait,
        max_recovery_seconds=recovery,
        causes=causes,
    )


def _killed(id: str, fault: str, parts: Sequence[Sequence[str]], wait: float) -> Row:
    causes = [_again(name) for together in parts for name in together]
    made_by = f"SIGKILL, the second {_BETWEEN_KILLS_SECONDS:.0f} s after the first is back"
    return _row(id, fault, made_by, functools.partial(kill_in_turn, parts=parts), *causes, wait=wait)


def _away(id: str, fault: str, name: str, wait: float) -> Row:
    made_by = f"SIGKILL, started again after {_AWAY_SECONDS:.0f} s"
    return _row(id, fault, made_by, functools.partial(away, name=name), _again(name), wait=wait)


def _hung(id: str, fault: str, names: Sequence[str], wait: float, part: str | None = None) -> Row:
    causes = [f"{name} hung" for name in names] + ([] if part is None else [f"readiness named the {part}"])
    made_by = f"SIGSTOP for {_HANG_SECONDS:.0f} s"
    return _row(id, fault, made_by, functools.partial(hang, names=names, part=part), *causes, wait=wait)


#: Pairs that speak to each other, by the letter of their rows, with the longest wait of a booking that a cut may cause.
PAIRS: Final = (
    ("a", NGINX, "ingress", 15.0),
    ("d", "ingress", "kafka", 30.0),
    ("g", "ingress", "postgres", 30.0),
    ("j", "reservations-1", "kafka", 60.0),
    ("m", "reservations-1", "postgres", 60.0),
    ("p", "payments-1", "stripe", 15.0),
    ("s", "expiry-1", "postgres", 15.0),
)


def _cuts() -> list[Row]:
    rows = []
    for letter, one, other, wait in PAIRS:
        pair = f"between {one} and {other}"
        one_way, both, slow = (f"F9c{chr(ord(letter) + number)}" for number in range(3))
        made_by = "the sender has a wrong hardware address for the receiver"
        lost, late = _LOST_PACKETS, _LATE_PACKETS
        rows += [
            _row(
                one_way,
                f"Packets {pair} vanish one way for {_ONE_WAY_SECONDS:.0f} s, then the other way",
                made_by,
                functools.partial(cut_one_way, one=one, other=other),
                lost,
                wait=wait,
            ),
            _row(
                both,
                f"Packets {pair} vanish both ways for {_CUT_SECONDS:.0f} s",
                made_by,
                functools.partial(cut, one=one, other=other, how=LOST),
                lost,
                wait=wait,
            ),
            _row(
                slow,
                f"Packets {pair} come 200 ms later and 5 % of them are lost, for {_CUT_SECONDS:.0f} s",
                "packets take a detour that delays them and loses some",
                functools.partial(cut, one=one, other=other, how=_SLOW),
                late,
                wait=wait,
            ),
        ]
    return rows


ROWS: Final[tuple[Row, ...]] = (
    _killed("F9ka", "Each ingress behind nginx is killed", [[name] for name in INGRESSES], wait=15.0),
    _killed("F9kb", "Each worker of reservations is killed", [["reservations-1"], ["reservations-2"]], wait=30.0),
    _killed(
        "F9kc",
        "The first workers of all other roles are killed together, then the second",
        [BACKGROUND, [name.replace("-1", "-2") for name in BACKGROUND]],
        wait=15.0,
    ),
    _away("F9kd", "The broker is killed", "kafka", wait=30.0),
    _away("F9ke", "The database is killed", "postgres", wait=30.0),
    _row(
        "F9ha",
        "One of two ingress processes behind nginx hangs",
        f"SIGSTOP for {_HANG_SECONDS:.0f} s",
        hang_an_ingress,
        _TOOK_BOOKINGS,
        wait=15.0,
    ),
    _hung("F9hb", "One of two workers of reservations hangs", ["reservations-1"], wait=60.0),
    _hung("F9hc", "The first workers of all other roles hang", BACKGROUND, wait=15.0),
    _hung("F9hd", "The broker hangs", ["kafka"], wait=60.0, part="broker"),
    _hung("F9he", "The database hangs", ["postgres"], wait=60.0, part="database"),
    *_cuts(),
)
