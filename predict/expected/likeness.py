"""Our ops that kernels measured under another name compute: which, and how their sizes and formats are told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from predict.expected.families import narrow_kernels
from predict.expected.time_model import Dims
from predict.gpus import Gpu
from predict.units import DTYPES, DType, Formats
from predict.workloads import INT4_GROUP, FloatArray

_TABLES_CALL = MappingProxyType({"fp4": "nvfp4"})
# Ops without a form, which do little but move what they read and write.
ELEMENTWISE = frozenset({"rmsnorm", "add_rmsnorm", "layernorm", "add_layernorm", "softmax", "swiglu", "gelu", "rope"})


@dataclass(frozen=True, slots=True)
class Likeness:
    """The measured op that describes one of ours."""

    op: str
    sizes: Mapping[str, Callable[[Dims], FloatArray]] = field(default_factory=dict)  # of it, by ours; others are equal
    cache: DType | None = None  # if not the format of the products
    weight_bits: float | None = None  # if not the format of the products
    left_out: tuple[str, ...] = ()  # terms of the measured kernels that ours do not have
    is_same: bool = True  # else their errors and residuals do not speak of ours
    in_8_bits: bool = False  # int8 runs on the kernels that `narrow_kernels` tells

    def formats(self, dtype: DType) -> Formats:
        """The formats of our op in `dtype`."""
        whole = Formats.of(dtype, kv=self.cache)
        return whole if self.weight_bits is None else Formats(self.weight_bits, whole.kv_bits, dtype)

    def format(self, dtype: DType, gpu: Gpu) -> str:
        """The name in tables of the format whose kernels compute `dtype` on `gpu`."""
        if self.in_8_bits and dtype.name == "int8":
            return narrow_kernels(gpu)[0]
        return _TABLES_CALL.get(dtype.name, dtype.name)

    def rows(self, dims: Dims) -> Dims:
        """The sizes of the measured op."""
        return {**dims, **{name: size(dims) for name, size in self.sizes.items()}}


_PACKED: Mapping[str, Callable[[Dims], FloatArray]] = {
    "batch": lambda dims: dims["sequences"],
    "seq": lambda dims: np.ceil(dims["tokens"] / dims["sequences"]),
}
_FULL: Mapping[str, Callable[[Dims], FloatArray]] = {"full": lambda dims: np.ones_like(dims["batch"])}
_OURS: Mapping[str, Likeness] = MappingProxyType(
    {
        "attention_window": Likeness("attention_prefill"),
        "attention_packed": Likeness("attention_prefill", _PACKED),  # the kernels that were measured are varlen
        "attention_full": Likeness("attention_prefill", _FULL, left_out=("write",), is_same=False),
        "attention_paged": Likeness("attention_decode"),  # the caches that were measured are paged
        "attention_decode_fp8": Likeness("attention_decode", cache=DTYPES["fp8"]),
        # Operands are narrow already.
        "matmul_scaled": Likeness("matmul", left_out=("narrow",), is_same=False, in_8_bits=True),
        "matmul_w8a16": Likeness("matmul", weight_bits=8, is_same=False),
        "matmul_w4a16": Likeness("matmul", weight_bits=4 + 16 / INT4_GROUP, is_same=False),
    }
)


def likeness(op: str) -> Likeness:
    """The measured op that describes `op`; itself if there is no other."""
    return _OURS.get(op, Likeness(op))
