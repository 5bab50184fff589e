"""Tools in a plan, and readiness as seen from outside, for rows of networks, clocks and disks."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Final

import aiohttp

from sandbox.system import Plan, System
from tests.faults.row import Scene
from tests.support.waiting import wait_until

#: Within this time readiness answers, and names a database that does not answer.
MAX_READY_SECONDS: Final = 1.0
#: Bookings are accepted again so long after a silent server speaks again.
MAX_BACK_SECONDS: Final = 5.0
#: The scheduler of a busy machine adds so much to any answer.
_BUSY_SECONDS: Final = 0.5
_ASK_SECONDS: Final = 10.0
_NAMED_WITHIN_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Equipped(Plan):
    """A plan with the tools that break its system, such as proxies."""

    tools: Mapping[str, Any] = field(default_factory=dict)


def equipped(plan: Plan, tools: Mapping[str, Any], **changes: Any) -> Equipped:
    """Return the plan with these changes, and with tools."""
    own = {each.name: getattr(plan, each.name) for each in fields(Plan)}
    return Equipped(**{**own, **changes}, tools=tools)


@asynccontextmanager
async def tools_of(system: System) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the tools of an equipped plan."""
    if not isinstance(system.plan, Equipped):
        raise TypeError("the plan of the system has no tools")
    yield system.plan.tools


async def until_accepted(scene: Scene) -> None:
    """Wait until a booking is accepted again after a silence; it is a problem when that takes too long."""
    clock = asyncio.get_running_loop().time
    began, before = clock(), len(scene.guests.bookings)
    await wait_until(lambda: len(scene.guests.bookings) > before, message="a booking is accepted again")
    seconds = clock() - began
    scene.figures["a booking was accepted again after"] = f"{seconds:.1f} s"
    if seconds > MAX_BACK_SECONDS:
        scene.problems.append(
            f"a booking was accepted {seconds:.1f} s after the silence, {MAX_BACK_SECONDS:g} s are allowed"
        )


class Readiness:
    """Asks one ingress again and again whether it is ready."""

    def __init__(self, scene: Scene, url: str) -> None:
        self._scene = scene
        self._url = url
        self.slowest_seconds = 0.0

    async def names(self, part: str) -> None:
        """Ask until a part is named as not ready; note after how long, and how long an answer took."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await wait_until(lambda: self._names(part), _NAMED_WITHIN_SECONDS)
        except AssertionError:
            self._scene.problems.append(f"readiness did not name the {part} within {_NAMED_WITHIN_SECONDS:.0f} s")
            return
        self._scene.causes[f"readiness named the {part}"] += 1
        self._scene.figures[f"readiness named the {part} after"] = f"{clock() - began:.1f} s"
        self.judge()

    def judge(self) -> None:
        """Note how long the slowest answer took; it is a problem when it took too long."""
        self._scene.figures["readiness answered within"] = f"{self.slowest_seconds:.2f} s"
        if self.slowest_seconds > MAX_READY_SECONDS + _BUSY_SECONDS:
            self._scene.problems.append(f"readiness took {self.slowest_seconds:.1f} s to answer")

    async def _names(self, part: str) -> bool:
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
        try:
            async with self._scene.town.http.get(f"{self._url}/health/ready", timeout=timeout) as answer:
                parts = (await answer.json()).get("parts", {})
        except (aiohttp.ClientError, TimeoutError):
            parts = {}
        self.slowest_seconds = max(self.slowest_seconds, clock() - asked_at)
        return bool(parts.get(part, "ready") != "ready")
