"""Causal attention over a prompt in Triton: FlashAttention's forward pass, scores never leave the chip."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT, EIGHT_BIT_REASON
from kernels.plan import Launch, Target, check_tile_strides, find_target, product_opcodes
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import AttentionSizes, check_dtype, prefill_sizes
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
SUPPORTED_HEAD_DIMS = (64, 128)


@dataclass(frozen=True, slots=True)
class PrefillConfig:
    """block_m queries stay on chip while block_n keys at a time pass by."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """What tables and records call it: 128x64-w8-s3."""
        return f"{self.block_m}x{self.block_n}-w{self.num_warps}-s{self.num_stages}"


HOPPER_64 = PrefillConfig(128, 128, 8, 3)
HOPPER_128 = PrefillConfig(128, 128, 8, 2)
BLACKWELL = PrefillConfig(128, 64, 8, 3)
AMPERE = PrefillConfig(128, 64, 8, 3)
SMALL_SHARED_128 = PrefillConfig(128, 32, 8, 3)
VECTOR = PrefillConfig(64, 16, 8, 2)  # IEEE fp32: no tensor core takes it

CONFIGS = (HOPPER_64, HOPPER_128, BLACKWELL, AMPERE, SMALL_SHARED_128, VECTOR)


def choose_config(*, head_dim: int, dtype: str, target: Target) -> PrefillConfig:
    """The configuration for a head dimension: as many keys at a time as registers and shared memory hold."""
    if dtype == "fp32":
        return VECTOR
    family = target.architecture // 10
    if family == 9:
        return HOPPER_64 if head_dim == 64 else HOPPER_128
    if family in (10, 11):
        return BLACKWELL
    return SMALL_SHARED_128 if head_dim == 128 and target.shared_bytes < 128 * 1024 else AMPERE


def attention_prefill(q: Tensor, k: Tensor, v: Tensor, *, config: PrefillConfig | None = None) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim); head_dim 64 or 128 and of stride 1,
    other strides are free. Causal, scale 1/sqrt(head_dim). Returns q's shape, laid out in memory like q."""
    sizes = prefill_sizes(q, k, v)
    check_heads("attention_prefill", sizes, q, k, v)
    check_dtype("attention_prefill", q.dtype, SUPPORTED_DTYPES)
    target = find_target("attention_prefill", attention_prefill_kernel, q)
    check_tile_strides("attention_prefill", *(tensor.stride(2) for tensor in (q, k, v)))
    config = config or choose_config(head_dim=sizes.head_dim, dtype=dtype_name(q.dtype), target=target)
    out = torch.empty_like(q)
    plan_prefill(q, k, v, out, config=config).run()
    return out


def check_heads(op: str, sizes: AttentionSizes, *tensors: Tensor) -> None:
    """Raise Unsupported for a head dimension that the attention kernels do not hold in one block, or not contiguous."""
    if sizes.head_dim not in SUPPORTED_HEAD_DIMS:
        supported = ", ".join(map(str, SUPPORTED_HEAD_DIMS))
        raise Unsupported(f"{op} does not support head_dim={sizes.head_dim}; supported: {supported}")
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise Unsupported(f"{op}: head_dim must have stride 1, not {tensor.stride(-1)}")


def plan_prefill(q: Tensor, k: Tensor, v: Tensor, out: Tensor, *, config: PrefillConfig) -> Launch:
    """The launch that sets out to the causal attention of q over k and v."""
    sizes = prefill_sizes(q, k, v)
    blocks = triton.cdiv(sizes.queries, config.block_m)
    tensors = {"q": q, "k": k, "v": v, "out": out}
    strides = {
        f"stride_{name}{dim}": tensor.stride(index)
        for name, tensor in tensors.items()
        for index, dim in enumerate("bhs")
    }
    return Launch(
        kernel=attention_prefill_kernel,
        grid=(blocks * sizes.batch * sizes.heads,),
        arguments={
            **{f"{name}_ptr": tensor for name, tensor in tensors.items()},
            **strides,
            "heads": sizes.heads,
            "seq": sizes.queries,
            "scale_log2": math.log2(math.e) / math.sqrt(sizes.head_dim),
        },
        constants={
            "GROUP": sizes.group,
            "HEAD_DIM": sizes.head_dim,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"head_dim {sizes.head_dim} {config.block_m}x{config.block_n}",
        opcodes=product_opcodes(dtype_name(q.dtype), config.block_m),
    )


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """What the default configurations launch for each head dimension."""
    launches = []
    for head_dim in SUPPORTED_HEAD_DIMS:
        q = torch.empty(2, 32, 4096, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
        k = torch.empty(2, 8, 4096, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
        config = choose_config(head_dim=head_dim, dtype=dtype, target=target)
        launches.append(plan_prefill(q, k, k, q, config=config))
    return tuple(launches)


@triton.jit
def attention_prefill_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    stride_qb,
    stride_qh,
    stride_qs,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_outb,
    stride_outh,
    stride_outs,
    heads,
    seq,
    scale_log2,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """q, out: (batch, heads, seq, HEAD_DIM), k, v: (batch, heads/GROUP, seq, HEAD_DIM). Reads q and writes out once;
    each block of BLOCK_M queries reads keys and values up to its diagonal, mostly in L2. scale_log2: scale*log2(e)."""
    blocks = tl.cdiv(seq, BLOCK_M)
    # Within a head the longest rows start first, so that short ones fill the tail; heads of a group are neighbours.
    block = blocks - 1 - tl.program_id(0) % blocks
    head = (tl.program_id(0) // blocks % heads).to(tl.int64)
    batch = (tl.program_id(0) // blocks // heads).to(tl.int64)
    kv_head = head // GROUP

    # Where a block starts can exceed 2**31 elements, so that is int64; offsets inside a block are 32-bit.
    first_row = block.to(tl.int64) * BLOCK_M
    offs_d = tl.arange(0, HEAD_DIM)
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    q_base = q_ptr + batch * stride_qb + head * stride_qh + first_row * stride_qs
    k_base = k_ptr + batch * stride_kb + kv_head * stride_kh
    v_base = v_ptr + batch * stride_vb + kv_head * stride_vh
    k_tile = offs_n[:, None] * stride_ks + offs_d[None, :]
    v_tile = offs_n[:, None] * stride_vs + offs_d[None, :]
    k_step = tl.cast(BLOCK_N, tl.int64) * stride_ks
    v_step = tl.cast(BLOCK_N, tl.int64) * stride_vs

    rows_left = seq - block * BLOCK_M
    q = tl.load(q_base + offs_m[:, None] * stride_qs + offs_d[None, :], mask=offs_m[:, None] < rows_left, other=0.0)
    row_max = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros((BLOCK_M,), dtype=tl.float32)
    accumulator = tl.zeros((BLOCK_M, HEAD_DIM), dtype=tl.float32)

    # Keys that every query of the block sees need no mask: whole blocks left of the diagonal.
    diagonal = block * BLOCK_M // BLOCK_N * BLOCK_N
    for _ in range(0, diagonal, BLOCK_N):
        k = tl.load(k_base + k_tile)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(weights, 1)
        v = tl.load(v_base + v_tile)
        accumulator = tl.dot(weights.to(v.dtype), v, accumulator * correction[:, None], input_precision="ieee")
        row_max = new_max
        k_base += k_step
        v_base += v_step

    for start in range(diagonal, min((block + 1) * BLOCK_M, seq), BLOCK_N):
        in_columns = start + offs_n < seq
        k = tl.load(k_base + k_tile, mask=in_columns[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
        scores = tl.where(offs_m[:, None] >= start - block * BLOCK_M + offs_n[None, :], scores, float("-inf"))
        # Never -inf: every row has met at least one key by now, key 0 where no other.
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(weights, 1)
        v = tl.load(v_base + v_tile, mask=in_columns[:, None], other=0.0)
        accumulator = tl.dot(weights.to(v.dtype), v, accumulator * correction[:, None], input_precision="ieee")
        row_max = new_max
        k_base += k_step
        v_base += v_step

    accumulator = accumulator / row_sum[:, None]
    out_base = out_ptr + batch * stride_outb + head * stride_outh + first_row * stride_outs
    out_tile = offs_m[:, None] * stride_outs + offs_d[None, :]
    tl.store(out_base + out_tile, accumulator.to(out_ptr.dtype.element_ty), mask=offs_m[:, None] < rows_left)
