"""One attention layer that makes one token, in Triton, with and without a KV cache: projection, append, attention.

Functions raise ValueError for other shapes, and Unsupported, before anything is launched, for what a kernel refuses.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, ATTENTION_DTYPES, NOT_ATTENTION_DTYPES
from kernels.precision import TORCH_DTYPES
from kernels.shapes import check_dtype, generate_cached_sizes, generate_uncached_sizes
from kernels.triton.attention.decode import Cache, attention_decode, check_cache
from kernels.triton.attention.prefill import SUPPORTED_HEAD_DIMS, attention_prefill, check_heads
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.matmul import matmul
from kernels.triton.plan import Launch, Target, find_target, strides_of

SUPPORTED_DTYPES = ATTENTION_DTYPES
UNSUPPORTED_DTYPES = NOT_ATTENTION_DTYPES
SUPPORTED_ARCHITECTURES = ARCHITECTURES


def generate_cached(x: Tensor, w_qkv: Tensor, k_cache: Tensor, v_cache: Tensor) -> Tensor:
    """x: (batch, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden), caches: (batch, kv_heads, context, head_dim).

    Projects the new token, writes its K and V at position context-1 of the caches in place, and attends over all
    `context` positions. Returns (batch, hidden).
    """
    sizes = generate_cached_sizes(x, w_qkv, k_cache, v_cache)
    check_heads("generate_cached", sizes, k_cache, v_cache)
    check_dtype("generate_cached", x.dtype, SUPPORTED_DTYPES)
    check_cache("generate_cached", sizes, Cache(k_cache, v_cache), x.dtype)  # before the append: it is in place
    find_target("generate_cached", append_kernel, x)
    heads = matmul(x, w_qkv.t()).view(sizes.batch, -1, sizes.head_dim)
    q, k, v = heads.split_with_sizes((sizes.heads, sizes.kv_heads, sizes.kv_heads), dim=1)
    append(k, v, k_cache, v_cache)
    return attention_decode(q, k_cache, v_cache).view(x.shape)


def generate_uncached(x: Tensor, w_qkv: Tensor, *, kv_heads: int, head_dim: int) -> Tensor:
    """x: (batch, context, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden).

    Projects Q, K and V of every token and attends causally for all of them. Returns (batch, context, hidden).
    """
    sizes = generate_uncached_sizes(x, w_qkv, kv_heads, head_dim)
    check_heads("generate_uncached", sizes)
    check_dtype("generate_uncached", x.dtype, SUPPORTED_DTYPES)
    find_target("generate_uncached", append_kernel, x)
    projected = matmul(x.reshape(-1, x.shape[-1]), w_qkv.t())
    heads = projected.view(sizes.batch, sizes.keys, -1, head_dim).transpose(1, 2)
    q, k, v = heads.split_with_sizes((sizes.heads, kv_heads, kv_heads), dim=1)
    return attention_prefill(q, k, v).transpose(1, 2).reshape(x.shape)


@Launcher
def append(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor) -> Planned[tuple[Tensor, Tensor]]:
    """k, v: (batch, kv_heads, head_dim), caches: (batch, kv_heads, context, head_dim), already checked. Writes k and v
    at the last position of the caches. Returns the caches."""
    return Planned((k_cache, v_cache), (plan_append(k, v, k_cache, v_cache),))


def plan_append(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor) -> Launch:
    """The launch that writes k, v: (batch, kv_heads, head_dim) at the last position of the caches."""
    batch, kv_heads, context, head_dim = k_cache.shape
    return Launch(
        kernel=append_kernel,
        grid=(batch * kv_heads,),
        arguments={
            "k_ptr": k,
            "v_ptr": v,
            "k_cache_ptr": k_cache,
            "v_cache_ptr": v_cache,
            **strides_of("bh", k=k, v=v),
            **strides_of("bhs", kc=k_cache, vc=v_cache),
            "kv_heads": kv_heads,
            "position": context - 1,
        },
        constants={"HEAD_DIM": head_dim},
        num_warps=1,
        config=f"head_dim {head_dim}",
    )


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:  # noqa: ARG001  (the same on every target)
    """The append in each head dimension. The step's other kernels are those of matmul, decode and prefill."""
    launches = []
    for head_dim in SUPPORTED_HEAD_DIMS:
        new = torch.empty(4, 48, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
        cache = torch.empty(4, 8, 4096, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
        launches.append(plan_append(new[:, 32:40], new[:, 40:], cache, cache))
    return tuple(launches)


@triton.jit
def append_kernel(
    k_ptr,
    v_ptr,
    k_cache_ptr,
    v_cache_ptr,
    stride_kb,
    stride_kh,
    stride_vb,
    stride_vh,
    stride_kcb,
    stride_kch,
    stride_kcs,
    stride_vcb,
    stride_vch,
    stride_vcs,
    kv_heads,
    position,
    HEAD_DIM: tl.constexpr,
):
    """k, v: (batch, kv_heads, HEAD_DIM), caches: (batch, kv_heads, context, HEAD_DIM). Reads k and v once, writes them
    at `position` of the caches once."""
    batch = (tl.program_id(0) // kv_heads).to(tl.int64)
    head = (tl.program_id(0) % kv_heads).to(tl.int64)
    where = tl.cast(position, tl.int64)
    offs_d = tl.arange(0, HEAD_DIM)
    k = tl.load(k_ptr + batch * stride_kb + head * stride_kh + offs_d)
    v = tl.load(v_ptr + batch * stride_vb + head * stride_vh + offs_d)
    tl.store(k_cache_ptr + batch * stride_kcb + head * stride_kch + where * stride_kcs + offs_d, k)
    tl.store(v_cache_ptr + batch * stride_vcb + head * stride_vch + where * stride_vcs + offs_d, v)
