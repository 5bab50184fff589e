"""The benchmarks themselves run: what they measure is on no other test's way."""

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_the_hot_room_is_measured_with_all_that_it_costs() -> None:
    figures = measured("hot")

    assert figures["hot"]["ours_per_s"] > 0 < figures["hot"]["row_locks_per_s"]
    parts = ("worker", "ingress", "kafka", "postgres", "wrk", "worker.faust")
    assert all(figures[f"hot.cpu.{part}"]["value"] > 0 for part in parts)


def test_operators_commands_are_measured_with_their_targets() -> None:
    figures = measured("explain", "trace", "pause")

    assert {name: (figure["kind"], figure["target"], figure["unit"]) for name, figure in figures.items()} == {
        "explain": ("most", 1.0, "s"),
        "trace.restore": ("most", 60.0, "s"),
        "trace.restore.events": ("most", None, "events/s"),
        "trace.rebuild.booking_timeline": ("least", 20_000.0, "events/s"),
        "trace.rebuild.room_nights": ("least", 20_000.0, "events/s"),
        "trace.rebuild.daily_report": ("least", 20_000.0, "events/s"),
        "pause.still": ("most", 1.0, "s"),
        "pause.going": ("most", 1.0, "s"),
    }
    # A role may resume before the command that resumes it has its answer.
    assert all(figure["value"] >= 0 for figure in figures.values())
    assert all(figure["value"] > 0 for name, figure in figures.items() if not name.startswith("pause."))


def measured(*names: str) -> dict[str, dict[str, Any]]:
    """Run the benchmarks, quickly; return what they print, by what it is called."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", *names, "--quick"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    figures = [json.loads(line) for line in run.stdout.splitlines()]
    return {line["benchmark"]: line for line in figures if "benchmark" in line}
