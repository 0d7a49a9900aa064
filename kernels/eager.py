"""Every op through PyTorch's own kernels, on any device. An implementation never falls back to another one."""

import contextlib
import functools
import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels.constants import FILL_VALUE, TRIAD_SCALE
from kernels.precision import fp32_matmul_precision
from kernels.shapes import (
    AttentionSizes,
    check_dtype,
    check_launch,
    decode_sizes,
    generate_cached_sizes,
    generate_uncached_sizes,
    matmul_sizes,
    prefill_sizes,
    stream_size,
)
from kernels.unsupported import Unsupported

_NO_SUCH_BACKEND = ("No available kernel", "No viable backend")  # PyTorch's words on CUDA and on a CPU


_DOT_CHUNK = 2**20  # elements: BLAS adds them one after the other, which in fp32 costs accuracy


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), any strides. Returns a @ b: (m, n); fp32 in full precision."""
    matmul_sizes(a, b)
    with fp32_matmul_precision("ieee"):
        return a @ b


def matmul_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), any strides. Returns a @ b as (b^T @ a^T)^T: with the weight as the left operand, which CPU
    libraries read faster where m is small. A view of an (n, m) tensor."""
    return matmul(b.t(), a.t()).t()


def matmul_tf32(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), fp32 on a CUDA device. Returns a @ b: (m, n) through tf32 tensor cores."""
    matmul_sizes(a, b)
    check_dtype("matmul_tf32", a.dtype, ("tf32",))
    if a.device.type != "cuda":
        raise Unsupported(f"matmul_tf32: tf32 needs a CUDA device, not {a.device}")
    with fp32_matmul_precision("tf32"):
        return a @ b


def attention_prefill_sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Causal, through this backend alone;
    raises Unsupported where it cannot."""
    sizes = prefill_sizes(q, k, v)
    sdpa = functools.partial(F.scaled_dot_product_attention, q, k, v, is_causal=True, enable_gqa=sizes.group > 1)
    return _through(backend, sdpa)


def attention_prefill_naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Causal; writes and reads the whole
    (seq, seq) score matrix of every head: what fused attention avoids."""
    sizes = prefill_sizes(q, k, v)
    seq = sizes.queries
    # The heads of a group become rows of one product: broadcasting K over the group would copy it.
    rows = q.reshape(sizes.batch, sizes.kv_heads, sizes.group * seq, sizes.head_dim)
    with fp32_matmul_precision("ieee"):
        scores = (rows @ k.transpose(-1, -2)).mul_(1 / math.sqrt(sizes.head_dim))
        future = torch.ones(seq, seq, dtype=torch.bool, device=q.device).triu_(1)
        scores.view(sizes.batch, sizes.kv_heads, sizes.group, seq, seq).masked_fill_(future, -math.inf)
        return (torch.softmax(scores, dim=-1) @ v).view(q.shape)


def attention_decode_sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Through this backend alone; raises
    Unsupported where it cannot."""
    rows = _fold_group(q, decode_sizes(q, k, v))
    return _through(backend, functools.partial(F.scaled_dot_product_attention, rows, k, v)).reshape(q.shape)


def attention_decode_naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Two matmuls, scores in memory."""
    rows = _fold_group(q, decode_sizes(q, k, v))
    with fp32_matmul_precision("ieee"):
        scores = (rows @ k.transpose(-1, -2)).mul_(1 / math.sqrt(q.shape[-1]))
        return (torch.softmax(scores, dim=-1) @ v).reshape(q.shape)


def generate_cached(x: Tensor, w_qkv: Tensor, k_cache: Tensor, v_cache: Tensor) -> Tensor:
    """x: (batch, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden), caches: (batch, kv_heads, context, head_dim).

    Projects the new token, writes its K and V at position context-1 of the caches in place, attends over all `context`
    positions. Returns (batch, hidden). Attention picks PyTorch's fastest backend, as a model would.
    """
    sizes = generate_cached_sizes(x, w_qkv, k_cache, v_cache)
    with fp32_matmul_precision("ieee"):
        heads = F.linear(x, w_qkv).view(sizes.batch, -1, sizes.head_dim)
        q, k, v = heads.split((sizes.heads, sizes.kv_heads, sizes.kv_heads), dim=1)
        k_cache[:, :, -1] = k
        v_cache[:, :, -1] = v
        return F.scaled_dot_product_attention(_fold_group(q, sizes), k_cache, v_cache).reshape(x.shape)


def generate_uncached(x: Tensor, w_qkv: Tensor, *, kv_heads: int, head_dim: int) -> Tensor:
    """x: (batch, context, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden).

    Projects Q, K and V of every token and attends causally for all of them. Returns (batch, context, hidden).
    """
    sizes = generate_uncached_sizes(x, w_qkv, kv_heads, head_dim)
    with fp32_matmul_precision("ieee"):
        heads = F.linear(x, w_qkv).view(sizes.batch, sizes.keys, -1, head_dim).transpose(1, 2)
        q, k, v = heads.split((sizes.heads, kv_heads, kv_heads), dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=sizes.group > 1)
    return out.transpose(1, 2).reshape(x.shape)


def stream_read(x: Tensor) -> Tensor:
    """x: (n,). Reads x once. Returns its sum, a scalar in fp32 (fp64 for fp64)."""
    stream_size("stream_read", x)
    return x.sum(dtype=_sum_dtype(x))


def stream_read_dot(x: Tensor) -> Tensor:
    """x: (n,), n even, fp32 or fp64. Reads x once as two halves. Returns their dot product, a scalar of x's dtype:
    often a CPU's fastest way to read memory, though not the number that `stream_read` returns."""
    n = stream_size("stream_read_dot", x)
    check_dtype("stream_read_dot", x.dtype, ("fp32", "fp64"))  # 16-bit sums would be too coarse to check
    if n % 2:
        raise ValueError(f"stream_read_dot: n={n} must be even")
    lower, upper = x[: n // 2].split(_DOT_CHUNK), x[n // 2 :].split(_DOT_CHUNK)
    return torch.stack([torch.dot(a, b) for a, b in zip(lower, upper, strict=True)]).sum()


def stream_write(out: Tensor) -> Tensor:
    """out: (n,). Writes FILL_VALUE everywhere, once. Returns out."""
    stream_size("stream_write", out)
    return out.fill_(FILL_VALUE)


def stream_copy(x: Tensor, out: Tensor) -> Tensor:
    """x, out: (n,). Reads x once, writes out once. Returns out."""
    stream_size("stream_copy", x, out)
    return out.copy_(x)


def stream_triad(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """a, b, out: (n,). Reads a and b once, writes out = a + TRIAD_SCALE*b once. Returns out."""
    stream_size("stream_triad", a, b, out)
    return torch.add(a, b, alpha=TRIAD_SCALE, out=out)


def launch(x: Tensor) -> Tensor:
    """x: (1,), holding FILL_VALUE. The smallest PyTorch kernel: writes the same once more. Returns x."""
    check_launch(x)
    return x.fill_(FILL_VALUE)


def _through(backend: SDPBackend, sdpa: Callable[[], Tensor]) -> Tensor:
    """Call `sdpa` with all other backends turned off."""
    try:
        with fp32_matmul_precision("ieee"), sdpa_kernel([backend]):
            return sdpa()
    except RuntimeError as error:
        if not any(text in str(error) for text in _NO_SUCH_BACKEND):
            raise
        why = _why_not(backend, sdpa) or str(error).splitlines()[0]
        raise Unsupported(f"SDPA's {backend.name} backend declines: {why}") from error


def _why_not(backend: SDPBackend, sdpa: Callable[[], Tensor]) -> str:
    """PyTorch gives its reasons as warnings, which are gathered by calling once more."""
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(RuntimeError), sdpa_kernel([backend]):
        warnings.simplefilter("always")
        sdpa()
    reasons = [str(warning.message).split(" (Triggered internally")[0] for warning in caught]
    return "; ".join(reason for reason in reasons if not reason.endswith("because:"))


def _fold_group(q: Tensor, sizes: AttentionSizes) -> Tensor:
    """q: (batch, heads, head_dim) -> (batch, kv_heads, group, head_dim), a view: one query has no causal mask, so the
    heads that share K and V are simply more query rows. It spares SDPA's enable_gqa, which is slow on a CPU."""
    return q.reshape(sizes.batch, sizes.kv_heads, sizes.group, sizes.head_dim)


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
