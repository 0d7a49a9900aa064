"""Statistics of the raw samples. None is dropped: outliers and drift are reported with a remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from scipy.stats import binom

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Summary:
    """Order statistics of a set of times."""

    median_s: float
    low_s: float  # bounds of the median with 95 % confidence
    high_s: float
    p10_s: float
    p90_s: float
    samples: int

    @property
    def relative_half_width(self) -> float:
        """Half of the confidence interval over the median."""
        return (self.high_s - self.low_s) / 2 / self.median_s


def summarize(times_s: Sequence[float]) -> Summary:
    """Summarize times. Raises ValueError if there are none, or one is not positive."""
    ordered = sorted(times_s)
    if not ordered or not all(time_s > 0 for time_s in ordered):
        raise ValueError("times must be positive, and at least one")
    rank = _interval_rank(len(ordered))
    return Summary(
        median_s=_quantile(ordered, 0.5),
        low_s=ordered[rank],
        high_s=ordered[-1 - rank],
        p10_s=_quantile(ordered, 0.1),
        p90_s=_quantile(ordered, 0.9),
        samples=len(ordered),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between neighbors, as NumPy's default, which is much slower for few samples."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@cache
def _interval_rank(samples: int) -> int:
    """Index from each end of the sorted samples whose values enclose the median with 95 % confidence.

    Distribution-free (Conover, Practical Nonparametric Statistics, 3.2): the number of samples under the true median is
    binomial(n, 1/2). With fewer than 6 samples no pair reaches 95 %, and the extremes are used.
    """
    return max(0, int(binom.ppf((1 - CONFIDENCE) / 2, samples, 0.5)) - 1)


def stability_warnings(times_s: Sequence[float], summary: Summary) -> tuple[str, ...]:
    """Reasons to doubt these samples, each with a remedy; `summary` is theirs. Thresholds as in pyperf's `check`."""
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
    first, last = median(times_s[:third]), median(times_s[-third:])
    return abs(last - first) / first
