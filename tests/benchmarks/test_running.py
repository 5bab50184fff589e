"""The benchmarks themselves run: no other test runs the code that they measure with."""

import json
import subprocess
import sys
from typing import Any

import pytest

from storage.projections.rebuildable import PROJECTIONS

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.timeout(900)]


def test_the_hot_room_is_measured_with_all_that_it_costs() -> None:
    printed = measured("hot")

    assert printed["hot"]["ours_per_s"] > 0 < printed["hot"]["row_locks_per_s"]
    parts = ("worker", "ingress", "kafka", "postgres", "wrk", "worker.faust")
    assert all(printed[f"hot.cpu.{part}"]["value"] > 0 for part in parts)


def test_commands_that_operators_wait_for_are_measured_with_their_targets() -> None:
    printed = measured("explain", "trace", "pause")

    assert {name: (figure["kind"], figure["target"], figure["unit"]) for name, figure in printed.items()} == {
        "explain": ("most", 1.0, "s"),
        "trace.restore": ("most", 60.0, "s"),
        "trace.restore.events": ("most", None, "events/s"),
        **{f"trace.rebuild.{name}": ("least", 20_000.0, "events/s") for name in PROJECTIONS},
        "pause.paused_after": ("most", 1.0, "s"),
        "pause.resumed_after": ("most", 1.0, "s"),
    }
    # A role may resume before the command that resumes it has its answer.
    assert all(figure["value"] >= 0 for figure in printed.values())
    assert all(figure["value"] > 0 for name, figure in printed.items() if not name.startswith("pause."))


def test_the_use_of_an_idle_system_is_measured_beside_how_soon_it_answers() -> None:
    printed = measured("idle")

    workers = ("reservations-1", "payments-1", "expiry-1", "projections-1", "coordination-1", "reconciliation-1")
    parts = ("kafka", "postgres", "ingress", *workers)
    assert all(printed[f"idle.cpu.{part}"]["value"] >= 0 for part in parts)
    assert (printed["idle.all"]["target"], printed["idle.all"]["unit"]) == (5.0, "% of a core")
    waits = [printed[f"idle.20_per_s.{part}"] for part in ("p50", "p99")]
    assert [(wait["target"], wait["unit"]) for wait in waits] == [(12.0, "ms"), (30.0, "ms")]
    assert 0 < waits[0]["value"] <= waits[1]["value"]


def measured(*names: str) -> dict[str, dict[str, Any]]:
    """Run the benchmarks, quickly; return what they print, by name."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", *names, "--quick"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    printed = [json.loads(line) for line in run.stdout.splitlines()]
    return {line["benchmark"]: line for line in printed if "benchmark" in line}
