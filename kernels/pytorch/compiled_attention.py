"""Attention that PyTorch compiles: the naive form by torch.compile, and FlexAttention.

Functions raise ValueError for shapes that `kernels.shapes` refuses; FlexAttention raises Unsupported for a head_dim
below 16.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kernels.implementation import CUDA, HALF, TO_FP32, Implementation, Intermediate, Result
from kernels.pytorch.attention import attend, attend_latents
from kernels.pytorch.compiled import run_compiled
from kernels.shapes import (
    chunk_sizes,
    decode_sizes,
    fp8_cache_sizes,
    mla_sizes,
    prefill_sizes,
)
from kernels.unsupported import Unsupported

_FLEX_HEAD_DIM = 16  # torch/_inductor/kernel/flex: the least that a dot of Triton takes
_FLEX_ANY_SIZE = 1 << 30  # its _LARGE_SPARSE_BLOCK_SIZE, which marks a mask that hides nothing


def compiled_prefill(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Causal, by torch.compile."""
    return run_compiled(attend, q, k, v, prefill_sizes(q, k, v).keys)


def compiled_full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Without a mask, by torch.compile."""
    prefill_sizes(q, k, v)
    return run_compiled(attend, q, k, v, None)


def compiled_window(q: Tensor, k: Tensor, v: Tensor, *, window: int) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Query i meets keys i-window+1..i, by
    torch.compile."""
    prefill_sizes(q, k, v)
    return run_compiled(attend, q, k, v, window)


def compiled_chunk(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, context, head_dim). Causal up to the last key, by
    torch.compile."""
    return run_compiled(attend, q, k, v, chunk_sizes("attention_chunk", q, k, v).keys)


def compiled_decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). By torch.compile."""
    decode_sizes(q, k, v)
    return run_compiled(_decode, q, k, v)


def compiled_decode_fp8(q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim) fp8, scales: (kv_heads,). By
    torch.compile, which may scale the cache as it reads it."""
    fp8_cache_sizes(q, k, v, k_scale, v_scale)
    return run_compiled(_decode_fp8, q, k, v, k_scale, v_scale)


def compiled_mla(q: Tensor, cache: Tensor, *, latent: int) -> Tensor:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). Returns (batch, heads, latent), by
    torch.compile."""
    mla_sizes(q, cache, latent)
    return run_compiled(attend_latents, q, cache, latent)


def _decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q.unsqueeze(2), k, v, None).squeeze(2)


def _decode_fp8(q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor) -> Tensor:
    keys = (k.float() * k_scale[:, None, None]).to(q.dtype)
    values = (v.float() * v_scale[:, None, None]).to(q.dtype)
    return attend(q.unsqueeze(2), keys, values, None).squeeze(2)


def flex_prefill(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Causal, by FlexAttention."""
    prefill_sizes(q, k, v)
    return _flex("attention_prefill", q, k, v, k.shape[2])


def flex_full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Without a mask, by FlexAttention."""
    prefill_sizes(q, k, v)
    return _flex("attention_full", q, k, v, None)


def flex_window(q: Tensor, k: Tensor, v: Tensor, *, window: int) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Query i meets keys i-window+1..i, by
    FlexAttention, which skips blocks outside the window."""
    prefill_sizes(q, k, v)
    return _flex("attention_window", q, k, v, window)


def flex_chunk(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, context, head_dim). Causal up to the last key, by
    FlexAttention."""
    chunk_sizes("attention_chunk", q, k, v)
    return _flex("attention_chunk", q, k, v, k.shape[2])


def flex_decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). By FlexAttention, which splits the
    context of so few queries."""
    decode_sizes(q, k, v)
    return _flex("attention_decode", q.unsqueeze(2), k, v, None).squeeze(2)


def _flex(op: str, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """FlexAttention; all layers of a pass share a mask of blocks, so it is made once for each shape."""
    if q.shape[-1] < _FLEX_HEAD_DIM:
        raise Unsupported(f"{op}: FlexAttention does not support head_dim={q.shape[-1]}; supported: from 16")
    device = str(q.device)
    blocks = _one_block(device) if window is None else _block_mask(q.shape[2], k.shape[2], window, device)
    return run_compiled(_flex_attention, q, k, v, blocks)


def _flex_attention(q: Tensor, k: Tensor, v: Tensor, blocks: Any) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention  # noqa: PLC0415  (loads the compiler: seconds)

    return flex_attention(q, k, v, block_mask=blocks, enable_gqa=q.shape[1] != k.shape[1])


@functools.cache
def _one_block(device: str) -> Any:
    """The mask that FlexAttention makes in every call without one: a single block, larger than any tensor."""
    from torch.nn.attention.flex_attention import BlockMask  # noqa: PLC0415  (loads the compiler: seconds)

    count = torch.ones(1, 1, 1, dtype=torch.int32, device=device)
    index = torch.zeros(1, 1, 1, 1, dtype=torch.int32, device=device)
    return BlockMask.from_kv_blocks(count, index, BLOCK_SIZE=_FLEX_ANY_SIZE, seq_lengths=(1, 1))


@functools.lru_cache(maxsize=8)
def _block_mask(queries: int, keys: int, window: int, device: str) -> Any:
    """The blocks in which some query sees some key; the last query stands at the last key."""
    from torch.nn.attention.flex_attention import create_block_mask  # noqa: PLC0415  (loads the compiler: seconds)

    before = keys - queries

    def causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return key <= query + before

    def windowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return (key <= query + before) & (key > query + before - window)

    meets = windowed if window < keys else causal
    return create_block_mask(meets, None, None, queries, keys, device=device)


def _row(
    op: str, name: str, run: Callable[..., Result], *writes: Intermediate, dtypes: tuple[str, ...] = TO_FP32
) -> Implementation:
    return Implementation(op, name, run, dtypes, CUDA, compiles=True, writes=writes)


_SCORES, _TRUTH_VALUES = Intermediate.POSSIBLE_SCORES, Intermediate.TRUTH_VALUES

IMPLEMENTATIONS = (
    _row("attention_prefill", "torch_compile", compiled_prefill, _SCORES),
    _row("attention_full", "torch_compile", compiled_full, _SCORES),
    _row("attention_window", "torch_compile", compiled_window, _SCORES),
    _row("attention_chunk", "torch_compile", compiled_chunk, _SCORES),
    _row("attention_decode", "torch_compile", compiled_decode, _SCORES),
    # It may write the cache out in 16 bits before it multiplies.
    _row("attention_decode_fp8", "torch_compile", compiled_decode_fp8, _SCORES, Intermediate.CACHE, dtypes=HALF),
    _row("attention_mla", "torch_compile", compiled_mla, _SCORES),
    _row("attention_prefill", "flex", flex_prefill, _TRUTH_VALUES),
    _row("attention_full", "flex", flex_full, _TRUTH_VALUES),
    _row("attention_window", "flex", flex_window, _TRUTH_VALUES),
    _row("attention_chunk", "flex", flex_chunk, _TRUTH_VALUES),
    _row("attention_decode", "flex", flex_decode, _TRUTH_VALUES),
)
