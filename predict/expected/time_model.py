"""The parts of a model of expected time: constants with meaning and range, switches, and the facts of a GPU."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from predict.errors import MissingCeiling
from predict.gpus import Gpu, NvidiaGpu
from predict.resources import Resource, find_ceiling, matmul_unit
from predict.units import DType, Formats
from predict.workloads import Amounts, FloatArray

Dims = Mapping[str, FloatArray]
Constants = Mapping[str, float]
Switches = Mapping[str, bool]


class Scale(StrEnum):
    """What a constant grows with, from one GPU to another of its architecture."""

    NONE = "nothing"  # a share of a ceiling, a time that latencies decide
    SM_CLOCK = "the clock of an SM"
    ALL_SMS = "SMs times their clock"

    def times(self, to: NvidiaGpu, of: NvidiaGpu) -> float:
        """How many times as much `to` has of it as `of`."""
        match self:
            case Scale.NONE:
                return 1.0
            case Scale.SM_CLOCK:
                return to.boost_hz / of.boost_hz
            case Scale.ALL_SMS:
                return to.sm_count * to.boost_hz / (of.sm_count * of.boost_hz)


@dataclass(frozen=True, slots=True)
class Constant:
    """One calibrated number. A constant that no probe depends on keeps its prior."""

    unit: str
    prior: float  # before anything is measured
    low: float
    high: float
    spread: float  # standard deviation of log(value / prior) before anything is measured
    meaning: str
    only_narrowed: bool = False  # used only if the measured time includes narrowing activations from 16 bits
    only_widened: bool = False  # used only if the kernel widens its weights
    scale: Scale = Scale.NONE


@dataclass(frozen=True, slots=True)
class Switch:
    """A yes-or-no property of a kernel. The fit changes the default only if that lowers the cost enough."""

    meaning: str
    must_reach: float = 1.0  # the cost must fall to this share of the default's
    must_gain: float = 0.0  # and fall by this amount


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts of a GPU that need no measurement, for one compute format."""

    sm: int  # compute capability x 10
    sm_count: int
    clock_hz: float  # the clock of flop_per_s
    flop_per_s: float
    bytes_per_s: float  # DRAM
    l2_bytes: float
    link_bytes_per_s: float | None  # to the other GPUs, one direction
    may_reduce_in_switch: bool = True  # False if it is known that no switch on the link reduces
    l2_partitions: int = 1  # more than one hold some data twice

    @classmethod
    def of(cls, gpu: Gpu, dtype: DType) -> "Machine":
        """The facts of `gpu` for `dtype`. Raises MissingCeiling if one has no public source."""
        if not isinstance(gpu, NvidiaGpu):
            raise MissingCeiling(f"the multiprocessors, clocks and L2 of {gpu.name} are not known")
        if gpu.l2_bytes is None:
            raise MissingCeiling(f"the size of L2 of {gpu.name} is not known")
        peak, dram = find_ceiling(matmul_unit(dtype), gpu.roofs), find_ceiling(Resource.DRAM, gpu.roofs)
        return cls(
            sm=gpu.architecture.sm,
            sm_count=gpu.sm_count,
            clock_hz=gpu.boost_hz,
            flop_per_s=peak.per_s,
            bytes_per_s=dram.per_s,
            l2_bytes=gpu.l2_bytes,
            link_bytes_per_s=gpu.link_bytes_per_s,
            may_reduce_in_switch=gpu.may_reduce_in_switch,
            l2_partitions=gpu.architecture.l2_partitions,
        )

    def bound_s(self, amounts: Amounts) -> FloatArray:
        """The napkin's bound: FLOP at the peak rate or bytes at the DRAM bandwidth, whichever takes longer."""
        return np.maximum(amounts.flop / self.flop_per_s, amounts.bytes / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted time model of one implementation of an op on one GPU, in one set of formats."""

    op: str
    constants: Constants  # by name, in the units of the op's `TimeModel`
    switches: Switches
    probes: int  # measured rows that the fit used
    source: str  # who measured the rows


@dataclass(frozen=True, slots=True)
class Terms:
    """The time of each row and its terms, in seconds."""

    time_s: FloatArray  # less than the sum of the terms if they overlap
    parts: Mapping[str, FloatArray]  # by name of the term

    def without(self, names: Collection[str], least_s: FloatArray) -> "Terms":
        """The same [rows] without these terms, no less than any other term or than `least_s`."""
        parts = {name: part for name, part in self.parts.items() if name not in names}
        shorter = self.time_s - sum(self.parts[name] for name in names)
        return Terms(np.maximum.reduce([shorter, least_s, *parts.values()]), parts)


@dataclass(frozen=True, slots=True)
class TimeModel:
    """A formula for the time of one op, with constants and switches to calibrate."""

    op: str
    dims: tuple[str, ...]
    constants: Mapping[str, Constant]
    switches: Mapping[str, Switch]
    default_switches: Callable[[Machine], Switches]
    terms: Callable[[Dims, Machine, Formats, Constants, Switches], Terms]
    napkin_s: Callable[[Dims, Machine, Formats], FloatArray]  # the bound
    ties: float = 0.0  # probes that tell this share less than the best count as equal: those far apart are taken
    misfit: float = 0.0  # error of the form in log(time), if probes shall spread over the sizes for its sake
    # Of a measurement, beside the dimensions; where they are not told they are 0.
    conditions: tuple[str, ...] = ()

    def fitted(self, formats: Formats) -> tuple[str, ...]:
        """Names of the constants that these formats use."""
        return tuple(
            name
            for name, constant in self.constants.items()
            if (formats.narrows or not constant.only_narrowed) and (formats.widens or not constant.only_widened)
        )

    def carried(self, constants: Constants, to: NvidiaGpu, of: NvidiaGpu) -> Constants:
        """Constants measured on the GPU `of` for the GPU `to`: each grows as its `Scale` does, in its range."""
        known = ((name, value, self.constants[name]) for name, value in constants.items())
        return {name: min(max(value * each.scale.times(to, of), each.low), each.high) for name, value, each in known}

    def priors(self) -> Constants:
        """Every constant at its prior."""
        return {name: constant.prior for name, constant in self.constants.items()}


def p_norm(a: FloatArray, b: FloatArray, p: float) -> FloatArray:
    """(a^p + b^p)^(1/p): the sum for p = 1 (no overlap), close to the larger of the two for large p (full overlap)."""
    longer, shorter = np.maximum(a, b), np.minimum(a, b)
    return longer * (1 + (shorter / np.maximum(longer, 1e-15)) ** p) ** (1 / p)
