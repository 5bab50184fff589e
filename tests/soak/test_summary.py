"""From made samples to the page: a run in which nothing grows has no problems, and each kind of growth is one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.soak import __main__ as program
from tests.soak import canaries
from tests.soak.page import page, picture
from tests.soak.running import timetable
from tests.soak.samples import Run, SampleFile
from tests.soak.summary import Summary, summary_of

DOCS = Path(__file__).parents[2] / "docs"
ABOUT = {
    "began": "2026-11-30T17:00:00+00:00",
    "per_second": 5.0,
    "fault_minutes": 3.0,
    "seed": 1,
    "commit": "0000000",
    "python": "3.11.7",
    "accounts": 120,
}
VERDICT = {
    "holds": True,
    "problems": {},
    "topics": "ok",
    **dict.fromkeys(("promised", "decided", "confirmed", "lost", "sold_twice", "money_wrong"), 0),
    "audit": "ok",
    "answers": {"200": 7},
    "longest_wait_seconds": 3.5,
}
PLANTED: dict[str, Any] = {"tables": [canary.table for canary in canaries.CANARIES]}
Change = Callable[[dict[str, Any], float], None]


def sample(at: float) -> dict[str, Any]:
    """Return a sample of a system in which nothing grows but what bookings leave behind."""
    bookings = round(at * 4)
    figures = {"process": "1", "rss": 90e6, "uss": 60e6, "descriptors": 40, "sockets": 12, "threads": 7}
    counts = dict.fromkeys(
        ("outbox", "refresh_token", "stripe_circuit", "unattributed_object", "dead_letter", "held", "calls"), 0
    )
    return {
        "at": at,
        "bookings": bookings,
        "processes": {name: dict(figures) for name in ("ingress", "payments-1", "kafka", "postgres")},
        "counts": {**counts, "log_cursor": 36, "sessions": 20, "transaction_seconds": 0.01},
        "tables": {"booking": [1e6 + bookings * 700, bookings * 300], "outbox": [90_000, 16_000]},
        "files": {"topic booking.events": bookings * 4_000, "write-ahead log": 500e6, "log of ingress": bookings * 10},
        "canaries": ["refresh_token"] if at < 40 else [],
    }


def made(change: Change = lambda _, __: None, hours: float = 0.5) -> Run:
    """Return a run of samples, each of them changed."""
    run = Run(about=ABOUT, verdict=VERDICT, planted=[PLANTED | {"at": 1.0}])
    for number in range(round(hours * 240)):
        found = sample(number * 15.0)
        change(found, found["at"] / 3600)
        run.samples.append(found)
    run.waits = [{"at": number * 5.0, "seconds": 0.03} for number in range(round(hours * 720))]
    run.faults = [{"at": 180.0, "fault": "F1: kill ingress"}]
    return run


def leak(part: str, key: str, per_hour: float) -> Change:
    """Return a change by which a figure of a process grows."""

    def change(found: dict[str, Any], hours: float) -> None:
        found["processes"][part][key] += per_hour * hours

    return change


def count(key: str, of: Callable[[float], float]) -> Change:
    """Return a change of a number of rows."""

    def change(found: dict[str, Any], hours: float) -> None:
        found["counts"][key] = of(hours)

    return change


def bloat(found: dict[str, Any], hours: float) -> None:
    """Let each booking take more bytes than the one before it."""
    found["tables"]["booking"][0] += found["bookings"] * hours * 2_000


def bloat_outbox(found: dict[str, Any], hours: float) -> None:
    """Let the outbox grow: nothing deletes its dead rows."""
    found["tables"]["outbox"][0] += 20e6 * hours


def old_row_stays(found: dict[str, Any], hours: float) -> None:
    """Let a row that is too old be there to the end."""
    found["canaries"] = ["stripe_circuit"]


def test_nothing_grows_where_nothing_grows() -> None:
    summary = summary_of(made())

    assert summary["problems"] == []
    assert summary["deleted_after_seconds"] == {
        "outbox": 14.0,
        "refresh_token": 44.0,
        "unattributed_object": 14.0,
        "stripe_circuit": 14.0,
        "dead_letter": 14.0,
        "dead_letter_end": 14.0,
        "room_night_change": 14.0,
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (leak("ingress", "rss", 30e6), "memory: ingress grows"),
        (leak("postgres", "uss", 200e6), "servers: postgres grows"),
        (leak("kafka", "rss", 2_000e6), "servers: kafka grows"),
        (leak("payments-1", "descriptors", 20), "descriptors: payments-1 grows"),
        (leak("payments-1", "threads", 20), "threads: payments-1 grows"),
        (count("outbox", lambda hours: 2_000 * hours), "rows: outbox grows"),
        (count("refresh_token", lambda hours: 200 * hours), "rows: refresh tokens grows"),
        (count("dead_letter", lambda hours: hours > 0.4), "rows: dead letters grows"),
        (count("calls", lambda hours: 100 * hours), "rows: calls to Stripe that are due grows"),
        (count("sessions", lambda hours: 20 + 30 * hours), "rows: connections to PostgreSQL grows"),
        (bloat, "tables: booking grows"),
        (bloat_outbox, "tables: outbox grows"),
        (old_row_stays, "stripe_circuit: a row that was too old was not deleted"),
    ],
)
def test_each_kind_of_growth_is_a_problem(change: Change, problem: str) -> None:
    found = summary_of(made(change))["problems"]

    assert [line for line in found if line.startswith(problem)], found


def test_a_guest_who_waits_longer_and_longer_is_a_problem() -> None:
    run = made()
    run.waits = [{"at": number * 5.0, "seconds": 0.03 + number / 1_000} for number in range(360)]

    assert [line for line in summary_of(run)["problems"] if line.startswith("wait: median of half a minute grows")]


def test_a_guest_who_gave_up_is_a_problem() -> None:
    run = made()
    run.waits[100] = {"at": 500.0, "seconds": None}

    assert summary_of(run)["problems"] == ["wait: longest of half a minute grows: 121 seconds at most, 120 allowed"]


def test_a_run_that_broke_a_promise_or_was_killed_has_a_problem() -> None:
    run = made()
    run.verdict = {**VERDICT, "holds": False, "problems": {"lost": ["b1: None in the ledger"]}, "topics": "wrong"}
    assert summary_of(run)["problems"] == ["lost: b1: None in the ledger (1 in all)", "topics check: wrong"]

    run.verdict = None
    assert any("killed" in problem for problem in summary_of(run)["problems"])


def test_a_run_that_is_too_short_judges_nothing_and_so_has_problems() -> None:
    assert "memory: nothing could be judged" in summary_of(made(hours=0.05))["problems"]


def test_planted_rows_are_followed_from_each_planting() -> None:
    looks = [{"at": at, "canaries": ["outbox"] if 600 < at < 700 else []} for at in range(0, 1_000, 10)]

    first, second = PLANTED | {"at": 1.0}, PLANTED | {"at": 600.0}

    assert canaries.stays(looks, [first])["outbox"] == pytest.approx(9)
    assert canaries.stays(looks, [first, second])["outbox"] == pytest.approx(100)
    assert canaries.stays(looks[:65], [second])["outbox"] is None


def test_a_row_that_was_never_planted_shows_nothing() -> None:
    planted = {"at": 1.0, "tables": ["refresh_token"]}
    found = canaries.stays([{"at": 10.0, "canaries": []}], [planted])

    assert found == dict.fromkeys(canary.table for canary in canaries.CANARIES) | {"refresh_token": 9.0}


def test_there_is_a_fault_every_few_minutes_and_each_family_comes_before_one_comes_again() -> None:
    faults = timetable(1, 3600, 180)

    assert [fault.at_seconds for fault in faults] == [180 * number for number in range(1, 20)]
    assert len({fault.family for fault in faults[:10]}) == 10
    assert timetable(1, 3600, 180) == faults


def test_the_page_names_each_growing_figure_and_links_the_picture() -> None:
    summary = summary_of(made(leak("ingress", "rss", 30e6)))
    text = page(summary)

    assert "- memory: ingress grows" in text
    assert "](soak.svg)" in text
    assert "ingress (grows)" in picture(summary)
    assert "These grow: ingress." in picture(summary)
    assert "**Not as it must be:**" not in page(summary_of(made()))


def without_webhooks(found: dict[str, Any], hours: float) -> None:
    """Let no webhook come after the first quarter of an hour."""
    found["files"]["topic stripe.webhooks"] = 2e6 * min(hours, 0.2)


def line_of(text: str, figure: str) -> str:
    """Return the first row of the page for a figure."""
    return next(line for line in text.splitlines() if line.startswith(f"| {figure} |"))


def test_a_figure_of_bookings_to_which_nothing_came_has_no_verdict() -> None:
    line = line_of(page(summary_of(made(without_webhooks))), "topic stripe.webhooks")

    assert line == "| topic stripe.webhooks | per booking |  | 0.4 |  | nothing came in the second half: not judged |"


def test_each_figure_has_its_own_unit() -> None:
    text = page(summary_of(made()))

    assert "0.01 seconds at most, 60 allowed | 0.01 seconds |" in line_of(text, "longest transaction, seconds")
    assert "+0 connections an hour" in line_of(text, "connections to PostgreSQL")


def test_a_figure_that_is_too_short_to_judge_has_its_last_sample() -> None:
    assert line_of(page(summary_of(made(hours=0.05))), "payments-1").startswith("| payments-1 | flat |  | 90 |")


def test_samples_of_a_killed_run_can_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made()
    file = SampleFile(tmp_path / "samples.jsonl")
    file.append("run", **ABOUT)
    for line in run.samples:
        file.append("sample", **line)
    file.close()

    assert program.main(["--draw", str(file.path)]) == 1
    assert "killed" in json.loads(capsys.readouterr().out)["problems"][-1]
    assert (tmp_path / "soak.svg").read_text().startswith("<svg ")
    assert (tmp_path / "soak.md").read_text().startswith("# Soak\n")


def published() -> Summary:
    """Return the summary from which the published page was written."""
    found: Summary = json.loads((DOCS / "soak.json").read_text())
    return found


def test_the_published_page_and_picture_are_those_of_the_published_summary() -> None:
    assert (DOCS / "soak.md").read_text() == page(published())
    assert (DOCS / "soak.svg").read_text() == picture(published())


def test_the_published_page_has_units_and_a_row_for_each_figure() -> None:
    text = (DOCS / "soak.md").read_text()

    assert all(f"| {figure['name']} |" in text for figure in published()["figures"])
    assert re.search(r"Measured on \d{4}-\d\d-\d\d for \d+ minutes", text)
