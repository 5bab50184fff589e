"""The benchmarks themselves run: what they measure is on no other test's way."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


def test_the_hot_room_is_measured_with_all_that_it_costs() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "hot", "--quick"], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    told = {
        figure["benchmark"]: figure for line in run.stdout.splitlines() if "benchmark" in (figure := json.loads(line))
    }
    assert told["hot"]["ours_per_s"] > 0 < told["hot"]["row_locks_per_s"]
    parts = ("worker", "ingress", "kafka", "postgres", "wrk", "worker.faust")
    assert all(told[f"hot.cpu.{part}"]["value"] > 0 for part in parts)
