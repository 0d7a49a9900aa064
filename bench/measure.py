"""Measure one prepared case: warm up until stable, sample until the median is known or the time is spent.

Pure given the sampler, the clock and the monitor, so that all of it is tested without a device.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

from bench.env import GpuState
from bench.record import Measurement
from bench.stats import summarize

Observe = Callable[[], object]


class Sampler(Protocol):
    """One prepared case, ready to be timed."""

    @property
    def method(self) -> str:
        """How a sample is taken: "cuda_graph", "cuda_event", "as_issued" or "wall_clock"."""

    @property
    def launches_per_sample(self) -> int:
        """How many launches one sample averages over."""

    @property
    def cold_l2(self) -> bool | None:
        """Whether every launch finds its operands outside the last-level cache; None if that cannot be told."""

    @property
    def held(self) -> bool | None:
        """Whether the host had queued the last samples before the device began them; None where it need not."""

    @property
    def host_s(self) -> float | None:
        """What the host needs to issue one call, in seconds; None where the host is the device."""

    def sample(self, observe: Observe) -> tuple[float, ...]:
        """Take the next samples, in seconds per launch; call `observe` while a device works on them."""


class Monitor(Protocol):
    """Reads the state of the device between samples."""

    def read(self) -> GpuState:
        """Take one reading."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop. A case takes at most about warmup_s + time_s, or min_samples if those take longer; and at least
    min_time_s after warming up."""

    time_s: float = 1.0
    warmup_s: float = 0.2
    min_time_s: float = 0.0
    min_samples: int = 10
    max_samples: int = 1000
    relative_half_width: float = 0.01  # of the median's 95 % confidence interval


WARMUP_GROUP = 3  # samples whose medians are compared to see whether warming up still changes anything
WARMUP_TOLERANCE = 0.02
MONITOR_PERIOD_S = 0.02  # NVML refreshes its own readings no faster
POWER_LAG_S = 0.1  # until then a power reading is still of what ran before: meters refresh about ten times a second
FEWEST_SAMPLES = 6  # even where they take longer than the budget: fewer have no 95 % interval


def measure(
    sampler: Sampler,
    budget: Budget,
    *,
    clock: Callable[[], float] = time.perf_counter,
    monitor: Monitor | None = None,
) -> Measurement:
    """Measure `sampler` and keep every sample after the warm-up."""
    log = _StateLog(monitor, clock, clock())
    _warm_up(sampler, budget, clock, log)
    times_s: list[float] = []
    states: list[GpuState] = []  # one for each time, where there is a monitor
    start_s = clock()
    while True:
        taken_s = sampler.sample(log.read)
        times_s += taken_s
        states += [log.latest] * len(taken_s) if log.latest else []
        spent_s = clock() - start_s
        if _is_known(times_s, budget) and spent_s >= budget.min_time_s:
            stop = "converged"
            break
        spent = spent_s >= max(budget.time_s, budget.min_time_s) and len(times_s) >= FEWEST_SAMPLES
        if spent or len(times_s) >= budget.max_samples:
            stop = "budget"
            break
    throttles = [state.throttle for state in states if state.throttle is not None]
    return Measurement(
        times_s=tuple(times_s),
        method=sampler.method,
        launches_per_sample=sampler.launches_per_sample,
        stop=stop,
        cold_l2=sampler.cold_l2,
        sm_hz=_median_known(state.sm_hz for state in states),
        power_w=_median_known(state.power_w for state in states),
        temperature_c=max((state.temperature_c for state in states if state.temperature_c is not None), default=None),
        throttle=tuple(sorted(set().union(*throttles))) if throttles else None,
        held=sampler.held,
        host_s=sampler.host_s,
        sm_hz_samples=tuple(state.sm_hz for state in states),
        power_w_samples=tuple(state.power_w for state in states),
    )


def _is_known(times_s: list[float], budget: Budget) -> bool:
    """Whether the median is known well enough."""
    enough = len(times_s) >= budget.min_samples
    return enough and summarize(times_s).relative_half_width <= budget.relative_half_width


def _median_known(values: Iterable[float | None]) -> float | None:
    """Median of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _warm_up(sampler: Sampler, budget: Budget, clock: Callable[[], float], log: "_StateLog") -> None:
    """Sample, and throw away, until two groups in a row agree or the warm-up time is spent."""
    start_s = clock()
    times_s: list[float] = []
    while True:
        times_s += sampler.sample(log.read)
        if clock() - start_s >= budget.warmup_s:
            return
        if len(times_s) >= 2 * WARMUP_GROUP:
            before, after = median(times_s[-2 * WARMUP_GROUP : -WARMUP_GROUP]), median(times_s[-WARMUP_GROUP:])
            if abs(after / before - 1) <= WARMUP_TOLERANCE:
                return


@dataclass(slots=True)
class _StateLog:
    """The latest reading of the monitor, taken no more often than it can change; None where there is no monitor."""

    monitor: Monitor | None
    clock: Callable[[], float]
    start_s: float
    latest: GpuState | None = None
    last_s: float = float("-inf")

    def read(self) -> None:
        now_s = self.clock()
        if self.monitor is None or now_s - self.last_s < MONITOR_PERIOD_S:
            return
        self.last_s, self.latest = now_s, self.monitor.read()
        if now_s - self.start_s < POWER_LAG_S:
            self.latest = replace(self.latest, power_w=None)
