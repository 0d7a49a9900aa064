"""Ops by torch.compile, compiled anew for each set of shapes.

Functions raise ValueError for shapes that `kernels.shapes` refuses, before anything is compiled.
"""

import functools
import types
from collections.abc import Callable, Hashable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor

from kernels.constants import LAYERNORM_EPS, RMSNORM_EPS
from kernels.implementation import CUDA, FLOATS, HALF, Implementation
from kernels.pytorch import eager
from kernels.shapes import rope_sizes, row_sizes, w8a16_sizes

_BACKEND = "inductor"


def rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns its rmsnorm, by torch.compile."""
    row_sizes("rmsnorm", x, weight=weight)
    return run_compiled(_rmsnorm, x, weight)


def add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of their sum, and the sum, by torch.compile."""
    row_sizes("add_rmsnorm", x, residual, weight=weight)
    return run_compiled(_add_rmsnorm, x, residual, weight)


def layernorm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x: (rows, cols), weight, bias: (cols,). Returns its layernorm, by torch.compile."""
    row_sizes("layernorm", x, weight=weight, bias=bias)
    return run_compiled(_layernorm, x, weight, bias)


def add_layernorm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight, bias: (cols,). Returns the layernorm of their sum, and the sum, by
    torch.compile."""
    row_sizes("add_layernorm", x, residual, weight=weight, bias=bias)
    return run_compiled(_add_layernorm, x, residual, weight, bias)


def softmax(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns the softmax of each row, by torch.compile."""
    row_sizes("softmax", x)
    return run_compiled(_softmax, x)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up: (rows, cols). Returns gate / (1 + exp(-gate)) * up, by torch.compile."""
    row_sizes("swiglu", gate, up)
    return run_compiled(_swiglu, gate, up)


def gelu(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns GPT-2's GELU of each number, by torch.compile."""
    row_sizes("gelu", x)
    return run_compiled(_gelu, x)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns x turned, by torch.compile."""
    rope_sizes(x, cos, sin)
    return run_compiled(_rope, x, cos, sin)


def w8a16(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x: (m, k), weight: (n, k) int8, scale: (n,). Returns x @ (weight * scale)^T: (m, n), by torch.compile of
    gpt-fast's formula (quantize.py). One row is tuned by coordinate descent, as in gpt-fast (generate.py): only then
    the multiplying kernel reads the int8 weight itself (torch/_inductor/decomposition.py, mm). With more rows it never
    does, and tuning would only take longer."""
    sizes = w8a16_sizes(x, weight, scale)
    return run_compiled(_w8a16, x, weight, scale, tuned=sizes.m == 1)


def scaled_int8(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), int8, a_scale: (m,), b_scale: (n,), fp32. Returns (m, n) in bf16, by torch.compile, which
    scales and rounds the product of torch._int_mm in one kernel."""
    eager.check_int_mm(a, b, a_scale, b_scale)
    return run_compiled(_scaled_int8, a, b, a_scale, b_scale)


def run_compiled(formula: Callable[..., object], *arguments: Hashable, tuned: bool = False) -> Any:
    """Run the compiled `formula` on tensors and constants; the first call for their shapes and values compiles it."""
    return find_compiled(formula, *arguments, tuned=tuned)(*arguments)


def find_compiled(formula: Callable[..., object], *arguments: Hashable, tuned: bool = False) -> Callable[..., Any]:
    """The compiled `formula` for arguments of these layouts and values."""
    signature = tuple(
        (each.shape, each.stride(), each.dtype, each.device) if isinstance(each, Tensor) else each for each in arguments
    )
    return _compile(formula, signature, tuned=tuned)


def _rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, RMSNORM_EPS)


def _add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    return F.rms_norm(total, weight.shape, weight, RMSNORM_EPS), total


def _layernorm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, LAYERNORM_EPS)


def _add_layernorm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    return F.layer_norm(total, weight.shape, weight, bias, LAYERNORM_EPS), total


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, dim=-1)


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    lower, upper = x.chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat((lower * cos - upper * sin, upper * cos + lower * sin), dim=-1)


def _w8a16(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype)) * scale


def _scaled_int8(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    return (torch._int_mm(a, b) * a_scale[:, None] * b_scale).to(torch.bfloat16)


@functools.cache
def _compile(
    formula: Callable[..., object],
    signature: tuple[object, ...],  # noqa: ARG001  (the key of the cache)
    *,
    tuned: bool,
) -> Callable[..., Any]:
    """A copy of `formula`, compiled for one set of shapes. PyTorch counts the compilations of a code object; past its
    limit it runs it uncompiled, or with `fullgraph` fails. So each set of shapes has its own copy. CUDA graphs are left
    to the timer."""
    assert isinstance(formula, types.FunctionType)
    copy = types.FunctionType(formula.__code__.replace(), formula.__globals__, formula.__name__)
    options: dict[str, Any] | None = {"coordinate_descent_tuning": True} if tuned else None
    return torch.compile(copy, fullgraph=True, dynamic=False, backend=_BACKEND, options=options)


IMPLEMENTATIONS = (
    Implementation("matmul_scaled", "torch_compile", scaled_int8, ("int8",), CUDA, compiles=True),
    Implementation("matmul_w8a16", "torch_compile", w8a16, HALF, CUDA, compiles=True),
    Implementation("rmsnorm", "torch_compile", rmsnorm, FLOATS, CUDA, compiles=True),
    Implementation("add_rmsnorm", "torch_compile", add_rmsnorm, FLOATS, CUDA, compiles=True),
    Implementation("layernorm", "torch_compile", layernorm, FLOATS, CUDA, compiles=True),
    Implementation("add_layernorm", "torch_compile", add_layernorm, FLOATS, CUDA, compiles=True),
    Implementation("softmax", "torch_compile", softmax, FLOATS, CUDA, compiles=True),
    Implementation("swiglu", "torch_compile", swiglu, FLOATS, CUDA, compiles=True),
    Implementation("gelu", "torch_compile", gelu, FLOATS, CUDA, compiles=True),
    Implementation("rope", "torch_compile", rope, FLOATS, CUDA, compiles=True),
)
