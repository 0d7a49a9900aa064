"""The grouped product of a mixture of experts in Triton: one launch, whatever rows each expert has.

The offsets stay on the device. The host knows only how many rows there are in all, which bounds the number of tiles;
each program works out which expert's tile is its own, and a program without one returns at once. So a call never waits
for the router, and a CUDA graph can hold it.

Operands come by pointers, or from Hopper on by tensor descriptors. A block may then reach into the rows or the weight
of the next expert; those products are not stored.

Functions raise ValueError for other shapes, and Unsupported for dtypes, strides and devices that the kernel does not
take.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT, EIGHT_BIT_REASON
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import ExpertSizes, check_dtype, expert_sizes
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.matmul import (
    ROWS_16,
    ROWS_32,
    ROWS_64,
    ROWS_64_SMALL_SHARED,
    SQUARE,
    SQUARE_AMPERE,
    SQUARE_SMALL_SHARED,
    VECTOR,
    VECTOR_ROWS_16,
    WIDE,
    WIDE_AMPERE,
    WIDE_POINTERS,
    MatmulConfig,
    fit_shared,
    why_not,
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
    next_power_of_2,
    product_opcodes,
)
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ("fp32", "bf16", "fp16")
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "fp64": "the kernel accumulates in fp32",
        "tf32": "experts in fp32 are computed in full precision",
        **dict.fromkeys(EIGHT_BIT, EIGHT_BIT_REASON),
    }
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES
MAX_EXPERTS = 4096  # each program reads all offsets

ROWS_16_NARROW = MatmulConfig(16, 32, 256, 4, 4)  # twice as many programs, where few experts have rows

CONFIGS = (
    ROWS_16,
    ROWS_16_NARROW,
    MatmulConfig(16, 64, 256, 4, 4),
    MatmulConfig(16, 128, 128, 4, 5),
    ROWS_32,
    MatmulConfig(32, 64, 256, 4, 4),
    MatmulConfig(32, 128, 128, 4, 4),
    ROWS_64,
    ROWS_64_SMALL_SHARED,
    MatmulConfig(64, 128, 128, 4, 4),
    MatmulConfig(64, 256, 128, 8, 3),
    WIDE,
    SQUARE,
    SQUARE_SMALL_SHARED,
    SQUARE_AMPERE,
    WIDE_AMPERE,
    WIDE_POINTERS,
    VECTOR,
    VECTOR_ROWS_16,
)

# The gate and up projections of Mixtral-8x7B and Qwen3-30B-A3B, and a small one: a kind of tile each.
_AHEAD_OF_TIME_SIZES = (
    *(ExpertSizes(rows, 8, 28672, 4096) for rows in (2, 8 * 32, 8 * 64, 8 * 1024)),
    *(ExpertSizes(rows, 128, 1536, 2048) for rows in (8, 128 * 128)),
    ExpertSizes(8 * 128, 8, 2048, 2048),
)


def choose_config(sizes: ExpertSizes, *, dtype: str, target: Target, describable: bool) -> MatmulConfig:
    """The configuration for rows that are spread evenly, since the host does not know how they are: the lowest tile
    that holds the rows of an expert. Longer groups than these take several tiles, which find the weight in L2.
    `describable`: the strides of the operands allow descriptors."""
    touched = min(sizes.experts, sizes.rows)
    rows = cdiv(sizes.rows, touched)
    if dtype == "fp32":
        return VECTOR if rows > VECTOR_ROWS_16.block_m else VECTOR_ROWS_16
    if rows <= ROWS_16.block_m:
        fills = touched * cdiv(sizes.n, ROWS_16.block_n) >= 2 * target.sm_count
        return ROWS_16 if fills else ROWS_16_NARROW
    if rows <= ROWS_32.block_m:
        return ROWS_32
    if rows <= ROWS_64.block_m:
        return ROWS_64 if target.has_large_shared else ROWS_64_SMALL_SHARED
    wide, square = _many_rows(target, describable=describable)
    tiles = touched * cdiv(rows, wide.block_m) * cdiv(sizes.n, wide.block_n)
    return wide if tiles >= 2 * target.sm_count else square


def contends(config: MatmulConfig, dims: Mapping[str, int]) -> bool:
    """Whether a tuner should try a configuration: not where most of a tile is padding under an even spread, nor a low
    tile for many rows."""
    rows = cdiv(dims["tokens"] * dims["active"], min(dims["experts"], dims["tokens"] * dims["active"]))
    return min(rows, WIDE_PRODUCT_ROWS) <= config.block_m <= max(ROWS_16.block_m, 2 * rows)


@Launcher
def moe_experts(x: Tensor, weight: Tensor, offsets: Tensor, *, config: MatmulConfig | None = None) -> Planned[Tensor]:
    """x: (rows, k), the rows of one expert together, weight: (experts, n, k), offsets: (experts + 1,) int32, where each
    expert's rows begin, and the end. Returns x @ weight^T: (rows, n), each row by the weight of its expert. An expert
    may have no rows. Rows of x and of the weights must be contiguous, and may be any distance apart."""
    op, sizes = "moe_experts", expert_sizes(x, weight, offsets)
    check_dtype(op, x.dtype, SUPPORTED_DTYPES)
    target = find_target(op, experts_kernel, x)
    if sizes.experts > MAX_EXPERTS:
        raise Unsupported(f"{op} does not support {sizes.experts} experts; supported: to {MAX_EXPERTS}")
    if sizes.k > 1 and (x.stride(1) != 1 or weight.stride(2) != 1):
        given = f"strides {x.stride()} and {weight.stride()}"
        raise Unsupported(f"{op} does not support {given}; supported: x and weight contiguous along k")
    check_tile_strides(op, x.stride(0), weight.stride(1), sizes.n)
    dtype = dtype_name(x.dtype)
    describable = is_describable(x) and is_describable(weight) and weight.stride(0) == sizes.n * weight.stride(1)
    if config is None:
        config = choose_config(sizes, dtype=dtype, target=target, describable=describable)
    elif reason := _why_not(config, dtype, target):
        raise Unsupported(f"{op}: {config.name} is not supported: {reason}")
    elif config.operands == "descriptors" and not describable:
        raise Unsupported(f"{op}: {config.name} needs rows 16 bytes or a multiple apart, and weights without gaps")
    out = torch.empty(sizes.rows, sizes.n, dtype=x.dtype, device=x.device)
    return Planned(out, (plan_experts(x, weight, offsets, out, config=config, target=target),))


def plan_experts(
    x: Tensor, weight: Tensor, offsets: Tensor, out: Tensor, *, config: MatmulConfig, target: Target
) -> Launch:
    """The launch that sets out: (rows, n) to the products of `moe_experts`."""
    (rows, k), (experts, n, _) = x.shape, weight.shape
    config = fit_shared(config, target)
    block_k = config.block_k(x.element_size())
    is_described = config.operands == "descriptors"
    lines = weight.view(experts * n, k) if is_described else weight
    return Launch(
        kernel=experts_kernel,
        grid=(most_tiles(rows, experts, config.block_m) * cdiv(n, config.block_n),),
        arguments={
            "x_source": Descriptor(x, (config.block_m, block_k)) if is_described else x,
            "weight_source": Descriptor(lines, (config.block_n, block_k)) if is_described else weight,
            "offsets_ptr": offsets,
            "out_ptr": out,
            "experts": experts,
            "n": n,
            "k": k,
            "stride_xm": x.stride(0),
            "stride_we": weight.stride(0),
            "stride_wn": weight.stride(1),
        },
        constants={
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_K": block_k,
            "BLOCK_E": next_power_of_2(experts),
            "GROUP_M": config.group_m,
            "EVEN_K": k % block_k == 0,
            "DESCRIBED": is_described,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=config.name,
        opcodes=product_opcodes(dtype_name(x.dtype), config.block_m, *(("UTMALDG",) if is_described else ())),
    )


def most_tiles(rows: int, experts: int, block_m: int) -> int:
    """The most tiles of block_m rows that this many rows can need, however they are spread: each expert that has rows
    adds at most block_m - 1 of padding."""
    return (rows + min(experts, rows) * (block_m - 1)) // block_m


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configurations, each tile once."""
    launches: dict[str, Launch] = {}
    for sizes in _AHEAD_OF_TIME_SIZES:
        for describable in (True, False):
            config = choose_config(sizes, dtype=dtype, target=target, describable=describable)
            launches.setdefault(config.name, _plan_meta(sizes, config, dtype, target))
    return tuple(launches.values())


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of each configuration that fits this architecture."""
    fitting = (config for config in CONFIGS if _why_not(config, dtype, target) is None)
    return tuple(_plan_meta(_AHEAD_OF_TIME_SIZES[0], config, dtype, target) for config in fitting)


@triton.jit
def experts_kernel(
    x_source,
    weight_source,
    offsets_ptr,
    out_ptr,
    experts,
    n,
    k,
    stride_xm,
    stride_we,
    stride_wn,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """x: (rows, k), weight: (experts, n, k), by pointers, or where DESCRIBED by descriptors, the weight's of
    (experts*n, k); offsets: (experts + 1,), out: (rows, n) row-major. All programs of an expert are neighbors, and so
    are those that share GROUP_M tiles of its rows: its weight crosses DRAM once for each such group, and its rows
    n/BLOCK_N times, mostly from L2. Writes each out once."""
    tiles_n = tl.cdiv(n, BLOCK_N)
    tile = tl.program_id(0)
    expert, begin, rows, tile = _find_expert(offsets_ptr, tile, experts, tiles_n, BLOCK_M, BLOCK_E)
    if expert < experts:
        tiles_m = tl.cdiv(rows, BLOCK_M)
        group = tile // (GROUP_M * tiles_n)
        first_m = group * GROUP_M
        height = min(tiles_m - first_m, GROUP_M)
        tile_m = first_m + (tile % (GROUP_M * tiles_n)) % height
        tile_n = (tile % (GROUP_M * tiles_n)) // height

        # A tile may start beyond 2**31 elements, so its start is int64. Offsets inside a tile are 32-bit.
        row = (begin + tile_m * BLOCK_M).to(tl.int64)
        column = tile_n.to(tl.int64) * BLOCK_N
        offs_m = tl.arange(0, BLOCK_M)
        offs_n = tl.arange(0, BLOCK_N)
        offs_k = tl.arange(0, BLOCK_K)
        in_m = offs_m < rows - tile_m * BLOCK_M
        in_n = offs_n < n - tile_n * BLOCK_N

        if not DESCRIBED:
            x_base = x_source + row * stride_xm
            weight_base = weight_source + expert.to(tl.int64) * stride_we + column * stride_wn
            x_tile = offs_m[:, None] * stride_xm + offs_k[None, :]
            weight_tile = offs_k[:, None] + offs_n[None, :] * stride_wn

        total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for step in range(tl.cdiv(k, BLOCK_K)):
            if DESCRIBED:
                x = x_source.load([begin + tile_m * BLOCK_M, step * BLOCK_K])
                weight = weight_source.load([expert * n + tile_n * BLOCK_N, step * BLOCK_K]).T
            elif EVEN_K:
                x = tl.load(x_base + x_tile, mask=in_m[:, None], other=0.0)
                weight = tl.load(weight_base + weight_tile, mask=in_n[None, :], other=0.0)
            else:
                in_k = offs_k < k - step * BLOCK_K
                x = tl.load(x_base + x_tile, mask=in_m[:, None] & in_k[None, :], other=0.0)
                weight = tl.load(weight_base + weight_tile, mask=in_k[:, None] & in_n[None, :], other=0.0)
            total = tl.dot(x, weight, total, input_precision="ieee")
            if not DESCRIBED:
                x_base += BLOCK_K
                weight_base += BLOCK_K
        out_tile = out_ptr + row * n + column + offs_m[:, None] * n + offs_n[None, :]
        tl.store(out_tile, total.to(out_ptr.dtype.element_ty), mask=in_m[:, None] & in_n[None, :])


@triton.jit
def _find_expert(offsets_ptr, tile, experts, tiles_n, BLOCK_M: tl.constexpr, BLOCK_E: tl.constexpr):
    """The expert whose tile this is, or `experts` if there are fewer tiles; where its rows begin, how many there are,
    and the number of the tile among those of that expert."""
    each = tl.arange(0, BLOCK_E)
    is_expert = each < experts
    begins = tl.load(offsets_ptr + each, mask=is_expert, other=0)
    lengths = tl.load(offsets_ptr + each + 1, mask=is_expert, other=0) - begins
    tiles = tl.cdiv(lengths, BLOCK_M)
    ends = tl.cumsum(tiles, 0)
    # Experts before it end at or before this tile; so do all, and the padding, where no expert has it.
    expert = tl.minimum(tl.sum((ends <= tile // tiles_n).to(tl.int32), 0), experts)
    chosen = each == expert
    begin = tl.sum(tl.where(chosen, begins, 0), 0)
    rows = tl.sum(tl.where(chosen, lengths, 0), 0)
    before = tl.sum(tl.where(chosen, ends - tiles, 0), 0)
    return expert, begin, rows, tile - before * tiles_n


def _many_rows(target: Target, *, describable: bool) -> tuple[MatmulConfig, MatmulConfig]:
    """The wide and the square tile for many rows per expert."""
    if target.family in (9, 10):
        return (WIDE, SQUARE) if describable else (WIDE_POINTERS, SQUARE_AMPERE)
    if target.family == 12 and describable:
        return SQUARE_SMALL_SHARED, SQUARE_SMALL_SHARED
    return WIDE_AMPERE, SQUARE_AMPERE


def _why_not(config: MatmulConfig, dtype: str, target: Target) -> str | None:
    """Why this configuration cannot serve a format on an architecture, or None where it can."""
    if config.operands == "own_descriptors" or config.warp_specialize or config.split_k > 1 or config.halves:
        return "experts are multiplied by pointers or the host's descriptors, whole and in unspecialized warps"
    return why_not(config, dtype, target)


def _plan_meta(sizes: ExpertSizes, config: MatmulConfig, dtype: str, target: Target) -> Launch:
    """The launch for operands of these sizes, on tensors without memory."""

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=TORCH_DTYPES[dtype], device="meta")

    offsets = torch.empty(sizes.experts + 1, dtype=torch.int32, device="meta")
    x, weight = empty(sizes.rows, sizes.k), empty(sizes.experts, sizes.n, sizes.k)
    return plan_experts(x, weight, offsets, empty(sizes.rows, sizes.n), config=config, target=target)
