"""Calibrations that ship: constants of expected time for GPUs whose kernels others have measured and published.

`calibrations.json` holds them. `python -m reports ship TABLE...` writes it: each calibration comes from at most 16 rows
of a public table, chosen by their dimensions alone, and is judged on all other rows.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from predict.errors import MissingCeiling
from predict.expected.time_model import Calibration
from predict.gpus import GPUS, Gpu, NvidiaGpu
from predict.units import DType

AICONFIGURATOR = "measured by NVIDIA, ai-dynamo/aiconfigurator 095f58a, Apache-2.0"
FILE = Path(__file__).with_name("calibrations.json")
DATA_CENTER = (70, 80, 90, 100, 103)  # compute capabilities x 10 of GPUs made for data centers


@dataclass(frozen=True, slots=True)
class Shipped:
    """A calibration that ships: which kernels it describes, and how far off it is."""

    gpu: str
    format: str  # of the products, with that of the weights: bf16, fp8, fp8_block, nvfp4; of a collective bf16
    cache: str | None  # format of the KV cache, for attention
    window: bool
    kernel: str  # who computes it, in the table's words
    ranges: Mapping[str, tuple[float, float]]  # of each dimension, in the table
    rows: int  # that judged it
    error: float  # mean of |expected / measured - 1| over these rows
    calibration: Calibration


class Basis(StrEnum):
    """What an expected time rests on."""

    MEASURED = "measured on it"
    SIBLING = "measured on another GPU of its architecture"
    OTHER = "measured on a GPU of another architecture"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an op's kernels on a GPU."""

    shipped: Shipped
    basis: Basis

    @property
    def calibration(self) -> Calibration:
        """The constants for the GPU that was asked for."""
        return self.shipped.calibration


@functools.cache
def shipped() -> tuple[Shipped, ...]:
    """All that ships, in the file's order."""
    entries = json.loads(FILE.read_text(encoding="utf-8"))["calibrations"]
    return tuple(
        Shipped(
            gpu=each["gpu"],
            format=each["format"],
            cache=each["cache"],
            window=each["window"],
            kernel=each["kernel"],
            ranges=MappingProxyType({name: (low, high) for name, (low, high) in each["ranges"].items()}),
            rows=each["rows"],
            error=each["error"],
            calibration=Calibration(
                each["op"],
                each["constants"],
                each["switches"],
                each["probes"],
                f"{each['table']}, {each['kernel']}; {AICONFIGURATOR}",
            ),
        )
        for each in entries
    )


def find_known(
    gpu: Gpu,
    op: str,
    fmt: str,
    *,
    cache: str | None = None,
    window: bool = False,
    head_dim: float | None = None,
    leave_out: str | None = None,
) -> Known:
    """What is known of `op` on `gpu`: of the kernels measured on the nearest GPU those that fit best. `fmt` and `cache`
    are names of formats as in `Shipped`; `leave_out` is a GPU whose measurements do not count. Raises MissingCeiling if
    nothing like it was measured anywhere."""
    found = [
        each
        for each in shipped()
        if each.calibration.op == op and each.format == same_rates(fmt) and each.gpu != leave_out
    ]
    if not found or not isinstance(gpu, NvidiaGpu):
        raise MissingCeiling(f"no calibration of {op} in {fmt} for {gpu.name} is known")
    nearest = min(dict.fromkeys(each.gpu for each in found), key=lambda name: _distance(gpu, name))
    fitting = min(
        (each for each in found if each.gpu == nearest), key=lambda each: _misfit(each, cache, head_dim, window=window)
    )
    return Known(fitting, _basis(gpu, nearest))


def find_every(gpu: Gpu, op: str, fmt: str) -> Iterator[Known]:
    """The kernels of `op` that were measured on the nearest GPU: implementations that an engine chooses among."""
    first = find_known(gpu, op, fmt)
    for each in shipped():
        same = (each.gpu, each.calibration.op, each.format) == (first.shipped.gpu, op, first.shipped.format)
        if same and (each.cache, each.window) == (first.shipped.cache, first.shipped.window):
            yield Known(each, first.basis)


def _misfit(each: Shipped, cache: str | None, head_dim: float | None, *, window: bool) -> tuple[bool, bool, bool, int]:
    """The order in which kernels are preferred: heads as wide, the window, the cache, then the best measured."""
    low, high = each.ranges.get("head_dim", (0.0, float("inf")))
    wrong_heads = head_dim is not None and not low <= head_dim <= high
    return wrong_heads, each.window != window, each.cache != (cache and same_rates(cache)), -each.rows


def _basis(gpu: NvidiaGpu, measured: str) -> Basis:
    if gpu.name == measured:
        return Basis.MEASURED
    other = GPUS[measured]
    same = isinstance(other, NvidiaGpu) and _family(other) == _family(gpu)
    return Basis.SIBLING if same else Basis.OTHER


def _distance(gpu: NvidiaGpu, measured: str) -> tuple[bool, bool, bool, int, float]:
    """How far a GPU is from a measured one: first by what its kernels are made for, then by its speed."""
    other = GPUS[measured]
    assert isinstance(other, NvidiaGpu)
    (generation, data_center), (others, others_data_center) = _family(gpu), _family(other)
    apart = abs(gpu.sm_count * gpu.boost_hz / (other.sm_count * other.boost_hz) - 1)
    same_family = (generation, data_center) == (others, others_data_center)
    return other.name != gpu.name, not same_family, data_center != others_data_center, abs(generation - others), apart


def _family(gpu: NvidiaGpu) -> tuple[int, bool]:
    """What decides which kernels a GPU runs: its generation, and whether it is made for data centers."""
    sm = gpu.architecture.sm
    return sm // 10, sm in DATA_CENTER


def find_calibration(gpu: str, op: str, dtype: DType) -> Calibration | None:
    """The calibration of `op` in `dtype`, with a cache in 16 bits and without a window, that was measured on the GPU
    called `gpu`; None if there is none."""
    return CALIBRATIONS.get((gpu, op, same_rates(dtype.name)))


def same_rates(fmt: str) -> str:
    """Name of the format whose calibration applies to `fmt`: fp16 runs at the rates of bf16."""
    return "bf16" if fmt == "fp16" else fmt


def _plain() -> Iterator[tuple[tuple[str, str, str], Calibration]]:
    # The best measured comes last, and of equals the first of the file, as in `find_known`.
    for _, each in sorted(enumerate(shipped()), key=lambda placed: (placed[1].rows, -placed[0])):
        if not each.window and each.cache in (None, "bf16"):
            yield (each.gpu, each.calibration.op, each.format), each.calibration


# (GPU, op, format) -> what was measured on it, with a cache in 16 bits and without a window.
CALIBRATIONS: Mapping[tuple[str, str, str], Calibration] = MappingProxyType(dict(_plain()))
