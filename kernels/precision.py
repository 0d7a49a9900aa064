"""Number formats by name, and how PyTorch is told to use them. Imports no Triton."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor

# tf32 is how tensor cores read an fp32 tensor, so both have one dtype.
TORCH_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "fp64": torch.float64,
        "fp32": torch.float32,
        "tf32": torch.float32,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
        "fp8": torch.float8_e4m3fn,
        "int8": torch.int8,
    }
)

_NAMES = {dtype: name for name, dtype in reversed(list(TORCH_DTYPES.items()))}  # fp32, not tf32
_TF32_DROPPED_BITS = 13  # 23 bits of mantissa in fp32, 10 in tf32


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype ("bf16"; fp32, never tf32), PyTorch's own where it has none here."""
    return _NAMES.get(dtype) or str(dtype).removeprefix("torch.")


def round_to_tf32(x: Tensor) -> Tensor:
    """x: fp32, finite, any shape. Returns x in fp32 with its mantissa rounded to 10 bits, ties to even."""
    bits = x.contiguous().view(torch.int32)
    last_kept = (bits >> _TF32_DROPPED_BITS) & 1
    rounded = bits + ((1 << (_TF32_DROPPED_BITS - 1)) - 1) + last_kept
    return (rounded & -(1 << _TF32_DROPPED_BITS)).view(torch.float32)


@contextmanager
def fp32_matmul_precision(name: str) -> Iterator[None]:
    """Use `name` ("ieee" or "tf32") for CUDA matmuls of fp32 tensors inside the block, then restore the setting."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = name
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
