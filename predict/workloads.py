"""FLOP and bytes of each op. Each op is one function; its docstring explains the count.

Convention: a multiply-add is 2 FLOP. Only compulsory traffic counts: each input is read once, each output is written
once, and intermediates stay on chip. Causal attention counts only the half that is computed. Softmax and norms inside
another op and address arithmetic are not counted. Dimensions are whole numbers, or float64 arrays (exact up to 2**53)
for a whole sweep.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predict.errors import BadWorkload
from predict.expert_rows import RULES, skewed_experts
from predict.guess_rule import GENERATIONS, verified
from predict.resources import Resource, matmul_unit, vector_unit
from predict.serving_loop import RULES as SERVING
from predict.serving_loop import served
from predict.suggest import did_you_mean, quoted, unknown
from predict.units import DType, find_dtype

FloatArray = NDArray[np.float64]
Count = int | FloatArray
Number = float | FloatArray
Bits = float | None  # of a stored element; None: those of the compute format

INT4_GROUP = 128  # weights along k that share one scale
_FP32_BYTES, _INT32_BYTES, _BF16_BYTES = 4, 4, 2
# Arguments of an op that are formats, not dimensions: the compute format, and the bits of a stored element of B or of K
# and V.
_NO_DIMENSIONS = ("dtype", "weight_bits", "kv_bits")

# The formats that an op accepts. An op without an entry accepts all formats.
_FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "matmul_scaled": ("fp8", "int8"),
        **dict.fromkeys(("matmul_w8a16", "matmul_w4a16", "attention_decode_fp8", "block_train"), ("bf16", "fp16")),
    }
)
# Dimensions that need not be given, and what they are then. An op has one where its function's parameter has a default.
_DEFAULTS: Mapping[str, Callable[[Mapping[str, Count]], Count]] = MappingProxyType(
    {
        "hidden": lambda dims: dims["heads"] * dims["head_dim"],
        "matrices": lambda _: 3,
        "layers": lambda _: 1,
        "forwards": lambda _: 1,
    }
)
# The sizes that a dimension may have, where these are few.
_CHOICES: Mapping[str, tuple[int, ...]] = MappingProxyType({"matrices": (2, 3), "forwards": (1, 2)})
# (dimension, divisor): the dimension must be a multiple of the divisor.
_DIVISORS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "matmul_w4a16": ("k", INT4_GROUP),
        **dict.fromkeys(
            (
                "rope",
                *("block_forward", "block_decode", "block_train", "model_forward", "model_decode"),
                *SERVING,
                *GENERATIONS,
            ),
            ("head_dim", 2),
        ),
    }
)
# (dimension, limit): the dimension must not exceed the other dimension.
_LIMITS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "attention_chunk": ("queries", "context"),
        "attention_packed": ("sequences", "tokens"),
        **dict.fromkeys(RULES, ("active", "experts")),
        **dict.fromkeys(SERVING, ("slots", "requests")),
    }
)
_MOST: Mapping[str, int] = MappingProxyType({"accepted": 100})  # the largest size of a dimension


@dataclass(frozen=True, slots=True)
class Amounts:
    """Compulsory work. Amounts add."""

    flop_by_unit: Mapping[Resource, Number]
    bytes_read: Number  # from DRAM
    bytes_written: Number  # to DRAM
    launches: int | None = field(default=None, compare=False)  # in older records; no longer counted

    def __add__(self, other: "Amounts") -> "Amounts":
        units = self.flop_by_unit.keys() | other.flop_by_unit.keys()
        return Amounts(
            {unit: self.flop_by_unit.get(unit, 0) + other.flop_by_unit.get(unit, 0) for unit in sorted(units)},
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
        )

    @property
    def flop(self) -> Number:
        """FLOP of all units."""
        total: Number = 0
        for flop in self.flop_by_unit.values():
            total = total + flop
        return total

    @property
    def bytes(self) -> Number:
        """Bytes read plus bytes written."""
        return self.bytes_read + self.bytes_written

    @property
    def arithmetic_intensity(self) -> Number:
        """FLOP per byte of DRAM traffic. Raises BadWorkload for work that moves no bytes."""
        if not np.all(np.asarray(self.bytes) > 0):
            raise BadWorkload("work that moves no bytes has no arithmetic intensity")
        return self.flop / self.bytes


@dataclass(frozen=True, slots=True)
class Workload:
    """One op at one size, independent of its implementation. Build it with `make_workload`, which checks it."""

    op: str
    dims: Mapping[str, int]
    dtype: DType
    amounts: Amounts

    @property
    def id(self) -> str:
        """The key of this workload in records, tables and plots: matmul-m16-n8192-k8192-bf16."""
        return "-".join([self.op, *(f"{name}{size}" for name, size in self.dims.items()), self.dtype.name])


def matmul(m: Count, n: Count, k: Count, dtype: DType, weight_bits: Bits = None) -> Amounts:
    """C[m,n] = A[m,k] @ B[k,n]: one multiply-add per (m,n,k); each operand crosses DRAM once."""
    return Amounts(
        flop_by_unit={matmul_unit(dtype): 2 * m * n * k},
        bytes_read=m * k * dtype.bytes + stored_bytes(k * n, weight_bits or dtype.bits),
        bytes_written=m * n * dtype.bytes,
    )


def matmul_scaled(m: Count, n: Count, k: Count, dtype: DType) -> Amounts:
    """C[m,n] = (A[m,k] @ B[k,n]) * a_scale[m] * b_scale[n] with 8-bit operands (W8A8: fp8 e4m3 or int8). The operands
    take half the bytes of bf16 and multiply at twice its rate. Each row of A and each column of B has one fp32 scale;
    the result is bf16."""
    return Amounts(
        flop_by_unit={matmul_unit(dtype): 2 * m * n * k},
        bytes_read=(m * k + k * n) * dtype.bytes + (m + n) * _FP32_BYTES,
        bytes_written=m * n * _BF16_BYTES,
    )


def matmul_w8a16(m: Count, n: Count, k: Count, dtype: DType) -> Amounts:
    """C[m,n] = A[m,k] @ (W[n,k] * scale[n])^T with int8 weights and one scale per row in A's format. The weights take
    half the bytes of bf16; the products still use the 16-bit unit."""
    plain = matmul(m, n, k, dtype, weight_bits=8)
    return replace(plain, bytes_read=plain.bytes_read + n * dtype.bytes)


def matmul_w4a16(m: Count, n: Count, k: Count, dtype: DType) -> Amounts:
    """C[m,n] = A[m,k] @ W[n,k]^T with int4 weights and one scale in A's format per 128 weights of a row. A weight takes
    0.5 + 2/128 bytes, 3.88 times fewer than in bf16; the products still use the 16-bit unit."""
    groups = n * (k // INT4_GROUP)  # k is a multiple of INT4_GROUP
    plain = _amounts(matmul_unit(dtype), 2 * m * n * k, m * k + groups, m * n, dtype)
    return replace(plain, bytes_read=plain.bytes_read + n * k // 2)


def moe_experts(tokens: Count, experts: Count, active: Count, n: Count, k: Count, dtype: DType) -> Amounts:
    """The grouped product of a mixture of experts, as engines launch it: each token's row of k numbers is there once
    for each of its `active` experts, the rows of one expert lie together, and each is multiplied by the weight (n, k)
    of its expert. That is 2*n*k FLOP per row. Rows are spread evenly (`expert_rows.even_rows`), so that
    min(experts, tokens*active) experts have any. Their weights are read once, and so are the rows and a 4-byte offset
    for each expert and for the end; one result of n numbers per row is written once."""
    rows = tokens * active
    scalar = isinstance(experts, int) and isinstance(rows, int)
    touched = min(experts, rows) if scalar else np.minimum(experts, rows)
    return _grouped(touched, rows, experts, n, k, dtype)


def moe_experts_skewed(tokens: Count, experts: Count, active: Count, n: Count, k: Count, dtype: DType) -> Amounts:
    """moe_experts with rows spread by a power law (`expert_rows.skewed_rows`): expert i gets a share in proportion to
    1/(i+1), and at most one row per token. FLOP and rows are the same; fewer experts have a row where rows are few."""
    return _grouped(_count_skewed(experts, tokens, active), tokens * active, experts, n, k, dtype)


def attention_prefill(
    batch: Count, seq: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """Causal attention over a prompt. Query i sees keys 1..i, which gives seq*(seq+1)/2 query-key pairs per head. Each
    pair takes head_dim multiply-adds for Q.K and as many for P.V. Q, K and V are read once, O is written once, and the
    scores never leave the chip."""
    pairs = batch * heads * (seq * (seq + 1) // 2)
    return _attention(pairs, batch * seq, batch * seq, heads, kv_heads, head_dim, dtype)


def attention_full(batch: Count, seq: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType) -> Amounts:
    """Attention without a mask. Every query sees every key: seq^2 pairs per head, about twice the FLOP of causal
    attention. Q, K and V are read once, O is written once."""
    pairs = batch * heads * seq * seq
    return _attention(pairs, batch * seq, batch * seq, heads, kv_heads, head_dim, dtype)


def attention_window(
    batch: Count,
    seq: Count,
    window: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    dtype: DType,
    kv_bits: Bits = None,
) -> Amounts:
    """Causal attention to the last `window` tokens, the query's own included. Query i sees min(i, window) keys, so a
    window of w gives w*seq - w*(w-1)/2 pairs per head, linear in seq."""
    scalar = isinstance(window, int) and isinstance(seq, int)
    width = min(window, seq) if scalar else np.minimum(window, seq)
    pairs = batch * heads * (width * seq - width * (width - 1) // 2)
    return _attention(pairs, batch * seq, batch * seq, heads, kv_heads, head_dim, dtype, kv_bits)


def attention_packed(
    sequences: Count, tokens: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """Causal varlen attention: `sequences` prompts lie end to end in `tokens` rows, without padding. The lengths are as
    equal as whole numbers allow. A token sees only its own sequence, which gives about tokens^2 / (2*sequences) pairs
    per head. Besides Q, K and V, a 4-byte offset is read for each sequence and for the end."""
    length, longer = tokens // sequences, tokens % sequences  # `longer` sequences have one token more
    triangle = length * (length + 1) // 2
    pairs = heads * (sequences * triangle + longer * (length + 1))
    plain = _attention(pairs, tokens, tokens, heads, kv_heads, head_dim, dtype)
    return replace(plain, bytes_read=plain.bytes_read + (sequences + 1) * _INT32_BYTES)


def attention_chunk(
    batch: Count, queries: Count, context: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """The last `queries` of `context` tokens attend causally to a cache of all `context` tokens: a chunk of a prefill,
    or the check of guessed tokens. Query j of q sees context - q + j keys. The cache is read once for any q, so
    checking a few tokens takes about as long as making one."""
    pairs = batch * heads * (queries * context - queries * (queries - 1) // 2)
    return _attention(pairs, batch * queries, batch * context, heads, kv_heads, head_dim, dtype)


def attention_backward(
    batch: Count, seq: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """Gradients of causal attention. Each pair takes five products (recomputed scores, dV, dP, dQ, dK) instead of two,
    2.5 times the FLOP of the forward pass. Q, K, V, O, dO and the fp32 log-sum-exp of each row are read once; dQ, dK
    and dV are written once. Source: Dao, FlashAttention-2, section 3.1.2."""
    pairs = batch * heads * (seq * (seq + 1) // 2)
    queries, keys = batch * seq * heads * head_dim, batch * seq * kv_heads * head_dim
    return Amounts(
        flop_by_unit={matmul_unit(dtype): 10 * pairs * head_dim},
        bytes_read=(3 * queries + 2 * keys) * dtype.bytes + batch * seq * heads * _FP32_BYTES,
        bytes_written=(queries + 2 * keys) * dtype.bytes,
    )


def linear_backward(m: Count, n: Count, k: Count, dtype: DType) -> Amounts:
    """Gradients of Y[m,n] = X[m,k] @ W[n,k]^T: dX = dY @ W and dW = dY^T @ X. Each takes as many FLOP as the forward
    pass, so training takes three times the FLOP of a forward pass. dY, X and W are read once; dX and dW are written
    once."""
    return _amounts(matmul_unit(dtype), 4 * m * n * k, m * n + m * k + n * k, m * k + n * k, dtype)


def attention_decode(
    batch: Count, context: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType, kv_bits: Bits = None
) -> Amounts:
    """Attention of one query per sequence to a cache of `context` tokens. The cache is read once for all heads of a GQA
    group, so the arithmetic intensity is about heads/kv_heads multiply-adds per cached element."""
    return _attention(batch * heads * context, batch, batch * context, heads, kv_heads, head_dim, dtype, kv_bits)


def attention_paged(
    batch: Count, context: Count, page: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """attention_decode with a cache in pages of `page` tokens anywhere in memory. FLOP and bytes are the same, plus 4
    bytes per page for the block table and 4 per sequence for its length."""
    plain = attention_decode(batch, context, heads, kv_heads, head_dim, dtype)
    entries = batch * (-(-context // page) + 1)
    return replace(plain, bytes_read=plain.bytes_read + entries * _INT32_BYTES)


def attention_decode_fp8(
    batch: Count, context: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """attention_decode with a cache in fp8 e4m3 and an fp32 scale per K head and per V head. The cache takes half the
    bytes of bf16, so about half the time. Q, O and the products stay in 16 bits."""
    plain = attention_decode(batch, context, heads, kv_heads, head_dim, dtype, kv_bits=8)
    return replace(plain, bytes_read=plain.bytes_read + 2 * kv_heads * _FP32_BYTES)


def attention_mla(batch: Count, context: Count, heads: Count, latent: Count, rope: Count, dtype: DType) -> Amounts:
    """Multi-head latent attention with absorbed projections, one query per sequence. All heads share one cached vector
    of latent + rope elements per token: Q.K uses all of them, P.V the first `latent`. In 16 bits the intensity is
    nearly 2*heads FLOP per byte (242 for DeepSeek-V3's 128 heads), like that of a matmul. Source: DeepSeek-V2, section
    2.1."""
    width = latent + rope
    flop = 2 * batch * heads * context * (width + latent)
    read = batch * (heads + context) * width
    return _amounts(matmul_unit(dtype), flop, read, batch * heads * latent, dtype)


def generate_cached(
    batch: Count, context: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """One attention layer makes token number `context` with a KV cache: it projects Q, K and V of the new token only
    (6d^2 FLOP for heads = kv_heads, d = heads*head_dim), appends K and V, and attends to all `context` tokens. Weights
    and the context-1 cached tokens are read once."""
    hidden, kv_dim = heads * head_dim, kv_heads * head_dim
    projection = 2 * batch * hidden * (hidden + 2 * kv_dim)
    attention = 4 * batch * hidden * context
    read = hidden * (hidden + 2 * kv_dim) + batch * hidden + 2 * batch * (context - 1) * kv_dim
    written = 2 * batch * kv_dim + batch * hidden
    return _amounts(matmul_unit(dtype), projection + attention, read, written, dtype)


def generate_uncached(
    batch: Count, context: Count, heads: Count, kv_heads: Count, head_dim: Count, dtype: DType
) -> Amounts:
    """The layer of generate_cached makes the same token without a cache. It projects Q, K and V of all N = `context`
    tokens again (6Nd^2 FLOP for heads = kv_heads) and attends causally for all of them, because the next layer needs
    every position. Hidden states and weights are read once, all outputs are written once. Q, K and V are intermediates
    and not counted."""
    hidden, kv_dim = heads * head_dim, kv_heads * head_dim
    projection = 2 * batch * context * hidden * (hidden + 2 * kv_dim)
    attention = 4 * batch * hidden * (context * (context + 1) // 2)
    read = hidden * (hidden + 2 * kv_dim) + batch * context * hidden
    return _amounts(matmul_unit(dtype), projection + attention, read, batch * context * hidden, dtype)


def block_forward(
    batch: Count,
    seq: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
    hidden: Count | None = None,
    matrices: Count = 3,
) -> Amounts:
    """A block over a prompt. With three `matrices` in its MLP it is Llama's: rmsnorm, QKV, rotary embedding, causal
    attention, output projection, residual; rmsnorm, gate and up (SwiGLU), down, residual. With two it is GPT-2's:
    layernorm in place of rmsnorm, up and GELU, no rotary embedding. `hidden`, the width of the residual stream, is
    heads*head_dim unless given. It takes 2 FLOP per token and matrix element and 4*head_dim per query-key pair.
    Weights, hidden states, cos and sin are read once; hidden states are written once. Intermediates between its ten
    kernels (nine if the last residual is fused into the matmul) may stay on chip.

    Norms on Q and K, biases and windows are not part of it. Making a token without a KV cache costs this with seq =
    context: every position goes through the block again."""
    flop = _block_flop(batch, seq, seq * (seq + 1) // 2, heads, kv_heads, head_dim, inner, hidden, matrices)
    weights = _block_weights(heads, kv_heads, head_dim, inner, hidden, matrices)
    stream = batch * seq * _block_hidden(heads, head_dim, hidden)
    read = weights + stream + batch * seq * _block_angles(head_dim, matrices)
    return _amounts(matmul_unit(dtype), flop, read, stream, dtype)


def block_decode(
    batch: Count,
    context: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
    hidden: Count | None = None,
    matrices: Count = 3,
) -> Amounts:
    """The block of block_forward makes token number `context` of each sequence with a KV cache. It reads all matrices
    for one token per sequence, appends the token's K and V, and attends to `context` tokens: context-1 from the cache
    and the new one."""
    flop = _block_flop(batch, 1, context, heads, kv_heads, head_dim, inner, hidden, matrices)
    weights = _block_weights(heads, kv_heads, head_dim, inner, hidden, matrices)
    stream, token = batch * _block_hidden(heads, head_dim, hidden), 2 * batch * kv_heads * head_dim
    read = weights + stream + batch * _block_angles(head_dim, matrices) + (context - 1) * token
    return _amounts(matmul_unit(dtype), flop, read, token + stream, dtype)


def block_train(
    batch: Count,
    seq: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
    layers: Count = 1,
    forwards: Count = 1,
) -> Amounts:
    """Forward pass, backward pass and mixed-precision AdamW step of `layers` blocks of block_forward, one after the
    other. It takes 6 FLOP per token and matrix element and 14*head_dim per query-key pair (4 forward; 10 backward,
    which recomputes the scores). With two `forwards` a layer keeps its input alone and runs its forward pass again in
    the backward pass: 8 FLOP and 18*head_dim. Weights in `dtype` and their fp32 master, m and v are read once and
    written once: 28 bytes per parameter. x, the output's gradient, cos and sin are read; the output and the gradient of
    x are written.

    Weight gradients and saved activations are intermediates and not counted; storing the gradients would move 4 more
    bytes per parameter. AdamW's arithmetic is not counted either."""
    tokens, hidden = batch * seq, heads * head_dim
    matrices = block_matrices(heads, kv_heads, head_dim, inner)
    parameters = matrices + 2 * hidden
    pairs = batch * heads * (seq * (seq + 1) // 2)
    state = layers * parameters * (dtype.bytes + 3 * _FP32_BYTES)
    flop = (4 + 2 * forwards) * tokens * matrices + (10 + 4 * forwards) * pairs * head_dim
    return Amounts(
        flop_by_unit={matmul_unit(dtype): layers * flop},
        bytes_read=state + tokens * (2 * hidden + head_dim) * dtype.bytes,
        bytes_written=state + 2 * tokens * hidden * dtype.bytes,
    )


def model_forward(
    batch: Count,
    seq: Count,
    layers: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    vocab: Count,
    dtype: DType,
    hidden: Count | None = None,
    matrices: Count = 3,
) -> Amounts:
    """A whole model over prompts: `layers` blocks of block_forward one after the other, each with its own weights; the
    final norm and the vocabulary matrix for the last position of each prompt, which gives its logits. It begins with
    the hidden states that the embedding gives: looking them up is not part of it. Every layer counts every position.
    All weights, the first hidden states, cos and sin are read once; logits are written once. Hidden states between
    layers may stay on chip, and no KV cache is written."""
    blocks = layers * _block_flop(batch, seq, seq * (seq + 1) // 2, heads, kv_heads, head_dim, inner, hidden, matrices)
    width = _block_hidden(heads, head_dim, hidden)
    weights = layers * _block_weights(heads, kv_heads, head_dim, inner, hidden, matrices)
    weights = weights + _norm_elements(width, matrices) + vocab * width
    read = weights + batch * seq * (width + _block_angles(head_dim, matrices))
    return _amounts(matmul_unit(dtype), blocks + 2 * batch * width * vocab, read, batch * vocab, dtype)


def model_decode(
    batch: Count,
    context: Count,
    layers: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    vocab: Count,
    dtype: DType,
    hidden: Count | None = None,
    matrices: Count = 3,
) -> Amounts:
    """The model of model_forward makes the logits of token number `context`+1 of each sequence: token number `context`
    goes through `layers` blocks of block_decode, each with its own weights and caches, the final norm and the
    vocabulary matrix. All weights, the first hidden states, cos and sin, and the caches of context-1 tokens are read
    once; the token's K and V in every layer and the logits are written once."""
    blocks = layers * _block_flop(batch, 1, context, heads, kv_heads, head_dim, inner, hidden, matrices)
    width, token = _block_hidden(heads, head_dim, hidden), layers * 2 * batch * kv_heads * head_dim
    weights = layers * _block_weights(heads, kv_heads, head_dim, inner, hidden, matrices)
    weights = weights + _norm_elements(width, matrices) + vocab * width
    read = weights + batch * (width + _block_angles(head_dim, matrices)) + (context - 1) * token
    flop = blocks + 2 * batch * width * vocab
    return _amounts(matmul_unit(dtype), flop, read, token + batch * vocab, dtype)


def serve_static(
    slots: Count,
    requests: Count,
    long: Count,
    short: Count,
    context: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
) -> Amounts:
    """A block of block_decode serves requests in batches of `slots`, each until its longest request ends. Requests make
    `long` and `short` tokens in turn, after a prompt of `context` tokens whose K and V are copied into the slot. A slot
    whose request has ended computes on. Each step reads the weights once and the cache of every slot."""
    totals = _served("serve_static", slots, requests, long, short)
    return _serving(totals, slots, requests, context, heads, kv_heads, head_dim, inner, dtype)


def serve_continuous(
    slots: Count,
    requests: Count,
    long: Count,
    short: Count,
    context: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
) -> Amounts:
    """The block of serve_static serves the same requests, and a slot whose request ends takes the next one. At the end,
    when none waits, slots compute on as they do there."""
    totals = _served("serve_continuous", slots, requests, long, short)
    return _serving(totals, slots, requests, context, heads, kv_heads, head_dim, inner, dtype)


def generate_tokens(
    context: Count,
    tokens: Count,
    layers: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
) -> Amounts:
    """`layers` blocks of block_decode make `tokens` tokens of one sequence one after the other, behind a cache of
    `context`. Each reads all weights and the cache so far."""
    each = functools.partial(_chunk, heads=heads, kv_heads=kv_heads, head_dim=head_dim, inner=inner, dtype=dtype)
    return _times(layers, each(tokens, tokens * context + tokens * (tokens - 1) // 2, 1))


def generate_drafted(
    context: Count,
    tokens: Count,
    guesses: Count,
    accepted: Count,
    layers: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
) -> Amounts:
    """The blocks of generate_tokens make the same tokens with speculative decoding. In each step the first block alone
    makes `guesses` tokens one after the other, then all blocks verify these behind the last token at once. Of the
    guesses `accepted` percent are right (`predict.guess_rule`): a step makes (1 - a^(k+1)) / (1 - a) tokens on average.
    A draft that is the target's first layers is what Draft & Verify does (Zhang et al. 2023, arXiv 2309.08168)."""
    each = functools.partial(_chunk, heads=heads, kv_heads=kv_heads, head_dim=head_dim, inner=inner, dtype=dtype)
    steps, before = _verified(tokens, guesses, accepted)
    cached = steps * context + before
    drafted = each(steps * guesses, guesses * cached + steps * (guesses * (guesses - 1) // 2), 1)
    return drafted + _times(layers, each(steps, cached, guesses + 1))


def _chunk(
    steps: Count,
    cached: Count,
    queries: Count,
    *,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
) -> Amounts:
    """Amounts of a block in `steps` steps of `queries` tokens each, which find `cached` tokens in all."""
    hidden, token = heads * head_dim, 2 * kv_heads * head_dim
    keys = queries * cached + steps * (queries * (queries + 1) // 2)  # that all queries of all steps attend to
    flop = 2 * steps * queries * block_matrices(heads, kv_heads, head_dim, inner) + 4 * keys * hidden
    weights = _block_weights(heads, kv_heads, head_dim, inner, None, 3)
    read = steps * (weights + queries * (hidden + head_dim)) + cached * token
    return _amounts(matmul_unit(dtype), flop, read, steps * queries * (token + hidden), dtype)


def _serving(
    totals: tuple[Count, Count],
    slots: Count,
    requests: Count,
    context: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    dtype: DType,
) -> Amounts:
    """Amounts of a serving loop of `totals`: steps, and the sum of the tokens before each token that a slot makes."""
    steps, before = totals
    made, token = steps * slots, 2 * kv_heads * head_dim
    hidden = heads * head_dim
    flop = 2 * made * block_matrices(heads, kv_heads, head_dim, inner) + 4 * (made * (context + 1) + before) * hidden
    copied = requests * context * token
    weights = _block_weights(heads, kv_heads, head_dim, inner, None, 3)
    read = steps * weights + made * (hidden + head_dim) + (made * context + before) * token + copied
    return _amounts(matmul_unit(dtype), flop, read, made * (token + hidden) + copied, dtype)


def _times(count: Count, amounts: Amounts) -> Amounts:
    """The amounts `count` times."""
    flop = {unit: count * each for unit, each in amounts.flop_by_unit.items()}
    return Amounts(flop, count * amounts.bytes_read, count * amounts.bytes_written)


def block_matrices(
    heads: Count, kv_heads: Count, head_dim: Count, inner: Count, hidden: Count | None = None, matrices: Count = 3
) -> Count:
    """Elements of a block's matrices: Q, K, V, output projection, and those of the MLP: gate, up and down, or up and
    down. Not counted: the parameters of the two norms."""
    width = _block_hidden(heads, head_dim, hidden)
    return width * (2 * heads * head_dim + 2 * kv_heads * head_dim) + matrices * width * inner


def _block_hidden(heads: Count, head_dim: Count, hidden: Count | None) -> Count:
    return heads * head_dim if hidden is None else hidden


def _block_angles(head_dim: Count, matrices: Count) -> Count:
    """Cosines and sines of a token: head_dim/2 each with three matrices, none with two."""
    return head_dim * (matrices - 2)


def _block_weights(
    heads: Count, kv_heads: Count, head_dim: Count, inner: Count, hidden: Count | None, matrices: Count
) -> Count:
    """Elements of a block's matrices and of its two norms."""
    elements = block_matrices(heads, kv_heads, head_dim, inner, hidden, matrices)
    return elements + 2 * _norm_elements(_block_hidden(heads, head_dim, hidden), matrices)


def _norm_elements(hidden: Count, matrices: Count) -> Count:
    """An RMSNorm, of a block with three matrices, has a weight for each element; a LayerNorm a weight and a bias."""
    return hidden * (4 - matrices)


def _block_flop(
    batch: Count,
    tokens: Count,
    pairs: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    inner: Count,
    hidden: Count | None,
    matrices: Count,
) -> Count:
    """FLOP of a block for `tokens` tokens of each sequence, of which each head counts `pairs` query-key pairs."""
    elements = block_matrices(heads, kv_heads, head_dim, inner, hidden, matrices)
    return batch * (2 * tokens * elements + 4 * pairs * heads * head_dim)


def stream_read(n: Count, dtype: DType) -> Amounts:
    """sum(x[n]): one add per element; x is read once. The result is too small to count."""
    return _amounts(vector_unit(dtype), n, n, 0, dtype)


def stream_write(n: Count, dtype: DType) -> Amounts:
    """y[n] = constant: no arithmetic; y is written once."""
    return Amounts({}, bytes_read=0, bytes_written=n * dtype.bytes)


def stream_copy(n: Count, dtype: DType) -> Amounts:
    """y[n] = x[n]: no arithmetic; x is read once, y is written once."""
    return Amounts({}, bytes_read=n * dtype.bytes, bytes_written=n * dtype.bytes)


def stream_triad(n: Count, dtype: DType) -> Amounts:
    """y[n] = a[n] + s*b[n]: one multiply-add per element; a and b are read once, y is written once."""
    return Amounts({vector_unit(dtype): 2 * n}, bytes_read=2 * n * dtype.bytes, bytes_written=n * dtype.bytes)


def rmsnorm(rows: Count, cols: Count, dtype: DType) -> Amounts:
    """RMSNorm, y = x / sqrt(mean(x^2) + eps) * weight per row: square, add, scale, multiply by the weight, 4 FLOP per
    element. x and the weight are read once, y is written once."""
    return _amounts(vector_unit(dtype), 4 * rows * cols, rows * cols + cols, rows * cols, dtype)


def add_rmsnorm(rows: Count, cols: Count, dtype: DType) -> Amounts:
    """Residual and norm fused: s = x + residual, y = rmsnorm(s) * weight, 5 FLOP per element. x, residual and weight
    are read once, y and s are written once. Two separate kernels would also read s once."""
    return _amounts(vector_unit(dtype), 5 * rows * cols, 2 * rows * cols + cols, 2 * rows * cols, dtype)


def layernorm(rows: Count, cols: Count, dtype: DType) -> Amounts:
    """LayerNorm, y = (x - mean) / sqrt(variance + eps) * weight + bias per row: add, subtract, square, add, scale,
    multiply by the weight, add the bias, 7 FLOP per element. x, weight and bias are read once, y is written once."""
    return _amounts(vector_unit(dtype), 7 * rows * cols, rows * cols + 2 * cols, rows * cols, dtype)


def add_layernorm(rows: Count, cols: Count, dtype: DType) -> Amounts:
    """Residual and norm fused: s = x + residual, y = layernorm(s), 8 FLOP per element. x, residual, weight and bias are
    read once, y and s are written once. Two separate kernels would also read s once."""
    return _amounts(vector_unit(dtype), 8 * rows * cols, 2 * rows * cols + 2 * cols, 2 * rows * cols, dtype)


def softmax(rows: Count, cols: Count, dtype: DType) -> Amounts:
    """Softmax, y = exp(x - max) / sum(exp(x - max)) per row: subtract, exp, add, divide, 4 FLOP per element. x is read
    once, y is written once."""
    return _amounts(vector_unit(dtype), 4 * rows * cols, rows * cols, rows * cols, dtype)


def swiglu(rows: Count, cols: Count, dtype: DType) -> Amounts:
    """SwiGLU, y = gate / (1 + exp(-gate)) * up: exp, add, divide, multiply, 4 FLOP per element. gate and up are read
    once, y is written once."""
    return _amounts(vector_unit(dtype), 4 * rows * cols, 2 * rows * cols, rows * cols, dtype)


def gelu(rows: Count, cols: Count, dtype: DType) -> Amounts:
    """GELU in GPT-2's form, y = x * (1 + tanh(sqrt(2/pi) * (x + 0.044715*x^3))) / 2: two multiplies for the cube,
    scale, add, scale, tanh, add, multiply, halve, 9 FLOP per element. x is read once, y is written once. Source:
    Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2."""
    return _amounts(vector_unit(dtype), 9 * rows * cols, rows * cols, rows * cols, dtype)


def rope(tokens: Count, heads: Count, head_dim: Count, dtype: DType) -> Amounts:
    """Rotary embedding: each pair (x[i], x[i + head_dim/2]) is rotated by its token's angle. Two multiplies and an add
    make 3 FLOP per element. x is read once, cos and sin (head_dim/2 each) once for all heads, y is written once."""
    size = tokens * heads * head_dim
    return _amounts(vector_unit(dtype), 3 * size, size + tokens * head_dim, size, dtype)


def launch(dtype: DType) -> Amounts:  # noqa: ARG001 - every op takes a dtype
    """An empty kernel: no FLOP, no bytes. Its measured time is the launch floor that the napkin leaves out."""
    return Amounts({}, bytes_read=0, bytes_written=0)


def _amounts(unit: Resource, flop: Number, read: Number, written: Number, dtype: DType) -> Amounts:
    """Amounts with FLOP of one unit. `read` and `written` count elements of `dtype`."""
    return Amounts({unit: flop}, bytes_read=read * dtype.bytes, bytes_written=written * dtype.bytes)


def _grouped(touched: Count, rows: Count, experts: Count, n: Count, k: Count, dtype: DType) -> Amounts:
    """Amounts of a product of `rows` rows in groups, with a weight (n, k) for each of the `touched` groups that have
    rows, of `experts` groups."""
    plain = _amounts(matmul_unit(dtype), 2 * rows * n * k, rows * k + touched * n * k, rows * n, dtype)
    return replace(plain, bytes_read=plain.bytes_read + (experts + 1) * _INT32_BYTES)


def _count_skewed(experts: Count, tokens: Count, active: Count) -> Count:
    """`skewed_experts`, for whole numbers or for arrays that broadcast."""
    return _counted(lambda *sizes: (skewed_experts(*sizes),), experts, tokens, active)[0]


def _served(op: str, slots: Count, requests: Count, long: Count, short: Count) -> tuple[Count, Count]:
    """Steps and positions of `served`."""

    def totals(*sizes: int) -> tuple[int, ...]:
        found = served(op, *sizes)
        return found.steps, found.positions

    steps, positions = _counted(totals, slots, requests, long, short)
    return steps, positions


def _verified(tokens: Count, guesses: Count, accepted: Count) -> tuple[Count, Count]:
    """Steps and positions of `verified`."""

    def totals(*sizes: int) -> tuple[int, ...]:
        found = verified(*sizes)
        return found.steps, found.positions

    steps, positions = _counted(totals, tokens, guesses, accepted)
    return steps, positions


def _counted(count: Callable[..., tuple[int, ...]], *sizes: Count) -> tuple[Count, ...]:
    """What `count` makes of whole numbers, or of each element of arrays that broadcast."""
    if all(isinstance(size, int) for size in sizes):
        return count(*sizes)
    arrays = np.broadcast_arrays(*sizes)
    counts = [count(*map(int, each)) for each in zip(*(array.flat for array in arrays), strict=True)]
    return tuple(np.array(each, dtype=np.float64).reshape(arrays[0].shape) for each in zip(*counts, strict=True))


def stored_bytes(elements: Number, bits: float) -> Number:
    """Bytes of `elements` at `bits` each; exact for whole bytes."""
    return elements * int(bits // 8) if bits % 8 == 0 else elements * bits / 8


def _attention(
    pairs: Count,
    queries: Count,
    keys: Count,
    heads: Count,
    kv_heads: Count,
    head_dim: Count,
    dtype: DType,
    kv_bits: Bits = None,
) -> Amounts:
    """Amounts of attention: 4*head_dim FLOP per query-key pair. `pairs` counts all heads. `queries` and `keys` count
    the tokens of all sequences: Q and O have `heads` vectors per query, K and V have `kv_heads` per key."""
    cache_bytes = stored_bytes(2 * keys * kv_heads * head_dim, kv_bits or dtype.bits)
    return Amounts(
        flop_by_unit={matmul_unit(dtype): 4 * pairs * head_dim},
        bytes_read=queries * heads * head_dim * dtype.bytes + cache_bytes,
        bytes_written=queries * heads * head_dim * dtype.bytes,
    )


OPS: Mapping[str, Callable[..., Amounts]] = MappingProxyType(
    {
        op.__name__: op
        for op in (
            matmul,
            matmul_scaled,
            matmul_w8a16,
            matmul_w4a16,
            linear_backward,
            moe_experts,
            moe_experts_skewed,
            attention_prefill,
            attention_full,
            attention_window,
            attention_packed,
            attention_chunk,
            attention_backward,
            attention_decode,
            attention_decode_fp8,
            attention_paged,
            attention_mla,
            generate_cached,
            generate_uncached,
            block_forward,
            block_decode,
            block_train,
            model_forward,
            model_decode,
            serve_static,
            serve_continuous,
            generate_tokens,
            generate_drafted,
            rmsnorm,
            add_rmsnorm,
            layernorm,
            add_layernorm,
            softmax,
            swiglu,
            gelu,
            rope,
            stream_read,
            stream_write,
            stream_copy,
            stream_triad,
            launch,
        )
    }
)


def find_op(name: str) -> Callable[..., Amounts]:
    """Return the op called `name`; raises BadWorkload with the names that are near."""
    try:
        return OPS[name]
    except KeyError:
        raise BadWorkload(unknown("op", name, OPS, listed_by="python -m predict ops")) from None


@functools.cache
def dim_names(op: str) -> tuple[str, ...]:
    """The dimensions that `op` needs, in order. Raises BadWorkload for an unknown op."""
    return tuple(name for name in _parameters(op) if name not in optional_dims(op))


@functools.cache
def optional_dims(op: str) -> tuple[str, ...]:
    """The dimensions of `op` that may be left out, in order. Raises BadWorkload for an unknown op."""
    return tuple(name for name, each in _parameters(op).items() if each.default is not inspect.Parameter.empty)


@functools.cache
def ordered_dims(op: str, given: frozenset[str]) -> tuple[str, ...]:
    """The dimensions of a workload of `op` for which `given` are given: all that it needs, then those of the optional
    ones that are among them. Raises BadWorkload for an unknown op."""
    return *dim_names(op), *(name for name in optional_dims(op) if name in given)


def complete_dims(op: str, dims: Mapping[str, int]) -> dict[str, int]:
    """`dims` of a workload of `op` with the optional ones that it leaves out."""
    missing = {name: int(_DEFAULTS[name](dims)) for name in optional_dims(op) if name not in dims}
    return {**dims, **missing}


@functools.cache
def _parameters(op: str) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(find_op(op)).parameters
    return {name: each for name, each in parameters.items() if name not in _NO_DIMENSIONS}


def taken_dtype(op: str, preferred: DType) -> DType:
    """`preferred`, or the first format of an op that does not take it."""
    taken = _FORMATS.get(op, (preferred.name,))
    return preferred if preferred.name in taken else find_dtype(taken[0])


def signature(op: str) -> str:
    """The op with its dimensions, in brackets those that may be left out: "matmul(m, n, k)"."""
    return f"{op}({', '.join((*dim_names(op), *(f'[{name}]' for name in optional_dims(op))))})"


def make_workload(op: str, dims: Mapping[str, int], dtype: DType) -> Workload:
    """Check the dimensions and count the amounts. An optional dimension that is given but says what leaving it out does
    is left out, so that one workload has one id. Raises BadWorkload naming the dimension or dtype that is wrong."""
    names = _check_request(op, dims, dtype)
    for name in names:
        size = dims[name]
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BadWorkload(f"{op}: {name} must be a positive whole number, not {size!r}")
    usual = {name for name in optional_dims(op) if name in dims and dims[name] == _DEFAULTS[name](dims)}
    ordered = {name: dims[name] for name in names if name not in usual}
    _check_sizes(op, ordered)
    return Workload(op, ordered, dtype, find_op(op)(**ordered, dtype=dtype))


def sweep_amounts(op: str, dims: Mapping[str, ArrayLike], dtype: DType) -> Amounts:
    """Amounts of a whole sweep. `dims` holds arrays that broadcast. Raises BadWorkload as `make_workload` does."""
    names = _check_request(op, dims, dtype)
    arrays = {name: np.asarray(dims[name], dtype=np.float64) for name in names}
    for name, sizes in arrays.items():
        wrong = (sizes < 1) | (sizes != np.floor(sizes))
        if wrong.any():
            raise BadWorkload(f"{op}: {name} must be positive whole numbers, not {sizes[wrong].flat[0]:g}")
    _check_sizes(op, arrays)
    return find_op(op)(**arrays, dtype=dtype)


def _check_sizes(op: str, dims: Mapping[str, Count]) -> None:
    """Raise BadWorkload naming a dimension that is not the required multiple, or that exceeds its limit."""
    said = {name: f"{name}={size}" if isinstance(size, int) else name for name, size in dims.items()}
    if "kv_heads" in dims and np.any(dims["heads"] % dims["kv_heads"]):
        raise BadWorkload(f"{op}: {said['heads']} is not a multiple of {said['kv_heads']}")
    if op in _DIVISORS:
        name, divisor = _DIVISORS[op]
        if np.any(dims[name] % divisor):
            raise BadWorkload(f"{op}: {said[name]} is not a multiple of {divisor}")
    for name, choices in _CHOICES.items():
        if name in dims and not np.all(np.isin(dims[name], choices)):
            raise BadWorkload(f"{op}: {said[name]} is not {' or '.join(map(str, choices))}")
    for name, most in _MOST.items():
        if name in dims and np.any(np.greater(dims[name], most)):
            raise BadWorkload(f"{op}: {said[name]} is more than {most}")
    if op in _LIMITS:
        name, limit = _LIMITS[op]
        if np.any(np.greater(dims[name], dims[limit])):
            raise BadWorkload(f"{op}: {said[name]} is more than {said[limit]}")


def check_dims(op: str, dims: Iterable[str]) -> None:
    """Raise BadWorkload for an unknown op, and unless `dims` are all dimensions that it needs, and no others."""
    needed, optional, given = dim_names(op), optional_dims(op), tuple(dims)
    takes = f"it takes {', '.join(needed)}" if needed else "it takes no dimension"
    takes += f", and optionally {', '.join(optional)}" if optional else ""
    names = (*needed, *optional)
    if others := [name for name in given if name not in names]:
        raise BadWorkload(f"{op} has no dimension {quoted(others[0])}{did_you_mean(others[0], names)}{takes}")
    if missing := [name for name in needed if name not in given]:
        raise BadWorkload(f"{op} needs {', '.join(f'{name}=...' for name in missing)}; {takes}")


def _check_request(op: str, dims: Mapping[str, object], dtype: DType) -> tuple[str, ...]:
    """Return the dimensions of `op` that `dims` has. Raises BadWorkload if `dims` lacks one or has other names, or `op`
    does not accept `dtype`."""
    check_dims(op, dims)
    if dtype.name not in _FORMATS.get(op, (dtype.name,)):
        raise BadWorkload(f"{op} takes dtype {' or '.join(_FORMATS[op])}, not {dtype.name}")
    return ordered_dims(op, frozenset(dims))
