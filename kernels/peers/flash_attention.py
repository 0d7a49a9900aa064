"""flash-attn 2 and 3, measured beside ours.

Each is imported inside the call that needs it. They take tokens before heads. A `prepare_` function copies Q, K, V and
the cache to that layout, untimed, because a model that they serve has it. Signatures and limits are those of
Dao-AILab/flash-attention at 2.8.4: flash_attn/flash_attn_interface.py and csrc/flash_attn/flash_api.cpp (2),
hopper/flash_attn_interface.py and hopper/flash_api.cpp (3).

`prepare_` functions raise ValueError for shapes that `kernels.shapes` refuses, and Unsupported for dtypes, sizes and
devices that flash-attn does not take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.constants import MLA_SCALE
from kernels.implementation import CUDA, HALF, Implementation, Prepare, Result
from kernels.pytorch.attention import check_deepseek, check_flash, longest_of, run_node, tokens_first
from kernels.shapes import (
    backward_sizes,
    chunk_sizes,
    decode_sizes,
    mla_sizes,
    packed_sizes,
    paged_sizes,
)
from kernels.unsupported import Unsupported, check_capability

_PAGE = 256  # of flash-attn 2: pages are multiples of it


@dataclass(frozen=True, slots=True)
class FlashAttention:
    """A version of flash-attn, and the compute capabilities of its kernels: from `capability` on, and before
    `below`."""

    title: str
    capability: tuple[int, int]
    below: tuple[int, int] | None


FLASH_2 = FlashAttention("flash-attn 2", (8, 0), None)
FLASH_3 = FlashAttention("flash-attn 3", (9, 0), (10, 0))


def flash(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention, causal: bool = True) -> Tensor:
    """Takes what `prepare_flash` returns. Returns (batch, heads, queries, head_dim)."""
    return _load(library).flash_attn_func(q, k, v, causal=causal).transpose(1, 2)


def flash_chunk(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention) -> Tensor:
    """Takes what `prepare_flash` returns. Returns (batch, heads, queries, head_dim), causal up to the last key. Calls
    the function for a cache, which may split the context of few queries; flash_attn_func of version 3 never does."""
    return _load(library).flash_attn_with_kvcache(q, k, v, causal=True).transpose(1, 2)


def flash_window(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention, window: int) -> Tensor:
    """Takes what `prepare_flash_window` returns. Returns (batch, heads, seq, head_dim): query i meets keys
    i-window+1..i."""
    out = _load(library).flash_attn_func(q, k, v, causal=True, window_size=(window - 1, 0))
    return out.transpose(1, 2)


def prepare_flash(
    q: Tensor, k: Tensor, v: Tensor, *, op: str, library: FlashAttention
) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, keys, head_dim). Returns them with tokens before
    heads."""
    chunk_sizes(op, q, k, v)
    _check_library(op, library, q)
    return tokens_first(q), tokens_first(k), tokens_first(v)


def prepare_flash_window(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    library: FlashAttention,
    window: int,  # noqa: ARG001  (the op's)
) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Returns them with tokens before
    heads."""
    return prepare_flash(q, k, v, op="attention_window", library=library)


def flash_packed(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: Tensor, *, library: FlashAttention
) -> Tensor:
    """Takes what `prepare_flash_packed` returns. Returns q's shape, causal in each sequence."""
    return _load(library).flash_attn_varlen_func(q, k, v, offsets, offsets, int(longest), int(longest), causal=True)


def prepare_flash_packed(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *, library: FlashAttention
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim), offsets: (sequences + 1,). Returns them, and
    the length of the longest sequence on the host."""
    packed_sizes(q, k, v, offsets)
    _check_library("attention_packed", library, q)
    return q, k, v, offsets, longest_of(offsets)


def flash_backward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG001
    """Takes what `prepare_flash_backward` returns. Returns dq, dk and dv, heads before tokens: only the backward
    pass."""
    return tuple(each.transpose(1, 2) for each in run_node(out, grad)[:3])


def prepare_flash_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, lse: Tensor, *, library: FlashAttention
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, out, grad: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim), lse: (batch, heads, seq).
    Returns q, k, v, flash-attn's output with what it keeps for the backward pass, and grad, tokens before heads."""
    backward_sizes(q, k, v, out, grad, lse)
    _check_library("attention_backward", library, q)
    leaves = [tokens_first(each.detach()).requires_grad_() for each in (q, k, v)]
    with torch.enable_grad():
        made = _load(library).flash_attn_func(*leaves, causal=True)
    return leaves[0], leaves[1], leaves[2], made, tokens_first(grad)


def flash_decode(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention) -> Tensor:
    """Takes what `prepare_flash_decode` returns. Returns (batch, heads, head_dim)."""
    return _load(library).flash_attn_with_kvcache(q, k, v).squeeze(1)


def prepare_flash_decode(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Returns q as (batch, 1, heads,
    head_dim), and a cache with tokens before heads."""
    decode_sizes(q, k, v)
    _check_library("attention_decode", library, q)
    return q.unsqueeze(1), tokens_first(k), tokens_first(v)


def flash_paged(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor, *schedule: Tensor, library: FlashAttention
) -> Tensor:
    """Takes what `prepare_flash_paged` returns. Returns (batch, heads, head_dim)."""
    attention = _load(library).flash_attn_with_kvcache
    if library is FLASH_2:
        return attention(q, k, v, cache_seqlens=lengths, block_table=table).squeeze(1)
    return attention(q, k, v, cache_seqlens=lengths, page_table=table, scheduler_metadata=schedule[0]).squeeze(1)


def prepare_flash_paged(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor, *, library: FlashAttention
) -> tuple[Tensor, ...]:
    """q: (batch, heads, head_dim), k, v: (pages, kv_heads, page, head_dim), table: (batch, most), lengths: (batch,).
    Returns q as (batch, 1, heads, head_dim), pages with tokens before heads, table and lengths; for version 3 also the
    split of the lengths. A server computes that once per step for all layers; without it, each call begins with a
    kernel that does."""
    op, page = "attention_paged", k.shape[2]
    sizes = paged_sizes(q, k, v, table, lengths)
    _check_library(op, library, q)
    if library is FLASH_2 and page % _PAGE:
        raise Unsupported(f"{op}: {library.title} does not support page={page}; supported: multiples of {_PAGE}")
    inputs = q.unsqueeze(1), tokens_first(k), tokens_first(v), table, lengths
    if library is FLASH_2:
        return inputs
    schedule = _load(library).get_scheduler_metadata(
        sizes.batch, 1, sizes.keys, sizes.heads, sizes.kv_heads, sizes.head_dim, lengths,
        qkv_dtype=q.dtype, page_size=page,
    )  # fmt: skip
    return *inputs, schedule


def flash_mla(q: Tensor, q_latent: Tensor, k: Tensor, v: Tensor, *, latent: int) -> Tensor:  # noqa: ARG001
    """Takes what `prepare_flash_mla` returns. Returns (batch, heads, latent): scores are q.k + q_latent.v."""
    return _load(FLASH_3).flash_attn_with_kvcache(q, k, v, qv=q_latent, softmax_scale=MLA_SCALE).squeeze(1)


def prepare_flash_mla(q: Tensor, cache: Tensor, *, latent: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). Returns the rotary and the latent part
    of q, (batch, 1, heads, any), which separate projections make, and views of both parts of the cache: (batch,
    context, 1, any)."""
    op = "attention_mla"
    check_deepseek(op, FLASH_3.title, mla_sizes(q, cache, latent))
    _check_library(op, FLASH_3, q[..., latent:])
    new, kept = q.unsqueeze(1), cache.unsqueeze(2)
    return new[..., latent:].contiguous(), new[..., :latent].contiguous(), kept[..., latent:], kept[..., :latent]


def _check_library(op: str, library: FlashAttention, q: Tensor) -> None:
    check_flash(op, library.title, q)
    check_capability(f"{op}: {library.title}", library.capability, library.below)


def _load(library: FlashAttention) -> Any:
    try:
        if library is FLASH_2:
            import flash_attn as module  # noqa: PLC0415  (optional)
        else:
            import flash_attn_interface as module  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise Unsupported(f"{library.title} is installed but cannot be imported: {error}") from error
    return module


def _rows(name: str, package: str, library: FlashAttention) -> tuple[Implementation, ...]:
    """What both versions have."""

    def row(op: str, run: Callable[..., Result], prepare: Prepare) -> Implementation:
        return Implementation(op, name, run, HALF, CUDA, prepare=partial(prepare, library=library), package=package)

    def prefill_row(op: str, run: Callable[..., Result]) -> Implementation:
        return row(op, run, partial(prepare_flash, op=op))

    return (
        prefill_row("attention_prefill", partial(flash, library=library, causal=True)),
        prefill_row("attention_full", partial(flash, library=library, causal=False)),
        prefill_row("attention_chunk", partial(flash_chunk, library=library)),
        row("attention_window", partial(flash_window, library=library), prepare_flash_window),
        row("attention_packed", partial(flash_packed, library=library), prepare_flash_packed),
        row("attention_backward", flash_backward, prepare_flash_backward),
        row("attention_decode", partial(flash_decode, library=library), prepare_flash_decode),
        row("attention_paged", partial(flash_paged, library=library), prepare_flash_paged),
    )


IMPLEMENTATIONS_2 = _rows("flash_attn", "flash-attn", FLASH_2)
IMPLEMENTATIONS_3 = (
    *_rows("flash_attn_3", "flash-attn-3", FLASH_3),
    Implementation(
        "attention_mla", "flash_attn_3", flash_mla, HALF, CUDA, prepare=prepare_flash_mla, package="flash-attn-3"
    ),
)
