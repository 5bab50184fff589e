"""A fault counts as made only when its effect is there; no system runs."""

import random
import subprocess
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from tests.faults import breaking
from tests.faults.breaking import died_at, dies_at
from tests.faults.row import Scene
from tests.faults.rows import servers
from tests.faults.scene import longest_wait_by_wall
from tests.support.waiting import next_turn

FAILPOINT = "reservations.in_batch:5"
PART = "reservations-1"


def scene_of(**system: Any) -> Scene:
    """Return a scene whose system has only these attributes."""
    return Scene(
        system=cast("Any", SimpleNamespace(**system)),
        town=cast("Any", SimpleNamespace()),
        guests=cast("Any", SimpleNamespace()),
        chance=random.Random(1),
    )


@pytest.mark.parametrize(
    ("program", "causes", "problems"),
    [
        ("kill -KILL $$", {died_at(PART, FAILPOINT): 1}, []),
        ("exit 1", {}, [f"{PART} did not die at {FAILPOINT}: exit status 1"]),
        ("kill -TERM $$", {}, [f"{PART} did not die at {FAILPOINT}: SIGTERM"]),
    ],
)
async def test_only_a_process_that_ends_by_sigkill_died_at_its_failpoint(
    program: str, causes: dict[str, int], problems: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised = SimpleNamespace(pid=1, _process=SimpleNamespace(pid=1))

    async def inject(*_: Any) -> None:
        supervised._process = subprocess.Popen(["sh", "-c", program])

    async def all_run(*_: Any) -> None:
        """Find all parts running."""

    monkeypatch.setattr(breaking, "inject", inject)
    monkeypatch.setattr(breaking, "all_run", all_run)
    scene = scene_of(supervisor={PART: supervised})

    await dies_at(scene, PART, FAILPOINT)

    assert (scene.causes, scene.problems) == (causes, problems)


FULL = psycopg.OperationalError("FATAL:  sorry, too many clients already")


@pytest.mark.parametrize("answers", [["one", "two", FULL], [FULL, "one", "two", FULL]])
async def test_a_row_has_a_connection_when_the_server_has_none_left(
    answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, taken = connecting(answers, monkeypatch)

    await servers._take_connections(scene, taken)

    assert taken == ["one", "two"]
    assert scene.causes["the database had no connection left"] >= 1


async def test_a_server_that_is_away_has_not_run_out_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, taken = connecting(["one", psycopg.OperationalError("connection refused")], monkeypatch)

    with pytest.raises(psycopg.OperationalError, match="refused"):
        await servers._take_connections(scene, taken)
    assert not scene.causes


def connecting(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Scene, list[Any]]:
    """Return a scene whose database answers each connection in turn."""
    left = iter(answers)

    async def connect(*_: Any, **__: Any) -> Any:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect)
    return scene_of(database_url=""), []


async def test_a_part_was_killed_when_it_has_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaking, "MAX_RESTART_SECONDS", 0.1)
    supervised = SimpleNamespace(pid=1, running_pid=1)
    scene = scene_of(supervisor={PART: supervised})

    async def nothing(*_: Any) -> None:
        """Kill nobody."""

    async def kill(*_: Any) -> None:
        supervised.running_pid = 2

    monkeypatch.setattr(breaking, "inject", nothing)
    with pytest.raises(AssertionError, match="has another process"):
        await breaking.killed(scene, PART, "it was killed")
    assert not scene.causes

    monkeypatch.setattr(breaking, "inject", kill)
    await breaking.killed(scene, PART, "it was killed")
    assert scene.causes == {"it was killed": 1}


@pytest.mark.parametrize(
    ("program", "causes", "problems"),
    [("exit 0", {"it left": 1}, []), ("exit 70", {}, [f"{PART} did not leave in order: exit status 70"])],
)
async def test_a_worker_leaves_in_order_with_exit_status_0(
    program: str, causes: dict[str, int], problems: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def inject(*_: Any) -> None:
        """Leave it to end by itself."""

    monkeypatch.setattr(breaking, "inject", inject)
    scene = scene_of(supervisor={PART: SimpleNamespace(_process=subprocess.Popen(["sh", "-c", program]))})

    await breaking.leave_in_order(scene, PART, "it left")

    assert (scene.causes, scene.problems) == (causes, problems)


async def test_a_database_with_the_same_process_was_not_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "for_seconds", lambda _: next_turn())
    pids = iter([1, 1, 1, 2])

    async def part(_: str) -> None:
        """Neither end nor start."""

    scene = scene_of(pid=lambda _: next(pids), stop_part=part, start_part=part)

    await servers._database_restarts(scene)
    assert not +scene.causes
    await servers._database_restarts(scene)
    assert scene.causes == {"postgres was restarted": 1}


def test_a_wait_by_the_wall_is_from_the_request_to_what_the_guest_saw() -> None:
    guests = SimpleNamespace(asked={"b1": 1.0, "b2": 2.0, "b3": 3.0}, decided={"b1": 1.5, "b2": 6.0})

    assert longest_wait_by_wall(cast("Any", guests)) == 4.0
    assert longest_wait_by_wall(cast("Any", SimpleNamespace(asked={}, decided={}))) == 0.0
