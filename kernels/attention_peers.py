"""Other people's attention, measured beside ours: what PyTorch compiles, its varlen_attn, flash-attn 2 and 3.

What is optional is imported inside the call that needs it. flash-attn and varlen_attn want tokens before heads, and a
`prepare_` function lays Q, K, V and the cache out so: a model that they serve keeps them in that layout, so it is not
timed. Signatures and limits are those of Dao-AILab/flash-attention at 2.8.4: flash_attn/flash_attn_interface.py and
csrc/flash_attn/flash_api.cpp (2), hopper/flash_attn_interface.py and hopper/flash_api.cpp (3).
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.constants import MLA_SCALE
from kernels.eager_attention import attend, attend_latents, run_node
from kernels.peers import check_capability, run_compiled
from kernels.shapes import (
    backward_sizes,
    check_dtype,
    chunk_sizes,
    decode_sizes,
    fp8_cache_sizes,
    mla_sizes,
    packed_sizes,
    paged_sizes,
    prefill_sizes,
)
from kernels.unsupported import Unsupported

_FLEX_HEAD_DIM = 16  # torch/_inductor/kernel/flex: a dot of Triton takes no less
_FLEX_ANY_SIZE = 1 << 30  # its _LARGE_SPARSE_BLOCK_SIZE, by which it knows a mask that hides nothing
_MAX_HEAD_DIM = 256  # of both versions of flash-attn, and of PyTorch's copy of it
_PAGE = 256  # flash-attn 2: a page holds a multiple of it
_MLA_LATENT, _MLA_ROPE = 512, 64  # DeepSeek's, which is what flash-attn 3 has kernels for


@dataclass(frozen=True, slots=True)
class FlashAttention:
    """A version of flash-attn, and the compute capabilities that its kernels are for: from the first to before the
    second."""

    title: str
    capability: tuple[int, int]
    below: tuple[int, int] | None


FLASH_2 = FlashAttention("flash-attn 2", (8, 0), None)
FLASH_3 = FlashAttention("flash-attn 3", (9, 0), (10, 0))


# torch.compile of the naive form.


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


# FlexAttention (torch/nn/attention/flex_attention.py).


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
    """The mask of blocks is made once for each shape, which all layers of a pass share."""
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
    """What FlexAttention makes where it is given no mask, and then in every call anew: one block as large as any
    tensor."""
    from torch.nn.attention.flex_attention import BlockMask  # noqa: PLC0415  (loads the compiler: seconds)

    count = torch.ones(1, 1, 1, dtype=torch.int32, device=device)
    index = torch.zeros(1, 1, 1, 1, dtype=torch.int32, device=device)
    return BlockMask.from_kv_blocks(count, index, BLOCK_SIZE=_FLEX_ANY_SIZE, seq_lengths=(1, 1))


@functools.lru_cache(maxsize=8)
def _block_mask(queries: int, keys: int, window: int, device: str) -> Any:
    """Which blocks hold a query and a key that meet; the last query stands at the last key."""
    from torch.nn.attention.flex_attention import create_block_mask  # noqa: PLC0415  (loads the compiler: seconds)

    before = keys - queries

    def causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return key <= query + before

    def windowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return (key <= query + before) & (key > query + before - window)

    meets = windowed if window < keys else causal
    return create_block_mask(meets, None, None, queries, keys, device=device)


# varlen_attn (torch/nn/attention/varlen.py): PyTorch's copy of flash-attn 2 without SDPA around it.


def varlen_packed(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: Tensor) -> Tensor:
    """Takes what `prepare_varlen_packed` returns. Returns q's shape, causal in each sequence."""
    return _varlen(q, k, v, offsets, int(longest), (-1, 0))


def prepare_varlen_packed(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim), offsets: (sequences + 1,). Returns them, and
    the length of the longest sequence on the host."""
    packed_sizes(q, k, v, offsets)
    _check_varlen("attention_packed", q)
    return q, k, v, offsets, _longest(offsets)


def varlen_window(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *, window: int) -> Tensor:
    """Takes what `prepare_varlen_window` returns. Returns (batch, heads, seq, head_dim): query i meets keys
    i-window+1..i."""
    batch = len(offsets) - 1
    out = _varlen(q, k, v, offsets, len(q) // batch, (window - 1, 0))
    return out.unflatten(0, (batch, -1)).transpose(1, 2)


def prepare_varlen_window(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,  # noqa: ARG001  (the op's)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Returns them as (batch * seq, heads,
    head_dim), and where each sequence begins."""
    sizes = prefill_sizes(q, k, v)
    _check_varlen("attention_window", q)
    rows_q, rows_k, rows_v = (_tokens_first(each).flatten(0, 1) for each in (q, k, v))
    offsets = torch.arange(sizes.batch + 1, dtype=torch.int32, device=q.device) * sizes.queries
    return rows_q, rows_k, rows_v, offsets


def _check_varlen(op: str, q: Tensor) -> None:
    _check_flash(op, "varlen_attn", q)
    check_capability(f"{op}: varlen_attn", (8, 0))
    if "window_size" not in _parameters(_varlen_attn()):
        raise Unsupported(
            f"{op}: varlen_attn of PyTorch {torch.__version__} lacks window_size; supported: PyTorch 2.11 and later"
        )


def _varlen(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int, window_size: tuple[int, int]) -> Tensor:
    """PyTorch 2.11 reads the heads of K off K, and has no argument that allows them to be fewer."""
    attention = _varlen_attn()
    if q.shape[1] == k.shape[1] or "enable_gqa" not in _parameters(attention):
        return attention(q, k, v, offsets, offsets, longest, longest, window_size=window_size)
    return attention(q, k, v, offsets, offsets, longest, longest, window_size=window_size, enable_gqa=True)


@functools.cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _varlen_attn() -> Callable[..., Any]:
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415  (not in every PyTorch)
    except ImportError as error:
        raise Unsupported(f"varlen_attn: {error}; supported: PyTorch 2.11 and later") from error
    return varlen_attn


# flash-attn 2 and 3.


def flash(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention, causal: bool = True) -> Tensor:
    """Takes what `prepare_flash` returns. Returns (batch, heads, queries, head_dim)."""
    return _load(library).flash_attn_func(q, k, v, causal=causal).transpose(1, 2)


def flash_chunk(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention) -> Tensor:
    """Takes what `prepare_flash` returns. Returns (batch, heads, queries, head_dim), causal up to the last key. By the
    call for a cache, which may split the context of few queries; flash_attn_func of version 3 never does."""
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
    return _tokens_first(q), _tokens_first(k), _tokens_first(v)


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
    return q, k, v, offsets, _longest(offsets)


def flash_backward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG001
    """Takes what `prepare_flash_backward` returns. Returns dq, dk and dv, heads before tokens: the backward pass
    alone."""
    return tuple(each.transpose(1, 2) for each in run_node(out, grad)[:3])


def prepare_flash_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, lse: Tensor, *, library: FlashAttention
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, out, grad: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim), lse: (batch, heads, seq).
    Returns q, k and v, what flash-attn makes of them, with what it keeps for the backward pass, and grad, tokens before
    heads."""
    backward_sizes(q, k, v, out, grad, lse)
    _check_library("attention_backward", library, q)
    leaves = [_tokens_first(each.detach()).requires_grad_() for each in (q, k, v)]
    with torch.enable_grad():
        made = _load(library).flash_attn_func(*leaves, causal=True)
    return leaves[0], leaves[1], leaves[2], made, _tokens_first(grad)


def flash_decode(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention) -> Tensor:
    """Takes what `prepare_flash_decode` returns. Returns (batch, heads, head_dim)."""
    return _load(library).flash_attn_with_kvcache(q, k, v).squeeze(1)


def prepare_flash_decode(q: Tensor, k: Tensor, v: Tensor, *, library: FlashAttention) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Returns q as (batch, 1, heads,
    head_dim), and a cache with tokens before heads."""
    decode_sizes(q, k, v)
    _check_library("attention_decode", library, q)
    return q.unsqueeze(1), _tokens_first(k), _tokens_first(v)


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
    Returns q as (batch, 1, heads, head_dim), pages with tokens before heads, table and lengths; for version 3 also how
    the lengths are split, which a server works out once a step for all layers, by a kernel that each call else begins
    with."""
    op, page = "attention_paged", k.shape[2]
    sizes = paged_sizes(q, k, v, table, lengths)
    _check_library(op, library, q)
    if library is FLASH_2 and page % _PAGE:
        raise Unsupported(f"{op}: {library.title} does not support page={page}; supported: multiples of {_PAGE}")
    inputs = q.unsqueeze(1), _tokens_first(k), _tokens_first(v), table, lengths
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
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). Returns the rotary part of q and its
    latent one, (batch, 1, heads, any), which projections make apart, and views of both parts of the cache: (batch,
    context, 1, any)."""
    op, sizes = "attention_mla", mla_sizes(q, cache, latent)
    if (sizes.latent, sizes.rope) != (_MLA_LATENT, _MLA_ROPE):
        raise Unsupported(
            f"{op}: {FLASH_3.title} does not support latent={sizes.latent} and rope={sizes.rope};"
            f" supported: {_MLA_LATENT} and {_MLA_ROPE}"
        )
    _check_library(op, FLASH_3, q[..., latent:])
    new, kept = q.unsqueeze(1), cache.unsqueeze(2)
    return new[..., latent:].contiguous(), new[..., :latent].contiguous(), kept[..., latent:], kept[..., :latent]


def _tokens_first(x: Tensor) -> Tensor:
    """(any, heads, tokens, head_dim) -> (any, tokens, heads, head_dim), contiguous."""
    return x.transpose(1, 2).contiguous()


def _longest(offsets: Tensor) -> Tensor:
    """A number on the host, where a server has it."""
    return offsets.cpu().diff().max()


def _check_library(op: str, library: FlashAttention, q: Tensor) -> None:
    _check_flash(op, library.title, q)
    check_capability(f"{op}: {library.title}", library.capability, library.below)


def _check_flash(op: str, title: str, q: Tensor) -> None:
    check_dtype(f"{op}: {title}", q.dtype, ("bf16", "fp16"))
    head_dim = q.shape[-1]
    if head_dim % 8 or head_dim > _MAX_HEAD_DIM:
        raise Unsupported(
            f"{op}: {title} does not support head_dim={head_dim}; supported: multiples of 8 to {_MAX_HEAD_DIM}"
        )


def _load(library: FlashAttention) -> Any:
    try:
        if library is FLASH_2:
            import flash_attn as module  # noqa: PLC0415  (optional)
        else:
            import flash_attn_interface as module  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise Unsupported(f"{library.title} is installed but cannot be imported: {error}") from error
    return module
