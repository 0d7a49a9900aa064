"""Other people's kernels, measured beside ours: PyTorch's compiler and tinygemm, Liger-Kernel, quack.

What is optional is imported inside the call that needs it. torchao has no row: in the formats measured here it calls
torch._int_mm (its own int8 kernel only where an environment variable asks for it), torch._scaled_mm and
torch._weight_int4pack_mm, which have rows (torchao/kernel/intmm.py, torchao/float8/inference.py,
torchao/quantization/quantize_/workflows/int4/int4_tile_packed_to_4d_tensor.py).
"""

import functools
import importlib.metadata
import importlib.util
import types
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor

from kernels import eager, reference
from kernels.constants import INT4_GROUP, RMSNORM_EPS
from kernels.shapes import check_dtype, matmul_sizes, rope_sizes, row_sizes, w4a16_sizes, w8a16_sizes
from kernels.unsupported import Unsupported

# Packages that need not be there, by the module that shows that they are.
OPTIONAL: Mapping[str, str] = MappingProxyType(
    {
        "liger-kernel": "liger_kernel",
        "quack-kernels": "quack",
        "flash-attn": "flash_attn_2_cuda",  # version 4 has a flash_attn without these kernels
        "flash-attn-3": "flash_attn_interface",
        "flashinfer-python": "flashinfer",
    }
)

_BACKEND = "inductor"
_LIGER_MAX_COLS = 65536  # liger_kernel/ops/utils.py, calculate_settings: a row is one block
_TINYGEMM_INNER_K_TILES = 8  # the most that the kernel reads at once; of 16 each, so k is a multiple of 128

Result = Tensor | tuple[Tensor, ...]


def is_installed(package: str) -> bool:
    """Whether a package of OPTIONAL can be found here."""
    return importlib.util.find_spec(OPTIONAL[package]) is not None


def package_version(package: str) -> str | None:
    """The version of an installed package, or None where its metadata cannot be found."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def optional_versions() -> dict[str, str]:
    """The versions of the packages of OPTIONAL that are installed."""
    return {package: package_version(package) or "unknown" for package in OPTIONAL if is_installed(package)}


def compiled_rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns its rmsnorm, by torch.compile."""
    row_sizes("rmsnorm", x, weight=weight)
    return run_compiled(_rmsnorm, x, weight)


def compiled_add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of their sum, and the sum, by torch.compile."""
    row_sizes("add_rmsnorm", x, residual, weight=weight)
    return run_compiled(_add_rmsnorm, x, residual, weight)


def compiled_softmax(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns the softmax of each row, by torch.compile."""
    row_sizes("softmax", x)
    return run_compiled(_softmax, x)


def compiled_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up: (rows, cols). Returns gate / (1 + exp(-gate)) * up, by torch.compile."""
    row_sizes("swiglu", gate, up)
    return run_compiled(_swiglu, gate, up)


def compiled_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns x turned, by torch.compile."""
    rope_sizes(x, cos, sin)
    return run_compiled(_rope, x, cos, sin)


def compiled_w8a16(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x: (m, k), weight: (n, k) int8, scale: (n,). Returns (m, n), by torch.compile, of what gpt-fast computes
    (quantize.py). One row is tuned by coordinate descent, as gpt-fast does (generate.py): without it the kernel that
    multiplies does not read the int8 weight itself (torch/_inductor/decomposition.py, mm). With more rows it never
    does, so that tuning would only take longer."""
    sizes = w8a16_sizes(x, weight, scale)
    return run_compiled(_w8a16, x, weight, scale, tuned=sizes.m == 1)


def compiled_scaled_int8(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), int8, a_scale: (m,), b_scale: (n,), fp32. Returns (m, n) in bf16, by torch.compile, which
    scales and rounds the product of torch._int_mm in one kernel."""
    eager.check_int_mm(a, b, a_scale, b_scale)
    return run_compiled(_scaled_int8, a, b, a_scale, b_scale)


def tinygemm(x: Tensor, weight: Tensor, scales_and_zeros: Tensor) -> Tensor:
    """Takes what `prepare_tinygemm` returns. Returns (m, n) in bf16."""
    return torch._weight_int4pack_mm(x, weight, INT4_GROUP, scales_and_zeros)


def prepare_tinygemm(x: Tensor, packed: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x: (m, k) bf16, packed: (n, k/8) int32, scales: (n, k/128). Returns x, the weight as ATen/native/cuda/int4mm.cu
    packs it, and the scales with their zeros. Two weights share a byte on the way, the even one in its upper half
    (torchao, int4_tile_packed_to_4d_tensor.py)."""
    op, sizes = "matmul_w4a16", w4a16_sizes(x, packed, scales)
    check_dtype(op, x.dtype, ("bf16",))
    if sizes.n % 8:
        raise Unsupported(f"{op}: tinygemm does not support n={sizes.n}; supported: multiples of 8")
    check_capability(f"{op}: tinygemm", (8, 0))
    q = eager.unpack_int4(packed)
    pairs = (q[:, ::2] << 4 | q[:, 1::2]).to(torch.uint8)
    weight = torch._convert_weight_to_int4pack(pairs, _TINYGEMM_INNER_K_TILES)
    return x, weight, eager.pair_with_zeros(scales)


def liger_rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns its rmsnorm by Liger-Kernel (liger_kernel/transformers/functional.py);
    "gemma" is its name for computing everything in fp32, as ours does."""
    _check_liger("rmsnorm", row_sizes("rmsnorm", x, weight=weight).cols)
    return _liger().liger_rms_norm(x, weight, RMSNORM_EPS, casting_mode="gemma")


def liger_add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of their sum, and the sum, by Liger-Kernel."""
    _check_liger("add_rmsnorm", row_sizes("add_rmsnorm", x, residual, weight=weight).cols)
    return _liger().liger_fused_add_rms_norm(x, residual, weight, RMSNORM_EPS, casting_mode="gemma")


def liger_softmax(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns the softmax of each row by Liger-Kernel."""
    _check_liger("softmax", row_sizes("softmax", x).cols)
    return _liger().liger_softmax(x)


def liger_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up: (rows, cols). Returns gate / (1 + exp(-gate)) * up by Liger-Kernel."""
    _check_liger("swiglu", row_sizes("swiglu", gate, up).cols)
    return _liger().liger_swiglu(gate, up)


def liger_rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Takes what `prepare_liger_rope` returns. Turns q and k in place by Liger-Kernel and returns them: (tokens, heads,
    head_dim) each."""
    q, k = _liger().liger_rope(q, k, cos, sin)
    return q[0].transpose(0, 1), k[0].transpose(0, 1)


def prepare_liger_rope(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns copies, as Liger-Kernel takes them: some
    heads of x as q and the others as k, (1, heads, tokens, head_dim) and stored by tokens, since it turns two tensors
    at once and in place; cos and sin (1, tokens, head_dim), of which it reads the first half."""
    sizes = rope_sizes(x, cos, sin)
    if sizes.heads < 2:
        raise Unsupported("rope: Liger-Kernel turns Q and K together; supported: at least 2 heads")
    q, k = (part.contiguous().unsqueeze(0).transpose(1, 2) for part in _q_and_k(x))
    return q, k, torch.cat((cos, cos), dim=-1).unsqueeze(0), torch.cat((sin, sin), dim=-1).unsqueeze(0)


def rope_of_q_and_k(x: Tensor, cos: Tensor, sin: Tensor, precision: str = "fp64") -> tuple[Tensor, Tensor]:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns what is right for `liger_rope`."""
    q, k = _q_and_k(reference.rope(x, cos, sin, precision))
    return q, k


def quack_rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns its rmsnorm by quack (quack/rmsnorm.py)."""
    row_sizes("rmsnorm", x, weight=weight)
    return _quack("rmsnorm").rmsnorm(x, weight, eps=RMSNORM_EPS)


def quack_add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of their sum, and the sum ("prenorm"), by
    quack."""
    row_sizes("add_rmsnorm", x, residual, weight=weight)
    return _quack("add_rmsnorm").rmsnorm(x, weight, residual=residual, eps=RMSNORM_EPS, prenorm=True)


def quack_softmax(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns the softmax of each row by quack (quack/softmax.py)."""
    row_sizes("softmax", x)
    return _quack("softmax").softmax(x)


def quack_matmul(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), bf16 or fp16. Returns a @ b: (m, n) by quack (quack/gemm_interface.py) as it sets itself
    up; its tuning would compile every configuration for every shape."""
    sizes = matmul_sizes(a, b)
    if sizes.n % 8 or sizes.k % 8:
        raise Unsupported(f"matmul: quack does not support n={sizes.n}, k={sizes.k}; supported: multiples of 8")
    return _quack("matmul").gemm_interface.gemm(a, b, tuned=False)


def run_compiled(formula: Callable[..., object], *arguments: Hashable, tuned: bool = False) -> Any:
    """What the compiled `formula` makes of tensors and constants; compiled at the first call for their shapes and
    values."""
    return find_compiled(formula, *arguments, tuned=tuned)(*arguments)


def find_compiled(formula: Callable[..., object], *arguments: Hashable, tuned: bool = False) -> Callable[..., Any]:
    """The compiled `formula` for arguments like these."""
    signature = tuple(
        (each.shape, each.stride(), each.dtype, each.device) if isinstance(each, Tensor) else each for each in arguments
    )
    return _compile(formula, signature, tuned=tuned)


def check_capability(what: str, needed: tuple[int, int], below: tuple[int, int] | None = None) -> None:
    """Raise Unsupported where the current device is older than the compute capability that is needed, or as new as the
    one that the last supported ones are `below`."""
    here = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    if here is None or here < needed or (below is not None and here >= below):
        found = f"compute capability {here[0]}.{here[1]}" if here else "no CUDA device"
        limit = f" to below {below[0]}.{below[1]}" if below else " and later"
        raise Unsupported(f"{what} does not run on {found}; supported: {needed[0]}.{needed[1]}{limit}")


# What is compiled: the formulas alone, since what checks a call has no business in the graph.


def _rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, RMSNORM_EPS)


def _add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    return F.rms_norm(total, weight.shape, weight, RMSNORM_EPS), total


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, dim=-1)


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


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
    """A copy of `formula`, compiled for one set of shapes alone. PyTorch counts the compilations of a code object and,
    past its limit, runs it uncompiled (or here, with `fullgraph`, fails): every set of shapes has a copy of its own.
    CUDA graphs are left to whoever times it."""
    assert isinstance(formula, types.FunctionType)
    copy = types.FunctionType(formula.__code__.replace(), formula.__globals__, formula.__name__)
    options: dict[str, Any] | None = {"coordinate_descent_tuning": True} if tuned else None
    return torch.compile(copy, fullgraph=True, dynamic=False, backend=_BACKEND, options=options)


def _q_and_k(x: Tensor) -> tuple[Tensor, ...]:
    """x: (tokens, heads, head_dim) -> the most heads that are a power of two, to which Liger-Kernel pads, and the
    rest."""
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


def _quack(op: str) -> Any:
    """The module; its README names H100, B200 and RTX 50."""
    check_capability(f"{op}: quack", (9, 0))
    try:
        import quack  # noqa: PLC0415  (optional)
        import quack.gemm_interface  # noqa: PLC0415
    except ImportError as error:
        raise Unsupported(f"quack-kernels is installed but cannot be imported: {error}") from error
    return quack
