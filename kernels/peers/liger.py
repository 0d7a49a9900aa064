"""Liger-Kernel's row-wise kernels, measured beside ours.

Functions raise ValueError for shapes that `kernels.shapes` refuses, Unsupported for rows that are too long.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kernels import reference
from kernels.constants import RMSNORM_EPS
from kernels.implementation import CUDA, TO_FP32, Implementation, Result
from kernels.shapes import rope_sizes, row_sizes
from kernels.unsupported import Unsupported

_LIGER_MAX_COLS = 65536  # liger_kernel/ops/utils.py, calculate_settings: a row is one block


def rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns its rmsnorm by Liger-Kernel (liger_kernel/transformers/functional.py),
    whose name for computing everything in fp32, as ours does, is "gemma"."""
    _check_liger("rmsnorm", row_sizes("rmsnorm", x, weight=weight).cols)
    return _liger().liger_rms_norm(x, weight, RMSNORM_EPS, casting_mode="gemma")


def add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of their sum, and the sum, by Liger-Kernel."""
    _check_liger("add_rmsnorm", row_sizes("add_rmsnorm", x, residual, weight=weight).cols)
    return _liger().liger_fused_add_rms_norm(x, residual, weight, RMSNORM_EPS, casting_mode="gemma")


def softmax(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns the softmax of each row by Liger-Kernel."""
    _check_liger("softmax", row_sizes("softmax", x).cols)
    return _liger().liger_softmax(x)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up: (rows, cols). Returns gate / (1 + exp(-gate)) * up by Liger-Kernel."""
    _check_liger("swiglu", row_sizes("swiglu", gate, up).cols)
    return _liger().liger_swiglu(gate, up)


def rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Takes what `prepare_rope` returns. Turns q and k in place by Liger-Kernel and returns them: (tokens, heads,
    head_dim) each."""
    q, k = _liger().liger_rope(q, k, cos, sin)
    return q[0].transpose(0, 1), k[0].transpose(0, 1)


def prepare_rope(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns copies for Liger-Kernel, which turns two
    tensors at once and in place: some heads of x as q and the others as k, (1, heads, tokens, head_dim), stored by
    tokens; cos and sin (1, tokens, head_dim), of which it reads the first half. Raises Unsupported for a single
    head."""
    sizes = rope_sizes(x, cos, sin)
    if sizes.heads < 2:
        raise Unsupported("rope: Liger-Kernel turns Q and K together; supported: at least 2 heads")
    q, k = (part.contiguous().unsqueeze(0).transpose(1, 2) for part in _q_and_k(x))
    return q, k, torch.cat((cos, cos), dim=-1).unsqueeze(0), torch.cat((sin, sin), dim=-1).unsqueeze(0)


def rope_of_q_and_k(x: Tensor, cos: Tensor, sin: Tensor, precision: str = "fp64") -> tuple[Tensor, Tensor]:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns the reference for `rope`'s two results."""
    q, k = _q_and_k(reference.rope(x, cos, sin, precision))
    return q, k


def _q_and_k(x: Tensor) -> tuple[Tensor, ...]:
    """x: (tokens, heads, head_dim) -> as many heads as the largest power of two below their number, since Liger-Kernel
    pads to one, and the rest."""
    heads = x.shape[1]
    q_heads = 1 << ((heads - 1).bit_length() - 1)
    return x.split((q_heads, heads - q_heads), dim=1)


def _check_liger(op: str, cols: int) -> None:
    if cols > _LIGER_MAX_COLS:
        raise Unsupported(f"{op}: Liger-Kernel does not support {cols} columns; supported: to {_LIGER_MAX_COLS}")


def _liger() -> Any:
    try:
        from liger_kernel.transformers import functional  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise Unsupported(f"liger-kernel is installed but cannot be imported: {error}") from error
    return functional


def _row(op: str, run: Callable[..., Result]) -> Implementation:
    return Implementation(op, "liger", run, TO_FP32, CUDA, package="liger-kernel")


IMPLEMENTATIONS = (
    _row("rmsnorm", rmsnorm),
    _row("add_rmsnorm", add_rmsnorm),
    _row("softmax", softmax),
    _row("swiglu", swiglu),
    replace(_row("rope", rope), prepare=prepare_rope, own_reference=rope_of_q_and_k),
)
