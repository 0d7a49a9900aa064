"""What implementations of attention write to memory beside their result: scores, masks, a cache in another form."""

from predict.peak_memory import STORES_SCORES, WIDE_SCORES, score_shape
from predict.workloads import Workload

_FORWARD_COPIES, _BACKWARD_COPIES = 3, 6  # scores, weights, what masks or scales them; and the gradients of each
_FP32_BYTES = 4


def working_bytes(workload: Workload, name: str) -> float:
    """Bytes that the implementation called `name` works in; 0 where it keeps scores on the chip, and for other ops."""
    shape = score_shape(workload)
    if shape is None:
        return 0.0
    heads, queries, keys = (float(size) for size in shape)
    dims, element = workload.dims, workload.dtype.bytes
    width = dims["head_dim"] if "head_dim" in dims else dims["latent"] + dims["rope"]
    total = 0.0
    if name in STORES_SCORES or name == "torch_compile":
        copies = _BACKWARD_COPIES if workload.op == "attention_backward" else _FORWARD_COPIES
        held = max(element, _FP32_BYTES) if name in WIDE_SCORES else element
        total += copies * heads * queries * keys * held
        if name in WIDE_SCORES:
            total += 2 * heads * keys * width * held  # a copy of K and V for every head
    if name.endswith("_mask"):
        total += queries * keys * (element + 2)  # the mask, and the truth values that it is made of
    if name == "flex":
        total += queries * keys * 3  # truth values of all pairs, of which FlexAttention makes its blocks
    # What is compiled may write the cache out in 16 bits before it multiplies.
    if name in ("torch_dequantize", "torch_gather") or (name, workload.op) == ("torch_compile", "attention_decode_fp8"):
        total += 2 * dims["batch"] * dims["kv_heads"] * keys * width * element
    return total
