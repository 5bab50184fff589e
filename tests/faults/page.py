"""Makes docs/faults.md from docs/faults.json, the results of the newest runs, and from the rows themselves."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from tests.faults import catalogue
from tests.faults.results import Result, order_of, published
from tests.faults.row import Group, Promise, Row
from topics.pages import table

_NUMBER: Final[Mapping[Promise, int]] = {promise: number for number, promise in enumerate(Promise, 1)}
_NOT_RUN: Final = "not run yet"

_INTRODUCTION: Final = """\
Each row makes one fault on purpose in a running system, under load, and judges from outside what it broke. Guests
book in each room in turn, and visitors do more: they pay, cancel, change stays, ask for trips, hang up and come back.
The load begins before the fault and ends when each room decides again and a new booking is paid and confirmed.

- **Clients saw**: requests by status. `none` ended without an answer; the guest of one that `hung up` did not wait.
  Guests whose connection is refused ask again at once, up to 50 times a second, so that they see the end of the fault.
  Nothing was done for a request that was answered 503: its guest asks again, with the same `Idempotency-Key`.
- **Promised** are the bookings whose ids clients were given, most of them with 202. The column before has more answers
  of 202: of a request that is sent again with its key, and of each command about a booking, such as a cancellation.
  **Decided** are the promised bookings that the ledger has decided, **lost** those whose decision is not in the ledger
  and on the log alike. **Doubled** are rooms sold twice, bookings decided twice, and keys with two bookings.
- **Longest wait** is the longest time from a request's record on the log to that of its decision. Beside it is the
  same of a quiet system, measured in the same run before the rows of its group, and the limit of the row.
- **A guest waited** from the first request, with all that were refused, until the decision was seen. A guest who asks
  during the fault is served as soon as it is over: the limit is the fault's own time and the greater of the row's two.
- **Recovery** is the time from the end of the fault until a booking that was asked for after it is confirmed. A part
  that was killed starts again meanwhile.

With several seeds counts are sums, and times are those of the slowest run."""

_HOW_TO_RUN: Final = """\
## How to run it

    make faults                        # all rows; those with a result of this commit and seed are skipped
    make faults ONLY=F6,F7b SEED=2     # a fault with its variants, or one row, under another seed
    make faults ONLY=F9 AGAIN=1        # again, in place of the earlier result

Commit first: results are kept by commit and seed in `.cache/faults`, and a run that was interrupted goes on where it
ended. With changed files the commit has a `+` behind it, whichever files they are, and an older result may be taken for
that of newer changes.

| rows | need, beside Java and PostgreSQL |
| --- | --- |
| system `network` | Linux, root, iproute2 and util-linux (network namespaces), nginx |
| system `disks` | root, to mount small disks in memory (tmpfs) |
| systems `clocks`, `short-night`, `leap-day` | libfaketime (`apt-get install faketime`) |
| systems `proxied`, `redis` | Redis |
| F18 | the commit of release 0.1.0 in git's history |

`.ci/install` installs these packages. Rows whose needs are missing are named at the end with the reason, and the
others run. Allow for 30 to 60 s a row: its load lasts until all rooms decide again, and then its holds of 15 s have to
end.

A row fails if anything is lost, doubled or wrong, if somebody waits longer than the row allows, if clients get an
answer that the row does not allow, if a part that the row does not harm ends by itself, and if the causes that explain
the row were not seen. A small model of the rooms follows the log
([tests/faults/room_model.py](../tests/faults/room_model.py)). The operators' `audit` and `rebuild all --compare-only`
judge as well: after each row that proves promise 8, after one that fails, and after the last of a system, for all of
its rows. A new row is an entry of `ROWS` in a module of
[tests/faults/rows](../tests/faults/rows); [tests/faults/row.py](../tests/faults/row.py) explains its fields. Its
reasons are in [ADR 0043](adr/0043-a-matrix-of-faults.md).

No row is judged if the machine is too busy for the load alone: if the calibration takes longer than it should, or
its clients get a 503. `python -m tests.faults --only F9 --busy` tries a row all the same; the page gets no result."""


def faults_page(generated: str, rows: Sequence[Row] | None = None, results: Iterable[Result] | None = None) -> str:
    """Return docs/faults.md."""
    rows = catalogue.all_rows() if rows is None else rows
    known = {row.id for row in rows}
    found = [result for result in (published() if results is None else results) if result.row in known]
    parts = ["# Faults", generated, _INTRODUCTION, _summary(rows, found), "## Rows", _rows_table(rows, found)]
    parts += ["## Promises", *_promises(), "## Systems", _groups_table(rows, found), _HOW_TO_RUN]
    return "\n\n".join(parts) + "\n"


def _summary(rows: Sequence[Row], results: Sequence[Result]) -> str:
    ran = {result.row for result in results}
    failed = sorted({result.row for result in results if result.problems}, key=order_of)
    lost, doubled = sum(result.lost for result in results), sum(result.doubled for result in results)
    promised = sum(result.promised for result in results)
    sentences = [
        f"{len(ran)} of {len(rows)} rows were run: {promised:,} bookings promised, {lost} lost, {doubled} doubled.",
        f"These rows do not hold: {', '.join(failed)}." if failed else "",
    ]
    if without := catalogue.without_row(rows):
        sentences.append(f"These faults of the design have no row yet: {', '.join(without)}.")
    commits = Counter((result.commit, result.date, result.cores) for result in results)
    runs = [
        f"{count} at commit `{commit}` ({date}, {cores} cores)"
        for (commit, date, cores), count in sorted(commits.items())
    ]
    if runs:
        sentences.append(f"Results by commit: {'; '.join(runs)}.")
    return " ".join(filter(None, sentences))


def _rows_table(rows: Sequence[Row], results: Sequence[Result]) -> str:
    header = (
        "row", "fault", "clients saw", "promised", "decided", "lost", "doubled", "longest wait", "a guest waited",
        "recovery", "proves",
    )  # fmt: skip
    of_row: dict[str, list[Result]] = {row.id: [] for row in rows}
    for result in results:
        of_row[result.row].append(result)
    return table(header, (_cells(row, of_row[row.id]) for row in rows))


def _cells(row: Row, results: Sequence[Result]) -> tuple[str, ...]:
    named = f'<a id="{row.id.lower()}"></a>{row.id}'
    fault = f"**{row.fault}.** {row.made_by}. System: {row.group.name}."
    proves = ", ".join(str(_NUMBER[promise]) for promise in row.promises)
    if not results:
        return named, fault, _NOT_RUN, "", "", "", "", "", "", proves
    answers = sum((Counter(result.answers) for result in results), Counter[str]())
    seen = sum((Counter(result.causes) for result in results), Counter[str]())
    latest = results[-1]
    details = [f"seen: {cause}" for cause in seen] + [f"{name}: {value}" for name, value in latest.figures.items()]
    problems = [problem for result in results for problem in result.problems]
    if problems:
        details.append(f"**does not hold**: {'; '.join(problems)}")
    if any(result.recovery_seconds is None for result in results):
        recovery = "none"
    else:
        recovery = _seconds(max(result.recovery_seconds or 0.0 for result in results))
    waited = _seconds(max(result.longest_wait_seconds for result in results))
    quiet = _seconds(max(result.quiet.longest_wait_seconds for result in results))
    seeds = ", ".join(str(result.seed) for result in results)
    return (
        named,
        " ".join([fault, f"Lasted {_seconds(latest.fault_seconds)};", "; ".join([*details, f"seeds: {seeds}"])]),
        ", ".join(f"{count:,} x {status}" for status, count in sorted(answers.items())),
        f"{sum(result.promised for result in results):,}",
        f"{sum(result.decided for result in results):,}",
        str(sum(result.lost for result in results)),
        str(sum(result.doubled for result in results)),
        f"{waited} (quiet {quiet}, limit {row.max_wait_seconds:g} s)",
        _seconds(max((each for result in results if (each := result.guest_wait_seconds) is not None), default=None)),
        recovery,
        proves,
    )


def _promises() -> Iterator[str]:
    yield "\n".join(f"{number}. {promise.value}" for promise, number in _NUMBER.items())


def _groups_table(rows: Sequence[Row], results: Sequence[Result]) -> str:
    groups: dict[str, Group] = {row.group.name: row.group for row in rows}
    group_of = {row.id: row.group.name for row in rows}
    quiet: dict[str, list[Result]] = {name: [] for name in groups}
    for result in results:
        quiet[group_of[result.row]].append(result)
    return table(
        ("system", "parts", "quiet: longest wait", "quiet: confirmed after"),
        (
            (
                name,
                group.system,
                _seconds(max((each.quiet.longest_wait_seconds for each in quiet[name]), default=None)),
                _seconds(max((each.quiet.recovery_seconds for each in quiet[name]), default=None)),
            )
            for name, group in groups.items()
        ),
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
