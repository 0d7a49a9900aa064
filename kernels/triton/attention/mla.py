"""Multi-head latent attention with absorbed projections in Triton: all heads read the same cached vectors.

The heads of a block are the rows of two products with a block of the cache: scores with whole vectors, outputs with
their first `latent` numbers. The cache is split over programs and merged as in `kernels.triton.attention.decode`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, ATTENTION_DTYPES, MLA_SCALE, NOT_ATTENTION_DTYPES
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import MlaSizes, check_dtype, mla_sizes
from kernels.triton.attention.decode import MAX_SPLITS, Tile, choose_splits, plan_split, resident_programs
from kernels.triton.attention.decode_tiles import LOWEST, keys_per_split, store_rows
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.plan import (
    Launch,
    Target,
    cdiv,
    check_tile_strides,
    find_target,
    product_opcodes,
    reads_operands_in_place,
    strides_of,
)
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ATTENTION_DTYPES
UNSUPPORTED_DTYPES = NOT_ATTENTION_DTYPES
SUPPORTED_ARCHITECTURES = ARCHITECTURES
SUPPORTED_LATENTS = (64, 128, 256, 512)
SUPPORTED_ROPES = (16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class MlaConfig:
    """Blocks of block_n vectors of the cache pass block_h heads."""

    block_h: int
    block_n: int
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """As in records: 16x32-w4-s3."""
        return f"{self.block_h}x{self.block_n}-w{self.num_warps}-s{self.num_stages}"


# 32 vectors of 576 numbers are 36 KiB in 16 bits.
HEADS_16 = MlaConfig(16, 32, 4, 3)
HEADS_16_SMALL_SHARED = MlaConfig(16, 32, 4, 2)
HEADS_32 = MlaConfig(32, 64, 8, 3)
HEADS_32_AMPERE = MlaConfig(32, 32, 8, 4)
HEADS_32_SMALL_SHARED = MlaConfig(32, 32, 8, 2)
HEADS_64 = MlaConfig(64, 32, 8, 3)  # 64 x 512 sums are half the registers of an SM
VECTOR = MlaConfig(16, 16, 8, 2)  # IEEE fp32: no tensor core takes it

CONFIGS = (
    HEADS_16,
    HEADS_16_SMALL_SHARED,
    HEADS_32,
    HEADS_32_AMPERE,
    HEADS_32_SMALL_SHARED,
    HEADS_64,
    VECTOR,
    MlaConfig(16, 32, 4, 4),
    MlaConfig(16, 32, 8, 3),
    MlaConfig(64, 16, 8, 2),
    MlaConfig(64, 32, 8, 2),
    MlaConfig(64, 64, 8, 2),
)


def choose_config(*, heads: int, dtype: str, target: Target) -> MlaConfig:
    """The configuration for a number of heads: as few blocks of heads as registers allow, because each reads the cache
    again, from L2. Where products are in registers too, 32 rows are as good as 64."""
    if dtype == "fp32":
        return VECTOR
    large = target.has_large_shared
    if heads <= HEADS_16.block_h:
        return HEADS_16 if large else HEADS_16_SMALL_SHARED
    if target.family not in (9, 10):
        return HEADS_32_AMPERE if large else HEADS_32_SMALL_SHARED
    return HEADS_32 if heads <= HEADS_32.block_h else HEADS_64


def why_not(config: MlaConfig, *, latent: int, rope: int, dtype: str, target: Target) -> str | None:
    """Why a configuration cannot serve this width and format, or None where it can."""
    if dtype == "fp32" and config.block_h * config.block_n > VECTOR.block_h * VECTOR.block_n:
        return "IEEE fp32 is computed without tensor cores, at most 16 heads by 16 vectors at a time"
    needed = _shared_bytes(config, latent + rope, dtype, target)
    if needed > target.shared_bytes:
        return f"its blocks need {needed} bytes of shared memory, of which there are {target.shared_bytes}"
    return None


@Launcher
def attention_mla(q: Tensor, cache: Tensor, *, latent: int, config: MlaConfig | None = None) -> Planned[Tensor]:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope), widths of stride 1, latent 64 to 512
    and rope 16 to 128, powers of two. Scale MLA_SCALE. Returns (batch, heads, latent), contiguous. Raises ValueError
    for other shapes, Unsupported for widths, dtypes, strides and devices that the kernel does not take."""
    op = "attention_mla"
    sizes = mla_sizes(q, cache, latent)
    _check(op, q, cache, sizes)
    target = find_target(op, attention_mla_kernel, q)
    dtype = dtype_name(q.dtype)
    if config is None:
        config = choose_config(heads=sizes.heads, dtype=dtype, target=target)
    if reason := why_not(config, latent=latent, rope=sizes.rope, dtype=dtype, target=target):
        raise Unsupported(f"{op}: {config.name} is not supported: {reason}")
    out = torch.empty(sizes.batch, sizes.heads, latent, dtype=q.dtype, device=q.device)
    splits = _splits_of(sizes, config, dtype, target)
    return Planned(out, plan_mla(q, cache, out, splits=splits, config=config))


def plan_mla(q: Tensor, cache: Tensor, out: Tensor, *, splits: int, config: MlaConfig) -> tuple[Launch, ...]:
    """The launches that set out: (batch, heads, latent) to the attention of q over the cache: one for all of it, or one
    for the splits and one that merges them."""
    batch, heads, latent = out.shape
    attended, merge = plan_split(out, cache.shape[1], None, splits=splits)
    rope = q.shape[2] - latent
    attend = Launch(
        kernel=attention_mla_kernel,
        grid=(batch * cdiv(heads, config.block_h), splits),
        arguments={
            "q_ptr": q,
            "cache_ptr": cache,
            **attended,
            **strides_of("bh", q=q),
            **strides_of("bs", c=cache),
            "heads": heads,
            "context": cache.shape[1],
            "scale_log2": MLA_SCALE * math.log2(math.e),
        },
        constants={
            "LATENT": latent,
            "ROPE": rope,
            "BLOCK_H": config.block_h,
            "BLOCK_N": config.block_n,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"{config.name} latent {latent} rope {rope}{'' if splits == 1 else ' split'}",
        opcodes=product_opcodes(dtype_name(q.dtype), config.block_h),
    )
    return (attend, *merge)


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configurations for DeepSeek's vectors, few heads and many, whole and in splits."""
    launches: dict[object, Launch] = {}
    for heads, splits in ((16, 1), (32, MAX_SPLITS), (128, 8)):
        config = choose_config(heads=heads, dtype=dtype, target=target)
        for launch in _plan_meta(heads, dtype, splits=splits, config=config):
            launches[launch.kernel, launch.config] = launch
    return tuple(launches.values())


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of each configuration that fits this architecture, for DeepSeek's vectors."""
    return tuple(
        _plan_meta(128, dtype, splits=8, config=config)[0]
        for config in CONFIGS
        if why_not(config, latent=512, rope=64, dtype=dtype, target=target) is None
    )


def contends(config: MlaConfig, dims: Mapping[str, int]) -> bool:
    """Whether a tuner should try a configuration: not where most of its rows are padding."""
    return config.block_h < 2 * max(HEADS_16.block_h, dims["heads"])


def _check(op: str, q: Tensor, cache: Tensor, sizes: MlaSizes) -> None:
    """Raise Unsupported for what the kernel cannot hold in one block, or cannot address."""
    check_dtype(op, q.dtype, SUPPORTED_DTYPES)
    for name, size, supported in (
        ("latent", sizes.latent, SUPPORTED_LATENTS),
        ("rope", sizes.rope, SUPPORTED_ROPES),
    ):
        if size not in supported:
            raise Unsupported(
                f"{op} does not support {name}={size}; supported: {', '.join(str(each) for each in supported)}"
            )
    for name, tensor in (("q", q), ("cache", cache)):
        if tensor.stride(2) != 1:
            raise Unsupported(f"{op}: the width of {name} must have stride 1, not {tensor.stride(2)}")
    check_tile_strides(op, q.stride(1), cache.stride(1))


def _shared_bytes(config: MlaConfig, width: int, dtype: str, target: Target) -> int:
    """Shared memory of a program: blocks in flight, queries and weights."""
    # A block that is read in place comes on top of those in flight.
    in_place = reads_operands_in_place(config.block_h, dtype, target.architecture)
    blocks = max(1, config.num_stages - (0 if in_place else 1))
    element_bytes = TORCH_DTYPES[dtype].itemsize
    return blocks * _block_bytes(config, width, dtype) + config.block_h * width * element_bytes


def _block_bytes(config: MlaConfig, width: int, dtype: str) -> int:
    return config.block_n * width * TORCH_DTYPES[dtype].itemsize


def _splits_of(sizes: MlaSizes, config: MlaConfig, dtype: str, target: Target) -> int:
    width = sizes.latent + sizes.rope
    shared_bytes = _shared_bytes(config, width, dtype, target)
    resident = resident_programs(
        shared_bytes=shared_bytes,
        sums=config.block_h * sizes.latent,
        num_warps=config.num_warps,
        in_place=reads_operands_in_place(config.block_h, dtype, target.architecture),
        target=target,
    )
    return choose_splits(
        sizes.batch * cdiv(sizes.heads, config.block_h),
        cdiv(sizes.context, config.block_n),
        part_bytes=sizes.batch * sizes.heads * sizes.latent * 4,
        tile=Tile(_block_bytes(config, width, dtype), resident),
        sm_count=target.sm_count,
    )


def _plan_meta(heads: int, dtype: str, *, splits: int, config: MlaConfig) -> tuple[Launch, ...]:
    """The launches for four sequences of 4096 vectors as DeepSeek has them, without memory."""
    q, cache = (torch.empty(4, rows, 576, dtype=TORCH_DTYPES[dtype], device="meta") for rows in (heads, 4096))
    out = torch.empty(4, heads, 512, dtype=TORCH_DTYPES[dtype], device="meta")
    return plan_mla(q, cache, out, splits=splits, config=config)


@triton.jit
def attention_mla_kernel(
    q_ptr,
    cache_ptr,
    out_ptr,
    max_ptr,
    sum_ptr,
    stride_qb,
    stride_qh,
    stride_cb,
    stride_cs,
    heads,
    context,
    scale_log2,
    LATENT: tl.constexpr,
    ROPE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """q: (batch, heads, LATENT + ROPE), cache: (batch, context, LATENT + ROPE). Program (sequence and block of heads,
    split) attends over its part of the vectors. Reads the cache heads/BLOCK_H times, once from DRAM. Writes out (batch,
    heads, LATENT) once; or where there are max and sum (batch, heads, splits), those and sums not yet divided (...,
    splits, LATENT), fp32."""
    split = tl.program_id(1)
    head_blocks = tl.cdiv(heads, BLOCK_H)  # those of one sequence run together and find each other's blocks in L2
    batch = (tl.program_id(0) // head_blocks).to(tl.int64)
    first_head = tl.program_id(0) % head_blocks * BLOCK_H
    part = keys_per_split(context, tl.num_programs(1), BLOCK_N)
    start = split * part
    end = min(start + part, context)

    offs_h = tl.arange(0, BLOCK_H)
    offs_n = tl.arange(0, BLOCK_N)
    offs_l = tl.arange(0, LATENT)
    offs_p = LATENT + tl.arange(0, ROPE)
    in_heads = offs_h < heads - first_head
    q_base = q_ptr + batch * stride_qb + first_head.to(tl.int64) * stride_qh
    q_rows = offs_h[:, None] * stride_qh
    q_latent = tl.load(q_base + q_rows + offs_l[None, :], mask=in_heads[:, None], other=0.0)
    q_rope = tl.load(q_base + q_rows + offs_p[None, :], mask=in_heads[:, None], other=0.0)
    # A block may start beyond 2**31 elements, so its start is int64; offsets inside a block are 32-bit.
    base = cache_ptr + batch * stride_cb + start.to(tl.int64) * stride_cs
    rows = offs_n[:, None] * stride_cs

    row_max = tl.full((BLOCK_H,), LOWEST, dtype=tl.float32)
    row_sum = tl.zeros((BLOCK_H,), dtype=tl.float32)
    accumulator = tl.zeros((BLOCK_H, LATENT), dtype=tl.float32)
    # A second accumulator would take the rest of tensor memory, and two more copies of each block.
    for position in tl.range(start, end, BLOCK_N, disallow_acc_multi_buffer=True):
        in_cache = position + offs_n < end
        latent = tl.load(base + rows + offs_l[None, :], mask=in_cache[:, None], other=0.0)
        rope = tl.load(base + rows + offs_p[None, :], mask=in_cache[:, None], other=0.0)
        scores = tl.dot(q_latent, tl.trans(latent), input_precision="ieee")
        scores = tl.dot(q_rope, tl.trans(rope), scores, input_precision="ieee") * scale_log2
        scores = tl.where(in_cache[None, :], scores, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(weights, 1)
        weights = weights.to(latent.dtype)
        accumulator = tl.dot(weights, latent, accumulator * correction[:, None], input_precision="ieee")
        row_max = new_max
        base += tl.cast(BLOCK_N, tl.int64) * stride_cs

    first_row = batch * heads + first_head
    store_rows(accumulator, row_max, row_sum, first_row, in_heads, context, out_ptr, max_ptr, sum_ptr, BLOCK_H, LATENT)
