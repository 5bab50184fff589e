"""The output of a benchmark: one JSON object a line, and whether its targets are met."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Closed loop against the row locks: medians of the runs. Rates are decided bookings a second."""

    benchmark: str
    clients: int
    ours_per_s: int
    row_locks_per_s: int
    ratio: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured value. A target is the most that it should be, or the least; None where it only explains another."""

    benchmark: str
    value: float
    unit: str
    target: float | None = None
    kind: Literal["least", "most"] = "most"


@dataclass(frozen=True, kw_only=True, slots=True)
class Without:
    """The features that are switched off in the measured system."""

    switched_off: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchComparison:
    """Closed loop against one SQL query a search: medians of the runs. Rates are searches answered a second."""

    benchmark: str
    clients: int
    ours_per_s: int
    sql_per_s: int
    ratio: float
    p50_ms: float
    p99_ms: float
    sql_p50_ms: float
    sql_p99_ms: float


Line: TypeAlias = Comparison | SearchComparison | Figure | Without

MIN_RATIO: Final = {"hot": 4.0, "spread": 1.8}
MAX_P99_MS: Final = 25.0
MIN_SEARCH_RATIO: Final = 5.0
MAX_SEARCH_P99_MS: Final = 50.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A target beside the measured value."""

    what: str
    measured: float
    unit: str
    target: float
    kind: Literal["least", "most"]

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        return self.measured >= self.target if self.kind == "least" else self.measured <= self.target

    @property
    def wanted(self) -> str:
        """The target in words."""
        return f"at {self.kind} {as_text(self.target)} {self.unit}"

    @property
    def verdict(self) -> str:
        """`met`, or by how many percent the target was missed."""
        return "met" if self.met else f"missed by {abs(self.measured - self.target) / self.target:.0%}"

    def __str__(self) -> str:
        return f"{self.what}: {as_text(self.measured)} {self.unit}, wanted {self.wanted}: {self.verdict}"


def as_json(line: Line) -> str:
    """Return the line as it is printed."""
    fields: dict[str, Any] = asdict(line)
    return json.dumps(fields)


def goals(line: Line) -> list[Goal]:
    """Return the targets of a line."""
    if isinstance(line, Without):
        return []
    if isinstance(line, Figure):
        if line.target is None:
            return []
        return [Goal(what=line.benchmark, measured=line.value, unit=line.unit, target=line.target, kind=line.kind)]
    name = line.benchmark
    if isinstance(line, SearchComparison):
        return [
            Goal(what=f"{name}: ratio", measured=line.ratio, unit="x", target=MIN_SEARCH_RATIO, kind="least"),
            Goal(what=f"{name}: p99", measured=line.p99_ms, unit="ms", target=MAX_SEARCH_P99_MS, kind="most"),
        ]
    return [
        Goal(what=f"{name}: ratio", measured=line.ratio, unit="x", target=MIN_RATIO[name], kind="least"),
        Goal(what=f"{name}: p99 of the 202", measured=line.p99_ms, unit="ms", target=MAX_P99_MS, kind="most"),
    ]


def as_text(value: float) -> str:
    """Return a value with all its digits, as the benchmark rounded it."""
    return f"{value:,.10g}"


def wait_figures(name: str, waits_ms: list[float], max_p50: float | None, max_p99: float | None) -> list[Figure]:
    """Return the median and the 99th percentile of waits, with the most that each should be, in milliseconds."""
    return [
        Figure(benchmark=f"{name}.{part}", value=round(percentile(waits_ms, share), 1), unit="ms", target=target)
        for part, share, target in (("p50", 0.5, max_p50), ("p99", 0.99, max_p99))
    ]


def percentile(values: list[float], share: float) -> float:
    """Return the smallest of the values that at least `share` (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
