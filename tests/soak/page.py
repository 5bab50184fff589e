"""Writes docs/soak.md and docs/soak.svg from a summary: pure functions."""

from collections.abc import Iterable
from typing import Any, Final

from tests.soak.canaries import CANARIES, MAX_STAY_SECONDS
from tests.soak.drawing import Drawn, Mark, Picture, draw
from tests.soak.figures import PANELS, Panel
from tests.soak.judging import MAX_DEARER, NOISE_FACTOR, WARM_UP_HOURS, Growth
from tests.soak.summary import Summary, in_words, is_judged
from topics.catalogue import CATALOGUE
from topics.pages import table

_DAY_HOURS: Final = 24
_LINES_IN_A_PANEL: Final = 14
_NO_INPUT: Final = "nothing came in the second half: not judged"

_INTRODUCTION: Final = """\
`make soak HOURS=1` runs the whole system on one machine under steady load, breaks a part of it every few
minutes, and measures all the while everything that could grow: memory, descriptors, threads, connections,
tables, topics, files, and how long a guest waits. At the end it compares all promises with log, ledger and
Stripe's books, runs the audit, and judges each figure. Its exit status is 0 only if nothing grows that must
not, and every promise was kept. The load is that of `make chaos`
([visitors.py](../tests/system/pipeline/visitors.py)), and so are the
[faults](../tests/system/pipeline/faults.py)."""

_JUDGED: Final = f"""\
## How growth is judged

The slope of a figure is the median of the slopes between all pairs of its samples (Theil and Sen), in the
second half of the run. So the minute of a fault does not count, nor do caches that fill up in the first half.
Samples of two processes are never compared: one that was killed begins small again, and its first
{WARM_UP_HOURS * 60:.0f} minutes are left out.

- **flat**: the slope must be below the limit, or the growth within the longest span below {NOISE_FACTOR:g}
  standard deviations of the figure's own noise. The column "at most" has the larger of the two: a run of an
  hour sees smaller slopes than one of half an hour.
- **per booking**: bookings are kept for ever. A booking of the second half may take the limit at most, and
  {MAX_DEARER - 1:.0%} more than one of the first half. A figure to which nothing came in the second half is not judged.
- **below**: some setting bounds the figure; the highest sample counts.

Unit tests ([test_judging.py](../tests/soak/test_judging.py)) show that a leak is found, also of a process that
is killed every ten minutes, and that noise, saw-teeth, restarts and faults are not taken for one."""

_KEPT_FOR_EVER: Final = """\
These grow with bookings, and nothing deletes them by itself:

- `booking`, `booking_timeline`, `guest_list`, `checkout_session`, `refund`, `hotel_document` and other tables
  of bookings: the record.
- `idempotency_key`: a row for each request with a key. An operator may delete old ones ([ADR
  0042](adr/0042-an-idempotency-key-makes-the-ids.md)).
- `room_night_change` grows until a partition has 100,000 positions, which is more than a run; then its oldest
  rows are deleted ([ADR 0010](adr/0010-search-reads-from-memory.md))."""


_FOUND: Final = """\
## Found so far

- **Mended:** each answered request was in a cycle of task, context and deadline, which only the garbage collector
  freed. The ingress grew by 30 MB in its first 400 bookings (2026-11-30;
  [test_deadlines.py](../tests/ingress/http/test_deadlines.py)).
- **Mended:** expired refresh tokens of accounts that never came back stayed for ever
  ([test_refresh.py](../tests/ingress/accounts/test_refresh.py)).
- **Open:** the garbage collector alone frees SQL expressions that a request makes anew (SQLAlchemy's `cast` to an
  array, `now()` with an interval: 18 objects for each booking and login), and the exceptions of a request that the
  database does not answer (100 objects). It comes after 200,000 objects ([garbage.py](../telemetry/garbage.py)). A run
  of half an hour that was not overloaded must show that the ingress stays at one size then; that of ten minutes is too
  short for it.
- **Open:** with far less than a core, and visitors who send each request again, hardly a request is answered in time
  after some minutes: each waits for one of ten connections to the database, and is then answered 503."""


def page(summary: Summary) -> str:
    """Return docs/soak.md."""
    parts = ["# Soak", _INTRODUCTION, *_run(summary), "![The figures over time](soak.svg)"]
    parts += ["## Faults", _faults(summary), "## Figures", _reading()]
    for panel in PANELS:
        parts += [f"### {panel.title}", panel.why, _figures(summary, panel)]
    parts += [_FOUND, _JUDGED, "## Deleted when", _deleted(summary), _topics(), _KEPT_FOR_EVER, _repeat()]
    return "\n\n".join(part for part in parts if part) + "\n"


def picture(summary: Summary) -> str:
    """Return docs/soak.svg."""
    pictures = [
        Picture(
            title=panel.title,
            unit=panel.unit,
            logarithmic=panel.logarithmic,
            lines=[Drawn(name=_in_legend(figure), parts=figure["line"]) for figure in _drawn(summary, panel)],
        )
        for panel in PANELS
    ]
    marks = [Mark(minutes=fault["minutes"], number=number) for number, fault in enumerate(summary["faults"], 1)]
    return draw("A soak: nothing may grow but what bookings leave behind", description(summary), pictures, marks)


def description(summary: Summary) -> str:
    """Return the picture in words."""
    growing = [figure["name"] for figure in summary["figures"] if figure["growth"] == Growth.GROWS]
    outcome = f"These grow: {', '.join(growing)}." if growing else "No figure grows by its rule."
    panels = "; ".join(f"{panel.title} in {panel.unit}" for panel in PANELS)
    return (
        f"{len(PANELS)} panels over {summary['hours'] * 60:.0f} minutes: {panels}. Dotted vertical lines with numbers"
        f" are the"
        f" {len(summary['faults'])} faults. {outcome} All figures are in the tables of the page."
    )


def _run(summary: Summary) -> Iterable[str]:
    about = summary["about"]
    yield (
        f"**Measured on {about['began'][:10]} for {summary['hours'] * 60:.0f} minutes on a shared machine.** Two"
        f" cores, on"
        f" which others ran tests meanwhile: waits are far longer than on a quiet one. {about.get('note', '')} Commit"
        f" {about['commit']}, Python {about['python']}, {about['accounts']} accounts, {about['per_second']:g}"
        f" visitors a"
        f" second, a fault every {about['fault_minutes']:g} minutes, seed {about['seed']}, without rate limits. A"
        f" later run"
        " replaces it."
    )
    verdict = summary["verdict"]
    if verdict is not None:
        answers = ", ".join(f"{status} {count:,} times" for status, count in verdict["answers"].items())
        yield (
            f"{verdict['decided']:,} bookings were decided, {verdict['promised']:,} promised to guests, and"
            f" {verdict['confirmed']:,} confirmed at the end: {verdict['lost']} lost, {verdict['sold_twice']} sold"
            f" twice,"
            f" {verdict['money_wrong']} with wrong money, audit {verdict['audit']}. The longest time from a request's"
            f" record to its decision's was {verdict['longest_wait_seconds']:.1f} s. Visitors were answered {answers}"
            " (`none`: the visitor hung up, or gave up after 15 s; each request was sent again)."
        )
    if summary["problems"]:
        yield "**Not as it must be:**\n\n" + "\n".join(f"- {problem}" for problem in summary["problems"])
    else:
        yield (
            "No figure grows with time but those that grow with bookings, and these by as much in the second half as in"
            " the first."
        )


def _reading() -> str:
    return (
        "The column `after a day` is not measured: it is the last value and the slope, extrapolated to 24 hours of the"
        " same load; `as now` where the slope is not above the figure's noise, and for `below` the bound."
    )


def _faults(summary: Summary) -> str:
    rows = (
        (str(number), f"{fault['minutes']:.1f}", fault["fault"]) for number, fault in enumerate(summary["faults"], 1)
    )
    return table(("number", "minute", "fault"), rows)


def _figures(summary: Summary, panel: Panel) -> str:
    rows = (
        (
            figure["name"],
            figure["rule"],
            in_words(figure) if is_judged(figure) else "",
            _last(figure, panel),
            _after_a_day(figure, summary) if is_judged(figure) else "",
            figure["growth"] if is_judged(figure) or figure["growth"] == Growth.UNKNOWN else _NO_INPUT,
        )
        for figure in summary["figures"]
        if figure["panel"] == panel.name
    )
    return table(("figure", "rule", "measured", f"last, {panel.unit}", "after a day", ""), rows)


def _last(figure: dict[str, Any], panel: Panel) -> str:
    """Return the last value: that of the judgement, or of the line where there is none; empty without a sample."""
    if figure["growth"] != Growth.UNKNOWN:
        value = figure["last"]
    elif figure["line"] and figure["line"][-1]:
        _, value = figure["line"][-1][-1]
    else:
        return ""
    return _number(value) if figure["unit"] == panel.unit else f"{_number(value)} {figure['unit']}"


def _after_a_day(figure: dict[str, Any], summary: Summary) -> str:
    match figure["rule"]:
        case "below":
            return f"{_number(figure['limit'])} at most"
        case "per booking":
            bookings = summary["bookings"] / max(summary["hours"], 1e-9) * _DAY_HOURS
            return _number(figure["slope"] * bookings)
        case _ if figure["slope"] <= figure["noise_slope"]:
            return "as now"
        case _:
            return _number(figure["last"] + figure["slope"] * _DAY_HOURS)


def _deleted(summary: Summary) -> str:
    """Return the table of rows that are deleted, with the time that a planted one stayed."""
    stays = summary["deleted_after_seconds"]

    def stayed(name: str) -> str:
        if name not in stays:
            return "not measured"
        return "not deleted" if stays[name] is None else f"{stays[name]:.0f} s"

    rows = ((f"`{each.table}`", each.kept, each.cleaned_by, stayed(each.table)) for each in CANARIES)
    introduction = (
        "A run is shorter than most rows may stay. So the soak plants rows with a time in the past, and fails if one"
        " is still there"
        f" after {MAX_STAY_SECONDS:.0f} s. The last column has the longest time that one stayed; samples are 15 s"
        f" apart."
    )
    return f"{introduction}\n\n{table(('row', 'kept', 'deleted by', 'a row that was too old stayed'), rows)}"


def _topics() -> str:
    kept = ", ".join(
        f"`{topic.name}` {'for ever' if topic.retention is None else f'for {topic.retention.days} days'}"
        for topic in CATALOGUE
    )
    return (
        f"The broker keeps {kept}. At the end of a run `innkeeper topics check` compares its settings with these. It"
        f" deletes whole segments,"
        " the oldest first, once their last record is too old: a segment is closed at 1 GB or after 7 days, so"
        " records may stay a week longer."
    )


def _repeat() -> str:
    return """\
## Run it

    make soak HOURS=1                             # RATE=5 visitors a second, a fault each EVERY=3 minutes, SEED=1
    make soak HOURS=1 ARGS=--write-docs           # writes this page and its picture
    .venv/bin/python -m tests.soak --draw FILE    # judges and draws samples once more

Each sample is in the file (in `.cache/soak`) when it is measured: a run that is killed can be drawn too."""


def _drawn(summary: Summary, panel: Panel) -> list[dict[str, Any]]:
    found = [figure for figure in summary["figures"] if figure["panel"] == panel.name]
    return found[:_LINES_IN_A_PANEL]


def _in_legend(figure: dict[str, Any]) -> str:
    return f"{figure['name']} ({figure['growth']})" if figure["growth"] == Growth.GROWS else str(figure["name"])


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
