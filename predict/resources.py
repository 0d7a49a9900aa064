"""What a machine can run out of, and how fast it offers it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from predict.errors import MissingCeiling
from predict.units import DType


class Resource(StrEnum):
    """A unit that does FLOP or a path that moves bytes; the value is its name in records, tables and plots.

    `dram` is the vendor's one figure; `dram.read` to `dram.write` are what a machine reaches for that mix of traffic.
    `link` is what a GPU sends to the others, one direction.
    """

    TENSOR_FP64 = "tensor.fp64"
    TENSOR_TF32 = "tensor.tf32"
    TENSOR_BF16 = "tensor.bf16"
    TENSOR_FP16 = "tensor.fp16"
    TENSOR_FP8 = "tensor.fp8"
    TENSOR_INT8 = "tensor.int8"
    TENSOR_FP4 = "tensor.fp4"
    TENSOR_INT4 = "tensor.int4"
    VECTOR_FP64 = "vector.fp64"
    VECTOR_FP32 = "vector.fp32"
    DRAM = "dram"
    DRAM_READ = "dram.read"
    DRAM_TRIAD = "dram.triad"
    DRAM_COPY = "dram.copy"
    DRAM_WRITE = "dram.write"
    L2 = "l2"
    LINK = "link"

    @property
    def is_compute(self) -> bool:
        """True where the amount is FLOP (integer operations for int8), False where it is bytes."""
        return self.value.startswith(("tensor.", "vector."))


# Share of the traffic that is written, for each access mix whose roof can be measured on its own.
WRITTEN_SHARE: Mapping[Resource, float] = MappingProxyType(
    {Resource.DRAM_READ: 0.0, Resource.DRAM_TRIAD: 1 / 3, Resource.DRAM_COPY: 1 / 2, Resource.DRAM_WRITE: 1.0}
)

_MATMUL_UNIT = MappingProxyType(
    {
        "fp64": Resource.TENSOR_FP64,
        "fp32": Resource.VECTOR_FP32,
        "tf32": Resource.TENSOR_TF32,
        "bf16": Resource.TENSOR_BF16,
        "fp16": Resource.TENSOR_FP16,
        "fp8": Resource.TENSOR_FP8,
        "int8": Resource.TENSOR_INT8,
        "fp4": Resource.TENSOR_FP4,
        "int4": Resource.TENSOR_INT4,
    }
)


def matmul_unit(dtype: DType) -> Resource:
    """The unit that multiplies matrices of `dtype`; fp32 proper has no tensor cores anywhere."""
    return _MATMUL_UNIT[dtype.name]


def vector_unit(dtype: DType) -> Resource:
    """The unit that does element-wise work on `dtype`; everything narrower than fp64 is computed in fp32."""
    return Resource.VECTOR_FP64 if dtype.name == "fp64" else Resource.VECTOR_FP32


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A rate that cannot be exceeded, in FLOP or bytes per second, with where the figure comes from."""

    per_s: float
    source: str

    def __post_init__(self) -> None:
        if not self.per_s > 0:
            raise ValueError(f"a ceiling must be positive, not {self.per_s} ({self.source})")


Roofs = Mapping[Resource, Ceiling]


def find_ceiling(resource: Resource, roofs: Roofs) -> Ceiling:
    """Return the ceiling of `resource`; raises MissingCeiling naming the roofs that are known.

    One substitution: fp64 matrices run on the vector units of machines without fp64 tensor cores.
    """
    if resource in roofs:
        return roofs[resource]
    if resource is Resource.TENSOR_FP64 and Resource.VECTOR_FP64 in roofs:
        return roofs[Resource.VECTOR_FP64]
    known = ", ".join(sorted(roofs)) or "none"
    raise MissingCeiling(f"no {resource} roof is known for this machine (known: {known}); use another dtype or GPU")
