"""Memory of what attention writes beside its result: scores, masks, a converted cache."""

from kernels.implementation import Intermediate
from predict.peak_memory import score_shape
from predict.workloads import Workload

_FORWARD_COPIES, _BACKWARD_COPIES = 3, 6  # scores, weights, masked or scaled scores; backward also their gradients
_FP32_BYTES = 4


def working_bytes(workload: Workload, writes: tuple[Intermediate, ...]) -> float:
    """Bytes of all intermediates in `writes` (see `Implementation.writes`); 0 for an op that is not attention."""
    shape = score_shape(workload)
    if shape is None:
        return 0.0
    return sum(_bytes_of(each, workload, *shape) for each in writes)


def _bytes_of(intermediate: Intermediate, workload: Workload, heads: int, queries: int, keys: int) -> float:
    dims, element = workload.dims, workload.dtype.bytes
    copies = _BACKWARD_COPIES if workload.op == "attention_backward" else _FORWARD_COPIES
    width = dims["head_dim"] if "head_dim" in dims else dims["latent"] + dims["rope"]
    match intermediate:
        case Intermediate.SCORES | Intermediate.POSSIBLE_SCORES:
            return copies * heads * queries * keys * element
        case Intermediate.WIDE_SCORES:
            return (copies * queries + 2 * width) * heads * keys * max(element, _FP32_BYTES)
        case Intermediate.MASK:
            return queries * keys * (element + 2)
        case Intermediate.TRUTH_VALUES:
            return queries * keys * 3
        case Intermediate.CACHE:
            return 2 * dims["batch"] * dims["kv_heads"] * keys * width * element
