"""The empty kernel in Triton, whose time is the cost of any launch."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
import triton
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT
from kernels.precision import TORCH_DTYPES
from kernels.shapes import check_dtype, check_launch
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.plan import Launch, Target, find_target

SUPPORTED_DTYPES = ("fp32",)
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("fp64", "tf32", "bf16", "fp16", *EIGHT_BIT), "nothing is computed, so one dtype says it all")
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES


@Launcher
def launch(x: Tensor) -> Planned[Tensor]:
    """x: (1,) fp32. Starts a kernel that does nothing. Returns x. Raises ValueError for other shapes, Unsupported for
    other dtypes or without a GPU."""
    check_launch(x)
    check_dtype("launch", x.dtype, SUPPORTED_DTYPES)
    find_target("launch", empty_kernel, x)
    return Planned(x, (plan_launch(x),))


def plan_launch(x: Tensor) -> Launch:
    """The launch of one program of one warp; x: (1,)."""
    return Launch(kernel=empty_kernel, grid=(1,), arguments={"x_ptr": x}, constants={}, num_warps=1, config="1")


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:  # noqa: ARG001  (the same on every target)
    """The one launch there is."""
    return (plan_launch(torch.empty(1, dtype=TORCH_DTYPES[dtype], device="meta")),)


@triton.jit
def empty_kernel(x_ptr):
    """x: (1,). Reads and writes nothing."""
