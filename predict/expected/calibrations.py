"""Calibrations that ship: constants of expected time for GPUs whose kernels others have measured and published.

`calibrations.json` holds them, `residuals.npy` what their forms leave over, by shape. `python -m reports ship TABLE...`
writes both: the constants come from at most 16 rows of a public table, chosen by their dimensions alone, and are judged
on all other rows; a residual is judged on rows that it was not fitted to.
"""

import functools
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predict.errors import MissingCeiling
from predict.expected.kernel import TIME_MODELS
from predict.expected.residual import log_factor, nodes
from predict.expected.time_model import Calibration, Dims
from predict.gpus import GPUS, Gpu, NvidiaGpu
from predict.resources import Resource
from predict.workloads import FloatArray

AICONFIGURATOR = "measured by NVIDIA, ai-dynamo/aiconfigurator 095f58a, Apache-2.0"
FILE = Path(__file__).with_name("calibrations.json")
RESIDUALS = Path(__file__).with_name("residuals.npy")
DATA_CENTER = (70, 80, 90, 100, 103)  # compute capabilities x 10 of GPUs made for data centers
# Kernels of other names share next to nothing of their residuals (correlation -0.66 to 0.86, median 0.02, over 112
# pairs on one GPU or on H100 and H200), but a new version may rename a kernel that it keeps. Half of a residual gains
# half of what there is to gain, and costs little where there is nothing.
TRUST_OF_ANOTHER_NAME = 0.5


class Basis(StrEnum):
    """What an expected time rests on."""

    MEASURED = "measured on it"
    SIBLING = "measured on another GPU of its architecture"
    OTHER = "measured on a GPU of another architecture"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A calibration that ships: which kernels it describes, and how far off it is."""

    gpu: str
    # Of the products, with that of the weights: bf16, fp8, fp8_block, nvfp4; int4_wo, int8_wo, w4a16_mxfp4 of weights
    # alone; of a collective bf16.
    format: str
    cache: str | None  # format of the KV cache, for attention
    window: bool
    kernel: str  # who computes it, in the table's words
    ranges: Mapping[str, tuple[float, float]]  # of each dimension, in the table
    rows: int  # that judged it
    error: float  # mean of |expected / measured - 1| over these rows
    refined_error: float | None  # the same with the residual's factor, over rows that it was not fitted to
    residual: NDArray[np.int8] | None = field(compare=False)  # see predict.expected.residual
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Carried:
    """How far off times are on GPUs that were measured, if they are asked for as if they had not been."""

    op: str
    format: str
    cache: str | None
    window: bool
    basis: Basis
    groups: int  # kernels on pairs of GPUs that judged it
    expected_error: float  # their median, weighted by shapes, of the mean of |expected / measured - 1|
    refined_error: float | None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an op's kernels on a GPU."""

    gpu: NvidiaGpu
    shipped: Shipped
    basis: Basis
    expected_error: float | None  # mean error of expected time; None if no pair of GPUs could judge it
    refined_error: float | None  # with the residual
    trust: float  # share of the residual's log that counts
    stand_in: str = ""  # what stands in for kernels of an op that nobody measured

    @property
    def calibration(self) -> Calibration:
        """The constants for the GPU that was asked for: those of a sibling grow as its datasheet says."""
        found, of = self.shipped.calibration, GPUS[self.shipped.gpu]
        assert isinstance(of, NvidiaGpu)
        if of.name == self.gpu.name:
            return found
        constants = TIME_MODELS[found.op].carried(found.constants, self.gpu, of)
        return Calibration(found.op, constants, found.switches, found.probes, found.source)

    @property
    def why_unrefined(self) -> str:
        """Why there is no residual; empty if there is one."""
        if self.basis is Basis.OTHER:
            return f"what {self.shipped.gpu}'s kernels leave over tells nothing of another architecture"
        if self.shipped.residual is None:
            return f"no residual of {self.shipped.kernel} ships"
        if self.stand_in:
            return "what other kernels leave over tells nothing of these"
        return "" if self.trust else "its kernels were measured with a window, or these have one"

    def factor(self, dims: Dims) -> FloatArray | None:
        """The residual's factor on the expected time of each row, or None. `dims` are arrays of one shape."""
        if self.why_unrefined or self.shipped.residual is None:
            return None
        log = log_factor(self.shipped.calibration.op, dims, self.shipped.residual, window=self.shipped.window)
        return np.exp(self.trust * log)


@dataclass(frozen=True, slots=True)
class Library:
    """All that ships."""

    shipped: tuple[Shipped, ...]
    carried: tuple[Carried, ...]

    def errors(self, kernels: Shipped, basis: Basis) -> tuple[float | None, float | None]:
        """Mean errors of expected and refined times of such kernels on such a basis: those of the same formats, with
        or without a window, else those of the op's nearest."""
        found = [each for each in self.carried if (each.op, each.basis) == (kernels.calibration.op, basis)]
        for name in ("format", "cache", "window"):
            found = [each for each in found if getattr(each, name) == getattr(kernels, name)] or found
        refined = [each.refined_error for each in found if each.refined_error is not None]
        return _mean([each.expected_error for each in found]), _mean(refined)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


@functools.cache
def library() -> Library:
    """All that ships, in the file's order."""
    return read_library(json.loads(FILE.read_text(encoding="utf-8")), np.load(RESIDUALS))


def read_library(data: Mapping[str, Any], residuals: NDArray[np.int8]) -> Library:
    """What `calibrations.json` and `residuals.npy` hold."""
    entries = tuple(_shipped(each, residuals) for each in data["calibrations"])
    carried = (Carried(**{**each, "basis": Basis[each["basis"]]}) for each in data["carried"])
    return Library(entries, tuple(carried))


def _shipped(entry: Mapping[str, Any], residuals: NDArray[np.int8]) -> Shipped:
    start = entry["residual"]
    return Shipped(
        gpu=entry["gpu"],
        format=entry["format"],
        cache=entry["cache"],
        window=entry["window"],
        kernel=entry["kernel"],
        ranges=MappingProxyType({name: (low, high) for name, (low, high) in entry["ranges"].items()}),
        rows=entry["rows"],
        error=entry["error"],
        refined_error=entry["refined_error"],
        residual=None if start is None else residuals[start : start + nodes(entry["op"], window=entry["window"])],
        calibration=Calibration(
            entry["op"],
            entry["constants"],
            entry["switches"],
            entry["probes"],
            f"{entry['table']}, {entry['kernel']}; {AICONFIGURATOR}",
        ),
    )


def shipped() -> tuple[Shipped, ...]:
    """The calibrations that ship, in the file's order."""
    return library().shipped


def find_known(
    gpu: Gpu,
    op: str,
    fmt: str,
    *,
    cache: str | None = None,
    window: bool = False,
    head_dim: float | None = None,
    kernel: str | None = None,
    leave_out: Collection[str] = (),
    among: Library | None = None,
) -> Known:
    """What is known of `op` on `gpu`: of the kernels measured on the nearest GPU those that fit best. `fmt` and `cache`
    are names of formats as in `Shipped`, `kernel` is a table's name for who computes it; measurements of the GPUs
    `leave_out` do not count. Raises MissingCeiling if nothing like it was measured anywhere."""
    ships = among or library()
    found = [
        each
        for each in ships.shipped
        if each.calibration.op == op and each.format == same_rates(fmt) and each.gpu not in leave_out
    ]
    if not found or not isinstance(gpu, NvidiaGpu):
        raise MissingCeiling(f"no calibration of {op} in {fmt} for {gpu.name} is known")
    nearest = min(dict.fromkeys(each.gpu for each in found), key=lambda name: _distance(gpu, name))
    fitting = min(
        (each for each in found if each.gpu == nearest),
        key=lambda each: (*_misfit(each, cache, head_dim, window=window), -_alike(each.kernel, kernel), -each.rows),
    )
    same = kernel in (None, fitting.kernel) and fitting.cache == (cache and same_rates(cache))
    trust = 0.0 if fitting.window != window else 1.0 if same else TRUST_OF_ANOTHER_NAME
    return _known(gpu, fitting, ships, trust)


def find_every(gpu: Gpu, op: str, fmt: str) -> Iterator[Known]:
    """The kernels of `op` that an engine chooses among: those measured on the nearest GPU, and others measured on a GPU
    of the architecture, each on the nearest one. Raises MissingCeiling as `find_known` does."""
    first = find_known(gpu, op, fmt)
    alike = [
        each
        for each in shipped()
        if (each.calibration.op, each.format) == (op, first.shipped.format)
        and (each.cache, each.window) == (first.shipped.cache, first.shipped.window)
        and (each.gpu == first.shipped.gpu or _basis(first.gpu, each.gpu) is Basis.SIBLING)
    ]
    nearest = sorted(alike, key=lambda each: _distance(first.gpu, each.gpu))
    for kernel in dict.fromkeys(each.kernel for each in alike):
        yield _known(first.gpu, next(each for each in nearest if each.kernel == kernel), library(), 1.0)


def _known(gpu: NvidiaGpu, found: Shipped, ships: Library, trust: float) -> Known:
    basis = _basis(gpu, found.gpu)
    if basis is Basis.MEASURED:
        return Known(gpu, found, basis, found.error, found.refined_error, trust)
    # Nothing is known better on a relative than on the GPU that was measured.
    expected_error, refined_error = ships.errors(found, basis)
    expected_error = None if expected_error is None else max(expected_error, found.error)
    if refined_error is not None and found.refined_error is not None:
        refined_error = max(refined_error, found.refined_error)
    return Known(gpu, found, basis, expected_error, refined_error, trust)


def _misfit(each: Shipped, cache: str | None, head_dim: float | None, *, window: bool) -> tuple[bool, bool, bool]:
    """The order in which kernels are preferred: heads as wide, then the window, then the cache."""
    low, high = each.ranges.get("head_dim", (0.0, float("inf")))
    wrong_heads = head_dim is not None and not low <= head_dim <= high
    return wrong_heads, each.window != window, each.cache != (cache and same_rates(cache))


def _alike(name: str, other: str | None) -> int:
    """Words that two names of kernels share; one more if they are equal."""
    if other is None:
        return 0
    return len(set(name.split("_")) & set(other.split("_"))) + (name == other)


def is_sibling(gpu: Gpu, measured: str) -> bool:
    """Whether the GPU called `measured` has the architecture of `gpu`."""
    other = GPUS[measured]
    return isinstance(other, NvidiaGpu) and isinstance(gpu, NvidiaGpu) and _family(other) == _family(gpu)


def _basis(gpu: NvidiaGpu, measured: str) -> Basis:
    if gpu.name == measured:
        return Basis.MEASURED
    return Basis.SIBLING if is_sibling(gpu, measured) else Basis.OTHER


def _distance(gpu: NvidiaGpu, measured: str) -> tuple[bool, bool, bool, int, float]:
    """How far a GPU is from a measured one: first by what its kernels are made for, then by its speed."""
    other = GPUS[measured]
    assert isinstance(other, NvidiaGpu)
    mine, theirs = gpu.architecture.sm, other.architecture.sm
    apart = sum(abs(np.log(own / others)) for own, others in zip(_speed(gpu), _speed(other), strict=True))
    return (
        other.name != gpu.name,
        _family(gpu) != _family(other),
        (mine in DATA_CENTER) != (theirs in DATA_CENTER),
        abs(mine - theirs) // 10,
        apart,
    )


def _speed(gpu: NvidiaGpu) -> tuple[float, float]:
    """Cycles of all SMs, and bytes of DRAM, per second."""
    return gpu.sm_count * gpu.boost_hz, gpu.roofs[Resource.DRAM].per_s


def _family(gpu: NvidiaGpu) -> tuple[int, bool]:
    """What decides which kernels a GPU runs. A generation for data centers is one family; of the others each compute
    capability is one."""
    sm = gpu.architecture.sm
    return (sm // 10, True) if sm in DATA_CENTER else (sm, False)


def same_rates(fmt: str) -> str:
    """Name of the format whose calibration applies to `fmt`: fp16 runs at the rates of bf16."""
    return "bf16" if fmt == "fp16" else fmt
