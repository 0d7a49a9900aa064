"""Statistics of the raw samples. None is dropped: outliers and drift are reported with a remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from scipy.stats import binom

CONFIDENCE = 0.95
FEWEST_SAMPLES = 6  # fewer have no 95 % interval
WIDE = 0.05  # half of the interval over the median: beyond it the median is not known
DRIFTS = 0.1  # the median of the last third, off that of the first
FEWEST_THIRDS = 12  # samples of which thirds are compared


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
    binomial(n, 1/2). With fewer than `FEWEST_SAMPLES` no pair reaches 95 %, and the extremes are used.
    """
    return max(0, int(binom.ppf((1 - CONFIDENCE) / 2, samples, 0.5)) - 1)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason to doubt samples."""

    reason: str
    remedy: str
    unsettles: bool  # the median itself is in doubt: another run may give another one


def doubts(times_s: Sequence[float], summary: Summary) -> tuple[Doubt, ...]:
    """Reasons to doubt these samples; `summary` is theirs. Thresholds as in pyperf's `check`.

    A wide spread alone leaves the median where it is: half of the samples would have to be slow to move it.
    """
    found = []
    half_width = f"{summary.relative_half_width:.0%}"
    if summary.samples < FEWEST_SAMPLES:
        reason = f"only {summary.samples} samples: no 95 % interval"
        found.append(Doubt(reason, "give more time with --budget-s", unsettles=True))
    elif summary.relative_half_width > WIDE:
        remedy = "stop other work or raise --budget-s"
        found.append(Doubt(f"the median is known to +-{half_width} only", remedy, unsettles=True))
    if summary.p90_s > 1.5 * summary.p10_s:
        reason = "a tenth of the samples takes over 1.5x the fastest tenth"
        found.append(Doubt(reason, "look for other processes on the device", unsettles=False))
    if summary.samples >= FEWEST_THIRDS and (drift := _drift(times_s)) > DRIFTS:
        reason = f"the last third is {drift:.0%} off the first"
        found.append(Doubt(reason, "clocks, heat or other work were still moving; warm up longer", unsettles=True))
    return tuple(found)


def _drift(times_s: Sequence[float]) -> float:
    third = len(times_s) // 3
    first, last = median(times_s[:third]), median(times_s[-third:])
    return abs(last - first) / first
