"""Matrix product in Triton: tiles in grouped order, fp32 accumulation, split-K with a deterministic reduction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT, EIGHT_BIT_REASON
from kernels.plan import Launch, Target, check_tile_strides, find_target, product_opcodes
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import check_dtype, matmul_sizes

SUPPORTED_DTYPES = ("fp32", "tf32", "bf16", "fp16")
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    {"fp64": "the kernel accumulates in fp32", **dict.fromkeys(EIGHT_BIT, EIGHT_BIT_REASON)}
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES


@dataclass(frozen=True, slots=True)
class MatmulConfig:
    """Tile (block_m, block_n) computed block_k at a time; group_m tiles of rows share columns in L2; split_k programs
    share one tile's reduction."""

    block_m: int
    block_n: int
    block_k: int
    group_m: int
    num_warps: int
    num_stages: int
    split_k: int = 1


WIDE = MatmulConfig(128, 256, 64, 8, 8, 3)
SQUARE = MatmulConfig(128, 128, 64, 8, 8, 3)
SMALL = MatmulConfig(64, 128, 64, 8, 4, 3)
SMALL_HMMA = MatmulConfig(64, 128, 64, 8, 8, 3)
ROWS_64 = MatmulConfig(64, 64, 128, 1, 4, 3)
ROWS_64_SMALL_SHARED = MatmulConfig(64, 64, 64, 1, 4, 4)
ROWS_32 = MatmulConfig(32, 64, 64, 1, 4, 5)
ROWS_16 = MatmulConfig(16, 64, 64, 1, 4, 5)
VECTOR = MatmulConfig(64, 64, 16, 8, 8, 3)  # IEEE fp32: no tensor core takes it
VECTOR_ROWS_16 = MatmulConfig(16, 64, 32, 1, 4, 3)

CONFIGS = (WIDE, SQUARE, SMALL, SMALL_HMMA, ROWS_64, ROWS_64_SMALL_SHARED, ROWS_32, ROWS_16, VECTOR, VECTOR_ROWS_16)

# One for each kind of configuration: wide, square, small, 64 rows, 32 rows and one row.
_AHEAD_OF_TIME_SHAPES = (
    (8192, 8192, 8192),
    (1536, 1536, 8192),
    (256, 512, 8192),
    (64, 8192, 8192),
    (32, 8192, 8192),
    (1, 8192, 8192),
)
_REDUCE_BLOCK = 1024
_MAX_SPLIT_K = 16
_MIN_STEPS_PER_SPLIT = 4  # fewer steps of block_k do not fill the pipeline of loads


def choose_config(m: int, n: int, k: int, *, dtype: str, target: Target) -> MatmulConfig:
    """The configuration for a shape: the largest tile that still gives every SM one, then split-K for idle SMs."""
    if dtype == "fp32":
        config = VECTOR if m > 16 else VECTOR_ROWS_16
    elif m <= 64:
        rows_64 = ROWS_64_SMALL_SHARED if target.shared_bytes < 128 * 1024 else ROWS_64
        config = next(config for config in (ROWS_16, ROWS_32, rows_64) if m <= config.block_m)
    else:
        # HMMA accumulates in registers next to its operands: a wide tile, or few warps, would spill there.
        is_hmma = target.architecture // 10 not in (9, 10)
        large, small = ((SQUARE,), SMALL_HMMA) if is_hmma else ((WIDE, SQUARE), SMALL)
        config = next((config for config in large if _tiles(m, n, config) >= target.sm_count), small)
    config = _fit_shared(config, TORCH_DTYPES[dtype].itemsize, target)
    steps = triton.cdiv(k, config.block_k)
    programs = (2 if m <= 64 else 1) * target.sm_count  # narrow tiles leave shared memory for two programs per SM
    wanted = programs // _tiles(m, n, config)
    split_k = max(1, min(wanted, steps // _MIN_STEPS_PER_SPLIT, _MAX_SPLIT_K))
    return replace(config, split_k=split_k)


def matmul(a: Tensor, b: Tensor, *, input_precision: str = "ieee", config: MatmulConfig | None = None) -> Tensor:
    """a: (m, k), b: (k, n), any strides. Returns a @ b: (m, n); `input_precision` "tf32" is for fp32 tensors only."""
    sizes = matmul_sizes(a, b)
    check_dtype("matmul", a.dtype, SUPPORTED_DTYPES)
    if input_precision not in ("ieee", "tf32"):
        raise ValueError(f"matmul: input_precision must be 'ieee' or 'tf32', not {input_precision!r}")
    dtype = dtype_name(a.dtype)
    if input_precision == "tf32":
        if dtype != "fp32":
            raise ValueError(f"matmul: input_precision='tf32' needs fp32 tensors, not {dtype}")
        dtype = "tf32"
    target = find_target("matmul", matmul_kernel, a)
    check_tile_strides("matmul", *a.stride(), *b.stride(), sizes.n)
    config = config or choose_config(sizes.m, sizes.n, sizes.k, dtype=dtype, target=target)
    out = torch.empty(sizes.m, sizes.n, dtype=a.dtype, device=a.device)
    for launch in plan_matmul(a, b, out, dtype=dtype, config=config):
        launch.run()
    return out


def matmul_tf32(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), fp32, any strides. Returns a @ b: (m, n) through tf32 tensor cores."""
    return matmul(a, b, input_precision="tf32")


def plan_matmul(a: Tensor, b: Tensor, out: Tensor, *, dtype: str, config: MatmulConfig) -> tuple[Launch, ...]:
    """The launches that set out = a @ b; with split-K partial sums go to an fp32 workspace and are then reduced."""
    (m, k), n = a.shape, b.shape[1]
    split_k = min(config.split_k, triton.cdiv(k, config.block_k))
    target = out if split_k == 1 else torch.empty(split_k, m, n, dtype=torch.float32, device=a.device)
    product = Launch(
        kernel=matmul_kernel,
        grid=(_tiles(m, n, config), split_k),
        arguments={
            "a_ptr": a,
            "b_ptr": b,
            "out_ptr": target,
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
            "BLOCK_K": config.block_k,
            "GROUP_M": config.group_m,
            "EVEN_K": k % config.block_k == 0,
            "INPUT_PRECISION": "tf32" if dtype == "tf32" else "ieee",
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"{config.block_m}x{config.block_n}x{config.block_k} split {split_k}",
        opcodes=product_opcodes(dtype, config.block_m),
    )
    if split_k == 1:
        return (product,)
    reduction = Launch(
        kernel=split_k_reduce_kernel,
        grid=(triton.cdiv(m * n, _REDUCE_BLOCK),),
        arguments={"partials_ptr": target, "out_ptr": out, "size": m * n},
        constants={"SPLIT_K": split_k, "BLOCK": _REDUCE_BLOCK},
        num_warps=4,
        config=f"{_REDUCE_BLOCK} split {split_k}",
    )
    return (product, reduction)


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """What the default configurations launch, each tile and the reduction once."""
    launches: dict[object, Launch] = {}
    for m, n, k in _AHEAD_OF_TIME_SHAPES:
        a = torch.empty(m, k, dtype=TORCH_DTYPES[dtype], device="meta")
        weight = torch.empty(n, k, dtype=TORCH_DTYPES[dtype], device="meta")
        out = torch.empty(m, n, dtype=TORCH_DTYPES[dtype], device="meta")
        config = choose_config(m, n, k, dtype=dtype, target=target)
        product, *reduction = plan_matmul(a, weight.t(), out, dtype=dtype, config=config)
        launches[replace(config, split_k=1)] = product
        launches.update((launch.kernel, launch) for launch in reduction)
    return tuple(launches.values())


@triton.jit
def matmul_kernel(
    a_ptr,
    b_ptr,
    out_ptr,
    m,
    n,
    k,
    stride_am,
    stride_ak,
    stride_bk,
    stride_bn,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """a: (m, k), b: (k, n), out: (splits, m, n) row-major. Reads a n/BLOCK_N times and b m/BLOCK_M times, mostly from
    L2, and writes each out once: program (tile, s) sums the s-th part of the reduction."""
    tile = tl.program_id(0)
    split = tl.program_id(1)
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    # Neighbouring programs share GROUP_M rows of tiles, so that the columns of b they read are still in L2.
    group = tile // (GROUP_M * tiles_n)
    first_m = group * GROUP_M
    rows_in_group = min(tiles_m - first_m, GROUP_M)
    tile_m = first_m + (tile % (GROUP_M * tiles_n)) % rows_in_group
    tile_n = (tile % (GROUP_M * tiles_n)) // rows_in_group

    steps = tl.cdiv(k, BLOCK_K)
    steps_per_split = tl.cdiv(steps, tl.num_programs(1))
    first_step = split * steps_per_split
    last_step = min(first_step + steps_per_split, steps)

    # Where a tile starts can exceed 2**31 elements, so that is int64; offsets inside a tile are 32-bit, which saves
    # registers.
    row = tile_m.to(tl.int64) * BLOCK_M
    column = tile_n.to(tl.int64) * BLOCK_N
    depth = first_step.to(tl.int64) * BLOCK_K
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    a_base = a_ptr + row * stride_am + depth * stride_ak
    b_base = b_ptr + depth * stride_bk + column * stride_bn
    a_tile = offs_m[:, None] * stride_am + offs_k[None, :] * stride_ak
    b_tile = offs_k[:, None] * stride_bk + offs_n[None, :] * stride_bn
    a_step = tl.cast(BLOCK_K, tl.int64) * stride_ak
    b_step = tl.cast(BLOCK_K, tl.int64) * stride_bk
    in_m = offs_m[:, None] < m - tile_m * BLOCK_M
    in_n = offs_n[None, :] < n - tile_n * BLOCK_N

    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(first_step, last_step):
        if EVEN_K:
            a = tl.load(a_base + a_tile, mask=in_m, other=0.0)
            b = tl.load(b_base + b_tile, mask=in_n, other=0.0)
        else:
            in_k = offs_k < k - step * BLOCK_K
            a = tl.load(a_base + a_tile, mask=in_m & in_k[None, :], other=0.0)
            b = tl.load(b_base + b_tile, mask=in_k[:, None] & in_n, other=0.0)
        accumulator = tl.dot(a, b, accumulator, input_precision=INPUT_PRECISION)
        a_base += a_step
        b_base += b_step

    out_base = out_ptr + (split.to(tl.int64) * m + row) * n + column
    out = accumulator.to(out_ptr.dtype.element_ty)
    tl.store(out_base + offs_m[:, None] * n + offs_n[None, :], out, mask=in_m & in_n)


@triton.jit
def split_k_reduce_kernel(partials_ptr, out_ptr, size, SPLIT_K: tl.constexpr, BLOCK: tl.constexpr):
    """partials: (SPLIT_K, size) fp32, out: (size,). Reads each partial once, in order, and writes out once."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for split in tl.static_range(SPLIT_K):
        total += tl.load(partials_ptr + tl.cast(split, tl.int64) * size + offsets, mask=inside, other=0.0)
    tl.store(out_ptr + offsets, total.to(out_ptr.dtype.element_ty), mask=inside)


def _tiles(m: int, n: int, config: MatmulConfig) -> int:
    return triton.cdiv(m, config.block_m) * triton.cdiv(n, config.block_n)


def _fit_shared(config: MatmulConfig, element_bytes: int, target: Target) -> MatmulConfig:
    """The configuration for this element size: tuned for 2-byte elements, so block_k shrinks as they grow, and stages
    are dropped until the operands fit in shared memory."""
    block_k = config.block_k if config in (VECTOR, VECTOR_ROWS_16) else config.block_k * 2 // element_bytes
    stage_bytes = (config.block_m + config.block_n) * block_k * element_bytes
    num_stages = min(config.num_stages, target.shared_bytes // stage_bytes)
    return replace(config, block_k=block_k, num_stages=max(num_stages, 1))
