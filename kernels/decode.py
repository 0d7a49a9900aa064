"""Attention of one query per sequence in Triton: the cache is split over programs, then the parts are merged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.attention import check_heads
from kernels.constants import ARCHITECTURES, EIGHT_BIT, EIGHT_BIT_REASON
from kernels.plan import Launch, Target, check_tile_strides, find_target, product_opcodes
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import AttentionSizes, check_dtype, decode_sizes
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ("fp32", "bf16", "fp16")
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "fp64": "the kernel accumulates in fp32",
        "tf32": "fp32 attention is computed in full precision",
        **dict.fromkeys(EIGHT_BIT, EIGHT_BIT_REASON),
    }
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES
MAX_GROUP = 64  # query heads per K/V head that one block holds


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """block_n keys at a time pass by the queries of one group."""

    block_n: int
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """What tables and records call it: 64-w4-s4."""
        return f"{self.block_n}-w{self.num_warps}-s{self.num_stages}"


LARGE_SHARED = DecodeConfig(64, 4, 4)
SMALL_SHARED = DecodeConfig(64, 4, 2)
VECTOR = DecodeConfig(32, 4, 3)  # IEEE fp32: no tensor core takes it

CONFIGS = (LARGE_SHARED, SMALL_SHARED, VECTOR)

_MIN_ROWS = 16  # of a tensor-core product
_MAX_SPLITS = 256  # so that the merge holds all parts of a head at once
_MERGE_BLOCK_D = 32
_PROGRAMS_PER_SM = 2


def choose_config(*, dtype: str, target: Target) -> DecodeConfig:
    """The configuration for a device: as many loads in flight as shared memory holds twice per SM."""
    if dtype == "fp32":
        return VECTOR
    return SMALL_SHARED if target.shared_bytes < 128 * 1024 else LARGE_SHARED


def choose_splits(sizes: AttentionSizes, *, sm_count: int, block_n: int) -> int:
    """Parts to cut the cache into: enough programs for every SM, at least one block of keys each."""
    wanted = triton.cdiv(_PROGRAMS_PER_SM * sm_count, sizes.batch * sizes.kv_heads)
    return max(1, min(wanted, triton.cdiv(sizes.keys, block_n), _MAX_SPLITS))


def attention_decode(
    q: Tensor, k: Tensor, v: Tensor, *, splits: int | None = None, config: DecodeConfig | None = None
) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim); head_dim 64 or 128 and of stride 1,
    other strides are free. Scale 1/sqrt(head_dim). `splits` defaults to what fills the device. Returns contiguously."""
    sizes = decode_sizes(q, k, v)
    check_heads("attention_decode", sizes, q, k, v)
    check_dtype("attention_decode", q.dtype, SUPPORTED_DTYPES)
    if sizes.group > MAX_GROUP:
        raise Unsupported(
            f"attention_decode: heads/kv_heads={sizes.group} is not supported; supported: 1 to {MAX_GROUP}"
        )
    target = find_target("attention_decode", attention_decode_kernel, q)
    check_tile_strides("attention_decode", k.stride(2), v.stride(2))
    config = config or choose_config(dtype=dtype_name(q.dtype), target=target)
    if splits is None:
        splits = choose_splits(sizes, sm_count=target.sm_count, block_n=config.block_n)
    if not 1 <= splits <= _MAX_SPLITS:
        raise ValueError(f"attention_decode: splits={splits} is not supported; supported: 1 to {_MAX_SPLITS}")
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for launch in plan_decode(q, k, v, out, splits=splits, config=config):
        launch.run()
    return out


def plan_decode(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, *, splits: int, config: DecodeConfig
) -> tuple[Launch, Launch]:
    """The launches that set out to the attention of q over k and v: partial results to a workspace, then the merge."""
    sizes = decode_sizes(q, k, v)
    keys_per_split = triton.cdiv(triton.cdiv(sizes.keys, splits), config.block_n) * config.block_n
    splits = triton.cdiv(sizes.keys, keys_per_split)  # none of them empty
    partial_out = torch.empty(sizes.batch, sizes.heads, splits, sizes.head_dim, dtype=torch.float32, device=q.device)
    partial_max = torch.empty(sizes.batch, sizes.heads, splits, dtype=torch.float32, device=q.device)
    partial_sum = torch.empty_like(partial_max)
    partials = {"partial_out_ptr": partial_out, "partial_max_ptr": partial_max, "partial_sum_ptr": partial_sum}
    attend = Launch(
        kernel=attention_decode_kernel,
        grid=(sizes.batch * sizes.kv_heads, splits),
        arguments={
            "q_ptr": q,
            "k_ptr": k,
            "v_ptr": v,
            **partials,
            **{f"stride_q{dim}": q.stride(index) for index, dim in enumerate("bh")},
            **{f"stride_k{dim}": k.stride(index) for index, dim in enumerate("bhs")},
            **{f"stride_v{dim}": v.stride(index) for index, dim in enumerate("bhs")},
            "kv_heads": sizes.kv_heads,
            "context": sizes.keys,
            "keys_per_split": keys_per_split,
            "scale_log2": math.log2(math.e) / math.sqrt(sizes.head_dim),
        },
        constants={
            "GROUP": sizes.group,
            "HEAD_DIM": sizes.head_dim,
            "BLOCK_G": max(_MIN_ROWS, triton.next_power_of_2(sizes.group)),
            "BLOCK_N": config.block_n,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"head_dim {sizes.head_dim} group {sizes.group} {config.block_n}",
        opcodes=product_opcodes(dtype_name(q.dtype), _MIN_ROWS),
    )
    merge = Launch(
        kernel=attention_merge_kernel,
        grid=(sizes.batch * sizes.heads, sizes.head_dim // _MERGE_BLOCK_D),
        arguments={**partials, "out_ptr": out, "splits": splits},
        constants={
            "HEAD_DIM": sizes.head_dim,
            "BLOCK_S": triton.next_power_of_2(splits),
            "BLOCK_D": _MERGE_BLOCK_D,
        },
        num_warps=4,
        config=f"head_dim {sizes.head_dim} splits {splits}",
    )
    return attend, merge


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """What the default configurations launch for each head dimension, with and without a group, few and many splits."""
    launches: list[Launch] = []
    config = choose_config(dtype=dtype, target=target)
    for head_dim, kv_heads, splits in ((64, 32, 16), (128, 8, _MAX_SPLITS)):
        q = torch.empty(4, 32, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
        k = torch.empty(4, kv_heads, 64 * _MAX_SPLITS, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
        launches.extend(plan_decode(q, k, k, q, splits=splits, config=config))
    return tuple(launches)


@triton.jit
def attention_decode_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    partial_out_ptr,
    partial_max_ptr,
    partial_sum_ptr,
    stride_qb,
    stride_qh,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    kv_heads,
    context,
    keys_per_split,
    scale_log2,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """q: (batch, kv_heads*GROUP, HEAD_DIM), k, v: (batch, kv_heads, context, HEAD_DIM), partials: (batch, heads,
    splits[, HEAD_DIM]) fp32. Reads k and v once: program (sequence and K/V head, split) attends over its part of the
    keys for all heads of the group, the rows of one product, and writes maxima, sums and unnormalised outputs once."""
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    batch = (tl.program_id(0) // kv_heads).to(tl.int64)
    kv_head = (tl.program_id(0) % kv_heads).to(tl.int64)

    # Where the part starts can exceed 2**31 elements, so that is int64; offsets inside a block are 32-bit.
    start = split * keys_per_split
    end = min(start + keys_per_split, context)
    offs_d = tl.arange(0, HEAD_DIM)
    offs_g = tl.arange(0, BLOCK_G)
    offs_n = tl.arange(0, BLOCK_N)
    k_base = k_ptr + batch * stride_kb + kv_head * stride_kh + start.to(tl.int64) * stride_ks
    v_base = v_ptr + batch * stride_vb + kv_head * stride_vh + start.to(tl.int64) * stride_vs
    k_tile = offs_n[:, None] * stride_ks + offs_d[None, :]
    v_tile = offs_n[:, None] * stride_vs + offs_d[None, :]
    k_step = tl.cast(BLOCK_N, tl.int64) * stride_ks
    v_step = tl.cast(BLOCK_N, tl.int64) * stride_vs

    in_group = offs_g < GROUP
    head = kv_head * GROUP + offs_g
    q_ptrs = q_ptr + batch * stride_qb + head[:, None] * stride_qh + offs_d[None, :]
    q = tl.load(q_ptrs, mask=in_group[:, None], other=0.0)
    row_max = tl.full((BLOCK_G,), float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros((BLOCK_G,), dtype=tl.float32)
    accumulator = tl.zeros((BLOCK_G, HEAD_DIM), dtype=tl.float32)
    for position in range(start, end, BLOCK_N):
        in_cache = position + offs_n < end
        k = tl.load(k_base + k_tile, mask=in_cache[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
        scores = tl.where(in_cache[None, :], scores, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(weights, 1)
        v = tl.load(v_base + v_tile, mask=in_cache[:, None], other=0.0)
        accumulator = tl.dot(weights.to(v.dtype), v, accumulator * correction[:, None], input_precision="ieee")
        row_max = new_max
        k_base += k_step
        v_base += v_step

    part = (batch * kv_heads * GROUP + head) * splits + split
    tl.store(partial_max_ptr + part, row_max, mask=in_group)
    tl.store(partial_sum_ptr + part, row_sum, mask=in_group)
    tl.store(partial_out_ptr + part[:, None] * HEAD_DIM + offs_d[None, :], accumulator, mask=in_group[:, None])


@triton.jit
def attention_merge_kernel(
    partial_out_ptr,
    partial_max_ptr,
    partial_sum_ptr,
    out_ptr,
    splits,
    HEAD_DIM: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """partials: (batch*heads, splits[, HEAD_DIM]) fp32, out: (batch*heads, HEAD_DIM). Program (head, part of HEAD_DIM)
    reads its partial outputs once and the head's sums and maxima, rescales to the common maximum, writes out once."""
    head = tl.program_id(0).to(tl.int64)
    offs_s = tl.arange(0, BLOCK_S)
    offs_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = offs_s < splits
    part = head * splits + offs_s
    part_max = tl.load(partial_max_ptr + part, mask=inside, other=float("-inf"))
    part_sum = tl.load(partial_sum_ptr + part, mask=inside, other=0.0)
    outputs = tl.load(partial_out_ptr + part[:, None] * HEAD_DIM + offs_d[None, :], mask=inside[:, None], other=0.0)
    scale = tl.exp2(part_max - tl.max(part_max, 0))
    merged = tl.sum(outputs * scale[:, None], 0) / tl.sum(part_sum * scale, 0)
    tl.store(out_ptr + head * HEAD_DIM + offs_d, merged.to(out_ptr.dtype.element_ty))
