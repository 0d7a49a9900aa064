"""Statistics of the raw samples. Nothing is dropped: outliers and drift are reported with a remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import binom

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Summary:
    """Order statistics of a set of times. `low_s` and `high_s` bound the median with 95 % confidence."""

    median_s: float
    low_s: float
    high_s: float
    p10_s: float
    p90_s: float
    samples: int

    @property
    def relative_half_width(self) -> float:
        """Half of the confidence interval over the median: how well the median is known."""
        return (self.high_s - self.low_s) / 2 / self.median_s


def summarize(times_s: Sequence[float]) -> Summary:
    """Summarize times; raises ValueError for none, or for one that is not positive."""
    ordered = np.sort(np.asarray(times_s, dtype=np.float64))
    if ordered.size == 0 or not ordered[0] > 0:
        raise ValueError("times must be positive, and at least one")
    rank = _interval_rank(ordered.size)
    p10, median, p90 = np.quantile(ordered, (0.1, 0.5, 0.9))
    return Summary(
        median_s=float(median),
        low_s=float(ordered[rank]),
        high_s=float(ordered[-1 - rank]),
        p10_s=float(p10),
        p90_s=float(p90),
        samples=int(ordered.size),
    )


@cache
def _interval_rank(samples: int) -> int:
    """Index from each end of the sorted samples whose values enclose the median with 95 % confidence.

    Distribution-free (Conover, Practical Nonparametric Statistics, 3.2): the number of samples under the true median is
    binomial(n, 1/2). With fewer than 6 samples no pair reaches 95 %, and the extremes are the best there is.
    """
    return max(0, int(binom.ppf((1 - CONFIDENCE) / 2, samples, 0.5)) - 1)


def stability_warnings(times_s: Sequence[float]) -> tuple[str, ...]:
    """What makes these samples doubtful, each with a remedy. Thresholds follow pyperf's `check`."""
    summary = summarize(times_s)
    warnings = []
    if summary.samples < 6:
        warnings.append(f"only {summary.samples} samples: no 95 % interval; give more time with --budget-s")
    elif summary.relative_half_width > 0.05:
        warnings.append(
            f"the median is known to +-{summary.relative_half_width:.0%} only: stop other work or raise --budget-s"
        )
    if summary.p90_s > 1.5 * summary.p10_s:
        warnings.append(
            "a tenth of the samples takes over 1.5x the fastest tenth: look for other processes on the device"
        )
    if summary.samples >= 12 and (drift := _drift(times_s)) > 0.1:
        warnings.append(
            f"the last third is {drift:.0%} off the first: clocks or heat were still moving; warm up longer"
        )
    return tuple(warnings)


def _drift(times_s: Sequence[float]) -> float:
    third = len(times_s) // 3
    first, last = np.median(times_s[:third]), np.median(times_s[-third:])
    return float(abs(last - first) / first)
