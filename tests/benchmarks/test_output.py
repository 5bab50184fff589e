"""The output of the benchmarks: lines for programs, a page for people."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import typer

from benchmarks import page
from benchmarks.lines import (
    Comparison,
    Figure,
    Line,
    SearchComparison,
    Without,
    as_json,
    goals,
    percentile,
    wait_figures,
)
from benchmarks.load import Bodies
from benchmarks.printing import print_lines
from benchmarks.stage import BenchmarkFailed, Rooms

SLOW = Comparison(
    benchmark="hot", clients=64, ours_per_s=3000, row_locks_per_s=1500, ratio=2.0, p50_ms=10.0, p99_ms=20.0
)
SEARCH_LINES: list[Line] = [
    Without(switched_off=["rate limits"]),
    SearchComparison(
        benchmark="search",
        clients=64,
        ours_per_s=2000,
        sql_per_s=200,
        ratio=10.0,
        p50_ms=20.0,
        p99_ms=60.0,
        sql_p50_ms=300.0,
        sql_p99_ms=500.0,
    ),
    Figure(benchmark="search.cpu.ingress", value=300.0, unit="us/search"),
    Figure(benchmark="search.cpu.wrk", value=100.0, unit="us/search"),
    Figure(benchmark="search.sql.cpu.service", value=900.0, unit="us/search"),
    Figure(benchmark="search.visible_ms.p99", value=90.0, unit="ms", target=200.0),
]
LINES: list[Line] = [
    Without(switched_off=["rate limits"]),
    SLOW,
    Figure(benchmark="hot.cpu.worker", value=150.0, unit="us/booking"),
    Figure(benchmark="hot.cpu.kafka", value=50.0, unit="us/booking"),
    Figure(benchmark="hot.cpu.worker.faust", value=30.0, unit="us/booking"),
    Figure(benchmark="trace.restore.events", value=1_234_567, unit="events/s"),
    Figure(benchmark="trace.rebuild.room_nights", value=25_000, unit="events/s", target=20_000.0, kind="least"),
    Figure(benchmark="trace.rebuild.daily_report", value=15_000, unit="events/s", target=20_000.0, kind="least"),
    Figure(benchmark="idle.cpu.kafka", value=2.7, unit="% of a core"),
    Figure(benchmark="idle.cpu.reservations-1", value=0.45, unit="% of a core"),
    Figure(benchmark="idle.all", value=3.2, unit="% of a core", target=5.0),
    Figure(benchmark="idle.20_per_s.p50", value=15.0, unit="ms", target=12.0),
    Figure(benchmark="kill.longest_wait", value=2.0, unit="s", target=3.0),
]


def test_a_comparison_and_a_figure_have_the_keys_that_programs_read() -> None:
    comparison, figure = (json.loads(as_json(line)) for line in (SLOW, LINES[-1]))

    assert list(comparison) == [
        "benchmark",
        "clients",
        "ours_per_s",
        "row_locks_per_s",
        "ratio",
        "p50_ms",
        "p99_ms",
    ]
    assert list(figure) == ["benchmark", "value", "unit", "target", "kind"]


def test_switched_off_features_are_printed_with_the_figures() -> None:
    assert json.loads(as_json(LINES[0])) == {"switched_off": ["rate limits"]}
    assert goals(LINES[0]) == []


def test_the_verdict_on_a_missed_target_is_by_how_much() -> None:
    assert [goal.verdict for goal in goals(SLOW)] == ["missed by 50%", "met"]
    assert str(goals(SLOW)[0]) == "hot: ratio: 2 x, wanted at least 4 x: missed by 50%"


async def test_each_line_is_printed_and_each_verdict_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    async def benchmark() -> AsyncIterator[Line]:
        yield SLOW
        yield LINES[-1]

    assert await print_lines("hot", benchmark()) == [SLOW, LINES[-1]]

    printed = capsys.readouterr()
    assert printed.out.splitlines() == [as_json(SLOW), as_json(LINES[-1])]
    assert printed.err.splitlines()[-1] == "kill.longest_wait: 2 s, wanted at most 3 s: met"


async def test_a_benchmark_that_fails_ends_the_command_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    async def benchmark() -> AsyncIterator[Line]:
        yield SLOW
        raise BenchmarkFailed("nothing was decided")

    with pytest.raises(typer.Exit) as end:
        await print_lines("hot", benchmark())

    assert end.value.exit_code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "hot: nothing was decided"


def test_the_waits_of_a_flow_become_two_figures_with_their_targets() -> None:
    waits = [float(value) for value in range(1, 101)]

    assert [(line.benchmark, line.value, line.target) for line in wait_figures("idle.20_per_s", waits, 12.0, None)] == [
        ("idle.20_per_s.p50", 50.0, 12.0),
        ("idle.20_per_s.p99", 99.0, None),
    ]


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], 0.99) == 99.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_the_page_keeps_its_words_and_gets_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "performance.md"
    file.write_text(f"Before.\n\n{page.BEGINS}\n\nold figures\n\n{page.ENDS}\n\nAfter.\n")
    monkeypatch.setattr(page, "PAGE", file)
    monkeypatch.setattr(page, "_circumstances", lambda command: iter(["On a machine."]))

    page.write(LINES)

    text = file.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "old figures" not in text
    assert "On a machine.\n- without rate limits\n" in text
    assert "| `hot` | 3,000 | 1,500 | 2.00 | 10.0 ms | 20.0 ms |" in text
    assert "| hot: ratio | at least 4 x | 2 x | missed by 50% |" in text
    assert "| trace.restore.events | | 1,234,567 events/s | |" in text
    assert "| trace.rebuild.room_nights | at least 20,000 events/s | 25,000 events/s | met |" in text
    assert "| trace.rebuild.daily_report | at least 20,000 events/s | 15,000 events/s | missed by 25% |" in text
    assert "| idle.all | at most 5 % of a core | 3.2 % of a core | met |" in text
    assert "| idle.20_per_s.p50 | at most 12 ms | 15 ms | missed by 25% |" in text
    assert "An idle system uses, in percent of one core: kafka 2.7, reservations-1 0.45\n" in text
    assert "| idle.cpu." not in text
    assert "| kill.longest_wait | at most 3 s | 2 s | met |" in text
    assert "worker 150 (75%), kafka 50 (25%), of worker at most faust 30 (15%); together 200" in text


def test_the_figures_of_search_have_a_place_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "performance.md"
    file.write_text(f"{page.BEGINS}\nothers\n{page.ENDS}\n{page.SEARCH_BEGINS}\nold\n{page.SEARCH_ENDS}\nAfter.\n")
    monkeypatch.setattr(page, "PAGE", file)
    monkeypatch.setattr(page, "_circumstances", lambda command: iter([f"By `{command}`."]))

    page.write_search(SEARCH_LINES)

    text = file.read_text()
    assert "others" in text
    assert "old" not in text
    assert text.endswith("After.\n")
    assert "By `make bench-search ARGS=--write-docs`.\n- without rate limits\n" in text
    assert "| ours | 2,000 | 20.0 ms | 60.0 ms |\n| one SQL query | 200 | 300.0 ms | 500.0 ms |" in text
    assert "| search: ratio | at least 5 x | 10 x | met |" in text
    assert "| search: p99 | at most 50 ms | 60 ms | missed by 20% |" in text
    assert "| search.visible_ms.p99 | at most 200 ms | 90 ms | met |" in text
    assert "- ours: ingress 300 (75%), wrk 100 (25%); together 400" in text
    assert "- one SQL query: service 900 (100%); together 900" in text


def test_the_page_that_we_have_marks_where_its_figures_go() -> None:
    text = page.PAGE.read_text()

    for mark in (page.BEGINS, page.ENDS, page.SEARCH_BEGINS, page.SEARCH_ENDS):
        assert text.count(mark) == 1


def test_each_hot_run_asks_for_one_night_that_no_run_before_it_sold(tmp_path: Path) -> None:
    bodies = Bodies(tmp_path, Rooms.on_sale(count=1, nights=30), one_night=True)

    bodies_of_runs = [bodies.for_next_run().read_text().splitlines() for _ in range(3)]

    assert [len(run) for run in bodies_of_runs] == [1, 1, 1]
    assert len({run[0] for run in bodies_of_runs}) == 3
