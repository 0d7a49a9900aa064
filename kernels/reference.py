"""Defines each op step by step, independently of the implementations.

`precision="fp64"` is the truth: inputs are upcast and everything is computed in float64. A lower precision is a plain
computation in that format, which rounds inputs, scores and probabilities to it; its error tells how much error to allow
a kernel. Row-wise ops round only their result. "fp32" sums in chunks, so that it does not match a library bit by bit;
"tf32" rounds the operands of products to 10 bits of mantissa and computes in fp32. All work is done in blocks: beyond
inputs and output, memory stays under about 1 GiB at any size.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kernels.constants import (
    ADAMW_BETAS,
    ADAMW_DECAY,
    ADAMW_EPS,
    ADAMW_RATE,
    ADAMW_STEP,
    FILL_VALUE,
    GELU_CUBIC,
    INT4_GROUP,
    INT4_PER_WORD,
    LAYERNORM_EPS,
    MLA_SCALE,
    RMSNORM_EPS,
    TRIAD_SCALE,
)
from kernels.precision import TORCH_DTYPES, fp32_matmul_precision, round_to_tf32
from kernels.shapes import (
    BlockSizes,
    BlockWeights,
    ModelWeights,
    backward_sizes,
    block_decode_sizes,
    block_forward_sizes,
    block_train_sizes,
    check_launch,
    chunk_sizes,
    decode_sizes,
    expert_sizes,
    fp8_cache_sizes,
    generate_cached_sizes,
    generate_sizes,
    generate_uncached_sizes,
    linear_backward_sizes,
    matmul_sizes,
    mla_sizes,
    model_decode_sizes,
    model_forward_sizes,
    packed_sizes,
    paged_sizes,
    prefill_sizes,
    rope_sizes,
    row_sizes,
    scaled_sizes,
    serve_sizes,
    split_block,
    split_block_weights,
    split_layers,
    split_model,
    stream_size,
    w4a16_sizes,
    w8a16_sizes,
)

_BLOCK_BYTES = 128 * 2**20  # of one intermediate; several exist at once
_FP32_CHUNK = 512  # elements of a reduction that "fp32" sums at a time


def by_rows(formula: Callable[..., Tensor | tuple[Tensor, ...]]) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    """The reference of an op that works on each row by itself. `formula` takes tensors (rows, cols) or (cols,), in fp64
    for `precision="fp64"` and in fp32 for any other; its results are rounded to `precision`."""

    def reference(*inputs: Tensor, precision: str = "fp64") -> Tensor | tuple[Tensor, ...]:
        results = _row_by_row(formula, *inputs, precision=precision)
        return results if len(results) > 1 else results[0]

    return reference


def matmul(a: Tensor, b: Tensor, precision: str = "fp64") -> Tensor:
    """a: (m, k), b: (k, n). Returns a @ b: (m, n) in `precision`."""
    matmul_sizes(a, b)
    return _matmul_blocks(a, b, precision)


def matmul_scaled(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, precision: str = "fp64") -> Tensor:
    """a: (m, k), b: (k, n), fp8 or int8, a_scale: (m,), b_scale: (n,), fp32. Returns (a @ b) * a_scale * b_scale: (m,
    n) in fp64; any other precision sums the product in fp32 and rounds the result to bf16."""
    sizes = scaled_sizes(a, b, a_scale, b_scale)
    inner = "fp64" if precision == "fp64" else "fp32"
    out = torch.empty(sizes.m, sizes.n, dtype=_dtype("fp64" if precision == "fp64" else "bf16"), device=a.device)
    for columns in _blocks(sizes.n, _rows_per_block(max(sizes.k, sizes.m))):
        product = _matmul_blocks(a, b[:, columns], inner)
        out[:, columns] = product * a_scale[:, None].to(product.dtype) * b_scale[columns].to(product.dtype)
    return out


def matmul_w8a16(x: Tensor, weight: Tensor, scale: Tensor, precision: str = "fp64") -> Tensor:
    """x: (m, k), weight: (n, k) int8, scale: (n,). Returns x @ (weight * scale)^T: (m, n) in `precision`; the scaled
    weights are rounded to it too."""
    sizes = w8a16_sizes(x, weight, scale)
    out = torch.empty(sizes.m, sizes.n, dtype=_dtype(precision), device=x.device)
    for rows in _blocks(sizes.n, _rows_per_block(sizes.k)):
        dense = weight[rows].double() * scale[rows, None].double()
        out[:, rows] = matmul(_enter(x, precision), _enter(dense, precision).t(), precision)
    return out


def matmul_w4a16(x: Tensor, packed: Tensor, scales: Tensor, precision: str = "fp64") -> Tensor:
    """x: (m, k), packed: (n, k/8) int32, scales: (n, k/128). Returns x @ W^T: (m, n) in `precision`. W is
    `unpack_int4(packed)` times the scale of each group, rounded to `precision`."""
    sizes = w4a16_sizes(x, packed, scales)
    out = torch.empty(sizes.m, sizes.n, dtype=_dtype(precision), device=x.device)
    for rows in _blocks(sizes.n, _rows_per_block(sizes.k)):
        dense = unpack_int4(packed[rows]).double() * scales[rows].double().repeat_interleave(INT4_GROUP, dim=1)
        out[:, rows] = matmul(_enter(x, precision), _enter(dense, precision).t(), precision)
    return out


def unpack_int4(packed: Tensor) -> Tensor:
    """packed: (n, k/8) int32. Returns (n, k) int8 in -8..7.

    A group of 128 weights of a row is 16 words. Bits 4i to 4i+3 of word j hold weight 16i + j of the group, plus 8, so
    one shift and mask of the 16 words gives 16 neighboring weights.
    """
    n, words = packed.shape
    words_per_group = INT4_GROUP // INT4_PER_WORD
    grouped = packed.view(n, words // words_per_group, 1, words_per_group)
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=packed.device).view(1, 1, -1, 1)
    return (((grouped >> shifts) & 0xF) - 8).to(torch.int8).view(n, words * INT4_PER_WORD)


def rmsnorm(x: Tensor, weight: Tensor, precision: str = "fp64") -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns x / sqrt(mean(x^2) + RMSNORM_EPS) * weight, row by row."""
    row_sizes("rmsnorm", x, weight=weight)
    return _row_by_row(_normalize, x, weight, precision=precision)[0]


def add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor, precision: str = "fp64") -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of x + residual, and x + residual. The norm uses
    the unrounded sum."""
    row_sizes("add_rmsnorm", x, residual, weight=weight)

    def formula(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _normalize(x + residual, weight), x + residual

    normed, total = _row_by_row(formula, x, residual, weight, precision=precision)
    return normed, total


def layernorm(x: Tensor, weight: Tensor, bias: Tensor, precision: str = "fp64") -> Tensor:
    """x: (rows, cols), weight, bias: (cols,). Returns (x - mean) / sqrt(variance + LAYERNORM_EPS) * weight + bias, row
    by row; the variance is that of the row, divided by cols."""
    row_sizes("layernorm", x, weight=weight, bias=bias)
    return _row_by_row(_standardize, x, weight, bias, precision=precision)[0]


def add_layernorm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, precision: str = "fp64"
) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight, bias: (cols,). Returns the layernorm of x + residual, and x + residual. The
    norm uses the unrounded sum."""
    row_sizes("add_layernorm", x, residual, weight=weight, bias=bias)

    def formula(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return _standardize(x + residual, weight, bias), x + residual

    normed, total = _row_by_row(formula, x, residual, weight, bias, precision=precision)
    return normed, total


def softmax(x: Tensor, precision: str = "fp64") -> Tensor:
    """x: (rows, cols). Returns exp(x - max) / sum(exp(x - max)), row by row."""
    row_sizes("softmax", x)

    def formula(x: Tensor) -> Tensor:
        weights = (x - x.amax(dim=1, keepdim=True)).exp_()
        return weights / weights.sum(dim=1, keepdim=True)

    return _row_by_row(formula, x, precision=precision)[0]


def swiglu(gate: Tensor, up: Tensor, precision: str = "fp64") -> Tensor:
    """gate, up: (rows, cols). Returns gate / (1 + exp(-gate)) * up."""
    row_sizes("swiglu", gate, up)
    return _row_by_row(_gate, gate, up, precision=precision)[0]


def gelu(x: Tensor, precision: str = "fp64") -> Tensor:
    """x: (rows, cols). Returns x * (1 + tanh(sqrt(2/pi) * (x + GELU_CUBIC*x^3))) / 2."""
    row_sizes("gelu", x)
    return _row_by_row(_gelu, x, precision=precision)[0]


def rope(x: Tensor, cos: Tensor, sin: Tensor, precision: str = "fp64") -> Tensor:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns x with each pair (x[i], x[i + head_dim/2])
    rotated: (a*cos - b*sin, b*cos + a*sin)."""
    rope_sizes(x, cos, sin)
    return _row_by_row(_turn, x, cos, sin, precision=precision)[0]


def attention_prefill(q: Tensor, k: Tensor, v: Tensor, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Query i attends over keys 0..i with
    weights softmax(q.k / sqrt(head_dim)). Returns q's shape in `precision`."""
    prefill_sizes(q, k, v)
    return _attend_all(q, k, v, lambda rows, keys: keys <= rows, precision)


def attention_full(q: Tensor, k: Tensor, v: Tensor, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Every query attends over every key.
    Returns q's shape in `precision`."""
    prefill_sizes(q, k, v)
    return _attend_all(q, k, v, lambda rows, keys: torch.ones_like(rows * keys, dtype=torch.bool), precision)


def attention_window(q: Tensor, k: Tensor, v: Tensor, *, window: int, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Query i attends over keys
    i-window+1..i. Returns q's shape in `precision`."""
    prefill_sizes(q, k, v)
    return _attend_all(q, k, v, lambda rows, keys: (keys <= rows) & (keys > rows - window), precision)


def attention_chunk(q: Tensor, k: Tensor, v: Tensor, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, context, head_dim). Query j is token context -
    queries + j and attends over all keys up to that token. Returns q's shape in `precision`."""
    sizes = chunk_sizes("attention_chunk", q, k, v)
    before = sizes.keys - sizes.queries
    return _attend_all(q, k, v, lambda rows, keys: keys <= rows + before, precision)


def attention_packed(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, precision: str = "fp64") -> Tensor:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim), offsets: (sequences + 1,). Causal attention of
    each sequence by itself; a sequence may be empty. Returns q's shape in `precision`."""
    packed_sizes(q, k, v, offsets)
    out = torch.empty(q.shape, dtype=_dtype(precision), device=q.device)
    for first, last in itertools.pairwise(offsets.tolist()):
        if first < last:
            queries, keys, values = (tensor[first:last].transpose(0, 1).unsqueeze(0) for tensor in (q, k, v))
            out[first:last] = attention_prefill(queries, keys, values, precision)[0].transpose(0, 1)
    return out


def attention_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, lse: Tensor, precision: str = "fp64"
) -> tuple[Tensor, Tensor, Tensor]:
    """q, grad: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Returns the gradients of causal
    attention with respect to q, k and v, in `precision`. It recomputes the forward pass and ignores `out` and `lse`.

    An intermediate has seq^2 numbers of 8 bytes, for one head at a time.
    """
    sizes = backward_sizes(q, k, v, out, grad, lse)
    dtype = _dtype(precision)
    dq, dk, dv = (torch.zeros(each.shape, dtype=dtype, device=q.device) for each in (q, k, v))
    wide = torch.float64 if precision == "fp64" else torch.float32
    future = torch.ones(sizes.queries, sizes.queries, dtype=torch.bool, device=q.device).triu_(1)
    scale = 1 / math.sqrt(sizes.head_dim)
    for batch in range(sizes.batch):
        for kv_head in range(sizes.kv_heads):
            keys, values = _enter(k[batch, kv_head], precision), _enter(v[batch, kv_head], precision)
            key_sum, value_sum = (torch.zeros_like(each, dtype=wide) for each in (keys, values))
            for head in range(kv_head * sizes.group, (kv_head + 1) * sizes.group):
                queries, upstream = _enter(q[batch, head], precision), _enter(grad[batch, head], precision)
                scores = _product(queries, keys.T, precision).to(wide) * scale
                weights = torch.softmax(scores.masked_fill_(future, -math.inf), dim=-1)
                value_sum += _product(_enter(weights, precision).T, upstream, precision)
                slopes = _product(upstream, values.T, precision).to(wide)
                slopes = weights * (slopes - (weights * slopes).sum(dim=-1, keepdim=True)) * scale
                slopes = _enter(slopes, precision)
                dq[batch, head] = _product(slopes, keys, precision)
                key_sum += _product(slopes.T, queries, precision)
            dk[batch, kv_head], dv[batch, kv_head] = key_sum, value_sum
    return dq, dk, dv


def forward_with_lse(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim). Returns what a causal forward pass
    saves for the backward pass: the output, computed in fp32 and rounded to q's dtype, and the natural log-sum-exp of
    each query's scores: (batch, heads, seq) in fp32."""
    sizes = prefill_sizes(q, k, v)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:3], device=q.device)
    step = _rows_per_block(sizes.keys)
    for batch, head in itertools.product(range(sizes.batch), range(sizes.heads)):
        keys, values = (each[batch, head // sizes.group].float() for each in (k, v))
        for rows in _blocks(sizes.queries, step):
            scores = _product(q[batch, head, rows].float(), keys[: rows.stop].T, "fp32") / math.sqrt(sizes.head_dim)
            scores.masked_fill_(torch.ones_like(scores, dtype=torch.bool).triu_(rows.start + 1), -math.inf)
            lse[batch, head, rows] = scores.logsumexp(dim=-1)
            out[batch, head, rows] = _product(torch.softmax(scores, dim=-1), values[: rows.stop], "fp32").to(q.dtype)
    return out, lse


def linear_backward(grad: Tensor, x: Tensor, weight: Tensor, precision: str = "fp64") -> tuple[Tensor, Tensor]:
    """grad: (m, n), x: (m, k), weight: (n, k). Returns grad @ weight: (m, k), and grad^T @ x: (n, k), in
    `precision`."""
    linear_backward_sizes(grad, x, weight)
    return matmul(grad, weight, precision), matmul(grad.T, x, precision)


def moe_experts(x: Tensor, weight: Tensor, offsets: Tensor, precision: str = "fp64") -> Tensor:
    """x: (rows, k), weight: (experts, n, k), offsets: (experts + 1,). Multiplies rows offsets[i] to offsets[i+1] by the
    transposed weight of expert i, which may have none. Returns (rows, n) in `precision`."""
    sizes = expert_sizes(x, weight, offsets)
    out = torch.empty(sizes.rows, sizes.n, dtype=_dtype(precision), device=x.device)
    for expert, (first, last) in enumerate(itertools.pairwise(offsets.tolist())):
        if first < last:
            out[first:last] = matmul(x[first:last], weight[expert].t(), precision)
    return out


moe_experts_skewed = moe_experts  # only the lengths of the groups differ


def attention_decode(q: Tensor, k: Tensor, v: Tensor, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim). Every query attends over all keys of its
    sequence. Returns q's shape in `precision`."""
    decode_sizes(q, k, v)
    return _attend_one(q, lambda batch, kv_head: (k[batch, kv_head], v[batch, kv_head]), k.shape[1], precision)


def attention_decode_fp8(
    q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor, precision: str = "fp64"
) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim) fp8, scales: (kv_heads,).
    attention_decode over k * k_scale and v * v_scale. Returns q's shape in `precision`; the scaled cache is rounded to
    it too."""
    fp8_cache_sizes(q, k, v, k_scale, v_scale)

    def scaled(batch: int, kv_head: int) -> tuple[Tensor, ...]:
        return tuple(
            cache[batch, kv_head].double() * scale[kv_head].double() for cache, scale in ((k, k_scale), (v, v_scale))
        )

    return _attend_one(q, scaled, k.shape[1], precision)


def attention_paged(q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, head_dim), k, v: (pages, kv_heads, page, head_dim), table: (batch, most), lengths: (batch,).
    attention_decode over the first `lengths` tokens in the pages of each sequence; an empty sequence gives zeros.
    Returns q's shape in `precision`."""
    sizes = paged_sizes(q, k, v, table, lengths)
    out = torch.zeros(q.shape, dtype=_dtype(precision), device=q.device)
    for batch, length in enumerate(lengths.tolist()):
        if not length:
            continue
        pages = table[batch, : -(-length // k.shape[2])].long()
        keys, values = (
            cache[pages].transpose(0, 1).reshape(1, sizes.kv_heads, -1, sizes.head_dim)[:, :, :length]
            for cache in (k, v)
        )
        out[batch] = attention_decode(q[batch : batch + 1], keys, values, precision)[0]
    return out


def attention_mla(q: Tensor, cache: Tensor, *, latent: int, precision: str = "fp64") -> Tensor:
    """q: (batch, heads, latent + rope), cache: (batch, context, latent + rope). The keys of every head are the vectors
    of all tokens, with scale MLA_SCALE; the values are their first `latent` numbers. Returns (batch, heads, latent) in
    `precision`."""
    sizes = mla_sizes(q, cache, latent)
    out = torch.empty(sizes.batch, sizes.heads, latent, dtype=_dtype(precision), device=q.device)
    for batch in range(sizes.batch):
        keys = _enter(cache[batch], precision)
        out[batch] = _attend(_enter(q[batch], precision), keys, keys[:, :latent], None, precision, scale=MLA_SCALE)
    return out


def generate_cached(x: Tensor, w_qkv: Tensor, k_cache: Tensor, v_cache: Tensor, precision: str = "fp64") -> Tensor:
    """x: (batch, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden), caches: (batch, kv_heads, context, head_dim).

    The new token's query attends over the first context-1 cached positions and over its own K and V. Leaves the caches
    alone, so their last position is never read. Returns (batch, hidden) in `precision`.
    """
    sizes = generate_cached_sizes(x, w_qkv, k_cache, v_cache)
    projected = matmul(x, w_qkv.T, precision).view(sizes.batch, -1, sizes.head_dim)
    q, new_k, new_v = projected.split((sizes.heads, sizes.kv_heads, sizes.kv_heads), dim=1)
    return _attend_cached(q, new_k, new_v, k_cache, v_cache, precision).reshape(x.shape)


def generate_uncached(x: Tensor, w_qkv: Tensor, *, kv_heads: int, head_dim: int, precision: str = "fp64") -> Tensor:
    """x: (batch, context, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden).

    Computes Q, K and V of every token, then causal attention. Returns (batch, context, hidden) in `precision`.
    """
    sizes = generate_uncached_sizes(x, w_qkv, kv_heads, head_dim)
    out = torch.empty(x.shape, dtype=_dtype(precision), device=x.device)
    for batch in range(sizes.batch):
        # One sequence at a time: Q, K and V of all sequences in float64 would be the largest tensor here.
        heads = matmul(x[batch], w_qkv.T, precision).view(1, sizes.keys, -1, head_dim).transpose(1, 2)
        q, k, v = heads.split((sizes.heads, kv_heads, kv_heads), dim=1)
        out[batch] = attention_prefill(q, k, v, precision)[0].transpose(0, 1).reshape(sizes.keys, -1)
    return out


def block_forward(x: Tensor, *others: Tensor, head_dim: int, precision: str = "fp64") -> Tensor:
    """x: (batch, seq, hidden), others: cos, sin: (batch*seq, head_dim/2), then those of `BlockWeights`. A pre-norm
    block: y = x + attention(norm(x)), then y + mlp(norm(y)). Llama's: RMSNorm, rotary embedding, SwiGLU. Without cos
    and sin it is GPT-2's: LayerNorm, no rotary embedding, GELU. Returns x's shape in `precision`. The intermediates of
    one sequence at a time are in memory too."""
    sizes = block_forward_sizes(x, *others, head_dim=head_dim)
    return _block_of_prompts(x, *split_block(others), sizes, precision)


def _block_of_prompts(
    x: Tensor, angles: Sequence[Tensor], weights: BlockWeights, sizes: BlockSizes, precision: str
) -> Tensor:
    """`block_forward` after its checks; x may be in `precision` already."""
    out = torch.empty(x.shape, dtype=_dtype(precision), device=x.device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (each.transpose(0, 1)[None] for each in (q, k, v))
        return attention_prefill(q, k, v, precision)[0].transpose(0, 1)

    for batch in range(sizes.batch):
        tokens = slice(batch * sizes.queries, (batch + 1) * sizes.queries)
        out[batch] = _block(x[batch], tuple(each[tokens] for each in angles), weights, sizes, attend, precision)
    return out


def block_decode(x: Tensor, *others: Tensor, precision: str = "fp64") -> tuple[Tensor, Tensor, Tensor]:
    """x: (batch, hidden), others: cos, sin: (batch, head_dim/2), those of `BlockWeights`, and the caches: (batch,
    kv_heads, context, head_dim). The block of `block_forward` for one token a sequence, whose query attends over the
    first context-1 cached positions and over its own K and V. Leaves the caches alone and never reads their last
    position. Returns (batch, hidden), and the new token's K and V, (batch, kv_heads, head_dim) each, in `precision`:
    among many tokens, the output alone would hide a wrong K or V."""
    sizes = block_decode_sizes(x, *others)
    return _block_of_tokens(x, *split_block(others[:-2]), others[-2:], sizes, precision)


def _block_of_tokens(
    x: Tensor,
    angles: Sequence[Tensor],
    weights: BlockWeights,
    caches: Sequence[Tensor],
    sizes: BlockSizes,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """`block_decode` after its checks; x may be in `precision` already."""
    k_cache, v_cache = caches
    appended: list[Tensor] = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        appended.extend((k, v))
        return _attend_cached(q, k, v, k_cache, v_cache, precision)

    out = _block(x, angles, weights, sizes, attend, precision)
    return out, appended[0], appended[1]


def model_forward(x: Tensor, *others: Tensor, head_dim: int, precision: str = "fp64") -> Tensor:
    """x: (batch, seq, hidden), others: cos, sin: (batch*seq, head_dim/2), then weights as `ModelSizes.weight_shapes`
    says. The blocks of `block_forward` one after the other, then the norm of the last position of each prompt, times
    the vocabulary matrix. Returns the logits, (batch, vocab), in `precision`. The weights of a layer are converted
    matrix by matrix."""
    sizes = model_forward_sizes(x, *others, head_dim=head_dim)
    angles, weights = split_model(others)
    for layer in weights.layers:
        x = _block_of_prompts(x, angles, layer, sizes.block, precision)
    return _logits(x[:, -1], weights, precision)


def model_decode(x: Tensor, *others: Tensor, precision: str = "fp64") -> tuple[Tensor, Tensor, Tensor]:
    """x: (batch, hidden), others: cos, sin: (batch, head_dim/2), weights as `ModelSizes.weight_shapes` says, and the
    caches of all layers: (layers, batch, kv_heads, context, head_dim). The blocks of `block_decode` one after the
    other, then norm and vocabulary matrix. Leaves the caches alone and never reads their last position. Returns the
    logits, (batch, vocab), and the new token's K and V in every layer, (layers, batch, kv_heads, head_dim) each, in
    `precision`."""
    sizes = model_decode_sizes(x, *others)
    angles, weights = split_model(others[:-2])
    appended = []
    for layer, *caches in zip(weights.layers, *others[-2:], strict=True):
        x, k, v = _block_of_tokens(x, angles, layer, caches, sizes.block, precision)
        appended.append((k, v))
    k, v = (torch.stack(each) for each in zip(*appended, strict=True))
    return _logits(x, weights, precision), k, v


def _logits(x: Tensor, weights: ModelWeights, precision: str) -> Tensor:
    """x: (batch, hidden). Returns (batch, vocab) in `precision`: the final norm, times the vocabulary matrix."""
    normed = _norm(_wide(x, precision), weights.norm).to(_dtype(precision))
    return _matmul_blocks(normed, weights.vocabulary.T, precision)


def serve_static(x: Tensor, schedule: Tensor, *others: Tensor, precision: str = "fp64") -> Tensor:
    """x: (requests, longest, hidden), schedule: (steps, slots, 2), int32; others: cos, sin: (longest, head_dim/2),
    those of `BlockWeights`, and K and V of the prompts: (requests, kv_heads, context, head_dim). The output of the
    block of `block_decode` at the last token that the schedule has of each request, which attends to its prompt and to
    all its tokens. Returns (requests, hidden) in `precision`; the order of the schedule does not matter."""
    sizes = serve_sizes("serve_static", x, schedule, *others)
    angles, weights = split_block(others[:-2])
    out = torch.empty(len(x), x.shape[2], dtype=_dtype(precision), device=x.device)
    for request, (k_prompt, v_prompt) in enumerate(zip(*others[-2:], strict=True)):
        length = int(schedule[..., 1][schedule[..., 0] == request].max()) + 1
        tokens = x[request, :length]
        turns = tuple(each[:length] for each in angles)
        out[request] = _continue(tokens, turns, weights, (k_prompt, v_prompt), sizes, precision)[-1]
    return out


serve_continuous = serve_static


def generate_tokens(x: Tensor, *others: Tensor, precision: str = "fp64") -> Tensor:
    """x: (tokens, hidden), others: cos, sin: (tokens, head_dim/2), those of `BlockWeights`, each of all layers in one
    tensor, and K and V of a prompt: (layers, kv_heads, context, head_dim). The blocks of `block_forward` one after the
    other, over tokens that also attend to the prompt. Returns (tokens, hidden) in `precision`."""
    sizes = generate_sizes("generate_tokens", x, *others)
    angles, layers = split_layers(others[:-2])
    for weights, *prompt in zip(layers, *others[-2:], strict=True):
        x = _continue(x, angles, weights, prompt, sizes, precision)
    return x


def generate_drafted(
    x: Tensor,
    accepted: Tensor,  # noqa: ARG001
    *others: Tensor,
    guesses: int,
    precision: str = "fp64",
) -> Tensor:
    """The result of `generate_tokens` for all but the last `guesses` tokens, whatever is `accepted`."""
    tokens = len(x) - guesses
    angles, rest = others[:2], others[2:]
    return generate_tokens(x[:tokens], *(each[:tokens] for each in angles), *rest, precision=precision)


def _continue(
    x: Tensor,
    angles: Sequence[Tensor],
    weights: BlockWeights,
    prompt: Sequence[Tensor],
    sizes: BlockSizes,
    precision: str,
) -> Tensor:
    """A block over tokens x (tokens, hidden) behind K and V of a prompt: (kv_heads, context, head_dim) each."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = (
            torch.cat((_enter(each, precision), new.transpose(0, 1)), dim=1)[None]
            for each, new in zip(prompt, (k, v), strict=True)
        )
        return attention_chunk(q.transpose(0, 1)[None], keys, values, precision)[0].transpose(0, 1)

    return _block(x, angles, weights, sizes, attend, precision)


def block_train(
    x: Tensor,
    grad: Tensor,
    cos: Tensor,
    sin: Tensor,
    weights: Tensor,
    master: Tensor,
    m: Tensor,
    v: Tensor,
    *,
    kv_heads: int,
    layers: int = 1,
    forwards: int = 1,  # noqa: ARG001  (what is kept changes no number)
    precision: str = "fp64",
) -> tuple[Tensor, ...]:
    """x, grad: (batch, seq, hidden), cos, sin: (batch*seq, head_dim/2), weights: (parameters,), master, m, v:
    (parameters,) in fp32. Runs `layers` blocks of `block_forward`, computes the gradients of sum(out * grad) by
    autograd in `precision`, and does step ADAMW_STEP of AdamW on the master weights, in fp64 or fp32.

    Returns the output, the gradient of x, the new weights (the new master rounded to `precision`), and the new master,
    m and v. The master alone would hide a wrong gradient, because the learning rate is small."""
    sizes = block_train_sizes(x, grad, cos, sin, weights, master, m, v, kv_heads=kv_heads, layers=layers)
    dtype = _dtype(precision)
    held = [
        BlockWeights(*(each.to(dtype).requires_grad_() for each in layer))
        for layer in split_block_weights(weights.detach(), sizes)
    ]
    given = x.detach().to(dtype).requires_grad_()
    angles = (cos.view(len(x), -1, cos.shape[1]), sin.view(len(x), -1, sin.shape[1]))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _attend_heads(q, k, v, sizes, precision)

    with torch.enable_grad():
        out = given
        for layer in held:
            rows = zip(out, *angles, strict=True)
            out = torch.stack([_block(one, turns, layer, sizes, attend, precision) for one, *turns in rows])
        slope, *slopes = torch.autograd.grad(out, (given, *itertools.chain(*held)), grad.to(dtype))
    gradient = torch.cat([each.flatten() for each in slopes])
    master, m, v = adamw(gradient, *(_wide(each, precision) for each in (master, m, v)))
    return out.detach(), slope, master.to(dtype), master, m, v


def adamw(gradient: Tensor, master: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All tensors: (parameters,); master, m and v share a dtype. Returns master, m and v after step ADAMW_STEP.
    Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2, with the decay scaled by the rate."""
    beta_m, beta_v = ADAMW_BETAS
    gradient = gradient.to(master.dtype)
    m = beta_m * m + (1 - beta_m) * gradient
    v = beta_v * v + (1 - beta_v) * gradient.square()
    unbiased_m, unbiased_v = m / (1 - beta_m**ADAMW_STEP), v / (1 - beta_v**ADAMW_STEP)
    step = unbiased_m / (unbiased_v.sqrt() + ADAMW_EPS) + ADAMW_DECAY * master
    return master - ADAMW_RATE * step, m, v


def stream_read(x: Tensor, precision: str = "fp64") -> Tensor:
    """x: (n,). Returns its sum, a scalar, in float64; in fp32 for any other precision."""
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
    """out: (n,), left alone. Returns (n,) filled with FILL_VALUE, in `precision`."""
    stream_size("stream_write", out)
    return torch.full(out.shape, FILL_VALUE, dtype=_dtype(precision), device=out.device)


def stream_copy(x: Tensor, out: Tensor, precision: str = "fp64") -> Tensor:
    """x, out: (n,), out is left alone. Returns x in `precision`."""
    stream_size("stream_copy", x, out)
    return x.to(_dtype(precision), copy=True)


def stream_triad(a: Tensor, b: Tensor, out: Tensor, precision: str = "fp64") -> Tensor:
    """a, b, out: (n,), out is left alone. Returns a + TRIAD_SCALE*b in `precision`, which rounds product and sum."""
    n = stream_size("stream_triad", a, b, out)
    total = torch.empty(n, dtype=_dtype(precision), device=a.device)
    for block in _blocks(n, _block_elements(total.element_size())):
        total[block] = _enter(a[block], precision) + TRIAD_SCALE * _enter(b[block], precision)
    return total


def launch(x: Tensor, precision: str = "fp64") -> Tensor:
    """x: (1,), holding FILL_VALUE. Returns FILL_VALUE: an op that only launches changes nothing."""
    check_launch(x)
    return torch.full((1,), FILL_VALUE, dtype=_dtype(precision), device=x.device)


def _matmul_blocks(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """Product of a (m, k) and b (k, n) in `precision`, block by block."""
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=_dtype(precision), device=a.device)
    step = _rows_per_block(k)
    for columns in _blocks(n, step):
        right = _enter(b[:, columns], precision)
        for rows in _blocks(m, step):
            out[rows, columns] = _product(_enter(a[rows], precision), right, precision)
    return out


def _row_by_row(
    formula: Callable[..., Tensor | tuple[Tensor, ...]], *inputs: Tensor, precision: str
) -> tuple[Tensor, ...]:
    """The results of `formula` in fp64 or fp32, one block of rows at a time, rounded to `precision`. An input with one
    dimension applies to every row; every other input has rows, the first one always."""
    rows, results = len(inputs[0]), tuple[Tensor, ...]()
    for block in _blocks(rows, _rows_per_block(inputs[0][0].numel())):
        parts = formula(*(_wide(each if each.dim() == 1 else each[block], precision) for each in inputs))
        parts = parts if isinstance(parts, tuple) else (parts,)
        results = results or tuple(
            torch.empty(rows, *part.shape[1:], dtype=_dtype(precision), device=part.device) for part in parts
        )
        for result, part in zip(results, parts, strict=True):
            result[block] = part
    return results


def _wide(x: Tensor, precision: str) -> Tensor:
    """Convert x to the format that a row-wise op computes in: fp64, or fp32 for any precision but "fp64"."""
    return x.double() if precision == "fp64" else x.float()


def _normalize(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), fp32 or fp64. Returns its rmsnorm in the same format."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + RMSNORM_EPS) * weight.to(x.dtype)


def _standardize(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x: (rows, cols), fp32 or fp64. Returns its layernorm in the same format."""
    centered = x - x.mean(dim=1, keepdim=True)
    scale = torch.rsqrt(centered.square().mean(dim=1, keepdim=True) + LAYERNORM_EPS)
    return centered * scale * weight.to(x.dtype) + bias.to(x.dtype)


def _block(
    x: Tensor,
    angles: Sequence[Tensor],
    weights: BlockWeights,
    sizes: BlockSizes,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    precision: str,
) -> Tensor:
    """x: (tokens, hidden), angles: cos and sin: (tokens, head_dim/2), or none. `attend` takes Q, K and V of these
    tokens and returns (tokens, heads, head_dim). Returns x's shape in `precision`; the result of each step is rounded
    to it."""
    dtype, wide = _dtype(precision), _wide(x, precision)
    normed = _norm(wide, weights.attention_norm).to(dtype)
    heads = _linear(normed, weights.qkv, precision).view(len(x), -1, sizes.head_dim)
    q, k, v = heads.split((sizes.heads, sizes.kv_heads, sizes.kv_heads), dim=1)
    if angles:
        q, k = (_turn(_wide(each, precision), *angles).to(dtype) for each in (q, k))
    wide = wide + _linear(attend(q, k, v).reshape(len(x), sizes.width), weights.out, precision)
    normed = _norm(wide, weights.mlp_norm).to(dtype)
    product = _activate(_linear(normed, weights.gate_up, precision), sizes, precision).to(dtype)
    return (_wide(wide.to(dtype), precision) + _linear(product, weights.down, precision)).to(dtype)


def _norm(x: Tensor, weights: Tensor) -> Tensor:
    """x: (rows, cols), fp32 or fp64. Returns its rmsnorm for weights (cols,), its layernorm for (2, cols), a weight and
    a bias, in the same format."""
    if weights.dim() == 1:
        return _normalize(x, weights)
    return _standardize(x, *weights.unbind())


def _activate(x: Tensor, sizes: BlockSizes, precision: str) -> Tensor:
    """x: what the first matrix of the MLP makes: gate and up, or up alone. Returns (tokens, inner), fp32 or fp64."""
    if sizes.matrices == 3:
        gate, up = x.chunk(2, dim=1)
        return _gate(_wide(gate, precision), up)
    return _gelu(_wide(x, precision))


def _linear(x: Tensor, weight: Tensor, precision: str) -> Tensor:
    """x: (rows, inputs), weight: (outputs, inputs). Returns x @ weight^T in `precision`; autograd works on it."""
    return _product(_enter(x, precision), _enter(weight, precision).T, precision)


def _attend_heads(q: Tensor, k: Tensor, v: Tensor, sizes: BlockSizes, precision: str) -> Tensor:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim). Causal attention on which autograd works; the
    backward pass recomputes the scores head by head, so that only one head's are in memory."""
    group = sizes.heads // sizes.kv_heads
    future = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu_(1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = _wide(_product(q, k.T, precision), precision) / math.sqrt(sizes.head_dim)
        weights = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        return _product(_enter(weights, precision), v, precision)

    heads = [
        checkpoint(
            attend, q[:, head], k[:, head // group], v[:, head // group], use_reentrant=False, preserve_rng_state=False
        )
        for head in range(sizes.heads)
    ]
    return torch.stack(heads, dim=1)


def _attend_cached(q: Tensor, k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, precision: str) -> Tensor:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, head_dim), all of the new token, in `precision`. Its
    position, the last in the caches, is not read. Returns q's shape."""

    def appended(batch: int, kv_head: int) -> tuple[Tensor, ...]:
        return tuple(
            torch.cat((_enter(cache[batch, kv_head, :-1], precision), _enter(new[batch, kv_head, None], precision)))
            for cache, new in ((k_cache, k), (v_cache, v))
        )

    return _attend_one(q, appended, k.shape[1], precision)


def _attend_one(q: Tensor, cached: Callable[[int, int], tuple[Tensor, ...]], kv_heads: int, precision: str) -> Tensor:
    """q: (batch, heads, head_dim). `cached` returns K and V of a sequence and KV head: (keys, head_dim) each. Every
    query attends over all of them. Returns q's shape in `precision`."""
    group_size = q.shape[1] // kv_heads
    out = torch.empty(q.shape, dtype=_dtype(precision), device=q.device)
    for batch, kv_head in itertools.product(range(len(q)), range(kv_heads)):
        group = slice(kv_head * group_size, (kv_head + 1) * group_size)
        keys, values = (_enter(each, precision) for each in cached(batch, kv_head))
        out[batch, group] = _attend(_enter(q[batch, group], precision), keys, values, None, precision)
    return out


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (tokens, heads, head_dim), fp32 or fp64, cos, sin: (tokens, head_dim/2). Returns x rotated by these angles."""
    lower, upper = x.chunk(2, dim=-1)
    cosine, sine = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
    return torch.cat((lower * cosine - upper * sine, upper * cosine + lower * sine), dim=-1)


def _gelu(x: Tensor) -> Tensor:
    """x: fp32 or fp64. Returns its GELU, in GPT-2's form, in the same format."""
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + GELU_CUBIC * x * x * x))) / 2


def _gate(gate: Tensor, up: Tensor) -> Tensor:
    """gate: fp32 or fp64. Returns gate / (1 + exp(-gate)) * up in its format."""
    return gate / (1 + (-gate).exp()) * up


def _attend_all(q: Tensor, k: Tensor, v: Tensor, seen: Callable[[Tensor, Tensor], Tensor], precision: str) -> Tensor:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, keys, head_dim). `seen` takes indices of queries (a
    column) and of keys (a row), and returns which query attends to which key. Returns q's shape in `precision`."""
    out = torch.empty(q.shape, dtype=_dtype(precision), device=q.device)
    group, keys = q.shape[1] // k.shape[1], k.shape[2]
    step = _rows_per_block(keys)
    every = torch.arange(max(q.shape[2], keys), device=q.device)
    for batch in range(q.shape[0]):
        for head in range(q.shape[1]):
            right, values = (_enter(each[batch, head // group], precision) for each in (k, v))
            for rows in _blocks(q.shape[2], step):
                meets = seen(every[rows, None], every[None, :keys])
                out[batch, head, rows] = _attend(
                    _enter(q[batch, head, rows], precision), right, values, meets, precision
                )
    return out


def _attend(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, precision: str, *, scale: float | None = None
) -> Tensor:
    """q: (rows, head_dim), k: (keys, head_dim), v: (keys, any), seen: (rows, keys) or None for all. Returns the
    weighted mean of v for each row: (rows, any). `scale` of the scores defaults to 1/sqrt(head_dim)."""
    scores = _product(q, k.T, precision) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if seen is not None:
        scores.masked_fill_(~seen, -math.inf)
    scores -= scores.amax(dim=-1, keepdim=True)
    weights = scores.exp_()
    weights /= weights.sum(dim=-1, keepdim=True)
    return _product(_enter(weights, precision), v, precision)


def _product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """The product of operands that are already in `precision`."""
    with fp32_matmul_precision("ieee"):
        if precision != "fp32":
            return a @ b
        total = torch.zeros(a.shape[0], b.shape[1], device=a.device)
        for chunk in _blocks(a.shape[1], _FP32_CHUNK):
            total += a[:, chunk] @ b[chunk]
        return total


def _enter(x: Tensor, precision: str) -> Tensor:
    """Round x to `precision`, as an operand of a product."""
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
