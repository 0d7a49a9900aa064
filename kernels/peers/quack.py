"""quack's row-wise kernels and matrix product, measured beside ours.

Functions raise ValueError for shapes that `kernels.shapes` refuses, Unsupported for sizes and devices that quack does
not take.
"""

from typing import Any

from torch import Tensor

from kernels.constants import RMSNORM_EPS
from kernels.implementation import CUDA, HALF, TO_FP32, Implementation
from kernels.shapes import matmul_sizes, row_sizes
from kernels.unsupported import Unsupported, check_capability


def rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns its rmsnorm by quack (quack/rmsnorm.py)."""
    row_sizes("rmsnorm", x, weight=weight)
    return _quack("rmsnorm").rmsnorm(x, weight, eps=RMSNORM_EPS)


def add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of their sum, and the sum ("prenorm"), by
    quack."""
    row_sizes("add_rmsnorm", x, residual, weight=weight)
    return _quack("add_rmsnorm").rmsnorm(x, weight, residual=residual, eps=RMSNORM_EPS, prenorm=True)


def softmax(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns the softmax of each row by quack (quack/softmax.py)."""
    row_sizes("softmax", x)
    return _quack("softmax").softmax(x)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), bf16 or fp16. Returns a @ b: (m, n) by quack (quack/gemm_interface.py) with its default
    configuration; its tuning would compile every configuration for every shape."""
    sizes = matmul_sizes(a, b)
    if sizes.n % 8 or sizes.k % 8:
        raise Unsupported(f"matmul: quack does not support n={sizes.n}, k={sizes.k}; supported: multiples of 8")
    return _quack("matmul").gemm_interface.gemm(a, b, tuned=False)


def _quack(op: str) -> Any:
    """The module. Its README names H100, B200 and RTX 50."""
    check_capability(f"{op}: quack", (9, 0))
    try:
        import quack  # noqa: PLC0415  (optional)
        import quack.gemm_interface  # noqa: PLC0415
    except ImportError as error:
        raise Unsupported(f"quack-kernels is installed but cannot be imported: {error}") from error
    return quack


IMPLEMENTATIONS = (
    Implementation("matmul", "quack", matmul, HALF, CUDA, package="quack-kernels"),
    Implementation("rmsnorm", "quack", rmsnorm, TO_FP32, CUDA, package="quack-kernels"),
    Implementation("add_rmsnorm", "quack", add_rmsnorm, TO_FP32, CUDA, package="quack-kernels"),
    Implementation("softmax", "quack", softmax, TO_FP32, CUDA, package="quack-kernels"),
)
