"""The result of a soak as one JSON object: every figure with its judgement and its line, for picture and page."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from tests.soak.figures import PANELS, Figure, figures_of, stays_of_canaries
from tests.soak.judging import Below, Flat, Growth, Judgement, PerBooking, Point, Rule, judge
from tests.soak.samples import Run, thinned

Summary = dict[str, Any]
#: So many points of a line are drawn: one for each second pixel would be no more to see.
_MAX_POINTS: Final = 120
_DIGITS: Final = 5


def summary_of(run: Run) -> Summary:
    """Judge all figures of a run, and return the result."""
    figures = [(figure, judge(figure.points, figure.rule)) for figure in figures_of(run)]
    result: Summary = {
        "about": dict(run.about),
        "hours": round(run.hours, 3),
        "bookings": run.bookings,
        "faults": [{"minutes": round(line["at"] / 60, 1), "fault": line["fault"]} for line in run.faults],
        "figures": [_figure(figure, judgement) for figure, judgement in figures],
        "deleted_after_seconds": stays_of_canaries(run),
        "verdict": None if run.verdict is None else dict(run.verdict),
    }
    return result | {"problems": problems(result)}


def problems(summary: Summary) -> list[str]:
    """Return all that is wrong, in sentences; empty when nothing grows and all promises hold."""
    found = [
        f"{figure['panel']}: {figure['name']} {figure['growth']}: {in_words(figure)}"
        for figure in summary["figures"]
        if figure["growth"] == Growth.GROWS
    ]
    found += [
        f"{table}: a row that was too old was not deleted"
        for table, seconds in summary["deleted_after_seconds"].items()
        if seconds is None
    ]
    judged = {figure["panel"] for figure in summary["figures"] if is_judged(figure)}
    found += [f"{panel.name}: nothing could be judged" for panel in PANELS if panel.name not in judged]
    verdict = summary["verdict"]
    if verdict is None:
        return [*found, "the run was killed before its promises were compared with log, ledger and money"]
    if not verdict["holds"]:
        found += [f"{name}: {wrong[0]} ({len(wrong)} in all)" for name, wrong in verdict["problems"].items()]
    if verdict["topics"] != "ok":
        found.append(f"topics check: {verdict['topics']}")
    return found


def is_judged(figure: dict[str, Any]) -> bool:
    """Return whether a figure had enough samples, and, if it is one of bookings, anything to count in the second half.

    A topic of webhooks to which none came did not grow, which is no measurement of a booking.
    """
    return figure["growth"] != Growth.UNKNOWN and not (figure["rule"] == "per booking" and figure["slope"] <= 0)


def in_words(figure: dict[str, Any]) -> str:
    """Return the slope of a figure with its unit, and what was allowed."""
    unit = figure["unit"]
    match figure["rule"]:
        case "per booking":
            slope, allowed = (f"{figure[name] * 1e6:,.0f} bytes" for name in ("slope", "notices"))
            return f"{slope} a booking, {allowed} at most"
        case "below":
            return f"{_short(figure['slope'])} {unit} at most, {_short(figure['limit'])} allowed"
        case _:
            return f"{figure['slope']:+.3g} {unit} an hour, {_short(figure['notices'])} at most"


def _figure(figure: Figure, judgement: Judgement) -> dict[str, Any]:
    return {
        "panel": figure.panel,
        "name": figure.name,
        "unit": figure.unit,
        "rule": _name_of(figure.rule),
        "limit": _limit_of(figure.rule),
        "growth": judgement.growth.value,
        **{
            name: None if value is None else _rounded(value)
            for name, value in (
                ("slope", judgement.slope),
                ("noise", judgement.noise),
                ("noise_slope", judgement.noise_slope),
                ("last", judgement.last),
                ("notices", judgement.notices),
                ("before", judgement.before),
            )
        },
        "line": [[[round(x, 2), _rounded(y)] for x, y in part] for part in _parts(figure.points)],
    }


def _parts(points: Sequence[Point]) -> Iterator[Sequence[tuple[float, float]]]:
    for _, process in groupby(points, key=lambda point: point.process):
        part = [(point.hours * 60, point.value) for point in process]
        share = max(2, _MAX_POINTS * len(part) // max(len(points), 1))
        yield thinned(part, share)


def _name_of(rule: Rule) -> str:
    match rule:
        case Flat():
            return "flat"
        case PerBooking():
            return "per booking"
        case Below():
            return "below"


def _limit_of(rule: Rule) -> float:
    match rule:
        case Flat(per_hour=limit) | PerBooking(limit=limit) | Below(ceiling=limit):
            return limit


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _short(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
