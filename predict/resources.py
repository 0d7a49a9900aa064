"""The resources that limit a machine, and their ceilings."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from predict.errors import MissingCeiling
from predict.units import DType


class Resource(StrEnum):
    """A unit that does FLOP or a path that moves bytes. The value is its name in records, tables and plots."""

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
    DRAM = "dram"  # the vendor's single figure; the four below are measured per mix of reads and writes
    DRAM_READ = "dram.read"
    DRAM_TRIAD = "dram.triad"
    DRAM_COPY = "dram.copy"
    DRAM_WRITE = "dram.write"
    L2 = "l2"
    LINK = "link"  # from one GPU to the others of its node, one direction
    NETWORK = "network"  # from one GPU to other nodes, one direction

    @property
    def is_compute(self) -> bool:
        """True if the amount is FLOP (integer operations for int8), False if it is bytes."""
        return self.value.startswith(("tensor.", "vector."))


# Written share of the traffic, for each mix of reads and writes that has its own measured roof.
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
    """The unit that multiplies matrices of `dtype`. No GPU has tensor cores for full fp32."""
    return _MATMUL_UNIT[dtype.name]


def vector_unit(dtype: DType) -> Resource:
    """The unit that does element-wise work on `dtype`. All formats narrower than fp64 are computed in fp32."""
    return Resource.VECTOR_FP64 if dtype.name == "fp64" else Resource.VECTOR_FP32


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A rate that cannot be exceeded."""

    per_s: float  # FLOP or bytes per second
    source: str  # of the figure

    def __post_init__(self) -> None:
        if not self.per_s > 0:
            raise ValueError(f"a ceiling must be positive, not {self.per_s} ({self.source})")


Roofs = Mapping[Resource, Ceiling]


def find_ceiling(resource: Resource, roofs: Roofs) -> Ceiling:
    """Return the ceiling of `resource`. Raises MissingCeiling listing the known roofs.

    On machines without fp64 tensor cores, fp64 matrices take the ceiling of the fp64 vector units.
    """
    if resource in roofs:
        return roofs[resource]
    if resource is Resource.TENSOR_FP64 and Resource.VECTOR_FP64 in roofs:
        return roofs[Resource.VECTOR_FP64]
    known = ", ".join(sorted(roofs)) or "none"
    raise MissingCeiling(f"no {resource} roof is known for this machine (known: {known}); use another dtype or GPU")
