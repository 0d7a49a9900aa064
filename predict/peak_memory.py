"""The most device memory that one call needs at a time, as arithmetic: what must be alive at once, and nothing else.

Convention: bytes of inputs, outputs and of what a kernel leaves for another one; no fragmentation, no library's own
buffers, nothing computed again. Attention keeps its scores on chip but for implementations that say otherwise: the
memory of a fused one grows with the tokens, that of one that stores its scores with their square.
"""

from collections.abc import Mapping
from types import MappingProxyType

from predict.workloads import Workload, block_matrices

_FP32_BYTES = 4

# Implementations of attention that write their scores to memory, and the dimensions of a score matrix, by op.
STORES_SCORES = frozenset({"naive", "sdpa_math", "sdpa_math_mask"})
_SCORES: Mapping[str, tuple[str | None, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("attention_prefill", "attention_full", "attention_window", "attention_backward"), ("seq", "seq")
        ),
        "attention_chunk": ("queries", "context"),
        "attention_decode": (None, "context"),
    }
)


def peak_bytes(workload: Workload, implementation: str | None = None) -> float:
    """Inputs and outputs of a call, and what is between its kernels: nothing where one kernel does it all; twice
    `score_bytes` where `implementation` stores scores; for a block, see `block_forward_peak_bytes` (and decode, whose
    operands hold the cache) and `block_train_peak_bytes`."""
    match workload.op:
        case "block_forward" | "block_decode":
            return block_forward_peak_bytes(workload)
        case "block_train":
            return block_train_peak_bytes(workload)
    stored = 2 * score_bytes(workload) if implementation in STORES_SCORES else 0
    return float(workload.amounts.bytes + stored)


def score_bytes(workload: Workload) -> float:
    """The scores of all heads: batch * heads * queries * keys elements, seq^2 of them for each head of a prompt. Their
    softmax is as large again. 0 for what is no attention."""
    if workload.op not in _SCORES:
        return 0
    dims = workload.dims
    queries, keys = _SCORES[workload.op]
    rows = 1 if queries is None else dims[queries]
    return dims["batch"] * dims["heads"] * rows * dims[keys] * workload.dtype.bytes


def block_forward_peak_bytes(workload: Workload) -> float:
    """Inputs, and for each token the most that lies between two kernels. h is hidden, k the width of K, I inner:
    attention has Q, K and V (h + 2k) and its output (h); SwiGLU the residual (h), gate and up (2I) and their product
    (I), which is the most where I >= h; the last product the residual (h), its operand (I) and the output (h)."""
    dims = workload.dims
    hidden, kv_dim, inner = dims["heads"] * dims["head_dim"], dims["kv_heads"] * dims["head_dim"], dims["inner"]
    tokens = dims["batch"] * dims.get("seq", 1)
    between = tokens * max(2 * hidden + 2 * kv_dim, hidden + 3 * inner, 2 * hidden + inner)
    inputs = workload.amounts.bytes - tokens * hidden * workload.dtype.bytes  # appended K and V lie in the cache
    return float(inputs + between * workload.dtype.bytes)


def block_train_peak_bytes(workload: Workload) -> float:
    """Inputs and output, and the larger of what is held when the backward pass begins (saved activations) and when it
    is over (gradients, the new state and the gradient of x).

    Training holds 16 bytes a parameter: 2 of weights and 2 of gradients in 16 bits, 4 each of fp32 master, m and v.
    Here 14 more, the new state, since a call leaves the state that it is given alone.
    """
    dims, size = workload.dims, workload.dtype.bytes
    hidden = dims["heads"] * dims["head_dim"]
    matrices = int(block_matrices(dims["heads"], dims["kv_heads"], dims["head_dim"], dims["inner"]))
    hidden_bytes = dims["batch"] * dims["seq"] * hidden * size
    written = float(workload.amounts.bytes_written)  # the new state, the output and the gradient of x
    inputs = float(workload.amounts.bytes_read)
    begun = hidden_bytes + saved_activation_bytes(workload)
    over = written + (matrices + 2 * hidden) * size
    return inputs + max(begun, over)


def saved_activation_bytes(workload: Workload) -> float:
    """What block_train keeps of its forward pass for each token, its input apart: both norms' results, the output of
    attention and the sum with the residual (4h), Q, K and V (h + 2k), gate, up and their product (3*inner) in `dtype`;
    in fp32 the log-sum-exp of each head and the scale of each norm. For Llama-3-8B 128 KiB and 136 bytes."""
    dims = workload.dims
    hidden, kv_dim = dims["heads"] * dims["head_dim"], dims["kv_heads"] * dims["head_dim"]
    each = (5 * hidden + 2 * kv_dim + 3 * dims["inner"]) * workload.dtype.bytes + (dims["heads"] + 2) * _FP32_BYTES
    return float(dims["batch"] * dims["seq"] * each)
