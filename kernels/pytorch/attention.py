"""Attention through PyTorch's own kernels: each backend of scaled dot product attention by name, and naive attention.

A backend that declines raises Unsupported; no other replaces it. A `prepare_` function makes, untimed, what a serving
system has before the layer runs: masks, lengths on the host, the forward pass of a backward pass. Functions raise
ValueError for shapes that `kernels.shapes` refuses.
"""

import contextlib
import functools
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels.constants import MLA_SCALE
from kernels.implementation import (
    CPU,
    CUDA,
    EVERYWHERE,
    FLOATS,
    HALF,
    TO_FP32,
    Implementation,
    Intermediate,
    Prepare,
    Result,
)
from kernels.precision import fp32_matmul_precision
from kernels.shapes import (
    AttentionSizes,
    MlaSizes,
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
from kernels.unsupported import Unsupported, check_capability

# Errors of PyTorch on CUDA and on a CPU, and of cuDNN (cudnn_frontend), which is asked after PyTorch accepts.
_NO_SUCH_BACKEND = ("No available kernel", "No viable backend", "No execution plans", "No valid execution plans")


def attention_prefill_sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Causal, through this backend alone;
    raises Unsupported where it cannot."""
    sizes = prefill_sizes(q, k, v)
    return _through(backend, _sdpa(q, k, v, sizes, is_causal=True))


def attention_full_sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Every query meets every key, through
    this backend alone; raises Unsupported where it cannot."""
    return _through(backend, _sdpa(q, k, v, prefill_sizes(q, k, v)))


def attention_chunk_sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, context, head_dim), on a CUDA device. Causal up to
    the last key, by the backend's own mask (torch.nn.attention.bias); raises Unsupported where it has none."""
    from torch.nn.attention.bias import causal_lower_right  # noqa: PLC0415  (loads the compiler: seconds)

    sizes = chunk_sizes("attention_chunk", q, k, v)
    return _through(backend, _sdpa(q, k, v, sizes, attn_mask=causal_lower_right(sizes.queries, sizes.keys)))


def attention_chunk_sdpa_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, *, backend: SDPBackend) -> Tensor:
    """Takes what `prepare_chunk_mask` returns. Returns q's shape, through this backend, which reads the mask."""
    return _through(backend, _sdpa(q, k, v, chunk_sizes("attention_chunk", q, k, v), attn_mask=mask))


def prepare_chunk_mask(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, context, head_dim). Returns them, and what is added
    to the scores: (queries, context) of 0 and -infinity in q's dtype, which all layers of a pass share."""
    sizes = chunk_sizes("attention_chunk", q, k, v)
    return q, k, v, _added_mask(q, sizes, sizes.keys)


def attention_window_sdpa_mask(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    *,
    backend: SDPBackend,
    window: int,  # noqa: ARG001  (the mask has it)
) -> Tensor:
    """Takes what `prepare_window_mask` returns. Returns q's shape, through this backend, which reads the mask and also
    computes what the mask hides."""
    return _through(backend, _sdpa(q, k, v, prefill_sizes(q, k, v), attn_mask=mask))


def prepare_window_mask(q: Tensor, k: Tensor, v: Tensor, *, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Returns them, and what is added to the
    scores: (seq, seq) of 0 and -infinity in q's dtype, which all layers of a pass share."""
    return q, k, v, _added_mask(q, prefill_sizes(q, k, v), window)


def attention_packed_sdpa_each(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *, backend: SDPBackend) -> Tensor:
    """Takes what `prepare_packed` returns. Returns q's shape: one call of this backend per sequence, whose result is
    copied to its place."""
    return _each_sequence(q, k, v, offsets, functools.partial(attention_prefill_sdpa, backend=backend))


def attention_packed_naive(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Takes what `prepare_packed` returns. Returns q's shape: the scores of one sequence at a time in memory."""
    return _each_sequence(q, k, v, offsets, attention_prefill_naive)


def prepare_packed(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim), offsets: (sequences + 1,). Returns them with
    the offsets on the host, where a server has them."""
    packed_sizes(q, k, v, offsets)
    return q, k, v, offsets.cpu()


def attention_packed_sdpa_nested(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """Takes what `prepare_nested` returns. Returns (tokens, heads, head_dim): one call of this backend for all
    sequences; raises Unsupported where it cannot."""
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    out = _through(backend, functools.partial(F.scaled_dot_product_attention, q, k, v, is_causal=True))
    return out.transpose(1, 2).values()


def prepare_nested(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim), offsets: (sequences + 1,). Returns views of q,
    k and v as nested tensors in PyTorch's jagged layout (torch/nested/_internal/sdpa.py). Raises Unsupported for
    grouped heads and empty sequences."""
    op, sizes = "attention_packed", packed_sizes(q, k, v, offsets)
    if sizes.group > 1:
        raise Unsupported(
            f"{op}: nested tensors do not support {sizes.group} heads to one of K and V; supported: as many of each"
        )
    lengths = offsets.diff().tolist()
    if min(lengths) < 1:
        raise Unsupported(f"{op}: nested tensors do not support an empty sequence; supported: from 1 token")
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(each, offsets, min_seqlen=min(lengths), max_seqlen=max(lengths))
        for each in (q, k, v)
    )
    return q, k, v


def attention_backward_sdpa(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG001
    """Takes what `prepare_backward` returns for a fused backend. Returns dq, dk and dv: only its backward kernel."""
    return run_node(out, grad)[:3]


def attention_backward_math(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """Takes what `prepare_backward` returns for the math backend. Returns dq, dk and dv: every step of the forward pass
    backwards. Autograd runs it on the stream of the forward pass, so no CUDA graph can capture it."""
    with fp32_matmul_precision("ieee"):
        return torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)


def prepare_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, lse: Tensor, *, backend: SDPBackend
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, out, grad: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim), lse: (batch, heads, seq).
    Returns q, k, v, this backend's output with what it keeps for its backward pass, and grad; `out` and `lse` are not
    used. For a fused backend they are stored tokens before heads, as in a model: it would first copy output and
    gradient in another layout (ATen/native/transformers/cuda/attention_backward.cu). Raises Unsupported where the
    backend declines or pads head_dim."""
    sizes = backward_sizes(q, k, v, out, grad, lse)
    if backend is not SDPBackend.MATH:
        q, k, v = (each.transpose(1, 2).contiguous().transpose(1, 2) for each in (q, k, v))
    q, k, v = (each.detach().requires_grad_() for each in (q, k, v))
    with torch.enable_grad():
        made = _through(backend, _sdpa(q, k, v, sizes, is_causal=True))
    if backend is not SDPBackend.MATH and not _leads_to(made, (q, k, v)):
        raise Unsupported(
            f"attention_backward: SDPA's {backend.name} backend pads head_dim={sizes.head_dim};"
            " supported: multiples of 8, which need no padding"
        )
    return q, k, v, made, torch.empty_like(made.detach()).copy_(grad)


def run_node(out: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """Return what the graph node that made `out` makes of `grad`, as autograd does, but on the current stream, so that
    it can be captured. The node keeps its tensors, so that it can run again. Raises ValueError where no node made
    `out`."""
    node = out.grad_fn
    if node is None:
        raise ValueError("a tensor that no node of a graph made has no backward pass")
    with torch.no_grad(), fp32_matmul_precision("ieee"):
        if hasattr(node, "apply"):  # in Python
            return node.apply(grad)
        return node(grad)  # type: ignore[operator]  # in C++, where a node has the call alone


def attention_prefill_naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Causal; writes and reads the whole
    (seq, seq) score matrix of every head, which fused attention avoids."""
    return _naive(q, k, v, prefill_sizes(q, k, v).keys)


def attention_full_naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Every query meets every key; scores in
    memory."""
    prefill_sizes(q, k, v)
    return _naive(q, k, v, None)


def attention_window_naive(q: Tensor, k: Tensor, v: Tensor, *, window: int) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Query i meets keys i-window+1..i; all
    (seq, seq) scores in memory, those outside the window too."""
    prefill_sizes(q, k, v)
    return _naive(q, k, v, window)


def attention_chunk_naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, context, head_dim). Causal up to the last key;
    scores in memory."""
    return _naive(q, k, v, chunk_sizes("attention_chunk", q, k, v).keys)


def attention_backward_naive(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """q, out, grad: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim), lse: (batch, heads, seq).
    Returns dq, dk and dv: five products, with scores, weights and their gradients in memory; does not use `out` and
    `lse`."""
    sizes = backward_sizes(q, k, v, out, grad, lse)
    shape = (sizes.batch, sizes.kv_heads, sizes.group * sizes.queries, sizes.head_dim)
    rows, upstream = q.reshape(shape), grad.reshape(shape)
    scale = 1 / math.sqrt(sizes.head_dim)
    with fp32_matmul_precision("ieee"):
        weights = _weights(rows, k, sizes.queries, sizes.keys, scale)
        slopes = upstream @ v.transpose(-1, -2)
        slopes.sub_((weights * slopes).sum(dim=-1, keepdim=True)).mul_(weights).mul_(scale)
        dk, dv = slopes.transpose(-1, -2) @ rows, weights.transpose(-1, -2) @ upstream
        return (slopes @ k).view(q.shape), dk, dv


def attention_decode_sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Through this backend alone; raises
    Unsupported where it cannot. The output is a view but for the efficient backend, which stores rows before heads."""
    rows = fold_group(q, decode_sizes(q, k, v))
    return _through(backend, functools.partial(F.scaled_dot_product_attention, rows, k, v)).reshape(q.shape)


def attention_decode_naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Two matmuls, scores in memory."""
    decode_sizes(q, k, v)
    return _naive(q.unsqueeze(2), k, v, None).squeeze(2)


def attention_decode_fp8_dequantize(q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim) fp8, scales: (kv_heads,). Writes and
    reads the whole cache in q's dtype, which undoes what 8 bits save. PyTorch chooses the backend of attention."""
    sizes = fp8_cache_sizes(q, k, v, k_scale, v_scale)
    keys, values = (cache.to(q.dtype).mul_(scale[:, None, None]) for cache, scale in ((k, k_scale), (v, v_scale)))
    return F.scaled_dot_product_attention(fold_group(q, sizes), keys, values).reshape(q.shape)


def attention_paged_gather(q: Tensor, k: Tensor, v: Tensor, pages: Tensor, length: Tensor) -> Tensor:
    """Takes what `prepare_gather` returns. Returns q's shape: copies the pages to one cache, which attention then
    reads: three times the traffic. PyTorch chooses the backend of attention."""
    batch, kv_heads, head_dim = q.shape[0], k.shape[1], q.shape[2]
    keys, values = (
        # One copy: heads stay the outermost dimension, and a sequence is strided.
        cache.transpose(0, 1).index_select(1, pages).view(kv_heads, batch, -1, head_dim)[:, :, : int(length)]
        for cache in (k, v)
    )
    rows = q.reshape(batch, kv_heads, -1, head_dim)
    with fp32_matmul_precision("ieee"):
        out = F.scaled_dot_product_attention(rows, keys.transpose(0, 1), values.transpose(0, 1))
    return out.reshape(q.shape)


def prepare_gather(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q: (batch, heads, head_dim), k, v: (pages, kv_heads, page, head_dim), table: (batch, most), lengths: (batch,),
    all equal. Returns q, k, v, the numbers of the used pages, and the length on the host. Raises Unsupported for
    several lengths or empty sequences."""
    paged_sizes(q, k, v, table, lengths)
    known = set(lengths.tolist())
    if len(known) > 1 or not min(known):
        raise Unsupported(
            f"attention_paged: torch_gather does not support sequences of {min(known)} to {max(known)} tokens;"
            " supported: one length, from 1"
        )
    length = known.pop()
    used = table[:, : -(-length // k.shape[2])].flatten()
    return q, k, v, used, torch.tensor(length, dtype=torch.int32)


def attention_mla_naive(q: Tensor, cache: Tensor, *, latent: int) -> Tensor:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). Returns (batch, heads, latent): two
    matmuls, scores in memory; the cache is read twice."""
    mla_sizes(q, cache, latent)
    with fp32_matmul_precision("ieee"):
        return attend_latents(q, cache, latent)


def attention_mla_sdpa(q: Tensor, cache: Tensor, *, latent: int, backend: SDPBackend) -> Tensor:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). Returns (batch, heads, latent): all
    heads as queries of one head of K, of which V is a part; raises Unsupported where this backend cannot."""
    mla_sizes(q, cache, latent)
    keys = cache.unsqueeze(1)
    sdpa = functools.partial(F.scaled_dot_product_attention, q.unsqueeze(1), keys, keys[..., :latent], scale=MLA_SCALE)
    return _through(backend, sdpa).squeeze(1)


# The formulas, which torch.compile compiles too.


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, keys, head_dim), the queries the last of the keys.
    Each meets `window` keys up to its own, or all where that is None. Returns q's shape."""
    (batch, _, queries, head_dim), kv_heads = q.shape, k.shape[1]
    # The heads of a group become rows of one product: broadcasting K over the group would copy it.
    rows = q.reshape(batch, kv_heads, -1, head_dim)
    return (_weights(rows, k, queries, window, 1 / math.sqrt(head_dim)) @ v).view(q.shape)


def attend_latents(q: Tensor, cache: Tensor, latent: int) -> Tensor:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). Returns (batch, heads, latent)."""
    scores = (q @ cache.transpose(-1, -2)).mul_(MLA_SCALE)
    return torch.softmax(scores, dim=-1) @ cache[..., :latent]


def fold_group(q: Tensor, sizes: AttentionSizes) -> Tensor:
    """q: (batch, heads, head_dim) -> (batch, kv_heads, group, head_dim), a view. One query needs no mask, so the heads
    that share K and V are more rows of queries. This avoids SDPA's enable_gqa, which is slow on a CPU."""
    return q.reshape(sizes.batch, sizes.kv_heads, sizes.group, sizes.head_dim)


def _naive(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    with fp32_matmul_precision("ieee"):
        return attend(q, k, v, window)


def _weights(rows: Tensor, k: Tensor, queries: int, window: int | None, scale: float) -> Tensor:
    """rows: (batch, kv_heads, group * queries, head_dim), k: (batch, kv_heads, keys, head_dim). Returns the softmax of
    their scaled products: (batch, kv_heads, group * queries, keys)."""
    scores = (rows @ k.transpose(-1, -2)).mul_(scale)
    if window is not None:
        batch, kv_heads, _, keys = scores.shape
        hidden = _hidden(queries, keys, window, scores.device)
        scores.view(batch, kv_heads, -1, queries, keys).masked_fill_(hidden, -math.inf)
    return torch.softmax(scores, dim=-1)


def _hidden(queries: int, keys: int, window: int, device: torch.device) -> Tensor:
    """(queries, keys): true where a query does not see a key; the last query stands at the last key."""
    every = torch.ones(queries, keys, dtype=torch.bool, device=device)
    later = every.triu(keys - queries + 1)
    return later | every.tril(keys - queries - window) if window < keys else later


def _added_mask(q: Tensor, sizes: AttentionSizes, window: int) -> Tensor:
    hidden = _hidden(sizes.queries, sizes.keys, window, q.device)
    return torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill_(hidden, -math.inf)


def _each_sequence(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, attention: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """`attention` of each sequence of varlen tensors by itself; offsets on the host."""
    out = torch.empty_like(q)
    for first, last in itertools.pairwise(offsets.tolist()):
        if first < last:
            one = (each[first:last].transpose(0, 1).unsqueeze(0) for each in (q, k, v))
            out[first:last] = attention(*one)[0].transpose(0, 1)
    return out


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, sizes: AttentionSizes, *, attn_mask: Tensor | None = None, is_causal: bool = False
) -> Callable[[], Tensor]:
    return functools.partial(
        F.scaled_dot_product_attention, q, k, v, attn_mask=attn_mask, is_causal=is_causal, enable_gqa=sizes.group > 1
    )


def _leads_to(out: Tensor, leaves: tuple[Tensor, ...]) -> bool:
    """Whether a single node of the graph leads from `out` to the leaves, in their order."""
    nodes = out.grad_fn.next_functions[: len(leaves)] if out.grad_fn is not None else ()
    found = [getattr(node, "variable", None) for node, _ in nodes]
    return len(found) == len(leaves) and all(one is leaf for one, leaf in zip(found, leaves, strict=True))


def _through(backend: SDPBackend, sdpa: Callable[[], Tensor]) -> Tensor:
    """Call `sdpa` with only this backend. Raises Unsupported, with the reason, where it declines."""
    try:
        with fp32_matmul_precision("ieee"), sdpa_kernel([backend]):
            return sdpa()
    except RuntimeError as error:
        if not any(text in str(error) for text in _NO_SUCH_BACKEND):
            raise
        why = _why_not(backend, sdpa) or str(error).splitlines()[0]
        raise Unsupported(f"SDPA's {backend.name} backend declines: {why}") from error


def _why_not(backend: SDPBackend, sdpa: Callable[[], Tensor]) -> str:
    """The reasons that PyTorch gives, as warnings, in a second call."""
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(RuntimeError), sdpa_kernel([backend]):
        warnings.simplefilter("always")
        sdpa()
    reasons = [str(warning.message).split(" (Triggered internally")[0] for warning in caught]
    return "; ".join(reason for reason in reasons if not reason.endswith("because:"))


# varlen_attn (torch/nn/attention/varlen.py): PyTorch's copy of flash-attn 2, without SDPA around it.


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
    return q, k, v, offsets, longest_of(offsets)


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
    rows_q, rows_k, rows_v = (tokens_first(each).flatten(0, 1) for each in (q, k, v))
    offsets = torch.arange(sizes.batch + 1, dtype=torch.int32, device=q.device) * sizes.queries
    return rows_q, rows_k, rows_v, offsets


def _check_varlen(op: str, q: Tensor) -> None:
    check_flash(op, "varlen_attn", q)
    check_capability(f"{op}: varlen_attn", (8, 0))
    if "window_size" not in _parameters(_varlen_attn()):
        raise Unsupported(
            f"{op}: varlen_attn of PyTorch {torch.__version__} lacks window_size; supported: PyTorch 2.11 and later"
        )


def _varlen(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int, window_size: tuple[int, int]) -> Tensor:
    """PyTorch 2.11 takes K/V heads from K, and has no argument that allows fewer of them."""
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


_MAX_HEAD_DIM = 256  # of both versions of flash-attn, and of PyTorch's copy
_DEEPSEEK_LATENT, _DEEPSEEK_ROPE = 512, 64


def tokens_first(x: Tensor) -> Tensor:
    """(any, heads, tokens, head_dim) -> (any, tokens, heads, head_dim), contiguous."""
    return x.transpose(1, 2).contiguous()


def longest_of(offsets: Tensor) -> Tensor:
    """offsets: (sequences + 1,). Returns the length of the longest sequence, (), on the host, where a server has it."""
    return offsets.cpu().diff().max()


def check_flash(op: str, title: str, q: Tensor) -> None:
    """Raise Unsupported for a dtype or head_dim of q that no version of flash-attn takes; `title` names the caller."""
    check_dtype(f"{op}: {title}", q.dtype, ("bf16", "fp16"))
    head_dim = q.shape[-1]
    if head_dim % 8 or head_dim > _MAX_HEAD_DIM:
        raise Unsupported(
            f"{op}: {title} does not support head_dim={head_dim}; supported: multiples of 8 to {_MAX_HEAD_DIM}"
        )


def check_deepseek(op: str, title: str, sizes: MlaSizes) -> None:
    """Raise Unsupported for other widths than DeepSeek's, for which alone `title` has kernels."""
    if (sizes.latent, sizes.rope) != (_DEEPSEEK_LATENT, _DEEPSEEK_ROPE):
        raise Unsupported(
            f"{op}: {title} does not support latent={sizes.latent} and rope={sizes.rope};"
            f" supported: {_DEEPSEEK_LATENT} and {_DEEPSEEK_ROPE}"
        )


# Back ends of scaled dot product attention, and what they take and write; what a device really takes, PyTorch says.
_BACKENDS: Mapping[str, tuple[SDPBackend, tuple[str, ...], tuple[Intermediate, ...]]] = MappingProxyType(
    {
        "sdpa_flash": (SDPBackend.FLASH_ATTENTION, TO_FP32, ()),
        "sdpa_cudnn": (SDPBackend.CUDNN_ATTENTION, TO_FP32, ()),
        "sdpa_efficient": (SDPBackend.EFFICIENT_ATTENTION, TO_FP32, ()),
        "sdpa_math": (SDPBackend.MATH, FLOATS, (Intermediate.WIDE_SCORES,)),
    }
)
# And where they run.
_ALL = {"sdpa_flash": EVERYWHERE, "sdpa_cudnn": CUDA, "sdpa_efficient": CUDA, "sdpa_math": EVERYWHERE}
_MASKED = {**_ALL, "sdpa_flash": CPU}  # on CUDA it takes no mask
_CHUNK_MASKED = {name: places for name, places in _MASKED.items() if name != "sdpa_efficient"}
_MLA = {name: places for name, places in _ALL.items() if name != "sdpa_flash"}  # which wants K and V of one width
_FUSED = {"sdpa_flash": CUDA, "sdpa_efficient": CUDA}


def _sdpa_rows(
    op: str,
    run: Callable[..., Result],
    devices: Mapping[str, tuple[str, ...]],
    suffix: str = "",
    prepare: Prepare | None = None,
) -> tuple[Implementation, ...]:
    """A row for each back end that has devices."""
    masks = (Intermediate.MASK,) if suffix == "_mask" else ()

    def row(name: str, places: tuple[str, ...]) -> Implementation:
        backend, dtypes, writes = _BACKENDS[name]
        call = functools.partial(run, backend=backend)
        return Implementation(op, name + suffix, call, dtypes, places, prepare=prepare, writes=writes + masks)

    return tuple(row(name, places) for name, places in devices.items())


def _backward_row(name: str, run: Callable[..., Result]) -> Implementation:
    """Here the back end is the forward pass's, which is prepared."""
    backend, dtypes, writes = _BACKENDS[name]
    prepare = functools.partial(prepare_backward, backend=backend)
    return Implementation("attention_backward", name, run, dtypes, _ALL[name], prepare=prepare, writes=writes)


def _naive_row(op: str, run: Callable[..., Result], prepare: Prepare | None = None) -> Implementation:
    return Implementation(op, "naive", run, prepare=prepare, writes=(Intermediate.SCORES,))


_CACHE = (Intermediate.CACHE,)

IMPLEMENTATIONS = (
    *_sdpa_rows("attention_prefill", attention_prefill_sdpa, _ALL),
    *_sdpa_rows("attention_full", attention_full_sdpa, _ALL),
    *_sdpa_rows("attention_window", attention_window_sdpa_mask, _MASKED, "_mask", prepare_window_mask),
    *_sdpa_rows("attention_chunk", attention_chunk_sdpa, _FUSED),
    *_sdpa_rows("attention_chunk", attention_chunk_sdpa_mask, _CHUNK_MASKED, "_mask", prepare_chunk_mask),
    *_sdpa_rows("attention_packed", attention_packed_sdpa_each, _ALL, "_each", prepare_packed),
    *_sdpa_rows("attention_packed", attention_packed_sdpa_nested, _FUSED, "_nested", prepare_nested),
    _backward_row("sdpa_flash", attention_backward_sdpa),
    _backward_row("sdpa_cudnn", attention_backward_sdpa),
    _backward_row("sdpa_efficient", attention_backward_sdpa),
    # Which autograd runs on the stream of the forward pass.
    replace(_backward_row("sdpa_math", attention_backward_math), captures=False),
    *_sdpa_rows("attention_decode", attention_decode_sdpa, _ALL),
    *_sdpa_rows("attention_mla", attention_mla_sdpa, _MLA),
    _naive_row("attention_prefill", attention_prefill_naive),
    _naive_row("attention_full", attention_full_naive),
    _naive_row("attention_window", attention_window_naive),
    _naive_row("attention_chunk", attention_chunk_naive),
    _naive_row("attention_packed", attention_packed_naive, prepare_packed),
    _naive_row("attention_backward", attention_backward_naive),
    _naive_row("attention_decode", attention_decode_naive),
    Implementation("attention_decode_fp8", "torch_dequantize", attention_decode_fp8_dequantize, HALF, writes=_CACHE),
    Implementation("attention_paged", "torch_gather", attention_paged_gather, prepare=prepare_gather, writes=_CACHE),
    Implementation("attention_mla", "torch", attention_mla_naive, writes=(Intermediate.SCORES,)),
)

VARLEN = (
    Implementation("attention_packed", "varlen", varlen_packed, HALF, CUDA, prepare=prepare_varlen_packed),
    Implementation("attention_window", "varlen", varlen_window, HALF, CUDA, prepare=prepare_varlen_window),
)
