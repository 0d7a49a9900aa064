"""The grouped product of a mixture of experts through PyTorch's own kernels.

Functions raise ValueError for shapes that `kernels.shapes` refuses, and Unsupported for what a kernel of PyTorch does
not take.
"""

import itertools

import torch
from torch import Tensor

from kernels.implementation import CPU, CUDA, TO_FP32, Implementation
from kernels.precision import fp32_matmul_precision
from kernels.shapes import expert_sizes
from kernels.unsupported import Unsupported

_ROW_BYTES = 16  # rows that torch._grouped_mm reads begin at multiples of this
_GROUPED_MAJOR = (9, 10)  # elsewhere it is a loop that waits for the offsets (ATen/native/cuda/GroupedBlas.cpp)


def moe_experts(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Takes what `prepare_loop` returns. Returns (rows, n): a matmul for each expert that has rows."""
    out = x.new_empty(len(x), weight.shape[1])
    with fp32_matmul_precision("ieee"):
        for expert, (first, last) in enumerate(itertools.pairwise(offsets.tolist())):
            if first < last:
                torch.mm(x[first:last], weight[expert].t(), out=out[first:last])
    return out


def prepare_loop(x: Tensor, weight: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x: (rows, k), weight: (experts, n, k), offsets: (experts + 1,). Returns them with the offsets on the host. A
    model that loops waits for them in every layer, which is not counted here."""
    expert_sizes(x, weight, offsets)
    return x, weight, offsets.cpu()


def moe_experts_grouped(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """x: (rows, k), weight: (experts, n, k), offsets: (experts + 1,). Returns (rows, n) by torch._grouped_mm: on Hopper
    and datacenter Blackwell one kernel, which reads the offsets itself; on a CPU a loop inside PyTorch."""
    sizes = expert_sizes(x, weight, offsets)
    if sizes.k * x.element_size() % _ROW_BYTES:
        raise Unsupported(f"moe_experts: torch._grouped_mm does not support k={sizes.k}; supported: rows of 16 bytes")
    if x.is_cuda and torch.cuda.get_device_capability(x.device)[0] not in _GROUPED_MAJOR:
        raise Unsupported(
            "moe_experts: torch._grouped_mm has a grouped kernel for compute capabilities 9.x and 10.x only"
        )
    with fp32_matmul_precision("ieee"):
        return torch._grouped_mm(x, weight.transpose(1, 2), offs=offsets[1:])


IMPLEMENTATIONS = tuple(
    row
    for op in ("moe_experts", "moe_experts_skewed")
    for row in (
        Implementation(op, "torch", moe_experts, prepare=prepare_loop),
        Implementation(op, "grouped_mm", moe_experts_grouped, ("bf16",), CUDA),
        Implementation(op, "grouped_mm", moe_experts_grouped, TO_FP32, CPU),
    )
)
