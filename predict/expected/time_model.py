"""What every form of expected time has: constants with a meaning and a range, switches, and the facts of a GPU."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from predict.errors import MissingCeiling
from predict.gpus import Gpu
from predict.resources import Resource, find_ceiling, matmul_unit
from predict.units import DType, Formats
from predict.workloads import Amounts, FloatArray

Dims = Mapping[str, FloatArray]
Constants = Mapping[str, float]
Switches = Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Constant:
    """One calibrated number. A constant that no probe touches stays at its prior."""

    unit: str
    prior: float  # before anything is measured
    low: float
    high: float
    spread: float  # standard deviation of log(value / prior) before anything is measured
    meaning: str
    only_narrowed: bool = False  # only where activations are narrowed from 16 bits within the measured time


@dataclass(frozen=True, slots=True)
class Switch:
    """A yes or no about how a kernel works."""

    meaning: str
    must_reach: float = 1.0  # the setting that is not the default must lower the cost of the fit to this share,
    must_gain: float = 0.0  # and by this much


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known of a GPU without measuring, for matrices multiplied in one format."""

    sm: int  # compute capability x 10
    sm_count: int
    clock_hz: float  # behind flop_per_s
    flop_per_s: float
    bytes_per_s: float  # DRAM
    l2_bytes: float
    link_bytes_per_s: float | None  # to the other GPUs, one direction
    may_reduce_in_switch: bool = True  # False where the link is known to have no switch that reduces

    @classmethod
    def of(cls, gpu: Gpu, dtype: DType) -> "Machine":
        """The facts of `gpu` for `dtype`; raises MissingCeiling where one has no public source."""
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
        )

    def bound_s(self, amounts: Amounts) -> FloatArray:
        """The napkin's bound: FLOP at the peak or bytes at the bandwidth, whichever takes longer."""
        return np.maximum(amounts.flop / self.flop_per_s, amounts.bytes / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of an op in one set of formats on one GPU, as one implementation computes it."""

    op: str
    constants: Constants  # by name, in the units of the op's `TimeModel`
    switches: Switches
    probes: int  # measured rows that they come from
    source: str  # who measured them


@dataclass(frozen=True, slots=True)
class Terms:
    """The time of each row and its terms, in seconds."""

    time_s: FloatArray  # less than the sum of the terms where they overlap
    parts: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class TimeModel:
    """A form for the time of one op."""

    op: str
    dims: tuple[str, ...]
    constants: Mapping[str, Constant]  # what must be calibrated
    switches: Mapping[str, Switch]
    default_switches: Callable[[Machine], Switches]
    terms: Callable[[Dims, Machine, Formats, Constants, Switches], Terms]
    napkin_s: Callable[[Dims, Machine, Formats], FloatArray]  # the bound

    def fitted(self, formats: Formats) -> tuple[str, ...]:
        """Names of the constants that matter for these formats."""
        return tuple(name for name, constant in self.constants.items() if formats.narrows or not constant.only_narrowed)

    def priors(self) -> Constants:
        """Every constant at its prior."""
        return {name: constant.prior for name, constant in self.constants.items()}


def p_norm(a: FloatArray, b: FloatArray, p: float) -> FloatArray:
    """(a^p + b^p)^(1/p): the sum for p = 1, the larger of the two for a large p; so p says how far they overlap."""
    longer, shorter = np.maximum(a, b), np.minimum(a, b)
    return longer * (1 + (shorter / np.maximum(longer, 1e-15)) ** p) ** (1 / p)
