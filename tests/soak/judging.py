"""Decides whether a series of samples grows: pure functions over numbers.

The slope is that of Theil and Sen: the median of the slopes of all pairs of points. Up to 29 % of wild points do not
move it (Sen 1968, doi.org/10.2307/2285891), so the minute of a fault does not count as growth. Only pairs of the same
`process` are compared: a process that was killed and started again has a new one, and begins small again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from statistics import median
from typing import Final

import numpy as np

#: A process that was just started fills its caches and pools for so long.
WARM_UP_HOURS: Final = 3 / 60
#: Shorter spans are not judged.
MIN_SPAN_HOURS: Final = 2 / 60
MIN_POINTS: Final = 8
#: Growth within the longest process must be larger than so many standard deviations of the figure's own noise.
NOISE_FACTOR: Final = 2.0
#: A booking of the second half may take so much more than one of the first.
MAX_DEARER: Final = 1.25
#: Tables and files grow by blocks of several pages; in megabytes, as all sizes.
BLOCK_MB: Final = 0.25
#: More points of a process than this are put together, so that a day's samples are judged in a moment.
_MAX_POINTS: Final = 240
_MAD_TO_SIGMA: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Point:
    """One sample: hours since the load began, the value, whose it was, and how many bookings there were."""

    hours: float
    value: float
    process: str = ""
    bookings: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Flat:
    """The figure may not grow with time by more than `per_hour`, once caches and pools are full.

    Growth of less than `grain` within the longest span of a process is none: one descriptor more is no leak yet.
    """

    per_hour: float
    grain: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PerBooking:
    """The figure, in megabytes, grows with bookings: by `limit` for each, and in the second half as in the first."""

    limit: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Below:
    """The figure goes up and down, or up to a bound that some setting gives: never above `ceiling`."""

    ceiling: float


Rule = Flat | PerBooking | Below


class Growth(StrEnum):
    """The verdict on a figure."""

    NO = "does not grow"
    GROWS = "grows"
    UNKNOWN = "too short to judge"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The result for one figure.

    `slope` is per hour, for `PerBooking` per booking, and for `Below` the highest value. `noise` is the standard
    deviation around the line, and `noise_slope` the largest slope that the noise alone may explain. `notices` is the
    smallest slope that would have been found.
    """

    growth: Growth
    slope: float = 0.0
    noise: float = 0.0
    noise_slope: float = 0.0
    last: float = 0.0
    notices: float | None = None
    #: The slope of the first half, for `PerBooking`.
    before: float | None = None


def judge(points: Sequence[Point], rule: Rule) -> Judgement:
    """Return whether the figure grows by its rule; points are in the order of time."""
    match rule:
        case Flat():
            return _judge_flat(points, rule)
        case PerBooking():
            return _judge_per_booking(points, rule)
        case Below():
            return _judge_below(points, rule)


def _judge_flat(points: Sequence[Point], rule: Flat) -> Judgement:
    spans = [span for span in _by_process(_warm(_second_half(points))) if _is_long_enough(span)]
    if not spans:
        return Judgement(growth=Growth.UNKNOWN)
    slope = theil_sen([[(point.hours, point.value) for point in span] for span in spans])
    noise = noise_around([[(point.hours, point.value) for point in span] for span in spans], slope)
    longest_hours = max(span[-1].hours - span[0].hours for span in spans)
    noise_slope = max(NOISE_FACTOR * noise, rule.grain) / longest_hours
    notices = max(rule.per_hour, noise_slope)
    return Judgement(
        growth=Growth.GROWS if slope > notices else Growth.NO,
        slope=slope,
        noise=noise,
        noise_slope=noise_slope,
        last=_last(points),
        notices=notices,
    )


def _judge_per_booking(points: Sequence[Point], rule: PerBooking) -> Judgement:
    late = _second_half(points)
    early = points[: len(points) - len(late)]
    if min(len(early), len(late)) < MIN_POINTS or late[-1].bookings <= late[0].bookings:
        return Judgement(growth=Growth.UNKNOWN)
    before, slope = (theil_sen([[(point.bookings, point.value) for point in half]]) for half in (early, late))
    noise = noise_around([[(point.bookings, point.value) for point in late]], slope)
    booked = late[-1].bookings - late[0].bookings
    # Below this the difference is one of blocks and of noise.
    dearer = max(before * MAX_DEARER, before + (NOISE_FACTOR * noise + BLOCK_MB) / booked)
    return Judgement(
        growth=Growth.GROWS if slope > min(rule.limit, dearer) else Growth.NO,
        slope=slope,
        noise=noise,
        last=_last(points),
        notices=min(rule.limit, dearer),
        before=before,
    )


def _judge_below(points: Sequence[Point], rule: Below) -> Judgement:
    if not points:
        return Judgement(growth=Growth.UNKNOWN)
    highest = max(point.value for point in points)
    growth = Growth.GROWS if highest > rule.ceiling else Growth.NO
    return Judgement(growth=growth, slope=highest, last=_last(points), notices=rule.ceiling)


def theil_sen(groups: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Return the median slope of all pairs of points of one process each; 0 without a pair."""
    slopes = []
    for group in groups:
        x, y = np.array(_thinned(group), dtype=float).T
        first, second = np.triu_indices(len(x), k=1)
        distance = x[second] - x[first]
        apart = distance > 0
        slopes.append((y[second] - y[first])[apart] / distance[apart])
    found = np.concatenate(slopes) if slopes else np.array([])
    return float(np.median(found)) if found.size else 0.0


def noise_around(groups: Sequence[Sequence[tuple[float, float]]], slope: float) -> float:
    """Return the standard deviation of the points around the line of each process, by the median deviation."""
    residuals: list[float] = []
    for group in groups:
        offsets = [y - slope * x for x, y in group]
        middle = median(offsets)
        residuals += [abs(offset - middle) for offset in offsets]
    return _MAD_TO_SIGMA * median(residuals) if residuals else 0.0


def _thinned(process: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most `_MAX_POINTS` points: the medians of neighbours."""
    size = -(-len(process) // _MAX_POINTS)
    if size <= 1:
        return process
    groups = (process[start : start + size] for start in range(0, len(process), size))
    return [(median(x for x, _ in group), median(y for _, y in group)) for group in groups]


def _second_half(points: Sequence[Point]) -> Sequence[Point]:
    if not points:
        return points
    middle = (points[0].hours + points[-1].hours) / 2
    return [point for point in points if point.hours >= middle]


def _warm(points: Sequence[Point]) -> Sequence[Point]:
    """Return the points without the beginning of each process that began among them."""
    began: dict[str, float] = {}
    for point in points:
        began.setdefault(point.process, point.hours)
    first = points[0].process if points else ""
    return [point for point in points if point.process == first or point.hours >= began[point.process] + WARM_UP_HOURS]


def _by_process(points: Sequence[Point]) -> list[list[Point]]:
    return [list(process) for _, process in groupby(points, key=lambda point: point.process)]


def _is_long_enough(process: Sequence[Point]) -> bool:
    return len(process) >= MIN_POINTS and process[-1].hours - process[0].hours >= MIN_SPAN_HOURS


def _last(points: Sequence[Point]) -> float:
    """Return the middle of the last tenth, which one wild point does not move."""
    return median(point.value for point in points[-max(1, len(points) // 10) :])
