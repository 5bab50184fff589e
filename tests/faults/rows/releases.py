"""A rollout: workers of release 0.1.0 and of this one side by side over one log, replaced one by one under load.

The row has a small system of its own beside that of its group, because a town sells by terms that 0.1.0 does not know.
There the worker that is replaced has written events of the older version, and this release's workers read them on; at
the end they write what the older release could not read.
"""

import asyncio
import subprocess
import time
import traceback
from typing import Final

from tests.faults.groups import ONE_BROKER
from tests.faults.row import Promise, Row, Scene
from tests.system.pipeline.rollout import (
    CHANGED_V1,
    CHANGED_V2,
    RELEASE_BEFORE,
    ROOT,
    Rollout,
    release_before,
    roll_out,
)

SIDE_BY_SIDE: Final = "a worker of 0.1.0 and one of this release shared the partitions of one log"
OLD_EVENTS: Final = "events of the older version were on the log"
NEW_EVENTS: Final = "events of the newer version followed when all workers were of this release"


async def runs_two_releases(scene: Scene) -> None:
    """Roll this release out over 0.1.0 beside the group's own system."""
    folder = scene.system.folder / "rollout"
    folder.mkdir()
    older = await asyncio.to_thread(release_before, folder / "before")
    began = time.monotonic()
    try:
        seen = await roll_out(folder / "system", older)
    except AssertionError as error:
        scene.problems.append(where(error))
        return
    note(scene, seen)
    scene.figures["the rollout"] = f"{time.monotonic() - began:.0f} s"


def where(error: AssertionError) -> str:
    """Return what did not hold, in a sentence: an assertion's own words, or else its source."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"the rollout did not hold: {str(error) or last.line}"


def note(scene: Scene, seen: Rollout) -> None:
    """Note what was seen of a rollout that held."""
    if None not in seen.partitions and len(seen.partitions) == 2:
        scene.causes[SIDE_BY_SIDE] += min(seen.partitions.values())
    scene.causes[OLD_EVENTS] += seen.events[CHANGED_V1]
    scene.causes[NEW_EVENTS] += seen.events[CHANGED_V2]
    scene.figures["events while two releases worked"] = str(seen.side_by_side)
    scene.figures["events of the rollout"] = f"{seen.events.total()}, and {seen.doubles} doubles"


def missing() -> str | None:
    """Return why 0.1.0 cannot run here; None when the history has its code."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{RELEASE_BEFORE}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode == 0:
        return None
    return f"the history does not go back to release 0.1.0 ({RELEASE_BEFORE[:8]}): git fetch --unshallow --tags"


ROWS: Final = (
    Row(
        id="F18",
        fault="two releases at once, old events on the log",
        made_by="workers of 0.1.0 from its commit beside those of this release, replaced one by one",
        group=ONE_BROKER,
        promises=(
            Promise.EVERY_PROMISE_IS_KEPT,
            Promise.THE_LOG_HAS_NO_GAP,
            Promise.READ_MODELS_AGREE,
            Promise.NO_ROOM_SOLD_TWICE,
        ),
        breaks=runs_two_releases,
        # Nothing is done to the group's own system, but both share the machine.
        max_wait_seconds=10.0,
        causes=(SIDE_BY_SIDE, OLD_EVENTS, NEW_EVENTS),
        missing=missing,
    ),
)
