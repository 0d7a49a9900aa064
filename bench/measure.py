"""Measure one prepared case: warm up until stable, sample until the median is known or the time is spent.

Pure given the sampler, the clock and the monitor, so that all of it is tested without a device.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from bench.env import GpuState
from bench.record import Measurement
from bench.stats import summarize


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

    def sample(self) -> float:
        """Take one sample: seconds per launch."""


class Monitor(Protocol):
    """Reads the state of the device between samples."""

    def read(self) -> GpuState:
        """Take one reading."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop. A case takes at most about warmup_s + time_s, or min_samples if those take longer."""

    time_s: float = 1.0
    warmup_s: float = 0.2
    min_samples: int = 10
    max_samples: int = 1000
    relative_half_width: float = 0.01  # of the median's 95 % confidence interval


WARMUP_GROUP = 3  # samples whose medians are compared to see whether warming up still changes anything
WARMUP_TOLERANCE = 0.02
MONITOR_PERIOD_S = 0.02  # NVML refreshes its own readings no faster
FEWEST_SAMPLES = 6  # even where they take longer than the budget: fewer have no 95 % interval


def measure(
    sampler: Sampler,
    budget: Budget,
    *,
    clock: Callable[[], float] = time.perf_counter,
    monitor: Monitor | None = None,
) -> Measurement:
    """Measure `sampler` and keep every sample after the warm-up."""
    _warm_up(sampler, budget, clock)
    log = _StateLog(monitor, clock)
    times_s: list[float] = []
    start_s = clock()
    while True:
        times_s.append(sampler.sample())
        log.read()
        enough = len(times_s) >= budget.min_samples
        if enough and summarize(times_s).relative_half_width <= budget.relative_half_width:
            stop = "converged"
            break
        spent = clock() - start_s >= budget.time_s and len(times_s) >= FEWEST_SAMPLES
        if spent or len(times_s) >= budget.max_samples:
            stop = "budget"
            break
    states = log.states
    powers_w = [state.power_w for state in states if state.power_w is not None]
    return Measurement(
        times_s=tuple(times_s),
        method=sampler.method,
        launches_per_sample=sampler.launches_per_sample,
        stop=stop,
        cold_l2=sampler.cold_l2,
        sm_hz=median(state.sm_hz for state in states) if states else None,
        power_w=median(powers_w) if powers_w else None,
        temperature_c=max(state.temperature_c for state in states) if states else None,
        throttle=tuple(sorted({reason for state in states for reason in state.throttle})) if states else None,
    )


def _warm_up(sampler: Sampler, budget: Budget, clock: Callable[[], float]) -> None:
    """Sample, and throw away, until two groups in a row agree or the warm-up time is spent."""
    start_s = clock()
    times_s: list[float] = []
    while True:
        times_s.append(sampler.sample())
        if clock() - start_s >= budget.warmup_s:
            return
        if len(times_s) >= 2 * WARMUP_GROUP:
            before, after = median(times_s[-2 * WARMUP_GROUP : -WARMUP_GROUP]), median(times_s[-WARMUP_GROUP:])
            if abs(after / before - 1) <= WARMUP_TOLERANCE:
                return


@dataclass(slots=True)
class _StateLog:
    """Readings of the monitor, no more often than they can change. Empty where there is no monitor."""

    monitor: Monitor | None
    clock: Callable[[], float]
    states: list[GpuState] = field(default_factory=list)
    last_s: float = float("-inf")

    def read(self) -> None:
        if self.monitor is not None and self.clock() - self.last_s >= MONITOR_PERIOD_S:
            self.states.append(self.monitor.read())
            self.last_s = self.clock()
