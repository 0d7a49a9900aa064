"""The most device memory that one call needs at a time, as arithmetic: what must be alive at once, and nothing else.

Convention: bytes of inputs, outputs and of what a kernel leaves for another one; no fragmentation, no library's own
buffers, nothing computed again but what a fused kernel makes anew on chip: scores, and the gate of SwiGLU. Attention
keeps its scores on chip unless `Scores` says otherwise: the memory of a fused kernel grows with the tokens, that of one
that stores its scores with their square.
"""

import math
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from predict.workloads import Workload, block_matrices

_FP32_BYTES = 4


class Scores(Enum):
    """Where an implementation of attention keeps its scores."""

    ON_CHIP = "on chip"
    STORED = "in memory, in the op's format"
    WIDE = "in memory, in fp32 at least"  # PyTorch's math back end (ATen/native/transformers/attention.cpp)


# The dimensions of a score matrix, by op.
_SCORES: Mapping[str, tuple[str | None, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("attention_prefill", "attention_full", "attention_window", "attention_backward"), ("seq", "seq")
        ),
        "attention_chunk": ("queries", "context"),
        **dict.fromkeys(
            ("attention_decode", "attention_decode_fp8", "attention_paged", "attention_mla"), (None, "context")
        ),
    }
)


def peak_bytes(workload: Workload, scores: Scores = Scores.ON_CHIP) -> float:
    """Inputs and outputs of a call, and what is between its kernels: nothing where one kernel does it all, the scores
    of attention where they are stored; for the rest, see `generate_peak_bytes`, `block_forward_peak_bytes` (and decode,
    whose operands hold the cache) and `block_train_peak_bytes`."""
    match workload.op:
        case "generate_cached" | "generate_uncached":
            return generate_peak_bytes(workload)
        case "block_forward" | "block_decode":
            return block_forward_peak_bytes(workload)
        case "block_train":
            return block_train_peak_bytes(workload)
    return float(workload.amounts.bytes + stored_bytes(workload, scores))


def stored_bytes(workload: Workload, scores: Scores) -> float:
    """What is held beside inputs and outputs: scores and their softmax, both `score_bytes`, twice that where they are
    wider. Backward these are weights and their gradients; before there are outputs, also the product of both."""
    if scores is Scores.ON_CHIP:
        return 0.0
    element = workload.dtype.bytes
    wider = max(element, _FP32_BYTES) / element if scores is Scores.WIDE else 1
    each = wider * score_bytes(workload)
    if workload.op != "attention_backward":
        return 2 * each
    return max(2 * each, 3 * each - float(workload.amounts.bytes_written))


def score_shape(workload: Workload) -> tuple[int, int, int] | None:
    """(heads, queries, keys) of the scores that exist at once: seq^2 of them for each head of a prompt, the heads of
    all sequences together; of the longest sequence alone where prompts are packed, which go one after the other. None
    for what is no attention."""
    dims = workload.dims
    if workload.op == "attention_packed":
        longest = -(-dims["tokens"] // dims["sequences"])
        return dims["heads"], longest, longest
    if workload.op not in _SCORES:
        return None
    queries, keys = _SCORES[workload.op]
    return dims["batch"] * dims["heads"], 1 if queries is None else dims[queries], dims[keys]


def score_bytes(workload: Workload) -> float:
    """The scores of `score_shape`, 0 where there are none. Their softmax is as large again."""
    shape = score_shape(workload)
    return 0 if shape is None else math.prod(shape) * workload.dtype.bytes


def generate_peak_bytes(workload: Workload) -> float:
    """Inputs and outputs, and Q, K and V of every token that is projected, which lie between two kernels."""
    dims = workload.dims
    width = (dims["heads"] + 2 * dims["kv_heads"]) * dims["head_dim"]
    tokens = dims["batch"] * (dims["context"] if workload.op == "generate_uncached" else 1)
    return float(workload.amounts.bytes + tokens * width * workload.dtype.bytes)


def block_forward_peak_bytes(workload: Workload) -> float:
    """Inputs, and for each token the most that lies between two kernels. h is hidden, k the width of K, I inner:
    attention has Q, K and V (h + 2k) and its output (h); the product before SwiGLU the residual (h), its operand (h),
    gate and up (2I); SwiGLU the residual (h), gate and up (2I) and their product (I), which is the most where I is
    larger than h and k."""
    dims = workload.dims
    hidden, kv_dim, inner = dims["heads"] * dims["head_dim"], dims["kv_heads"] * dims["head_dim"], dims["inner"]
    tokens = dims["batch"] * dims.get("seq", 1)
    between = tokens * max(2 * hidden + 2 * kv_dim, 2 * hidden + 2 * inner, hidden + 3 * inner)
    inputs = workload.amounts.bytes - tokens * hidden * workload.dtype.bytes  # appended K and V lie in the cache
    return float(inputs + between * workload.dtype.bytes)


def block_train_peak_bytes(workload: Workload) -> float:
    """Inputs, of which the state is updated in place, and the larger of what is held when the backward pass begins (the
    output and saved activations) and when it is over (the output, the gradient of x and those of all weights).

    That is 16 bytes a parameter: 2 of weights and 2 of gradients in 16 bits, 4 each of fp32 master, m and v.
    """
    dims, size = workload.dims, workload.dtype.bytes
    hidden = dims["heads"] * dims["head_dim"]
    matrices = int(block_matrices(dims["heads"], dims["kv_heads"], dims["head_dim"], dims["inner"]))
    hidden_bytes = dims["batch"] * dims["seq"] * hidden * size
    begun = hidden_bytes + saved_activation_bytes(workload)
    over = 2 * hidden_bytes + (matrices + 2 * hidden) * size
    return float(workload.amounts.bytes_read) + max(begun, over)


def saved_activation_bytes(workload: Workload) -> float:
    """What block_train keeps of its forward pass for each token, its input apart: both norms' results, the output of
    attention and the sum with the residual (4h), Q, K and V (h + 2k), gate, up and their product (3*inner) in `dtype`;
    in fp32 the log-sum-exp of each head and the scale of each norm. For Llama-3-8B 128 KiB and 136 bytes.

    Kernels that are not fused keep more: silu(gate), which is made again here (inner), and Q and K as they were before
    they were turned (h + k)."""
    dims = workload.dims
    hidden, kv_dim = dims["heads"] * dims["head_dim"], dims["kv_heads"] * dims["head_dim"]
    each = (5 * hidden + 2 * kv_dim + 3 * dims["inner"]) * workload.dtype.bytes + (dims["heads"] + 2) * _FP32_BYTES
    return float(dims["batch"] * dims["seq"] * each)
