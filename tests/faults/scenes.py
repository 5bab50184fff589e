"""A scene without a system, for the tests of rows' own checks."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.faults.row import Scene


def empty_scene(logs: Path | None = None, **tools: Any) -> Scene:
    """Return a scene whose system has nothing but a folder of logs."""
    system: Any = SimpleNamespace(logs=logs)
    nobody: Any = None
    return Scene(system=system, town=nobody, guests=nobody, chance=random.Random(1), tools=tools)
