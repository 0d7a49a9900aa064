"""What implementations of attention write to memory beside their result: scores, masks, a cache in another form."""

from collections.abc import Mapping
from dataclasses import dataclass

from predict.workloads import Workload

_SQUARE = ("attention_prefill", "attention_full", "attention_window", "attention_backward")
_DECODE = ("attention_decode", "attention_decode_fp8", "attention_paged")
_SCORES_IN_MEMORY = ("naive", "torch", "torch_compile", "sdpa_math", "sdpa_math_mask", "sdpa_math_each")
_FORWARD_COPIES, _BACKWARD_COPIES = 3, 6  # scores, weights, what masks or scales them; and the gradients of each
_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Scores:
    """One (queries, keys) matrix for each of `heads`, which are those of all sequences that are worked on at once;
    `cached` vectors of `width` numbers make K."""

    heads: int
    queries: int
    keys: int
    cached: int
    width: int


def working_bytes(workload: Workload, name: str) -> float:
    """Bytes that the implementation called `name` works in; 0 where it keeps scores on the chip, and for other ops."""
    scores = _find_scores(workload.op, workload.dims)
    if scores is None:
        return 0.0
    element = workload.dtype.bytes
    pairs = float(scores.queries) * scores.keys
    total = 0.0
    if name in _SCORES_IN_MEMORY:
        copies = _BACKWARD_COPIES if workload.op == "attention_backward" else _FORWARD_COPIES
        # PyTorch's math backend computes 16-bit formats in fp32, and has a copy of K and V for every head.
        widened = max(element, _FP32_BYTES) if name.startswith("sdpa_math") else element
        total += copies * scores.heads * pairs * widened
        if name.startswith("sdpa_math"):
            total += 2.0 * scores.heads * scores.keys * scores.width * widened
    if name.endswith("_mask"):
        total += pairs * (element + 2)  # the mask, and the truth values that it is made of
    if name == "flex":
        total += pairs * 3  # truth values of all pairs, of which FlexAttention makes its blocks
    # What is compiled may write the cache out in 16 bits before it multiplies.
    if name in ("torch_dequantize", "torch_gather") or (name, workload.op) == ("torch_compile", "attention_decode_fp8"):
        total += 2.0 * scores.cached * scores.width * element
    return total


def _find_scores(op: str, dims: Mapping[str, int]) -> _Scores | None:
    """The scores of an op; None for one that has none."""
    if op == "attention_packed":
        longest = -(-dims["tokens"] // dims["sequences"])  # they are worked on one after the other
        return _Scores(dims["heads"], longest, longest, dims["kv_heads"] * longest, dims["head_dim"])
    if op == "attention_mla":
        cached = dims["batch"] * dims["context"]
        return _Scores(dims["batch"] * dims["heads"], 1, dims["context"], cached, dims["latent"] + dims["rope"])
    if op in _SQUARE:
        queries = keys = dims["seq"]
    elif op == "attention_chunk":
        queries, keys = dims["queries"], dims["context"]
    elif op in _DECODE:
        queries, keys = 1, dims["context"]
    else:
        return None
    cached = dims["batch"] * dims["kv_heads"] * keys
    return _Scores(dims["batch"] * dims["heads"], queries, keys, cached, dims["head_dim"])
