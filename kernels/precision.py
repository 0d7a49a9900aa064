"""The number formats the kernels know, by name, and how PyTorch is told to use them. Knows nothing of Triton."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor

# tf32 is how tensor cores read an fp32 tensor, so both are stored the same way.
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

_NAMES = {dtype: name for name, dtype in reversed(list(TORCH_DTYPES.items()))}  # of two names of one dtype, the first
_TF32_DROPPED_BITS = 13  # 23 bits of mantissa in fp32, 10 in tf32


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a tensor's dtype ("bf16"); tf32 is asked for by argument, never read off a tensor."""
    return _NAMES.get(dtype) or str(dtype).removeprefix("torch.")


def round_to_tf32(x: Tensor) -> Tensor:
    """x: fp32, finite. Returns x with the mantissa rounded to 10 bits, ties to even, as fp32."""
    bits = x.contiguous().view(torch.int32)
    last_kept = (bits >> _TF32_DROPPED_BITS) & 1
    rounded = bits + ((1 << (_TF32_DROPPED_BITS - 1)) - 1) + last_kept
    return (rounded & -(1 << _TF32_DROPPED_BITS)).view(torch.float32)


@contextmanager
def fp32_matmul_precision(name: str) -> Iterator[None]:
    """Make CUDA matmuls of fp32 tensors use `name` ("ieee" or "tf32") inside the block, and restore what was set."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = name
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
