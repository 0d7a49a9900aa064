"""Peak device memory of one call, computed: the most bytes that must be alive at the same time.

Convention: inputs, outputs and intermediates between kernels count. Fragmentation and a library's own buffers do not.
Only fused kernels recompute on chip: scores, and the gate of SwiGLU. Attention keeps its scores on chip unless `Scores`
says otherwise. Memory grows linearly with the tokens if scores stay on chip, quadratically if they are stored.
"""

import math
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import numpy as np

from predict.expert_rows import RULES, expert_rows
from predict.guess_rule import GENERATIONS
from predict.serving_loop import RULES as SERVING
from predict.workloads import Workload, block_matrices, complete_dims

LOOPS = (*SERVING, *GENERATIONS)  # ops of many steps over the same weights
_FP32_BYTES = 4


class Scores(Enum):
    """Where an implementation of attention keeps its scores."""

    ON_CHIP = "on chip"
    STORED = "in memory, in the op's format"
    WIDE = "in memory, in fp32 or wider"  # PyTorch's math backend (ATen/native/transformers/attention.cpp)


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
    """Inputs and outputs of a call, plus the most that lies between its kernels: nothing for a single kernel, the
    scores for attention that stores them. See `generate_peak_bytes`, `block_forward_peak_bytes` (also for block_decode,
    whose inputs include the cache), `block_train_peak_bytes` and `model_peak_bytes` for ops of several kernels."""
    match workload.op:
        case "generate_cached" | "generate_uncached":
            return generate_peak_bytes(workload)
        case "block_forward" | "block_decode":
            return block_forward_peak_bytes(workload)
        case "block_train":
            return block_train_peak_bytes(workload)
        case "model_forward" | "model_decode":
            return model_peak_bytes(workload)
    if workload.op in LOOPS:
        return loop_peak_bytes(workload)
    return operand_bytes(workload) + stored_bytes(workload, scores)


def operand_bytes(workload: Workload) -> float:
    """Bytes of inputs and outputs. A loop reads the same inputs step after step, so its amounts count them often."""
    if workload.op in SERVING:
        return _serving_bytes(workload)
    if workload.op in GENERATIONS:
        return _generation_bytes(workload)
    return float(workload.amounts.bytes) + idle_bytes(workload)


def idle_bytes(workload: Workload) -> float:
    """Bytes of inputs that a call does not read: the weights of experts without a row. Of other ops none."""
    if workload.op not in RULES:
        return 0.0
    dims = workload.dims
    idle = np.count_nonzero(expert_rows(workload.op, dims) == 0)
    return float(idle * dims["n"] * dims["k"] * workload.dtype.bytes)


def stored_bytes(workload: Workload, scores: Scores) -> float:
    """Bytes held besides inputs and outputs: scores and their softmax take `score_bytes` each, for WIDE in the wider
    format. The backward pass holds softmax and gradient, and their product too as long as no output exists."""
    if scores is Scores.ON_CHIP:
        return 0.0
    element = workload.dtype.bytes
    wider = max(element, _FP32_BYTES) / element if scores is Scores.WIDE else 1
    each = wider * score_bytes(workload)
    if workload.op != "attention_backward":
        return 2 * each
    return max(2 * each, 3 * each - float(workload.amounts.bytes_written))


def score_shape(workload: Workload) -> tuple[int, int, int] | None:
    """(heads, queries, keys) of the scores that exist at the same time, or None for an op that is not attention. The
    heads of all sequences count together. Varlen attention runs one sequence after the other, so only the longest one
    counts."""
    dims = workload.dims
    if workload.op == "attention_packed":
        longest = -(-dims["tokens"] // dims["sequences"])
        return dims["heads"], longest, longest
    if workload.op not in _SCORES:
        return None
    queries, keys = _SCORES[workload.op]
    return dims["batch"] * dims["heads"], 1 if queries is None else dims[queries], dims[keys]


def score_bytes(workload: Workload) -> float:
    """Bytes of the scores of `score_shape`; 0 without scores. The softmax is not included and takes as much again."""
    shape = score_shape(workload)
    return 0 if shape is None else math.prod(shape) * workload.dtype.bytes


def generate_peak_bytes(workload: Workload) -> float:
    """Inputs, outputs, and Q, K and V of every projected token."""
    dims = workload.dims
    width = (dims["heads"] + 2 * dims["kv_heads"]) * dims["head_dim"]
    tokens = dims["batch"] * (dims["context"] if workload.op == "generate_uncached" else 1)
    return float(workload.amounts.bytes + tokens * width * workload.dtype.bytes)


def block_forward_peak_bytes(workload: Workload) -> float:
    """Inputs, plus the most that one kernel needs between kernels (`_between_elements`)."""
    dims = complete_dims(workload.op, workload.dims)
    tokens = dims["batch"] * dims.get("seq", 1)
    inputs = workload.amounts.bytes - tokens * dims["hidden"] * workload.dtype.bytes  # the cache holds K and V
    return float(inputs + tokens * _between_elements(dims) * workload.dtype.bytes)


def model_peak_bytes(workload: Workload) -> float:
    """Inputs and outputs, plus the most that a layer needs: its input, which is not the model's, and what lies between
    its kernels. Only one layer's is alive."""
    dims = complete_dims(workload.op, workload.dims)
    tokens = dims["batch"] * dims.get("seq", 1)
    between = tokens * (dims["hidden"] + _between_elements(dims))
    return float(workload.amounts.bytes + between * workload.dtype.bytes)


def loop_peak_bytes(workload: Workload) -> float:
    """Inputs and outputs, the cache that the loop fills, and the most that a kernel needs between kernels."""
    dims, size = complete_dims("block_forward", workload.dims), workload.dtype.bytes
    if workload.op in SERVING:
        rows, sequences, new = dims["slots"], dims["slots"], max(dims["long"], dims["short"])
    else:
        rows, sequences, new = dims.get("guesses", 0) + 1, dims["layers"], dims["tokens"] + dims.get("guesses", 0)
    cache = 2 * sequences * dims["kv_heads"] * (dims["context"] + new) * dims["head_dim"]
    between = rows * (dims["hidden"] + _between_elements(dims))
    return operand_bytes(workload) + (cache + between) * size


def _serving_bytes(workload: Workload) -> float:
    """Tokens, angles, weights, prompts, and a result for each request."""
    dims = workload.dims
    hidden, longest = dims["heads"] * dims["head_dim"], max(dims["long"], dims["short"])
    elements = dims["requests"] * (longest + 1) * hidden + longest * dims["head_dim"] + _block_elements(dims)
    prompts = 2 * dims["requests"] * dims["kv_heads"] * dims["context"] * dims["head_dim"]
    return float((elements + prompts) * workload.dtype.bytes)


def _generation_bytes(workload: Workload) -> float:
    """Tokens, angles, weights of all layers, the prompt in every layer, and a result for each token."""
    dims = workload.dims
    count, hidden = dims["tokens"] + dims.get("guesses", 0), dims["heads"] * dims["head_dim"]
    prompt = 2 * dims["kv_heads"] * dims["context"] * dims["head_dim"]
    elements = count * (hidden + dims["head_dim"]) + dims["layers"] * (_block_elements(dims) + prompt)
    return float((elements + dims["tokens"] * hidden) * workload.dtype.bytes)


def _block_elements(dims: Mapping[str, int]) -> int:
    """Elements of the matrices and norms of one of Llama's blocks."""
    matrices = int(block_matrices(dims["heads"], dims["kv_heads"], dims["head_dim"], dims["inner"]))
    return matrices + 2 * dims["heads"] * dims["head_dim"]


def _between_elements(dims: Mapping[str, int]) -> int:
    """The most elements per token that one kernel of a block needs between kernels, beside the block's input. h is
    hidden, w the width of Q, k that of K, I inner.

    Attention has Q, K and V (w + 2k) and its output (w). The product before SwiGLU has the residual (h), its input (h),
    gate and up (2I). SwiGLU has the residual (h), gate and up (2I) and its output (I), which is the most if I is larger
    than h and k. Without a gate, up alone (I) takes the place of both."""
    hidden, inner, made = dims["hidden"], dims["inner"], (dims["matrices"] - 1) * dims["inner"]
    width, kv_dim = dims["heads"] * dims["head_dim"], dims["kv_heads"] * dims["head_dim"]
    return max(2 * width + 2 * kv_dim, 2 * hidden + made, hidden + made + inner)


def block_train_peak_bytes(workload: Workload) -> float:
    """Inputs, plus the largest of three sums: output and saved activations (when the backward pass begins); output,
    what one layer keeps, the gradient that reaches it and those of the weights behind it (when it reaches the first
    layer); and output, gradient of x and gradients of all weights (when it ends). The optimizer updates its state in
    place.

    A parameter takes 16 bytes: 2 for the weight and 2 for the gradient in 16 bits, 4 each for fp32 master, m and v.
    """
    dims, size = complete_dims(workload.op, workload.dims), workload.dtype.bytes
    hidden, layers = dims["heads"] * dims["head_dim"], dims["layers"]
    matrices = int(block_matrices(dims["heads"], dims["kv_heads"], dims["head_dim"], dims["inner"]))
    hidden_bytes, gradient_bytes = dims["batch"] * dims["seq"] * hidden * size, (matrices + 2 * hidden) * size
    begun = hidden_bytes + saved_activation_bytes(workload)
    first = min(layers, 2) * hidden_bytes + _layer_activation_bytes(workload) + (layers - 1) * gradient_bytes
    over = 2 * hidden_bytes + layers * gradient_bytes
    return float(workload.amounts.bytes_read) + max(begun, first, over)


def saved_activation_bytes(workload: Workload) -> float:
    """Bytes that block_train keeps of its forward pass, without its input: what each layer keeps, and the inputs of all
    layers but the first. With two forward passes only those inputs are kept until a layer runs again: what one layer
    keeps counts once."""
    dims = complete_dims(workload.op, workload.dims)
    hidden_bytes = dims["batch"] * dims["seq"] * dims["heads"] * dims["head_dim"] * workload.dtype.bytes
    alive = dims["layers"] if dims["forwards"] == 1 else 1
    return alive * _layer_activation_bytes(workload) + (dims["layers"] - 1) * float(hidden_bytes)


def _layer_activation_bytes(workload: Workload) -> float:
    """Bytes that a layer of block_train keeps, without its input. Per token in `dtype`: both norms' outputs, the output
    of attention and the sum with the residual (4h); Q, K and V (h + 2k); gate, up and their product (3*inner). Per
    token in fp32: the log-sum-exp of each head and the scale of each norm. Llama-3-8B keeps 128 KiB and 136 bytes per
    token.

    Unfused kernels keep more: silu(gate) (inner), which is recomputed here, and Q and K before rotation (h + k)."""
    dims = workload.dims
    hidden, kv_dim = dims["heads"] * dims["head_dim"], dims["kv_heads"] * dims["head_dim"]
    each = (5 * hidden + 2 * kv_dim + 3 * dims["inner"]) * workload.dtype.bytes + (dims["heads"] + 2) * _FP32_BYTES
    return float(dims["batch"] * dims["seq"] * each)
