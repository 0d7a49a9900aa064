"""Matrix product in Triton: the kernel and tile for a shape on an architecture, and their launches.

Functions raise ValueError for other shapes, and Unsupported for dtypes, strides and devices that no kernel takes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import check_dtype, linear_backward_sizes, matmul_sizes, scaled_sizes
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.matmul_tiles import (
    matmul_kernel,
    matmul_persistent_kernel,
    split_k_reduce_kernel,
)
from kernels.triton.plan import (
    WIDE_PRODUCT_ROWS,
    Descriptor,
    Launch,
    Target,
    cdiv,
    check_tile_strides,
    find_target,
    is_describable,
    product_opcodes,
)
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType({"fp64": "the kernel accumulates in fp32"})
SUPPORTED_ARCHITECTURES = ARCHITECTURES

Operands = Literal["pointers", "descriptors", "own_descriptors"]
GRADIENT_DTYPES = ("fp32", "bf16", "fp16")  # of linear_backward


@dataclass(frozen=True, slots=True)
class MatmulConfig:
    """A tile (block_m, block_n), computed from block_k_bytes of each operand's rows per step.

    `operands`: by pointers, one program per tile; or where strides allow it by descriptors, the host's or each
    program's own, in persistent programs. group_m tiles of rows share columns in L2. split_k programs share the
    reduction of a tile, by pointers only; 0 chooses by the shape. `halves`: half of a tile's columns are multiplied at
    a time, for sums that take registers twice.
    """

    block_m: int
    block_n: int
    block_k_bytes: int
    num_warps: int
    num_stages: int
    operands: Operands = "pointers"
    warp_specialize: bool = False
    group_m: int = 8
    split_k: int = 0
    halves: bool = False

    @property
    def name(self) -> str:
        """As in records: 128x256x128B-w8-s4-descriptors."""
        parts = [
            f"{self.block_m}x{self.block_n}x{self.block_k_bytes}B",
            f"w{self.num_warps}",
            f"s{self.num_stages}",
            *([] if self.operands == "pointers" else [self.operands]),
            *(["specialized"] if self.warp_specialize else []),
            *(["halves"] if self.halves else []),
            *([f"g{self.group_m}"] if self.group_m != _GROUP_M else []),
            *([f"split{self.split_k}"] if self.split_k else []),
        ]
        return "-".join(parts)

    def block_k(self, element_bytes: int) -> int:
        """Columns of a, which are rows of b, per step."""
        return self.block_k_bytes // element_bytes

    @property
    def stage_bytes(self) -> int:
        """Shared memory for the operands of one step."""
        return (self.block_m + self.block_n) * self.block_k_bytes


@dataclass(frozen=True, slots=True)
class _Layout:
    """The dimension along which each operand is contiguous; k by default."""

    a_along_m: bool = False
    b_along_n: bool = False


# Products of a linear layer whose x (m, k), weight (n, k) and grad (m, n) are stored by rows.
_FORWARD = _Layout()  # x @ weight^T
_GRADIENT_OF_X = _Layout(b_along_n=True)  # grad @ weight
_GRADIENT_OF_WEIGHT = _Layout(a_along_m=True, b_along_n=True)  # grad^T @ x

_GROUP_M = 8

# Hopper and datacenter Blackwell: a row of 128 bytes is the widest swizzled block of a descriptor. Four stages of
# 128 x 256 and half a tile on its way out fill 227 KiB. Eight warps hold the sums in 128 registers per thread.
WIDE = MatmulConfig(128, 256, 128, 8, 4, "descriptors")
SQUARE = MatmulConfig(128, 128, 128, 8, 4, "descriptors")
# fp8 on Hopper is summed in the tensor cores and again in fp32: two sums of 128 x 256 spill, one and a half fit.
WIDE_PROMOTED = MatmulConfig(128, 256, 128, 8, 4, "descriptors", halves=True)
# Blackwell accumulates in tensor memory, so warps can specialize.
WIDE_BLACKWELL = MatmulConfig(128, 256, 128, 8, 4, "descriptors", warp_specialize=True)
SQUARE_BLACKWELL = MatmulConfig(128, 128, 128, 8, 4, "descriptors", warp_specialize=True)
WIDE_SPECIALIZED = MatmulConfig(128, 256, 128, 4, 3, "own_descriptors", warp_specialize=True)
SQUARE_SPECIALIZED = MatmulConfig(128, 128, 128, 4, 4, "own_descriptors", warp_specialize=True)
# Ampere and Ada have sums and operands in registers: with rows of 64 bytes, 128 x 256 does not spill.
WIDE_AMPERE = MatmulConfig(128, 256, 64, 8, 4)
SQUARE_AMPERE = MatmulConfig(128, 128, 128, 8, 3)
WIDE_POINTERS = MatmulConfig(128, 256, 128, 8, 3)  # for strides that no descriptor takes
SQUARE_SMALL_SHARED = MatmulConfig(128, 128, 128, 8, 3, "descriptors")
SMALL = MatmulConfig(64, 128, 128, 4, 3)
SMALL_AMPERE = MatmulConfig(64, 128, 128, 8, 3)
# Few rows: weights stream past them in rows of 128 or 256 bytes, with two or more programs per SM.
ROWS_64 = MatmulConfig(64, 64, 256, 4, 3)
ROWS_64_SMALL_SHARED = MatmulConfig(64, 64, 128, 4, 4)
ROWS_32 = MatmulConfig(32, 64, 128, 4, 5)
ROWS_16 = MatmulConfig(16, 64, 128, 4, 6)
VECTOR = MatmulConfig(64, 64, 64, 8, 3)  # IEEE fp32: no tensor core takes it
VECTOR_ROWS_16 = MatmulConfig(16, 64, 128, 4, 3)

CONFIGS = (
    WIDE,
    WIDE_PROMOTED,
    SQUARE,
    WIDE_BLACKWELL,
    SQUARE_BLACKWELL,
    WIDE_SPECIALIZED,
    SQUARE_SPECIALIZED,
    replace(WIDE, num_stages=3),
    MatmulConfig(256, 128, 128, 8, 3, "descriptors"),
    MatmulConfig(64, 256, 128, 4, 4, "descriptors"),
    MatmulConfig(128, 64, 128, 4, 4, "descriptors"),
    WIDE_AMPERE,
    SQUARE_AMPERE,
    SQUARE_SMALL_SHARED,
    WIDE_POINTERS,
    MatmulConfig(128, 128, 64, 4, 4),
    SMALL,
    SMALL_AMPERE,
    ROWS_64,
    ROWS_64_SMALL_SHARED,
    ROWS_32,
    ROWS_16,
    MatmulConfig(16, 64, 256, 4, 4),
    MatmulConfig(32, 64, 256, 4, 4),
    MatmulConfig(16, 32, 256, 4, 5),
    MatmulConfig(16, 32, 256, 2, 5),
    MatmulConfig(16, 128, 128, 8, 5),
    VECTOR,
    VECTOR_ROWS_16,
)

# One for each kind of configuration: wide, square, small, 64 rows, 32 rows and one row.
_AHEAD_OF_TIME_SHAPES = (
    (8192, 8192, 8192),
    (1024, 2048, 8192),
    (256, 512, 8192),
    (64, 8192, 8192),
    (32, 8192, 8192),
    (1, 8192, 8192),
)
_NARROWEST_ROWS = 16  # fewest rows of a tensor-core product
_MOST_VECTOR_SUMS = 64 * 64
_SKINNY_ROWS = 64  # up to here DRAM limits the product on every supported GPU, and weights are streamed
_REDUCE_BLOCK = 1024
_MAX_SPLIT_K = 16
_MIN_STEPS_PER_SPLIT = 4  # fewer do not fill the pipeline of loads
_BARRIER_BYTES = 1024  # more than the barriers of all stages
_REDUCTION_BYTES = 8e6  # DRAM delivers them in the time of a second launch: 2 us at 4 TB/s
_MOST_PROGRAMS_PER_SM = 8
# On Hopper, operands of other than 16 bits multiply only where both lie along k.
_K_MAJOR_ONLY = (*EIGHT_BIT, "tf32")


def choose_config(m: int, n: int, k: int, *, dtype: str, target: Target, describable: bool) -> MatmulConfig:
    """The configuration for a shape. `describable`: the strides of its operands allow descriptors."""
    if dtype == "fp32":
        return VECTOR if m > VECTOR_ROWS_16.block_m else VECTOR_ROWS_16
    if m <= _SKINNY_ROWS:
        return next(config for config in _few_rows(dtype, target) if m <= config.block_m)
    candidates = _many_rows(dtype, target, describable=describable)
    return min(candidates, key=lambda config: _relative_time(m, n, k * TORCH_DTYPES[dtype].itemsize, config, target))


@Launcher
def matmul(
    a: Tensor, b: Tensor, *, input_precision: str = "ieee", config: MatmulConfig | None = None
) -> Planned[Tensor]:
    """a: (m, k), b: (k, n), any strides. Returns a @ b: (m, n) in their dtype. `input_precision`: "ieee", or "tf32" for
    fp32 tensors; raises ValueError for others."""
    matmul_sizes(a, b)
    check_dtype("matmul", a.dtype, ("fp32", "tf32", "bf16", "fp16"))
    if input_precision not in ("ieee", "tf32"):
        raise ValueError(f"matmul: input_precision must be 'ieee' or 'tf32', not {input_precision!r}")
    dtype = dtype_name(a.dtype)
    if input_precision == "tf32":
        if dtype != "fp32":
            raise ValueError(f"matmul: input_precision='tf32' needs fp32 tensors, not {dtype}")
        dtype = "tf32"
    return _plan("matmul", a, b, None, out_dtype=a.dtype, dtype=dtype, config=config)


def matmul_tf32(a: Tensor, b: Tensor, *, config: MatmulConfig | None = None) -> Tensor:
    """a: (m, k), b: (k, n), fp32, any strides. Returns a @ b: (m, n) through tf32 tensor cores."""
    return matmul(a, b, input_precision="tf32", config=config)


@Launcher
def matmul_scaled(
    a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, *, config: MatmulConfig | None = None
) -> Planned[Tensor]:
    """a: (m, k), b: (k, n), fp8 or int8, each contiguous along k, a_scale: (m,), b_scale: (n,), fp32. Returns
    (a @ b) * a_scale * b_scale: (m, n) in bf16."""
    scaled_sizes(a, b, a_scale, b_scale)
    check_dtype("matmul_scaled", a.dtype, EIGHT_BIT)
    if a.stride(1) != 1 or b.stride(0) != 1:
        given = f"strides {a.stride()} and {b.stride()}"
        raise Unsupported(f"matmul_scaled does not support {given}; supported: a and b contiguous along k")
    dtype = dtype_name(a.dtype)
    scales = (a_scale, b_scale)
    return _plan("matmul_scaled", a, b, scales, out_dtype=torch.bfloat16, dtype=dtype, config=config)


@Launcher
def linear_backward(grad: Tensor, x: Tensor, weight: Tensor) -> Planned[tuple[Tensor, Tensor]]:
    """grad: (m, n), x: (m, k), weight: (n, k), any strides. Returns the gradients of x @ weight^T: grad @ weight (m, k)
    and grad^T @ x (n, k). Neither product has both operands along the dimension that it sums over."""
    op = "linear_backward"
    linear_backward_sizes(grad, x, weight)
    check_dtype(op, grad.dtype, GRADIENT_DTYPES)
    dtype = dtype_name(grad.dtype)
    of_x = _plan(op, grad, weight, None, out_dtype=grad.dtype, dtype=dtype, config=None)
    of_weight = _plan(op, grad.t(), x, None, out_dtype=grad.dtype, dtype=dtype, config=None)
    return Planned((of_x.result, of_weight.result), (*of_x.launches, *of_weight.launches))


def plan_matmul(
    a: Tensor,
    b: Tensor,
    out: Tensor,
    scales: tuple[Tensor, Tensor] | None = None,
    *,
    dtype: str,
    config: MatmulConfig,
    target: Target,
) -> tuple[Launch, ...]:
    """The launches that set out: (m, n) to a: (m, k) @ b: (k, n), times `scales` (m,) and (n,) where given."""
    if config.operands != "pointers":
        return (_plan_persistent(a, b, out, scales, dtype=dtype, config=config, target=target),)
    return _plan_tiles(a, b, out, scales, dtype=dtype, config=config, target=target)


def contends(config: MatmulConfig, dims: Mapping[str, int]) -> bool:
    """Whether a tuner should try a configuration: not where most of a tile is padding, nor a low tile for many rows."""
    rows = dims["m"]
    return min(rows, WIDE_PRODUCT_ROWS) <= config.block_m <= max(_NARROWEST_ROWS, 2 * rows)


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configurations, each tile and the reduction once; tiles for many rows also in the layouts
    of `linear_backward`."""
    launches: dict[object, Launch] = {}
    for m, n, k in _AHEAD_OF_TIME_SHAPES:
        config = choose_config(m, n, k, dtype=dtype, target=target, describable=True)
        product, *reduction = _plan_meta(m, n, k, dtype=dtype, config=config, target=target)
        launches[product.config] = product
        launches.update((launch.kernel, launch) for launch in reduction)
        if dtype in GRADIENT_DTYPES and m > _SKINNY_ROWS:
            for layout in (_GRADIENT_OF_X, _GRADIENT_OF_WEIGHT):
                product, *_ = _plan_meta(m, n, k, dtype=dtype, config=config, target=target, layout=layout)
                launches[product.config] = product
    return tuple(launches.values())


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of each configuration that fits this architecture."""
    launches: dict[object, Launch] = {}
    for config in CONFIGS:
        if why_not(config, dtype, target) is None:
            product, *_ = _plan_meta(4096, 8192, 8192, dtype=dtype, config=config, target=target)
            launches[product.config] = product
    return tuple(launches.values())


def _plan(
    op: str,
    a: Tensor,
    b: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    *,
    out_dtype: torch.dtype,
    dtype: str,
    config: MatmulConfig | None,
) -> Planned[Tensor]:
    """The product by `config`, or by what suits shape and strides. Raises Unsupported where that is impossible."""
    (m, k), n = a.shape, b.shape[1]
    target = find_target(op, matmul_kernel, a)
    check_tile_strides(op, *a.stride(), *b.stride(), n)
    out = torch.empty(m, n, dtype=out_dtype, device=a.device)
    describable = _takes_descriptor(a, dtype) and _takes_descriptor(b.t(), dtype) and is_describable(out)
    if config is None:
        config = choose_config(m, n, k, dtype=dtype, target=target, describable=describable)
    elif reason := why_not(config, dtype, target):
        raise Unsupported(f"{op}: {config.name} is not supported: {reason}")
    elif config.operands != "pointers" and not describable:
        along = "along k" if dtype in _K_MAJOR_ONLY else "in one dimension"
        raise Unsupported(f"{op}: {config.name} needs matrices contiguous {along}, and 16 bytes or a multiple apart")
    return Planned(out, plan_matmul(a, b, out, scales, dtype=dtype, config=config, target=target))


def _plan_tiles(
    a: Tensor,
    b: Tensor,
    out: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    *,
    dtype: str,
    config: MatmulConfig,
    target: Target,
) -> tuple[Launch, ...]:
    """By pointers. With split-K, partial sums go to memory and are then reduced and scaled."""
    (m, k), n = a.shape, b.shape[1]
    config = fit_shared(config, target)
    block_k = config.block_k(a.element_size())
    steps = cdiv(k, block_k)
    split_k = min(config.split_k or _choose_split(m, n, config, steps=steps, target=target), steps)
    partial_dtype = torch.int32 if dtype == "int8" else torch.float32
    sums = out if split_k == 1 else torch.empty(split_k, m, n, dtype=partial_dtype, device=a.device)
    a_scale, b_scale = scales if scales and split_k == 1 else (None, None)
    product = Launch(
        kernel=matmul_kernel,
        grid=(tiles(m, n, config.block_m, config.block_n), split_k),
        arguments={
            "a_ptr": a,
            "b_ptr": b,
            "out_ptr": sums,
            "a_scale_ptr": a_scale,
            "b_scale_ptr": b_scale,
            "m": m,
            "n": n,
            "k": k,
            "stride_am": a.stride(0),
            "stride_ak": a.stride(1),
            "stride_bk": b.stride(0),
            "stride_bn": b.stride(1),
        },
        constants={
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": block_k,
            "GROUP_M": config.group_m,
            "EVEN_K": k % block_k == 0,
            "INPUT_PRECISION": "tf32" if dtype == "tf32" else "ieee",
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=_launch_name(config, a, b),
        opcodes=product_opcodes(dtype, config.block_m),
    )
    return (product,) if split_k == 1 else (product, plan_reduction(sums, out, scales))


def plan_reduction(partials: Tensor, out: Tensor, scales: tuple[Tensor, Tensor] | None = None) -> Launch:
    """The launch that sets out: (m, n) to the sum of partials: (splits, m, n), times `scales` (m,) and (n,)."""
    split_k, m, n = partials.shape
    a_scale, b_scale = scales or (None, None)
    return Launch(
        kernel=split_k_reduce_kernel,
        grid=(cdiv(m * n, _REDUCE_BLOCK),),
        arguments={
            "partials_ptr": partials,
            "out_ptr": out,
            "a_scale_ptr": a_scale,
            "b_scale_ptr": b_scale,
            "size": m * n,
            "n": n,
        },
        constants={"SPLIT_K": split_k, "BLOCK": _REDUCE_BLOCK},
        num_warps=4,
        config=f"{_REDUCE_BLOCK}-split{split_k}",
    )


def tiles(m: int, n: int, block_m: int, block_n: int) -> int:
    """How many blocks of this size cover an (m, n) matrix."""
    return cdiv(m, block_m) * cdiv(n, block_n)


def _plan_persistent(
    a: Tensor,
    b: Tensor,
    out: Tensor,
    scales: tuple[Tensor, Tensor] | None,
    *,
    dtype: str,
    config: MatmulConfig,
    target: Target,
) -> Launch:
    """By descriptors, one program per SM."""
    (m, k), n = a.shape, b.shape[1]
    config = fit_shared(config, target, reserved_bytes=config.block_m * config.block_n // 2 * out.element_size())
    block_k = config.block_k(a.element_size())
    a_rows, a_block = _describe(a, config.block_m, block_k)
    b_rows, b_block = _describe(b.t(), config.block_n // 2 if config.halves else config.block_n, block_k)
    is_described = config.operands == "descriptors"
    a_scale, b_scale = scales or (None, None)
    return Launch(
        kernel=matmul_persistent_kernel,
        grid=(min(tiles(m, n, config.block_m, config.block_n), target.sm_count),),
        arguments={
            "a_source": Descriptor(a_rows, a_block) if is_described else a_rows,
            "b_source": Descriptor(b_rows, b_block) if is_described else b_rows,
            "out_source": Descriptor(out, (config.block_m, config.block_n // 2)) if is_described else out,
            "a_scale_ptr": a_scale,
            "b_scale_ptr": b_scale,
            "m": m,
            "n": n,
            "k": k,
            "stride_a": None if is_described else a_rows.stride(0),
            "stride_b": None if is_described else b_rows.stride(0),
        },
        constants={
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": block_k,
            "GROUP_M": config.group_m,
            "A_IS_TRANSPOSED": _is_across_k(a),
            "B_IS_TRANSPOSED": not _is_across_k(b.t()),
            "INPUT_PRECISION": "tf32" if dtype == "tf32" else "ieee",
            "WARP_SPECIALIZE": config.warp_specialize,
            # Hopper specializes the loop over tiles only where it is not fused with the loop over k.
            "FLATTEN": not (config.warp_specialize and target.family == 9),
            "HALVES": config.halves,
            "OWN_DESCRIPTORS": not is_described,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=_launch_name(config, a, b),
        opcodes=product_opcodes(
            dtype, config.block_m, "UTMALDG", "UTMASTG", *(("USETMAXREG",) if config.warp_specialize else ())
        ),
        needs_scratch=not is_described,
    )


def _plan_meta(
    m: int, n: int, k: int, *, dtype: str, config: MatmulConfig, target: Target, layout: _Layout = _FORWARD
) -> tuple[Launch, ...]:
    """The launches for operands of this layout, on tensors without memory."""
    a = _empty_meta(m, k, dtype, across_k=layout.a_along_m)
    b = _empty_meta(n, k, dtype, across_k=layout.b_along_n).t()
    is_scaled = dtype in EIGHT_BIT
    out = torch.empty(m, n, dtype=torch.bfloat16 if is_scaled else TORCH_DTYPES[dtype], device="meta")
    scales = (torch.empty(m, device="meta"), torch.empty(n, device="meta")) if is_scaled else None
    return plan_matmul(a, b, out, scales, dtype=dtype, config=config, target=target)


def _empty_meta(rows: int, k: int, dtype: str, *, across_k: bool) -> Tensor:
    """An operand of (rows, k) without memory; where it lies across k, contiguous along its rows."""
    shape = (k, rows) if across_k else (rows, k)
    matrix = torch.empty(shape, dtype=TORCH_DTYPES[dtype], device="meta")
    return matrix.t() if across_k else matrix


def _few_rows(dtype: str, target: Target) -> tuple[MatmulConfig, ...]:
    """Tiles for up to 64 rows, by height."""
    rows_64 = ROWS_64 if target.has_large_shared else ROWS_64_SMALL_SHARED
    if dtype == "fp8" and target.family in (9, 10):  # 32 rows widened to fp16 in registers spill
        # Triton promotes the second 128 bytes of a row while the first product runs, which ptxas then makes wait.
        return (ROWS_16, ROWS_64_SMALL_SHARED if target.family == 9 else rows_64)
    return (ROWS_16, ROWS_32, rows_64)


def _many_rows(dtype: str, target: Target, *, describable: bool) -> tuple[MatmulConfig, ...]:
    """Candidate tiles for many rows, widest first."""
    family = target.family
    if family == 10 and dtype == "int8":
        return (WIDE_AMPERE, SQUARE_AMPERE, SMALL_AMPERE)  # in registers, as on Ampere
    if dtype == "fp8" and family == 9:  # its sums take registers twice
        return (WIDE_PROMOTED, SQUARE, SMALL_AMPERE) if describable else (SQUARE_AMPERE, SMALL_AMPERE)
    if describable and family == 9:
        return (WIDE, SQUARE, SMALL)
    if describable and family == 10:
        return (WIDE_BLACKWELL, SQUARE_BLACKWELL, SMALL)
    if describable and family == 12:
        return (SQUARE_SMALL_SHARED, SMALL_AMPERE)
    if family in (9, 10):
        return (WIDE_POINTERS, SQUARE_AMPERE, SMALL)
    return (WIDE_AMPERE, SQUARE_AMPERE, SMALL_AMPERE)


def why_not(config: MatmulConfig, dtype: str, target: Target) -> str | None:
    """Why this configuration cannot serve a format on an architecture, or None where it can."""
    if dtype == "fp32" and (config.operands != "pointers" or config.block_m * config.block_n > _MOST_VECTOR_SUMS):
        return "IEEE fp32 is computed without tensor cores, by pointers and in tiles of at most 64 x 64"
    if config.operands != "pointers" and target.architecture < 90:
        return f"sm{target.architecture} has no hardware for descriptors"
    if config.warp_specialize and (config.operands == "own_descriptors") != (target.family == 9):
        return "Hopper specializes with its own descriptors, later architectures with the host's"
    if config.halves and (dtype != "fp8" or target.family != 9):
        return "halves of a tile are for fp8 on Hopper, whose sums take registers twice"
    if config.stage_bytes * min(config.num_stages, 2) > target.shared_bytes:
        return f"two stages do not fit in {target.shared_bytes} bytes of shared memory"
    return None


def _relative_time(m: int, n: int, k_bytes: int, config: MatmulConfig, target: Target) -> float:
    """The time of a tile shape relative to others: whole rounds over the SMs, divided by the rate that its reuse
    allows.

    A number crosses from L2 for every 1/(1/block_m + 1/block_n) multiply-adds of a step. The square root is a guess
    between no influence and proportion. Only pointers can split the reduction.
    """
    split = 1
    if config.operands == "pointers":
        split = _choose_split(m, n, config, steps=cdiv(k_bytes, config.block_k_bytes), target=target)
    rounds = cdiv(tiles(m, n, config.block_m, config.block_n) * split, target.sm_count)
    rate = math.sqrt(1 / (1 / config.block_m + 1 / config.block_n))
    return rounds * config.block_m * config.block_n / (split * rate)


def _choose_split(m: int, n: int, config: MatmulConfig, *, steps: int, target: Target) -> int:
    """The number of parts of the reduction with which all programs end soonest; the unit of cost is a step of all SMs.

    Programs run in rounds of as many as the SMs hold, and a part of a round costs a whole one. More parts even that
    out, but a second launch writes and reads their sums in fp32.
    """
    used_bytes = config.stage_bytes * max(1, config.num_stages - 1)
    per_sm = max(1, min(target.shared_bytes // used_bytes, _MOST_PROGRAMS_PER_SM))
    slots = per_sm * target.sm_count
    programs = tiles(m, n, config.block_m, config.block_n)
    round_bytes = slots * config.stage_bytes

    def cost(split: int) -> float:
        reduction = (_REDUCTION_BYTES + 2 * split * m * n * 4) / round_bytes if split > 1 else 0.0
        return cdiv(programs * split, slots) * cdiv(steps, split) + reduction

    return min(range(1, max(1, min(steps // _MIN_STEPS_PER_SPLIT, _MAX_SPLIT_K)) + 1), key=cost)


def fit_shared(config: MatmulConfig, target: Target, *, reserved_bytes: int = 0) -> MatmulConfig:
    """The configuration with as many of its stages as fit in shared memory beside `reserved_bytes` and barriers."""
    buffers = (target.shared_bytes - reserved_bytes - _BARRIER_BYTES) // config.stage_bytes
    # Older products copy operands to registers, which frees a buffer that newer ones still read.
    stages = buffers if target.family in (9, 10) else buffers + 1
    return replace(config, num_stages=max(1, min(config.num_stages, stages)))


def _is_across_k(operand: Tensor) -> bool:
    """Whether an operand of (rows, k), a or b^T, is contiguous along its rows and not along k."""
    return operand.stride(0) == 1 and operand.stride(1) != 1


def _takes_descriptor(operand: Tensor, dtype: str) -> bool:
    """Whether a descriptor can stand for an operand of (rows, k), or for its transpose if the format allows it."""
    return is_describable(operand) or (dtype not in _K_MAJOR_ONLY and is_describable(operand.t()))


def _describe(operand: Tensor, block_rows: int, block_k: int) -> tuple[Tensor, tuple[int, int]]:
    """What a descriptor of an operand of (rows, k) describes: a matrix with contiguous rows, and its block."""
    if _is_across_k(operand):
        return operand.t(), (block_k, block_rows)
    return operand, (block_rows, block_k)


def _launch_name(config: MatmulConfig, a: Tensor, b: Tensor) -> str:
    """The configuration, and the operands that do not lie along k, since other layouts are other code."""
    across = (("a_along_m", _is_across_k(a)), ("b_along_n", _is_across_k(b.t())))
    return "-".join([config.name, *(name for name, is_across in across if is_across)])
