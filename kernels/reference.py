"""The meaning of each op, written out step by step and independently of the implementations.

`precision="fp64"` is the truth: inputs are upcast and everything is computed in float64. A lower precision is what a
plain computation in that format gives, which tells how much error to allow a kernel: inputs, scores and probabilities
are rounded to the format. ("fp32" sums in chunks, so as not to agree with a library bit by bit; "tf32" rounds what
enters a product to 10 bits of mantissa and computes in fp32.) Work is done in blocks: beyond inputs and output, memory
stays under about 1 GiB at any size.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.constants import FILL_VALUE, TRIAD_SCALE
from kernels.precision import TORCH_DTYPES, fp32_matmul_precision, round_to_tf32
from kernels.shapes import (
    check_launch,
    decode_sizes,
    generate_cached_sizes,
    generate_uncached_sizes,
    matmul_sizes,
    prefill_sizes,
    stream_size,
)

_BLOCK_BYTES = 128 * 2**20  # of one intermediate; several are alive at once
_FP32_CHUNK = 512  # elements of a reduction summed at a time in "fp32"


def matmul(a: Tensor, b: Tensor, precision: str = "fp64") -> Tensor:
    """a: (m, k), b: (k, n). Returns a @ b: (m, n) in `precision`."""
    sizes = matmul_sizes(a, b)
    out = torch.empty(sizes.m, sizes.n, dtype=_dtype(precision), device=a.device)
    step = _rows_per_block(sizes.k)
    for columns in _blocks(sizes.n, step):
        right = _enter(b[:, columns], precision)
        for rows in _blocks(sizes.m, step):
            out[rows, columns] = _product(_enter(a[rows], precision), right, precision)
    return out


def attention_prefill(q: Tensor, k: Tensor, v: Tensor, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Query i attends over keys 0..i with
    weights softmax(q.k / sqrt(head_dim)). Returns q's shape in `precision`."""
    sizes = prefill_sizes(q, k, v)
    out = torch.empty(q.shape, dtype=_dtype(precision), device=q.device)
    step = _rows_per_block(sizes.keys)
    for batch in range(sizes.batch):
        for kv_head in range(sizes.kv_heads):
            keys, values = _enter(k[batch, kv_head], precision), _enter(v[batch, kv_head], precision)
            for head in range(kv_head * sizes.group, (kv_head + 1) * sizes.group):
                for rows in _blocks(sizes.queries, step):
                    queries = _enter(q[batch, head, rows], precision)
                    seen = torch.arange(rows.stop, device=q.device) <= torch.arange(
                        rows.start, rows.stop, device=q.device
                    ).unsqueeze(1)
                    out[batch, head, rows] = _attend(queries, keys[: rows.stop], values[: rows.stop], seen, precision)
    return out


def attention_decode(q: Tensor, k: Tensor, v: Tensor, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Every query attends over all keys of its
    sequence. Returns q's shape in `precision`."""
    sizes = decode_sizes(q, k, v)
    out = torch.empty(q.shape, dtype=_dtype(precision), device=q.device)
    for batch in range(sizes.batch):
        for kv_head in range(sizes.kv_heads):
            group = slice(kv_head * sizes.group, (kv_head + 1) * sizes.group)
            keys, values = _enter(k[batch, kv_head], precision), _enter(v[batch, kv_head], precision)
            out[batch, group] = _attend(_enter(q[batch, group], precision), keys, values, None, precision)
    return out


def generate_cached(x: Tensor, w_qkv: Tensor, k_cache: Tensor, v_cache: Tensor, precision: str = "fp64") -> Tensor:
    """x: (batch, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden), caches: (batch, kv_heads, context, head_dim).

    The new token's query attends over the first context-1 cached positions and over its own K and V. Leaves the caches
    alone, so their last position is never read. Returns (batch, hidden) in `precision`.
    """
    sizes = generate_cached_sizes(x, w_qkv, k_cache, v_cache)
    projected = matmul(x, w_qkv.T, precision).view(sizes.batch, -1, sizes.head_dim)
    q, new_k, new_v = projected.split((sizes.heads, sizes.kv_heads, sizes.kv_heads), dim=1)
    out = torch.empty_like(q)
    for batch in range(sizes.batch):
        for kv_head in range(sizes.kv_heads):
            group = slice(kv_head * sizes.group, (kv_head + 1) * sizes.group)
            keys, values = (
                torch.cat((_enter(cache[batch, kv_head, :-1], precision), _enter(new[batch, kv_head, None], precision)))
                for cache, new in ((k_cache, new_k), (v_cache, new_v))
            )
            out[batch, group] = _attend(_enter(q[batch, group], precision), keys, values, None, precision)
    return out.reshape(x.shape)


def generate_uncached(x: Tensor, w_qkv: Tensor, *, kv_heads: int, head_dim: int, precision: str = "fp64") -> Tensor:
    """x: (batch, context, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden).

    Q, K and V of every token, then causal attention for all of them. Returns (batch, context, hidden) in `precision`.
    """
    sizes = generate_uncached_sizes(x, w_qkv, kv_heads, head_dim)
    out = torch.empty(x.shape, dtype=_dtype(precision), device=x.device)
    for batch in range(sizes.batch):
        # One sequence at a time: Q, K and V of all of them in float64 would be the largest tensor here.
        heads = matmul(x[batch], w_qkv.T, precision).view(1, sizes.keys, -1, head_dim).transpose(1, 2)
        q, k, v = heads.split((sizes.heads, kv_heads, kv_heads), dim=1)
        out[batch] = attention_prefill(q, k, v, precision)[0].transpose(0, 1).reshape(sizes.keys, -1)
    return out


def stream_read(x: Tensor, precision: str = "fp64") -> Tensor:
    """x: (n,). Returns its sum, a scalar: summed in float64, or in fp32 for every other precision."""
    n = stream_size("stream_read", x)
    if precision == "fp64":
        return x.sum(dtype=torch.float64)
    parts = [x[block].to(_dtype(precision)).sum(dtype=torch.float32) for block in _blocks(n, _block_elements(4))]
    return torch.stack(parts).sum()


def stream_read_dot(x: Tensor, precision: str = "fp64") -> Tensor:
    """x: (n,), n even. Returns the dot product of its two halves, a scalar in `precision`."""
    n = stream_size("stream_read_dot", x)
    total = torch.zeros((), dtype=_dtype(precision), device=x.device)
    for block in _blocks(n // 2, _block_elements(total.element_size())):
        upper = slice(block.start + n // 2, block.stop + n // 2)
        total += (_enter(x[block], precision) * _enter(x[upper], precision)).sum()
    return total


def stream_write(out: Tensor, precision: str = "fp64") -> Tensor:
    """out: (n,), left alone. Returns n times FILL_VALUE in `precision`."""
    stream_size("stream_write", out)
    return torch.full(out.shape, FILL_VALUE, dtype=_dtype(precision), device=out.device)


def stream_copy(x: Tensor, out: Tensor, precision: str = "fp64") -> Tensor:
    """x, out: (n,), out is left alone. Returns the numbers of x in `precision`."""
    stream_size("stream_copy", x, out)
    return x.to(_dtype(precision), copy=True)


def stream_triad(a: Tensor, b: Tensor, out: Tensor, precision: str = "fp64") -> Tensor:
    """a, b, out: (n,), out is left alone. Returns a + TRIAD_SCALE*b in `precision`, product and sum each rounded."""
    n = stream_size("stream_triad", a, b, out)
    total = torch.empty(n, dtype=_dtype(precision), device=a.device)
    for block in _blocks(n, _block_elements(total.element_size())):
        total[block] = _enter(a[block], precision) + TRIAD_SCALE * _enter(b[block], precision)
    return total


def launch(x: Tensor, precision: str = "fp64") -> Tensor:
    """x: (1,), holding FILL_VALUE. Returns FILL_VALUE: an op that only starts leaves what it was given."""
    check_launch(x)
    return torch.full((1,), FILL_VALUE, dtype=_dtype(precision), device=x.device)


def _attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, precision: str) -> Tensor:
    """q: (rows, head_dim), k, v: (keys, head_dim), seen: (rows, keys) or None for all. Weighted mean of v per row."""
    scores = _product(q, k.T, precision) * (1 / math.sqrt(q.shape[-1]))
    if seen is not None:
        scores.masked_fill_(~seen, -math.inf)
    scores -= scores.amax(dim=-1, keepdim=True)
    weights = scores.exp_()
    weights /= weights.sum(dim=-1, keepdim=True)
    return _product(_enter(weights, precision), v, precision)


def _product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """Product of operands that are already in `precision`."""
    with fp32_matmul_precision("ieee"):
        if precision != "fp32":
            return a @ b
        total = torch.zeros(a.shape[0], b.shape[1], device=a.device)
        for chunk in _blocks(a.shape[1], _FP32_CHUNK):
            total += a[:, chunk] @ b[chunk]
        return total


def _enter(x: Tensor, precision: str) -> Tensor:
    """Round x to an operand of a product in `precision`."""
    operand = x.to(_dtype(precision))
    return round_to_tf32(operand) if precision == "tf32" else operand


def _dtype(precision: str) -> torch.dtype:
    if precision not in TORCH_DTYPES:
        raise ValueError(f"unknown precision {precision!r}; known: {', '.join(TORCH_DTYPES)}")
    return TORCH_DTYPES[precision]


def _block_elements(element_bytes: int) -> int:
    return _BLOCK_BYTES // element_bytes


def _rows_per_block(row_elements: int) -> int:
    """Rows of this many float64 elements that fit in a block."""
    return max(1, _block_elements(8) // row_elements)


def _blocks(size: int, step: int) -> Iterator[slice]:
    """Slices of at most `step` that cover range(size)."""
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
