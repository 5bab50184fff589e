"""The checks of the rows of Redis can fail."""

from pathlib import Path

from tests.faults.rows.redis import AWAY, FULL, LIMITS, TOGETHER, note, plan
from tests.faults.scenes import empty_scene
from tests.support.program_logs import ProgramLogs


def test_one_line_of_the_outage_and_one_of_its_end_are_causes_and_more_are_a_problem(tmp_path: Path) -> None:
    logs, log = ProgramLogs(tmp_path), tmp_path / "ingress.log"
    scene = empty_scene(tmp_path)
    log.write_text("Redis is away (ConnectionError())\nRedis counts for all processes\n")
    note(scene, AWAY, logs)
    assert scene.causes == {AWAY: 1, TOGETHER: 1}
    assert not scene.problems

    scene = empty_scene(tmp_path)
    note(scene, FULL, logs)
    assert not scene.causes[FULL]

    log.write_text("Redis is away (ConnectionError())\n" * 2)
    note(scene, AWAY, logs)
    assert scene.problems


def test_the_ingress_of_the_plan_counts_in_redis(tmp_path: Path) -> None:
    environment = plan(tmp_path).environment

    assert environment["REDIS_URL"].startswith("redis://")
    assert {name: environment[name] for name in LIMITS} == LIMITS
