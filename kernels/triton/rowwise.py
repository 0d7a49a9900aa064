"""Ops on each row of a matrix in Triton: norms, softmax, swiglu, gelu and rope. DRAM limits all of them.

A row that fits in registers is read once. A longer row is read twice, the second time backwards, because what was read
last is still in L2. Everything is computed in fp32 (fp64 in fp64) and rounded once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT, GELU_CUBIC, LAYERNORM_EPS, RMSNORM_EPS
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import check_dtype, rope_sizes, row_sizes
from kernels.triton.compile import WIDE_LOAD
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.plan import Launch, Target, cdiv, find_target, next_power_of_2
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ("fp64", "fp32", "bf16", "fp16")
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "tf32": "only tensor cores know it; in memory it is fp32",
        **dict.fromkeys(EIGHT_BIT, "8-bit rows need scales, which these ops do not take"),
    }
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES
MAX_COLS = 2**26  # the blocks of a row are the second dimension of a grid, which goes to 65535


@dataclass(frozen=True, slots=True)
class RowConfig:
    """A program holds `rows` rows of at most `block_cols` columns. Longer rows are taken one by one, `block_cols`
    columns at a time. swiglu, gelu and rope need no whole rows: a program holds rows*block_cols numbers of each
    operand."""

    rows: int
    block_cols: int
    num_warps: int

    @property
    def name(self) -> str:
        """As in records: rows1-cols4096-w4."""
        return f"rows{self.rows}-cols{self.block_cols}-w{self.num_warps}"

    @property
    def elements(self) -> int:
        """Numbers of each operand that a program holds."""
        return self.rows * self.block_cols


CONFIGS = (
    RowConfig(4, 1024, 4),
    RowConfig(1, 2048, 2),
    RowConfig(1, 2048, 4),
    RowConfig(1, 4096, 4),
    RowConfig(1, 4096, 8),
    RowConfig(2, 4096, 8),
    RowConfig(1, 8192, 4),
    RowConfig(1, 8192, 8),
    RowConfig(1, 8192, 16),
    RowConfig(1, 16384, 16),
    RowConfig(1, 16384, 32),
    RowConfig(1, 32768, 32),
)

_PROGRAM_ELEMENTS = 4096  # short rows share a program, so that it moves more than its start costs
_HELD_BYTES = 32 * 1024  # most of a row in registers; with twice as much an SM has one program, which cannot overlap
_PAIRED_BYTES = 128 * 1024  # longest row with two programs per SM; of longer ones, L2 would not hold both
_VECTOR_BYTES = 16  # widest load of a thread
_MAX_UNIT = 16  # larger common factors of strides do not widen loads
_MIN_HEADS = 4  # in a block; fewer would read cos and sin too often
_WIDE_LOADS = dict.fromkeys(ARCHITECTURES, (WIDE_LOAD,))  # narrower ones leave too few bytes in flight
_LOG2_E = tl.constexpr(math.log2(math.e))
_GELU_CUBIC = tl.constexpr(GELU_CUBIC)
_GELU_SCALE = tl.constexpr(2 * math.sqrt(2 / math.pi) * math.log2(math.e))  # in gelu_kernel's power of two

_NORM_COLS = (4096, 8192, 131072)  # one for each kind of configuration: four warps, eight warps, looped
_SOFTMAX_COLS = (4096, 32768, 131072)


def choose_config(cols: int, *, dtype: str) -> RowConfig:
    """The configuration for rows of `cols` columns. A thread has 32 numbers: four 16-byte loads of a 16-bit operand.
    Rows are held only where an SM has room for two programs, so that one loads while the other computes."""
    item_bytes = TORCH_DTYPES[dtype].itemsize
    held = _HELD_BYTES // item_bytes
    if cols * item_bytes > _PAIRED_BYTES:
        return RowConfig(1, 2 * held, num_warps=32)
    if cols > held:
        return RowConfig(1, held, num_warps=16)
    block_cols = next_power_of_2(cols)
    rows = max(1, _PROGRAM_ELEMENTS // block_cols)
    per_thread = 32 if item_bytes <= 4 else 16
    return RowConfig(rows, block_cols, num_warps=rows * block_cols // (32 * per_thread))


def choose_layernorm_config(cols: int, *, dtype: str) -> RowConfig:
    """As `choose_config`, with half as many columns of the longest rows: a bias and two more sums need registers. In
    fp64 half as many warps share them too."""
    config = choose_config(cols, dtype=dtype)
    if config.num_warps < 32:
        return config
    return replace(config, block_cols=config.block_cols // 2, num_warps=16 if dtype == "fp64" else 32)


def choose_elementwise_config(*, dtype: str) -> RowConfig:
    """The configuration of swiglu, gelu and rope: 16 numbers per thread. With more, the compiler delays loads to save
    registers. With 16 all loads come first, and an SM holds all the warps that it can."""
    per_thread = 16 if TORCH_DTYPES[dtype].itemsize <= 4 else 8
    return RowConfig(1, _PROGRAM_ELEMENTS, num_warps=_PROGRAM_ELEMENTS // (32 * per_thread))


@Launcher
def rmsnorm(x: Tensor, weight: Tensor, *, config: RowConfig | None = None) -> Planned[Tensor]:
    """x: (rows, cols), weight: (cols,). Returns x / sqrt(mean(x^2) + RMSNORM_EPS) * weight for each row, contiguous.
    Rows of x may be any distance apart. Raises ValueError for other shapes, Unsupported for other dtypes, strided
    columns, or a device without Triton; so do all functions here."""
    row_sizes("rmsnorm", x, weight=weight)
    _check("rmsnorm", rmsnorm_kernel, x, weight)
    normed = _empty_like(x)
    return Planned(normed, (plan_rmsnorm(x, weight, normed, config=config or _choose_for(x)),))


@Launcher
def add_rmsnorm(
    x: Tensor, residual: Tensor, weight: Tensor, *, config: RowConfig | None = None
) -> Planned[tuple[Tensor, Tensor]]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of the unrounded sum x + residual, and the sum,
    both contiguous. Strides and errors as in `rmsnorm`."""
    row_sizes("add_rmsnorm", x, residual, weight=weight)
    _check("add_rmsnorm", rmsnorm_kernel, x, residual, weight)
    normed, total = _empty_like(x), _empty_like(x)
    launch = plan_rmsnorm(x, weight, normed, residual=residual, total=total, config=config or _choose_for(x))
    return Planned((normed, total), (launch,))


@Launcher
def layernorm(x: Tensor, weight: Tensor, bias: Tensor, *, config: RowConfig | None = None) -> Planned[Tensor]:
    """x: (rows, cols), weight, bias: (cols,). Returns (x - mean) / sqrt(variance + LAYERNORM_EPS) * weight + bias for
    each row, contiguous. Strides and errors as in `rmsnorm`."""
    row_sizes("layernorm", x, weight=weight, bias=bias)
    _check("layernorm", layernorm_kernel, x, weight, bias)
    normed = _empty_like(x)
    config = config or choose_layernorm_config(x.shape[1], dtype=dtype_name(x.dtype))
    return Planned(normed, (plan_layernorm(x, weight, bias, normed, config=config),))


@Launcher
def add_layernorm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, *, config: RowConfig | None = None
) -> Planned[tuple[Tensor, Tensor]]:
    """x, residual: (rows, cols), weight, bias: (cols,). Returns the layernorm of the unrounded sum x + residual, and
    the sum, both contiguous. Strides and errors as in `rmsnorm`."""
    row_sizes("add_layernorm", x, residual, weight=weight, bias=bias)
    _check("add_layernorm", layernorm_kernel, x, residual, weight, bias)
    normed, total = _empty_like(x), _empty_like(x)
    config = config or choose_layernorm_config(x.shape[1], dtype=dtype_name(x.dtype))
    launch = plan_layernorm(x, weight, bias, normed, residual=residual, total=total, config=config)
    return Planned((normed, total), (launch,))


@Launcher
def softmax(x: Tensor, *, config: RowConfig | None = None) -> Planned[Tensor]:
    """x: (rows, cols). Returns exp(x - max) / sum(exp(x - max)) for each row, contiguous; NaN for a row that is all
    -inf. Strides and errors as in `rmsnorm`."""
    row_sizes("softmax", x)
    _check("softmax", softmax_kernel, x)
    out = _empty_like(x)
    return Planned(out, (plan_softmax(x, out, config=config or _choose_for(x)),))


@Launcher
def swiglu(gate: Tensor, up: Tensor, *, config: RowConfig | None = None) -> Planned[Tensor]:
    """gate, up: (rows, cols), which may be halves of one matrix. Returns gate / (1 + exp(-gate)) * up, contiguous.
    Strides and errors as in `rmsnorm`."""
    row_sizes("swiglu", gate, up)
    _check("swiglu", swiglu_kernel, gate, up)
    out = _empty_like(gate)
    config = config or choose_elementwise_config(dtype=dtype_name(gate.dtype))
    return Planned(out, (plan_swiglu(gate, up, out, config=config),))


@Launcher
def gelu(x: Tensor, *, config: RowConfig | None = None) -> Planned[Tensor]:
    """x: (rows, cols). Returns x * (1 + tanh(sqrt(2/pi) * (x + GELU_CUBIC*x^3))) / 2, contiguous. Strides and errors as
    in `rmsnorm`."""
    row_sizes("gelu", x)
    _check("gelu", gelu_kernel, x)
    out = _empty_like(x)
    config = config or choose_elementwise_config(dtype=dtype_name(x.dtype))
    return Planned(out, (plan_gelu(x, out, config=config),))


@Launcher
def rope(x: Tensor, cos: Tensor, sin: Tensor, *, config: RowConfig | None = None) -> Planned[Tensor]:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns x with each pair (x[i], x[i + head_dim/2])
    turned by the angles, contiguous. Tokens and heads may be any distance apart. Errors as in `rmsnorm`."""
    rope_sizes(x, cos, sin)
    _check("rope", rope_kernel, x, cos, sin)
    out = _empty_like(x)
    config = config or choose_elementwise_config(dtype=dtype_name(x.dtype))
    return Planned(out, (plan_rope(x, cos, sin, out, config=config),))


def plan_rmsnorm(
    x: Tensor,
    weight: Tensor,
    normed: Tensor,
    *,
    residual: Tensor | None = None,
    total: Tensor | None = None,
    config: RowConfig,
) -> Launch:
    """The launch that sets normed to the rmsnorm of x. With a residual it sets total to x + residual, and normed to the
    rmsnorm of that sum before rounding. weight: (cols,), all others (rows, cols)."""
    tensors = {"x": x, "residual": residual, "normed": normed, "total": total}
    kernels = (rmsnorm_kernel, rmsnorm_long_kernel)
    launch = _plan_rows(kernels, tensors, {"weight_ptr": weight}, {"EPS": RMSNORM_EPS}, config)
    return launch if residual is None else replace(launch, config=f"{config.name} add")


def plan_layernorm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    normed: Tensor,
    *,
    residual: Tensor | None = None,
    total: Tensor | None = None,
    config: RowConfig,
) -> Launch:
    """As `plan_rmsnorm`, with the layernorm; weight, bias: (cols,)."""
    tensors = {"x": x, "residual": residual, "normed": normed, "total": total}
    kernels = (layernorm_kernel, layernorm_long_kernel)
    weights = {"weight_ptr": weight, "bias_ptr": bias}
    launch = _plan_rows(kernels, tensors, weights, {"EPS": LAYERNORM_EPS}, config)
    return launch if residual is None else replace(launch, config=f"{config.name} add")


def plan_softmax(x: Tensor, out: Tensor, *, config: RowConfig) -> Launch:
    """The launch that sets out to the softmax of x, both (rows, cols)."""
    return _plan_rows((softmax_kernel, softmax_long_kernel), {"x": x, "out": out}, {}, {}, config)


def plan_swiglu(gate: Tensor, up: Tensor, out: Tensor, *, config: RowConfig) -> Launch:
    """The launch that sets out to swiglu of gate and up, all (rows, cols)."""
    return _plan_elementwise(swiglu_kernel, {"gate": gate, "up": up, "out": out}, config)


def plan_gelu(x: Tensor, out: Tensor, *, config: RowConfig) -> Launch:
    """The launch that sets out to gelu of x, both (rows, cols)."""
    return _plan_elementwise(gelu_kernel, {"x": x, "out": out}, config)


def _plan_elementwise(kernel: Any, tensors: Mapping[str, Tensor], config: RowConfig) -> Launch:
    """The launch of an op on each number by itself. `tensors` are (rows, cols)."""
    if all(tensor.is_contiguous() for tensor in tensors.values()):
        tensors = {name: tensor.view(1, -1) for name, tensor in tensors.items()}  # one row has one ragged block at most
    strides, unit = _row_strides(tensors)
    first = next(iter(tensors.values()))
    rows, cols = first.shape
    block_cols = min(next_power_of_2(cols), config.elements)
    block_rows = min(next_power_of_2(rows), config.elements // block_cols)
    grid = (cdiv(rows, block_rows), cdiv(cols, block_cols))
    return Launch(
        kernel=kernel,
        grid=grid if rows > 1 else grid[::-1],  # the first dimension of a grid holds 2**31, the others far fewer
        arguments={
            **{f"{name}_ptr": tensor for name, tensor in tensors.items()},
            **strides,
            "rows": rows,
            "col_units": cols // unit,
        },
        constants={
            "WIDE": _wide(first),
            "UNIT": unit,
            "ROWS": block_rows,
            "COLS": block_cols,
            "EVEN_ROWS": rows % block_rows == 0,
            "EVEN_COLS": cols % block_cols == 0,
            "COL_AXIS": 1 if rows > 1 else 0,
        },
        num_warps=config.num_warps,
        config=config.name,
        opcodes=_WIDE_LOADS if unit == _MAX_UNIT else {},
    )


def plan_rope(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, config: RowConfig) -> Launch:
    """The launch that sets out to x turned by the angles of cos and sin; shapes as in `rope`."""
    tokens, heads, half = *x.shape[:2], x.shape[2] // 2
    block_half = min(next_power_of_2(half), config.elements // 2)
    block_heads = min(_block_of_heads(heads), config.elements // (2 * block_half))
    block_tokens = min(next_power_of_2(tokens), config.elements // (2 * block_half * block_heads))
    strides = {
        "x_token_stride": _stride(x, 0),
        "x_head_stride": _stride(x, 1),
        "cos_stride": _stride(cos, 0),
        "sin_stride": _stride(sin, 0),
        "out_token_stride": _stride(out, 0),
        "out_head_stride": _stride(out, 1),
    }
    unit = math.gcd(_MAX_UNIT, half, *strides.values())
    return Launch(
        kernel=rope_kernel,
        grid=(cdiv(tokens, block_tokens), cdiv(heads, block_heads), cdiv(half, block_half)),
        arguments={
            "x_ptr": x,
            "cos_ptr": cos,
            "sin_ptr": sin,
            "out_ptr": out,
            "tokens": tokens,
            "heads": heads,
            "half_units": half // unit,
            **{name: stride // unit for name, stride in strides.items()},
        },
        constants={
            "WIDE": _wide(x),
            "UNIT": unit,
            "TOKENS": block_tokens,
            "HEADS": block_heads,
            "HALF": block_half,
            "EVEN_TOKENS": tokens % block_tokens == 0,
            "EVEN_HEADS": heads % block_heads == 0,
            "EVEN_HALF": half % block_half == 0,
        },
        num_warps=config.num_warps,
        config=config.name,
        opcodes=_WIDE_LOADS if unit == _MAX_UNIT else {},
    )


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:  # noqa: ARG001  (every target has the same)
    """Launches of the default configurations at typical sizes: each kernel with each of its tiles once."""
    norms = {choose_config(cols, dtype=dtype): cols for cols in _NORM_COLS}
    layernorms = {choose_layernorm_config(cols, dtype=dtype): cols for cols in _NORM_COLS}
    softmaxes = {choose_config(cols, dtype=dtype): cols for cols in _SOFTMAX_COLS}
    return (
        *(launch for config, cols in norms.items() for launch in _norm_launches(dtype, cols, config)),
        *(launch for config, cols in layernorms.items() for launch in _layernorm_launches(dtype, cols, config)),
        *(_softmax_launch(dtype, cols, config) for config, cols in softmaxes.items()),
        *_elementwise_launches(dtype, choose_elementwise_config(dtype=dtype)),
    )


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:  # noqa: ARG001  (every target has the same)
    """Launches of each of CONFIGS: rows that it holds, rows that it does not, and the element-wise ops."""
    launches: list[Launch] = []
    for config in CONFIGS:
        for cols in (config.block_cols, 4 * config.block_cols) if config.rows == 1 else (config.block_cols,):
            launches += [*_norm_launches(dtype, cols, config), *_layernorm_launches(dtype, cols, config)]
            launches.append(_softmax_launch(dtype, cols, config))
        launches += _elementwise_launches(dtype, config)
    return tuple(launches)


@triton.jit
def _is_inside(index, size, EVEN: tl.constexpr):
    """Whether index < size. Where EVEN says so at compile time, loads need no mask."""
    return tl.full(index.shape, 1, tl.int1) if EVEN else index < size


@triton.jit
def _find_rows(rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr, EVEN_ROWS: tl.constexpr, EVEN_COLS: tl.constexpr):
    """A program's rows and columns, which columns are inside, and which numbers are."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.arange(0, COLS)[None, :]
    is_col = _is_inside(col, cols, EVEN_COLS)
    return row, col, is_col, _is_inside(row, rows, EVEN_ROWS) & is_col


@triton.jit
def _load_total(x_ptr, residual_ptr, col, inside, WIDE: tl.constexpr, EVICTION: tl.constexpr):
    """x, plus the residual where there is one, in WIDE; pointers to the beginnings of rows."""
    total = tl.load(x_ptr + col, mask=inside, other=0.0, eviction_policy=EVICTION).to(WIDE)
    if residual_ptr is not None:
        total += tl.load(residual_ptr + col, mask=inside, other=0.0, eviction_policy=EVICTION).to(WIDE)
    return total


# Kernels take sizes and strides in units of UNIT elements. So the compiler knows that they are multiples of it, and a
# thread moves 16 bytes at a time wherever rows start at multiples of 16 bytes, whatever the number of columns.


@triton.jit
def rmsnorm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    normed_ptr,
    total_ptr,
    rows,
    col_units,
    x_stride,
    residual_stride,
    normed_stride,
    total_stride,
    EPS: tl.constexpr,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    EVEN_ROWS: tl.constexpr,
    EVEN_COLS: tl.constexpr,
):
    """x, normed: (rows, cols), weight: (cols,); residual, total: (rows, cols) or None. Reads x and residual once; reads
    the weight from L2, except in the first program. Writes normed, and total = x + residual, once."""
    cols = col_units * UNIT
    row, col, is_col, inside = _find_rows(rows, cols, ROWS, COLS, EVEN_ROWS, EVEN_COLS)
    x_ptr += row * x_stride * UNIT
    if residual_ptr is not None:
        residual_ptr += row * residual_stride * UNIT
    x = _load_total(x_ptr, residual_ptr, col, inside, WIDE, "evict_first")
    if total_ptr is not None:
        tl.store(total_ptr + row * total_stride * UNIT + col, x.to(total_ptr.dtype.element_ty), mask=inside)
    # Before the sum: the weight arrives while the sum waits for other threads.
    weight = tl.load(weight_ptr + col, mask=is_col, other=0.0, eviction_policy="evict_last").to(WIDE)
    scale = tl.rsqrt(tl.sum(x * x, 1, keep_dims=True) / cols + EPS)
    normed = (x * scale * weight).to(normed_ptr.dtype.element_ty)
    tl.store(normed_ptr + row * normed_stride * UNIT + col, normed, mask=inside)


@triton.jit
def rmsnorm_long_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    normed_ptr,
    total_ptr,
    col_units,
    x_stride,
    residual_stride,
    normed_stride,
    total_stride,
    EPS: tl.constexpr,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    STEPS: tl.constexpr,
    LANES: tl.constexpr,
    EVEN_COLS: tl.constexpr,
):
    """As `rmsnorm_kernel`, but reads x and residual twice, from DRAM and then from L2 (the stored total is rounded),
    and the weight from L2."""
    cols = col_units * UNIT
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * x_stride * UNIT
    normed_ptr += row * normed_stride * UNIT
    if residual_ptr is not None:
        residual_ptr += row * residual_stride * UNIT
        total_ptr += row * total_stride * UNIT
    lane = tl.arange(0, STEPS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    blocks = tl.cdiv(cols, STEPS * LANES)
    squares = tl.zeros((LANES,), WIDE)
    for block in range(blocks):
        col = block * (STEPS * LANES) + lane
        inside = _is_inside(col, cols, EVEN_COLS)
        x = _load_total(x_ptr, residual_ptr, col, inside, WIDE, "evict_last")
        if total_ptr is not None:
            total = x.to(total_ptr.dtype.element_ty)
            tl.store(total_ptr + col, total, mask=inside, eviction_policy="evict_first")
        squares += tl.sum(x * x, 0)
    scale = tl.rsqrt(tl.sum(squares, 0) / cols + EPS)
    for done in range(blocks):
        col = (blocks - 1 - done) * (STEPS * LANES) + lane
        inside = _is_inside(col, cols, EVEN_COLS)
        x = _load_total(x_ptr, residual_ptr, col, inside, WIDE, "evict_first")
        weight = tl.load(weight_ptr + col, mask=inside, other=0.0, eviction_policy="evict_last").to(WIDE)
        normed = (x * scale * weight).to(normed_ptr.dtype.element_ty)
        tl.store(normed_ptr + col, normed, mask=inside, eviction_policy="evict_first")


@triton.jit
def layernorm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    normed_ptr,
    total_ptr,
    rows,
    col_units,
    x_stride,
    residual_stride,
    normed_stride,
    total_stride,
    EPS: tl.constexpr,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    EVEN_ROWS: tl.constexpr,
    EVEN_COLS: tl.constexpr,
):
    """As `rmsnorm_kernel`, with a bias: (cols,). The variance is that of the centered row, because the difference of
    the mean square and the squared mean would cancel."""
    cols = col_units * UNIT
    row, col, is_col, inside = _find_rows(rows, cols, ROWS, COLS, EVEN_ROWS, EVEN_COLS)
    x_ptr += row * x_stride * UNIT
    if residual_ptr is not None:
        residual_ptr += row * residual_stride * UNIT
    x = _load_total(x_ptr, residual_ptr, col, inside, WIDE, "evict_first")
    if total_ptr is not None:
        tl.store(total_ptr + row * total_stride * UNIT + col, x.to(total_ptr.dtype.element_ty), mask=inside)
    # Before the sums: weight and bias arrive while the sums wait for other threads.
    weight = tl.load(weight_ptr + col, mask=is_col, other=0.0, eviction_policy="evict_last").to(WIDE)
    bias = tl.load(bias_ptr + col, mask=is_col, other=0.0, eviction_policy="evict_last").to(WIDE)
    x = tl.where(is_col, x - tl.sum(x, 1, keep_dims=True) / cols, 0.0)
    scale = tl.rsqrt(tl.sum(x * x, 1, keep_dims=True) / cols + EPS)
    normed = (x * scale * weight + bias).to(normed_ptr.dtype.element_ty)
    tl.store(normed_ptr + row * normed_stride * UNIT + col, normed, mask=inside)


@triton.jit
def layernorm_long_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    normed_ptr,
    total_ptr,
    col_units,
    x_stride,
    residual_stride,
    normed_stride,
    total_stride,
    EPS: tl.constexpr,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    STEPS: tl.constexpr,
    LANES: tl.constexpr,
    EVEN_COLS: tl.constexpr,
):
    """As `rmsnorm_long_kernel`, with a bias: (cols,). Each lane keeps the number, the mean and the squared distances
    from the mean of what it has seen, and those of a block are merged with them. Source: Chan, Golub and LeVeque 1983,
    equation 1.5."""
    cols = col_units * UNIT
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * x_stride * UNIT
    normed_ptr += row * normed_stride * UNIT
    if residual_ptr is not None:
        residual_ptr += row * residual_stride * UNIT
        total_ptr += row * total_stride * UNIT
    lane = tl.arange(0, STEPS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    blocks = tl.cdiv(cols, STEPS * LANES)
    seen = tl.zeros((LANES,), WIDE)
    mean = tl.zeros((LANES,), WIDE)
    squares = tl.zeros((LANES,), WIDE)
    for block in range(blocks):
        col = block * (STEPS * LANES) + lane
        inside = _is_inside(col, cols, EVEN_COLS)
        x = _load_total(x_ptr, residual_ptr, col, inside, WIDE, "evict_last")
        if total_ptr is not None:
            total = x.to(total_ptr.dtype.element_ty)
            tl.store(total_ptr + col, total, mask=inside, eviction_policy="evict_first")
        new = tl.sum(inside.to(WIDE), 0)
        new_mean = tl.sum(x, 0) / tl.maximum(new, 1.0)  # a lane without a number has a mean of 0
        away = tl.where(inside, x - new_mean[None, :], 0.0)
        share = new / tl.maximum(seen + new, 1.0)
        apart = new_mean - mean
        squares += tl.sum(away * away, 0) + apart * apart * seen * share
        mean += apart * share
        seen += new
    row_mean = tl.sum(seen * mean, 0) / cols
    apart = mean - row_mean
    scale = tl.rsqrt(tl.sum(squares + seen * apart * apart, 0) / cols + EPS)
    for done in range(blocks):
        col = (blocks - 1 - done) * (STEPS * LANES) + lane
        inside = _is_inside(col, cols, EVEN_COLS)
        x = _load_total(x_ptr, residual_ptr, col, inside, WIDE, "evict_first")
        weight = tl.load(weight_ptr + col, mask=inside, other=0.0, eviction_policy="evict_last").to(WIDE)
        bias = tl.load(bias_ptr + col, mask=inside, other=0.0, eviction_policy="evict_last").to(WIDE)
        normed = ((x - row_mean) * scale * weight + bias).to(normed_ptr.dtype.element_ty)
        tl.store(normed_ptr + col, normed, mask=inside, eviction_policy="evict_first")


@triton.jit
def softmax_kernel(
    x_ptr,
    out_ptr,
    rows,
    col_units,
    x_stride,
    out_stride,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    EVEN_ROWS: tl.constexpr,
    EVEN_COLS: tl.constexpr,
):
    """x, out: (rows, cols). Reads x once, writes out once."""
    row, col, is_col, inside = _find_rows(rows, col_units * UNIT, ROWS, COLS, EVEN_ROWS, EVEN_COLS)
    x_at = x_ptr + tl.minimum(row, rows - 1) * x_stride * UNIT + col  # a row past the last would be all -inf: NaN
    x = tl.load(x_at, mask=is_col, other=-float("inf"), eviction_policy="evict_first").to(WIDE)
    # exp2 is one instruction, exp is four. Subtract first: scaling large numbers first would round them.
    weights = tl.exp2((x - tl.max(x, 1, keep_dims=True)) * _LOG2_E)
    out = weights * (1 / tl.sum(weights, 1, keep_dims=True))
    tl.store(out_ptr + row * out_stride * UNIT + col, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def softmax_long_kernel(
    x_ptr,
    out_ptr,
    col_units,
    x_stride,
    out_stride,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    STEPS: tl.constexpr,
    LANES: tl.constexpr,
    EVEN_COLS: tl.constexpr,
):
    """x, out: (rows, cols). Reads x twice, from DRAM and then from L2; writes out once. Each lane keeps its own maximum
    and sum, so that no thread waits for another in the first pass."""
    cols = col_units * UNIT
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * x_stride * UNIT
    out_ptr += row * out_stride * UNIT
    lane = tl.arange(0, STEPS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    blocks = tl.cdiv(cols, STEPS * LANES)
    top = tl.full((LANES,), -float("inf"), WIDE)
    total = tl.zeros((LANES,), WIDE)
    for block in range(blocks):
        col = block * (STEPS * LANES) + lane
        inside = _is_inside(col, cols, EVEN_COLS)
        x = tl.load(x_ptr + col, mask=inside, other=-float("inf"), eviction_policy="evict_last").to(WIDE)
        higher = tl.maximum(top, tl.max(x, 0))
        base = tl.where(higher == -float("inf"), 0.0, higher)  # -inf - -inf would be NaN
        total = total * tl.exp2((top - base) * _LOG2_E) + tl.sum(tl.exp2((x - base[None, :]) * _LOG2_E), 0)
        top = higher
    row_top = tl.max(top, 0)
    inverse = 1 / tl.sum(total * tl.exp2((top - row_top) * _LOG2_E), 0)
    for done in range(blocks):
        col = (blocks - 1 - done) * (STEPS * LANES) + lane
        inside = _is_inside(col, cols, EVEN_COLS)
        x = tl.load(x_ptr + col, mask=inside, other=-float("inf"), eviction_policy="evict_first").to(WIDE)
        out = (tl.exp2((x - row_top) * _LOG2_E) * inverse).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + col, out, mask=inside, eviction_policy="evict_first")


@triton.jit
def swiglu_kernel(
    gate_ptr,
    up_ptr,
    out_ptr,
    rows,
    col_units,
    gate_stride,
    up_stride,
    out_stride,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    EVEN_ROWS: tl.constexpr,
    EVEN_COLS: tl.constexpr,
    COL_AXIS: tl.constexpr,
):
    """gate, up, out: (rows, cols). Reads gate and up once, writes out once."""
    cols = tl.cast(col_units, tl.int64) * UNIT  # int64: all rows may be taken as one
    row = tl.program_id(1 - COL_AXIS).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.program_id(COL_AXIS).to(tl.int64) * COLS + tl.arange(0, COLS)[None, :]
    inside = _is_inside(row, rows, EVEN_ROWS) & _is_inside(col, cols, EVEN_COLS)
    gate_at, up_at = gate_ptr + row * gate_stride * UNIT + col, up_ptr + row * up_stride * UNIT + col
    gate = tl.load(gate_at, mask=inside, eviction_policy="evict_first").to(WIDE)
    up = tl.load(up_at, mask=inside, eviction_policy="evict_first").to(WIDE)
    # 1/y takes fewer instructions than gate/y, and exp2 fewer than exp.
    out = gate * (1 / (1 + tl.exp2(gate * -_LOG2_E))) * up
    tl.store(out_ptr + row * out_stride * UNIT + col, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gelu_kernel(
    x_ptr,
    out_ptr,
    rows,
    col_units,
    x_stride,
    out_stride,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    EVEN_ROWS: tl.constexpr,
    EVEN_COLS: tl.constexpr,
    COL_AXIS: tl.constexpr,
):
    """x, out: (rows, cols). Reads x once, writes out once."""
    cols = tl.cast(col_units, tl.int64) * UNIT  # int64: all rows may be taken as one
    row = tl.program_id(1 - COL_AXIS).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.program_id(COL_AXIS).to(tl.int64) * COLS + tl.arange(0, COLS)[None, :]
    inside = _is_inside(row, rows, EVEN_ROWS) & _is_inside(col, cols, EVEN_COLS)
    x = tl.load(x_ptr + row * x_stride * UNIT + col, mask=inside, eviction_policy="evict_first").to(WIDE)
    # (1 + tanh(u)) / 2 is 1 / (1 + exp(-2u)), and exp2 takes fewer instructions than exp.
    out = x * (1 / (1 + tl.exp2((x + _GELU_CUBIC * x * x * x) * -_GELU_SCALE)))
    tl.store(out_ptr + row * out_stride * UNIT + col, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def rope_kernel(
    x_ptr,
    cos_ptr,
    sin_ptr,
    out_ptr,
    tokens,
    heads,
    half_units,
    x_token_stride,
    x_head_stride,
    cos_stride,
    sin_stride,
    out_token_stride,
    out_head_stride,
    WIDE: tl.constexpr,
    UNIT: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    EVEN_TOKENS: tl.constexpr,
    EVEN_HEADS: tl.constexpr,
    EVEN_HALF: tl.constexpr,
):
    """x, out: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Reads x once, and cos and sin once for each
    HEADS heads; writes out once."""
    half = half_units * UNIT
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)[:, None, None]
    head = tl.program_id(1).to(tl.int64) * HEADS + tl.arange(0, HEADS)[None, :, None]
    col = tl.program_id(2) * HALF + tl.arange(0, HALF)[None, None, :]
    inside = _is_inside(token, tokens, EVEN_TOKENS) & _is_inside(head, heads, EVEN_HEADS)
    inside &= _is_inside(col, half, EVEN_HALF)
    # Each thread loads the angles of its own numbers; all heads but the first find them in L1. Loaded once per token,
    # they would lie in other threads and pass through shared memory and a barrier.
    col_of_head = col + tl.zeros_like(head)
    cos = tl.load(cos_ptr + token * cos_stride * UNIT + col_of_head, mask=inside).to(WIDE)
    sin = tl.load(sin_ptr + token * sin_stride * UNIT + col_of_head, mask=inside).to(WIDE)
    x_at = x_ptr + (token * x_token_stride + head * x_head_stride) * UNIT + col
    lower = tl.load(x_at, mask=inside, eviction_policy="evict_first").to(WIDE)
    upper = tl.load(x_at + half, mask=inside, eviction_policy="evict_first").to(WIDE)
    out_at = out_ptr + (token * out_token_stride + head * out_head_stride) * UNIT + col
    tl.store(out_at, (lower * cos - upper * sin).to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(out_at + half, (upper * cos + lower * sin).to(out_ptr.dtype.element_ty), mask=inside)


def _check(op: str, kernel: object, *tensors: Tensor) -> None:
    """Raise Unsupported for a dtype, stride, size or device that the kernels do not take."""
    check_dtype(op, tensors[0].dtype, SUPPORTED_DTYPES)
    for tensor in tensors:
        if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            raise Unsupported(
                f"{op} does not support a last dimension of stride {tensor.stride(-1)}; supported: 1, others free"
            )
        if tensor.shape[-1] > MAX_COLS:
            raise Unsupported(f"{op} does not support rows of {tensor.shape[-1]} numbers; supported: to {MAX_COLS}")
    find_target(op, kernel, tensors[0])


def _plan_rows(
    kernels: tuple[Any, Any],
    tensors: Mapping[str, Tensor | None],
    weights: Mapping[str, Tensor],
    constants: Mapping[str, float],
    config: RowConfig,
) -> Launch:
    """The launch of an op that needs whole rows, by the first kernel where a program holds its rows, or by the second,
    which reads one row twice in blocks. `tensors` are (rows, cols), x first."""
    held, long = kernels
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    x = present["x"]
    rows, cols = x.shape
    strides, unit = _row_strides(present)
    block_cols = min(next_power_of_2(cols), config.block_cols)
    is_held = cols <= block_cols
    lanes = min(block_cols, config.num_warps * 32 * _VECTOR_BYTES // x.element_size())
    tile = (
        {"ROWS": config.rows, "COLS": block_cols, "EVEN_ROWS": rows % config.rows == 0}
        if is_held
        else {"STEPS": block_cols // lanes, "LANES": lanes}
    )
    return Launch(
        kernel=held if is_held else long,
        grid=(cdiv(rows, config.rows) if is_held else rows,),
        arguments={
            **{f"{name}_ptr": tensor for name, tensor in tensors.items()},
            **weights,
            **({"rows": rows} if is_held else {}),
            "col_units": cols // unit,
            **{f"{name}_stride": strides.get(f"{name}_stride") for name in tensors},
        },
        constants={**constants, "WIDE": _wide(x), "UNIT": unit, **tile, "EVEN_COLS": cols % block_cols == 0},
        num_warps=config.num_warps,
        config=config.name,
        opcodes=_WIDE_LOADS if unit == _MAX_UNIT else {},
    )


def _row_strides(tensors: Mapping[str, Tensor]) -> tuple[dict[str, int], int]:
    """Distances between the rows of (rows, cols) tensors in units, and the elements of a unit: the largest that divides
    all distances and the number of columns."""
    strides = {f"{name}_stride": _stride(tensor, 0) for name, tensor in tensors.items()}
    unit = math.gcd(_MAX_UNIT, next(iter(tensors.values())).shape[1], *strides.values())
    return {name: stride // unit for name, stride in strides.items()}, unit


def _stride(tensor: Tensor, dim: int) -> int:
    """The stride of a dimension; 0 for a dimension of size 1, whose stride means nothing."""
    return tensor.stride(dim) if tensor.shape[dim] > 1 else 0


def _wide(x: Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _block_of_heads(heads: int) -> int:
    """Heads of a program: the largest power of two that divides them, or all where that is tiny."""
    divisor = heads & -heads
    return divisor if divisor >= _MIN_HEADS else next_power_of_2(heads)


def _choose_for(x: Tensor) -> RowConfig:
    return choose_config(x.shape[1], dtype=dtype_name(x.dtype))


def _empty_like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _meta(dtype: str, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=TORCH_DTYPES[dtype], device="meta")


def _norm_launches(dtype: str, cols: int, config: RowConfig) -> tuple[Launch, ...]:
    x, weight = _meta(dtype, 8192, cols), _meta(dtype, cols)
    return (
        plan_rmsnorm(x, weight, x, config=config),
        plan_rmsnorm(x, weight, x, residual=x, total=x, config=config),
    )


def _layernorm_launches(dtype: str, cols: int, config: RowConfig) -> tuple[Launch, ...]:
    x, weight = _meta(dtype, 8192, cols), _meta(dtype, cols)
    return (
        plan_layernorm(x, weight, weight, x, config=config),
        plan_layernorm(x, weight, weight, x, residual=x, total=x, config=config),
    )


def _softmax_launch(dtype: str, cols: int, config: RowConfig) -> Launch:
    x = _meta(dtype, 8192, cols)
    return plan_softmax(x, x, config=config)


def _elementwise_launches(dtype: str, config: RowConfig) -> tuple[Launch, ...]:
    gate, x, angles = _meta(dtype, 4096, 14336), _meta(dtype, 8192, 32, 128), _meta(dtype, 8192, 64)
    return (
        plan_swiglu(gate, gate, gate, config=config),
        plan_gelu(gate, gate, config=config),
        plan_rope(x, angles, angles, x, config=config),
    )
