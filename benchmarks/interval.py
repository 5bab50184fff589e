"""The 95 % interval of a ratio, from paired measurements."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final

#: Student's t, two-sided 95 %, by degrees of freedom from 1 on. Beyond the table it is below the last value.
STUDENTS_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A ratio, and the bounds within which the true one is with a confidence of 95 %."""

    low: float
    middle: float
    high: float


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """Return the geometric mean of paired ratios with its 95 % interval, by Student's t on their logarithms.

    Raises:
        ValueError: there are fewer than two ratios, or one is not positive.
    """
    if len(ratios) < 2:
        raise ValueError("an interval needs two ratios or more")
    logs = [math.log(ratio) for ratio in ratios]
    middle = mean(logs)
    # Beyond the table its last value is used: the interval is then a little too wide, never too narrow.
    t = STUDENTS_T[min(len(logs) - 1, len(STUDENTS_T)) - 1]
    reach = t * stdev(logs) / math.sqrt(len(logs))
    return Interval(low=math.exp(middle - reach), middle=math.exp(middle), high=math.exp(middle + reach))
