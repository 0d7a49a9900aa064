"""Measures one prepared case: warms up until stable, samples until the median is known or the time is spent.

Sampler, clock and monitor are passed in, so that tests need no device.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

from bench.env import GpuState
from bench.record import Measurement
from bench.stats import FEWEST_SAMPLES, summarize

Observe = Callable[[], object]
Monitor = Callable[[], GpuState]  # reads the state of the device


class Sampler(Protocol):
    """One prepared case, ready to be timed."""

    method: str  # "cuda_graph", "cuda_event", "as_issued" or "wall_clock"
    launches_per_sample: int  # one sample is their mean
    cold_l2: bool | None  # every launch finds its operands outside the last-level cache; None if unknown
    held: bool | None  # the host queued the last samples before the device began them; None where it need not
    host_s: float | None  # what the host needs to issue one call; None if the host is the device

    def sample(self, observe: Observe) -> tuple[float, ...]:
        """Take the next samples, in seconds per launch; call `observe` while the device works on them."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop. A case takes about warmup_s + time_s at most, longer where min_samples take longer."""

    time_s: float = 1.0  # of sampling, at most
    warmup_s: float = 0.2  # at most
    min_time_s: float = 0.0  # of sampling, at least
    min_samples: int = 10
    max_samples: int = 1000
    relative_half_width: float = 0.01  # of the median's 95 % confidence interval; below it the median is known


WARMUP_GROUP = 3  # samples in each of the two groups whose medians must agree
WARMUP_TOLERANCE = 0.02
MONITOR_PERIOD_S = 0.02  # NVML refreshes its readings no faster
POWER_LAG_S = 0.1  # power meters refresh about ten times a second: a reading before that is of earlier work


def sample_until_known(
    sampler: Sampler,
    budget: Budget,
    *,
    clock: Callable[[], float] = time.perf_counter,
    monitor: Monitor | None = None,
) -> Measurement:
    """Measure `sampler` and keep every sample after the warm-up."""
    log = _StateLog(monitor, clock, clock())
    _warm_up(sampler, budget, clock, log)
    times_s, states, stop = _take_samples(sampler, budget, clock, log)
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


def _take_samples(
    sampler: Sampler, budget: Budget, clock: Callable[[], float], log: "_StateLog"
) -> tuple[list[float], list[GpuState], str]:
    """Sample until the budget says stop. Returns the times, the state of the device at each (none without a monitor),
    and why it stopped, as in `Measurement.stop`."""
    times_s: list[float] = []
    states: list[GpuState] = []
    start_s = clock()
    while True:
        taken_s = sampler.sample(log.read)
        times_s += taken_s
        states += [log.latest] * len(taken_s) if log.latest else []
        spent_s = clock() - start_s
        if _is_known(times_s, budget) and spent_s >= budget.min_time_s:
            return times_s, states, "converged"
        spent = spent_s >= max(budget.time_s, budget.min_time_s) and len(times_s) >= FEWEST_SAMPLES
        if spent or len(times_s) >= budget.max_samples:
            return times_s, states, "budget"


def _is_known(times_s: list[float], budget: Budget) -> bool:
    """Whether the median is known well enough."""
    enough = len(times_s) >= budget.min_samples
    return enough and summarize(times_s).relative_half_width <= budget.relative_half_width


def _median_known(values: Iterable[float | None]) -> float | None:
    """Median of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _warm_up(sampler: Sampler, budget: Budget, clock: Callable[[], float], log: "_StateLog") -> None:
    """Sample, and discard, until two groups in a row agree or the warm-up time is spent."""
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
    """Reads the monitor no more often than its answer can change."""

    monitor: Monitor | None
    clock: Callable[[], float]
    start_s: float  # of the case
    latest: GpuState | None = None  # reading; None without a monitor
    last_s: float = float("-inf")  # when it was read

    def read(self) -> None:
        now_s = self.clock()
        if self.monitor is None or now_s - self.last_s < MONITOR_PERIOD_S:
            return
        self.last_s, self.latest = now_s, self.monitor()
        if now_s - self.start_s < POWER_LAG_S:
            self.latest = replace(self.latest, power_w=None)
