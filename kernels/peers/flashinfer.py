"""FlashInfer's attention, measured beside ours (flashinfer-ai/flashinfer at 0.6.18).

Its kernels are planned before they run: a wrapper holds the split of the work of a batch, which a server computes once
per step for all layers. So a `prepare_` function makes the wrapper, untimed, and keeps it as long as the query that it
returns. The package is imported inside the call that needs it, and compiles a kernel for each format and width at its
first plan. `prepare_` functions raise ValueError for shapes that `kernels.shapes` refuses, and Unsupported for dtypes,
sizes and devices that FlashInfer does not take.

Prefill: flashinfer/prefill.py, BatchPrefillWithRaggedKVCacheWrapper. Decode: flashinfer/decode.py,
BatchDecodeWithPagedKVCacheWrapper, on pages, since it splits a context between pages. Limits of its kernels without
tensor cores: include/flashinfer/utils.cuh. MLA: flashinfer/mla/_core.py, BatchMLAPagedAttentionWrapper.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kernels.constants import MLA_SCALE
from kernels.implementation import CUDA, HALF, Implementation, Prepare, Result
from kernels.pytorch.attention import check_deepseek, tokens_first
from kernels.shapes import (
    AttentionSizes,
    check_dtype,
    chunk_sizes,
    decode_sizes,
    fp8_cache_sizes,
    mla_sizes,
    packed_sizes,
    paged_sizes,
    prefill_sizes,
)
from kernels.unsupported import Unsupported, check_capability

_HEAD_DIMS = (64, 128, 256)
_GROUPS = (1, 2, 3, 4, 6, 8)  # heads per K/V head without tensor cores
_WORKSPACE_BYTES = 512 * 2**20  # partial results, of all wrappers in turn
_DECODE_PAGE, _MLA_PAGE = 16, 64  # tokens, as servers page a cache

_PLANNED = WeakTensorKeyDictionary()  # the query of a prepared call -> its wrapper


def prefill(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Takes what `prepare_prefill` or `prepare_full` returns of whole sequences. Returns (batch, heads, queries,
    head_dim)."""
    return _PLANNED[q].run(*(each.flatten(0, 1) for each in (q, k, v))).view(q.shape).transpose(1, 2)


def prefill_window(q: Tensor, k: Tensor, v: Tensor, *, window: int) -> Tensor:  # noqa: ARG001  (which is planned)
    """Takes what `prepare_window` returns. Returns (batch, heads, seq, head_dim)."""
    return prefill(q, k, v)


def prepare_prefill(q: Tensor, k: Tensor, v: Tensor, *, op: str, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, keys, head_dim). Plans causal attention up to the
    last key; returns them with tokens before heads. `backend` is FlashInfer's: "fa2" packs the heads of a group and
    splits the context of few queries; "fa3", its own choice on Hopper, does neither
    (include/flashinfer/attention/scheduler.cuh)."""
    return _plan_batch(op, q, k, v, causal=True, window_left=-1, backend=backend)


def prepare_full(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Plans attention without a mask; returns
    them with tokens before heads."""
    return _plan_batch("attention_full", q, k, v, causal=False, window_left=-1)


def prepare_window(q: Tensor, k: Tensor, v: Tensor, *, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Plans attention of query i over keys
    i-window+1..i; returns them with tokens before heads."""
    prefill_sizes(q, k, v)
    return _plan_batch("attention_window", q, k, v, causal=True, window_left=window - 1)


def packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Takes what `prepare_packed` returns. Returns q's shape."""
    return _PLANNED[q].run(q, k, v)


def prepare_packed(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim), offsets: (sequences + 1,). Plans causal
    attention of each sequence; returns q, k and v."""
    sizes = packed_sizes(q, k, v, offsets)
    _check("attention_packed", q, sizes)
    planned = _plan_ragged(q, sizes, offsets.cpu(), offsets.cpu(), causal=True, window_left=-1)
    return planned, k, v


def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Takes what `prepare_decode` or `prepare_paged` returns. Returns (batch, heads, head_dim)."""
    return _PLANNED[q].run(q, (k, v))


def prepare_decode(q: Tensor, k: Tensor, v: Tensor, *, tensor_cores: bool) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Plans; returns q, and the cache in pages
    of 16 tokens, one sequence after the other: (pages, kv_heads, 16, head_dim)."""
    sizes = decode_sizes(q, k, v)
    return _plan_cache("attention_decode", q, k, v, sizes, tensor_cores=tensor_cores)


def prepare_paged(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor, *, tensor_cores: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """q: (batch, heads, head_dim), k, v: (pages, kv_heads, page, head_dim), table: (batch, most), lengths: (batch,).
    Plans with the table; returns q and the pages as they are."""
    op, sizes, page = "attention_paged", paged_sizes(q, k, v, table, lengths), k.shape[2]
    known = lengths.cpu()
    if int(known.min()) < 1:
        raise Unsupported(f"{op}: FlashInfer does not support an empty sequence; supported: from 1 token")
    used = (known + page - 1) // page
    pages = torch.cat([row[:count] for row, count in zip(table, used.tolist(), strict=True)])
    last = known - (used - 1) * page
    return _plan_pages(op, q, k, sizes, used, pages, last, tensor_cores=tensor_cores), k, v


def decode_fp8(q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor) -> Tensor:
    """Takes what `prepare_decode_fp8` returns. Returns (batch, heads, head_dim). FlashInfer has one scale per cache,
    not per head: so two small kernels multiply the query by K's scales and the output by V's."""
    scaled = torch.mul(q, k_scale, out=torch.empty_like(q))
    return _PLANNED[q].run(scaled, (k, v)).mul_(v_scale)


def prepare_decode_fp8(
    q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor, *, tensor_cores: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim) fp8, scales: (kv_heads,). Plans; returns
    q, the cache in pages of 16 tokens, and a scale for each head: (heads, 1)."""
    sizes = fp8_cache_sizes(q, k, v, k_scale, v_scale)
    planned, paged_k, paged_v = _plan_cache("attention_decode_fp8", q, k, v, sizes, tensor_cores=tensor_cores)
    head_k, head_v = (each.repeat_interleave(sizes.group).unsqueeze(1) for each in (k_scale, v_scale))
    return planned, paged_k, paged_v, head_k, head_v


def mla(q_latent: Tensor, q_rope: Tensor, latents: Tensor, ropes: Tensor, *, latent: int) -> Tensor:  # noqa: ARG001
    """Takes what `prepare_mla` returns. Returns (batch, heads, latent)."""
    return _PLANNED[q_latent].run(q_latent, q_rope, latents, ropes)


def prepare_mla(q: Tensor, cache: Tensor, *, latent: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). Plans; returns both parts of q, which
    separate projections make, and views of both parts of a cache in pages of 64 tokens: (pages, 64, any)."""
    op, sizes = "attention_mla", mla_sizes(q, cache, latent)
    check_dtype(f"{op}: FlashInfer", q.dtype, ("bf16", "fp16"))
    check_deepseek(op, "FlashInfer", sizes)
    check_capability(f"{op}: FlashInfer", (8, 0))
    pages = _in_pages(cache.unsqueeze(1), _MLA_PAGE).squeeze(1)
    each = len(pages) // sizes.batch
    starts = torch.arange(sizes.batch + 1, dtype=torch.int32)
    lengths = torch.full((sizes.batch,), sizes.context, dtype=torch.int32)
    indices = torch.arange(len(pages), dtype=torch.int32, device=q.device)
    wrapper = _flashinfer().mla.BatchMLAPagedAttentionWrapper(_workspace(str(q.device)))
    wrapper.plan(
        starts, starts * each, indices, lengths,
        sizes.heads, latent, sizes.rope, _MLA_PAGE, False, MLA_SCALE, q.dtype, cache.dtype,  # noqa: FBT003  (not causal)
    )  # fmt: skip
    planned = _keep(q[..., :latent].contiguous(), wrapper)
    return planned, q[..., latent:].contiguous(), pages[..., :latent], pages[..., latent:]


def _plan_batch(
    op: str, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window_left: int, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """Plan attention of whole sequences of one length, with tokens before heads."""
    sizes = chunk_sizes(op, q, k, v)
    _check(op, q, sizes)
    rows_q, rows_k, rows_v = (tokens_first(each) for each in (q, k, v))
    starts = torch.arange(sizes.batch + 1, dtype=torch.int32)
    q_starts, k_starts = starts * sizes.queries, starts * sizes.keys
    planned = _plan_ragged(rows_q, sizes, q_starts, k_starts, causal=causal, window_left=window_left, backend=backend)
    return planned, rows_k, rows_v


def _plan_ragged(
    q: Tensor,
    sizes: AttentionSizes,
    q_starts: Tensor,
    k_starts: Tensor,
    *,
    causal: bool,
    window_left: int,
    backend: str = "auto",
) -> Tensor:
    """Plan attention of sequences end to end that begin at these tokens (on the host). `window_left`: how many keys
    before its own a query meets, -1 for all."""
    wrapper = _flashinfer().BatchPrefillWithRaggedKVCacheWrapper(_workspace(str(q.device)), "NHD", backend=backend)
    wrapper.plan(
        q_starts,
        k_starts,
        sizes.heads,
        sizes.kv_heads,
        sizes.head_dim,
        causal=causal,
        window_left=window_left,
        q_data_type=q.dtype,
        kv_data_type=q.dtype,
    )
    return _keep(q, wrapper)


def _plan_cache(
    op: str, q: Tensor, k: Tensor, v: Tensor, sizes: AttentionSizes, *, tensor_cores: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Plan decoding of a cache (batch, kv_heads, context, head_dim), which is copied to pages."""
    paged_k, paged_v = (_in_pages(each, _DECODE_PAGE) for each in (k, v))
    used = torch.full((sizes.batch,), len(paged_k) // sizes.batch, dtype=torch.int32)
    pages = torch.arange(len(paged_k), dtype=torch.int32, device=q.device)
    last = sizes.keys - (used - 1) * _DECODE_PAGE
    planned = _plan_pages(op, q, paged_k, sizes, used, pages, last, tensor_cores=tensor_cores)
    return planned, paged_k, paged_v


def _plan_pages(
    op: str,
    q: Tensor,
    k: Tensor,
    sizes: AttentionSizes,
    used: Tensor,
    pages: Tensor,
    last: Tensor,
    *,
    tensor_cores: bool,
) -> Tensor:
    """Plan decoding of a cache in pages. used: pages per sequence (on the host); pages: their numbers (on the device);
    last: tokens in each sequence's last page (on the host)."""
    _check(op, q, sizes)
    if not tensor_cores and sizes.group not in _GROUPS:
        raise Unsupported(
            f"{op}: FlashInfer without tensor cores does not support {sizes.group} heads to one of K and V;"
            f" supported: {', '.join(map(str, _GROUPS))}"
        )
    starts = F.pad(used.cumsum(0, dtype=torch.int32), (1, 0))
    wrapper = _flashinfer().BatchDecodeWithPagedKVCacheWrapper(
        _workspace(str(q.device)), "HND", use_tensor_cores=tensor_cores
    )
    wrapper.plan(
        starts,
        pages,
        last,
        sizes.heads,
        sizes.kv_heads,
        sizes.head_dim,
        k.shape[2],
        q_data_type=q.dtype,
        kv_data_type=k.dtype,
    )
    return _keep(q, wrapper)


def _in_pages(cache: Tensor, page: int) -> Tensor:
    """(batch, kv_heads, context, any) -> (pages, kv_heads, page, any): the pages of a sequence in order, the last
    filled up with zeros."""
    batch, kv_heads, context, width = cache.shape
    each = -(-context // page)
    padded = torch.zeros(batch, kv_heads, each * page, width, dtype=cache.dtype, device=cache.device)
    padded[:, :, :context] = cache
    return padded.unflatten(2, (each, page)).transpose(1, 2).flatten(0, 1).contiguous()


def _keep(q: Tensor, wrapper: Any) -> Tensor:
    """A view of q that keeps this wrapper as long as it lives."""
    planned = q.view(q.shape)
    _PLANNED[planned] = wrapper
    return planned


def _check(op: str, q: Tensor, sizes: AttentionSizes) -> None:
    check_dtype(f"{op}: FlashInfer", q.dtype, ("bf16", "fp16"))
    if sizes.head_dim not in _HEAD_DIMS:
        raise Unsupported(
            f"{op}: FlashInfer does not support head_dim={sizes.head_dim}; supported: {', '.join(map(str, _HEAD_DIMS))}"
        )
    check_capability(f"{op}: FlashInfer", (8, 0))


@functools.cache
def _workspace(device: str) -> Tensor:
    return torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=device)


def _flashinfer() -> Any:
    try:
        import flashinfer  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise Unsupported(f"flashinfer-python is installed but cannot be imported: {error}") from error
    return flashinfer


def _row(op: str, run: Callable[..., Result], prepare: Prepare, name: str = "flashinfer") -> Implementation:
    return Implementation(op, name, run, HALF, CUDA, prepare=prepare, package="flashinfer-python")


def _prefill_row(op: str, backend: str = "auto", name: str = "flashinfer") -> Implementation:
    return _row(op, prefill, functools.partial(prepare_prefill, op=op, backend=backend), name)


def _decode_rows(op: str, run: Callable[..., Result], prepare: Callable[..., Any]) -> tuple[Implementation, ...]:
    """By its kernels of either kind."""
    return (
        _row(op, run, functools.partial(prepare, tensor_cores=False)),
        _row(op, run, functools.partial(prepare, tensor_cores=True), "flashinfer_tensor_cores"),
    )


IMPLEMENTATIONS = (
    _prefill_row("attention_prefill"),
    _prefill_row("attention_chunk"),
    _prefill_row("attention_chunk", "fa2", "flashinfer_fa2"),
    _row("attention_full", prefill, prepare_full),
    _row("attention_window", prefill_window, prepare_window),
    _row("attention_packed", packed, prepare_packed),
    *_decode_rows("attention_decode", decode, prepare_decode),
    *_decode_rows("attention_decode_fp8", decode_fp8, prepare_decode_fp8),
    *_decode_rows("attention_paged", decode, prepare_paged),
    _row("attention_mla", mla, prepare_mla),
)
