"""The rows are well formed, the page agrees with its results, and the runner judges, resumes and skips rows."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from docs.generate import PAGES
from tests.faults import catalogue
from tests.faults.catalogue import RowsDisagree
from tests.faults.groups import ONE_BROKER, STANDBY
from tests.faults.judging import Facts, problems_of
from tests.faults.page import faults_page
from tests.faults.results import DOCUMENT, ROOT, Result, Results, publish, published
from tests.faults.row import Promise, Row, Scene
from tests.faults.runner import Run, Runner
from tests.faults.scene import audit_problems, ended_by_themselves
from tests.support.program_logs import ProgramLogs
from tests.system.pipeline.chaos import Verdict

HERE = replace(ONE_BROKER, name="here", missing=lambda: None)
THERE = replace(STANDBY, name="there", missing=lambda: None)


async def nothing(scene: Scene) -> None:
    """Break nothing."""


ROW = Row(
    id="F1",
    fault="It rains",
    made_by="a cloud",
    group=HERE,
    promises=(Promise.EVERY_PROMISE_IS_KEPT,),
    breaks=nothing,
    max_wait_seconds=5.0,
    max_recovery_seconds=10.0,
    causes=("the street is wet",),
    may_end=frozenset({"the cloud"}),
)


def facts(**more: Any) -> Facts:
    """Return what a row that holds leaves behind."""
    found: dict[str, Any] = {
        "promised": 90,
        "decided": 90,
        "found": {"lost": []},
        "republished": 0,
        "dead_letters": 0,
        "answers": Counter({"202": 90, "503": 3}),
        "longest_wait_seconds": 4.0,
        "guest_wait_seconds": 4.2,
        "fault_seconds": 3.0,
        "recovery_seconds": 2.0,
        "causes": Counter({"the street is wet": 1}),
        **more,
    }
    return Facts(**found)


@dataclass
class Stage:
    """A system whose rows leave these facts behind."""

    by_row: Mapping[str, Facts | BaseException]
    quiet: Facts = field(default_factory=lambda: facts(longest_wait_seconds=0.2, answers=Counter({"202": 9})))
    ends: bool = True
    #: The findings of its audit, or the failure of the audit.
    audited: Mapping[str, list[str]] | BaseException = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    played: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, group: Any, folder: Path, seed: int) -> AsyncIterator["Stage"]:
        """Be the system of a group."""
        await asyncio.to_thread(folder.rmdir)
        self.opened.append(group.name)
        yield self
        if not self.ends:
            raise RuntimeError("kafka did not end")

    async def calibrate(self) -> Facts:
        """Be quiet, or not."""
        return self.quiet

    async def play(self, name: str, breaks: Callable[[Scene], Awaitable[None]]) -> Facts:
        """Break nothing."""
        self.played.append(name)
        left = self.by_row.get(name, facts())
        if isinstance(left, BaseException):
            raise left
        return left

    async def audit(self) -> Mapping[str, list[str]]:
        """Audit nothing."""
        self.played.append("audit")
        if isinstance(self.audited, BaseException):
            raise self.audited
        return self.audited


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Results of one commit and seed, in a folder of the test."""
    return Results(7, "abc", tmp_path)


def run(results: Results, stage: Stage, *rows: Row, again: bool = False) -> Run:
    """Run rows on a fake system."""
    return asyncio.run(Runner(results, again=again, opens=stage.open).play(rows))


def test_every_row_is_well_formed_and_each_fault_of_the_design_has_one() -> None:
    rows = catalogue.all_rows()

    assert tuple(f"F{number}" for number in range(1, 20)) == catalogue.DESIGNED
    assert catalogue.without_row(rows) == []
    for row in rows:
        assert row.id.startswith("F"), row
        assert all((row.fault, row.made_by, row.promises)), row
        assert not row.fault.endswith("."), row
        assert len(set(row.promises)) == len(row.promises), row
        assert row.causes, f"{row.id} would hold although nothing happened"


def test_two_rows_with_one_id_and_two_groups_with_one_name_are_refused() -> None:
    with pytest.raises(RowsDisagree, match="more than one row is called F1"):
        catalogue.check([ROW, replace(ROW, fault="It snows")])
    with pytest.raises(RowsDisagree, match="more than one group is called here"):
        catalogue.check([ROW, replace(ROW, id="F2", group=replace(HERE, system="another"))])


def test_a_fault_names_its_variants_and_an_id_names_its_row_alone() -> None:
    rows = [replace(ROW, id=id) for id in ("F1", "F1b", "F10", "F2")]

    assert [row.id for row in catalogue.chosen(rows, "F1")] == ["F1", "F1b"]
    assert [row.id for row in catalogue.chosen(rows, "F1b, F2")] == ["F1b", "F2"]
    assert catalogue.chosen(rows, "") == rows


@pytest.mark.parametrize(
    ("left", "problem"),
    [
        (facts(), None),
        (facts(found={"lost": ["b1: None in the ledger"]}), "lost: b1: None in the ledger"),
        (facts(found={"sold_twice": ["b1 was decided 2 times"]}), "sold_twice: b1 was decided 2 times"),
        (facts(found={"keys_broken": ["k: b1, b2"]}), "keys_broken: k: b1, b2"),
        (facts(promised=0), "nothing was promised: there was no load"),
        (facts(longest_wait_seconds=5.1), "a booking waited 5.1 s for its decision, 5 s are allowed"),
        (facts(guest_wait_seconds=13.1), "a guest waited 13.1 s from the first request, 13 s are allowed"),
        (facts(recovery_seconds=None), "no booking was confirmed after the fault"),
        (facts(recovery_seconds=11.0), "a booking was confirmed 11.0 s after the fault, 10 s are allowed"),
        (facts(answers=Counter({"202": 9, "500": 2})), "2 requests got the answer 500"),
        (facts(causes=Counter()), "it was not seen that the street is wet"),
        (facts(dead_letters=1), "1 records went to the dead-letter topic"),
        (facts(ended=Counter({"the cloud": 1})), None),
        (facts(ended=Counter({"payments-1": 1})), "payments-1 ended by itself"),
    ],
)
def test_a_row_fails_for_each_thing_that_must_not_be(left: Facts, problem: str | None) -> None:
    assert problems_of(ROW, left) == ([] if problem is None else [problem])


def test_on_a_busy_machine_no_time_has_a_limit() -> None:
    late = facts(longest_wait_seconds=99.0, guest_wait_seconds=99.0, recovery_seconds=99.0)

    assert len(problems_of(ROW, late)) == 3
    assert problems_of(ROW, late, timed=False) == []
    assert problems_of(ROW, facts(recovery_seconds=None, causes=Counter()), timed=False) == [
        "no booking was confirmed after the fault",
        "it was not seen that the street is wet",
    ]


def test_the_parts_that_ended_by_themselves_are_known_by_the_lines_of_the_sandbox(tmp_path: Path) -> None:
    log = tmp_path / "sandbox.log"
    log.write_text("payments-1 ended (exit status 1); starts again now\n")
    logs = ProgramLogs(tmp_path)
    with log.open("a") as lines:
        lines.write(
            "ingress ended (exit status 1); starts again now\n"
            "ingress ended (exit status 1); starts again in 0.5 s\n"
            "expiry-1 ended (SIGSEGV); starts again now\n"
            "reservations-1 ended (SIGKILL); starts again now\n"
            "reservations-2 ended (exit status 0); starts again now\n"
            "kafka ended (exit status 143); starts again now\n"
            "kafka failed: it ended (exit status 1)\n"
        )

    assert ended_by_themselves(logs) == Counter({"ingress": 2, "expiry-1": 1})


def test_an_audit_judges_rows_about_read_models_rows_that_fail_and_the_last_of_a_system(results: Results) -> None:
    rows = [replace(ROW, id=id) for id in ("F1", "F3", "F4", "F5")]
    rows.insert(1, replace(ROW, id="F2", promises=(Promise.READ_MODELS_AGREE,)))
    stage = Stage({"F3": facts(dead_letters=1)}, audited={"audit": ["b1 is not on the log"]})

    done = run(results, stage, *rows)

    assert stage.played == ["F1", "F2", "audit", "F3", "audit", "F4", "F5", "audit"]
    assert {result.row: result.problems for result in done.results} == {
        "F1": [],
        "F2": ["audit: b1 is not on the log"],
        "F3": ["audit: b1 is not on the log", "1 records went to the dead-letter topic"],
        "F4": [],
        "F5": ["audit: b1 is not on the log"],
    }


def test_an_audit_that_does_not_come_to_its_end_is_a_problem_of_its_row(results: Results) -> None:
    done = run(results, Stage({}, audited=RuntimeError("nothing was printed")), ROW)

    assert [result.problems for result in done.results] == [["audit: RuntimeError: nothing was printed"]]


def test_of_many_problems_of_a_kind_the_first_are_shown_and_the_others_counted() -> None:
    problems = problems_of(ROW, facts(found={"lost": [f"b{number}" for number in range(12)]}))

    assert problems == [*(f"lost: b{number}" for number in range(10)), "lost: 2 more"]


@pytest.mark.parametrize(
    ("left", "counted"),
    [
        (facts(found={"lost": ["b1"]}), (1, 0)),
        (facts(found={"sold_twice": ["b1"]}), (0, 1)),
        (facts(longest_wait_seconds=9.0), (0, 0)),
        (RuntimeError("the part did not die"), (0, 0)),
    ],
)
def test_a_row_that_fails_is_a_failure_of_the_run_and_the_next_has_another_system(
    results: Results, left: Facts | Exception, counted: tuple[int, int]
) -> None:
    rows = [replace(ROW, id=id) for id in ("F1", "F2", "F3")]
    stage = Stage({"F2": left})

    done = run(results, stage, *rows)

    assert done.failed == ["F2"]
    assert stage.opened == ["here", "here"]
    assert [name for name in stage.played if name != "audit"] == ["F1", "F2", "F3"]
    found = results.get("F2")
    assert found is not None
    assert (found.lost, found.doubled) == counted
    assert found.quiet.longest_wait_seconds == 0.2


NOISES = (
    facts(recovery_seconds=None),
    facts(found={"lost": ["b1"]}),
    facts(longest_wait_seconds=0.2, recovery_seconds=11.0),
    facts(longest_wait_seconds=3.1),
    facts(longest_wait_seconds=0.2, answers=Counter({"202": 9, "503": 1})),
)


@pytest.mark.parametrize("noise", NOISES)
def test_rows_without_a_quiet_system_have_no_result_and_those_of_another_group_go_on(
    results: Results, noise: Facts
) -> None:
    stage = Stage({}, quiet=noise)

    done = run(results, stage, ROW, replace(ROW, id="F2"), replace(ROW, id="F3", group=THERE))

    assert done.without_system == ["F1", "F2", "F3"]
    assert stage.opened == ["here", "there"]
    assert (stage.played, done.results, results.get("F1")) == ([], [], None)


@pytest.mark.parametrize(("noise", "results_expected"), list(zip(NOISES, (0, 0, 1, 1, 1), strict=True)))
def test_on_a_busy_machine_rows_can_be_tried_if_promises_are_kept_without_a_fault(
    results: Results, noise: Facts, results_expected: int
) -> None:
    done = asyncio.run(Runner(results, busy=True, opens=Stage({}, quiet=noise).open).play([ROW]))

    assert len(done.results) == results_expected


def test_rows_of_one_group_share_a_system(results: Results) -> None:
    stage = Stage({})

    done = run(results, stage, ROW, replace(ROW, id="F2", group=THERE), replace(ROW, id="F3"))

    assert stage.opened == ["here", "there"]
    assert stage.played == ["F1", "F3", "audit", "F2", "audit"]
    assert done.failed == []


def test_a_crowd_whose_records_all_others_would_read_comes_last(results: Results) -> None:
    stage = Stage({})

    run(results, stage, replace(ROW, is_crowd=True), replace(ROW, id="F2"), replace(ROW, id="F3"))

    assert stage.played == ["F2", "F3", "F1", "audit"]


def test_a_system_that_does_not_end_is_a_failure_of_the_run_though_its_rows_hold(results: Results) -> None:
    done = run(results, Stage({}, ends=False), ROW, replace(ROW, id="F2"))

    assert [result.row for result in done.results] == ["F1", "F2"]
    assert (done.failed, done.without_system) == ([], [])
    assert done.failed_systems == ["here failed: RuntimeError: kafka did not end"]
    assert not done.holds
    assert run(results, Stage({}), ROW).holds


def test_an_audit_that_failed_is_a_problem_although_it_names_none() -> None:
    verdict = Verdict(7, 0.0, Counter(), audit="failed")

    assert audit_problems(verdict) == ["the audit failed, and named no problem"]
    assert audit_problems(replace(verdict, audit_problems=["b1"])) == ["b1"]
    assert audit_problems(replace(verdict, audit="ok")) == []


def test_a_run_that_was_killed_goes_on_with_the_next_row(results: Results, tmp_path: Path) -> None:
    rows = [replace(ROW, id=id) for id in ("F1", "F2", "F3")]
    killed = Stage({"F2": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run(results, killed, *rows)

    stage = Stage({})
    done = run(Results(7, "abc", tmp_path), stage, *rows)

    assert stage.played == ["F2", "F3", "audit"]
    assert [result.row for result in done.results] == ["F1", "F2", "F3"]


def test_a_result_of_another_seed_or_commit_does_not_count_and_again_runs_all(tmp_path: Path) -> None:
    run(Results(7, "abc", tmp_path), Stage({}), ROW)

    for results, again, played in (
        (Results(7, "abc", tmp_path), False, []),
        (Results(7, "abc", tmp_path), True, ["F1", "audit"]),
        (Results(8, "abc", tmp_path), False, ["F1", "audit"]),
        (Results(7, "abd", tmp_path), False, ["F1", "audit"]),
        # Files differ from these commits, and nobody knows whether it is the same difference.
        (Results(7, "abc+", tmp_path), False, ["F1", "audit"]),
        (Results(7, "abc+", tmp_path), False, ["F1", "audit"]),
        (Results(7, "abc+-busy", tmp_path), False, ["F1", "audit"]),
        (Results(7, "abc+-busy", tmp_path), False, ["F1", "audit"]),
    ):
        stage = Stage({})
        run(results, stage, ROW, again=again)
        assert stage.played == played


def test_a_row_that_this_machine_cannot_have_is_named_and_has_no_result(results: Results) -> None:
    stage = Stage({})
    without = replace(ROW, id="F2", group=replace(THERE, missing=lambda: "there is no Java"))

    done = run(results, stage, replace(ROW, missing=lambda: "there is no rain"), without)

    assert done.missing == {"F1": "there is no rain", "F2": "there is no Java"}
    assert (stage.opened, done.results, results.get("F1")) == ([], [], None)


def test_the_page_is_that_of_its_results() -> None:
    assert (ROOT / "docs/faults.md").read_text() == PAGES["docs/faults.md"]()


def test_the_page_shows_sums_over_seeds_the_slowest_times_and_rows_that_were_not_run(results: Results) -> None:
    first, second = replace(ROW, id="F1"), replace(ROW, id="F1b", fault="It snows")
    one = run(results, Stage({}), first).results
    two = run(Results(8, "abc", results.folder), Stage({"F1": facts(longest_wait_seconds=4.6)}), first).results

    page = faults_page("", [first, second], [*one, *two])

    (row,) = [line for line in page.splitlines() if "It rains" in line]
    assert '<a id="f1"></a>F1' in row
    assert "180 x 202, 6 x 503 | 180 | 180 | 0 | 0 | 4.6 s (quiet 0.2 s, limit 5 s) | 4.2 s | 2.0 s | 3 |" in row
    (row,) = [line for line in page.splitlines() if "It snows" in line]
    assert "| not run yet |" in row
    assert "1 of 2 rows were run: 180 bookings promised, 0 lost, 0 doubled." in page


def test_the_page_names_rows_that_do_not_hold(results: Results) -> None:
    failed = run(results, Stage({"F1": facts(found={"lost": ["b1"]})}), ROW).results

    page = faults_page("", [ROW], failed)

    assert "These rows do not hold: F1." in page
    assert "**does not hold**: lost: b1" in page


def test_a_newer_result_takes_the_place_of_that_of_its_row_and_seed(results: Results, tmp_path: Path) -> None:
    document = tmp_path / "faults.json"
    publish(run(results, Stage({}), ROW, replace(ROW, id="F10"), replace(ROW, id="F2")).results, document)
    publish(run(results, Stage({"F1": facts(promised=91)}), ROW, again=True).results, document)

    assert [(result.row, result.promised) for result in published(document)] == [("F1", 91), ("F2", 90), ("F10", 90)]


def test_every_row_that_the_readme_names_is_on_the_page() -> None:
    named = {name.lower() for name in re.findall(r"\b(F\d+\w*)\b", (ROOT / "README.md").read_text())}

    assert named
    assert named <= {row.id.lower() for row in catalogue.all_rows()}


def test_every_row_that_the_readme_links_has_a_result() -> None:
    linked = set(re.findall(r"\[(F\w+)\]\(docs/faults\.md#", (ROOT / "README.md").read_text()))

    assert linked <= {result.row for result in published(DOCUMENT)}


def test_the_results_of_the_repository_are_of_rows_that_hold() -> None:
    found: list[Result] = published(DOCUMENT)

    assert {result.row: result.problems for result in found if result.problems} == {}
    assert [(result.row, result.lost, result.doubled) for result in found if result.lost or result.doubled] == []
