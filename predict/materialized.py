"""FLOP and bytes of attention that stores its scores, as a framework without a fused kernel computes it.

Each step is a kernel that reads or writes the scores in memory: the first product writes them, scaling, mask and
softmax each read and write them, the second product reads them. Both products include masked pairs. Source: Dao et al.
2022, section 2.2, which folds the scaling into a product.
"""

from collections.abc import Mapping
from types import MappingProxyType

from predict.errors import BadWorkload
from predict.peak_memory import score_bytes
from predict.resources import matmul_unit
from predict.workloads import Amounts, Workload

# Number of times that the steps write every score; they read it as often.
_WRITES: Mapping[str, int] = MappingProxyType({"attention_prefill": 4, "attention_full": 3})
MATERIALIZED_OPS = tuple(_WRITES)


def materialized_amounts(workload: Workload) -> Amounts:
    """Amounts of attention over a prompt with its scores in memory: 4*head_dim FLOP for each of the seq^2 pairs per
    head. Besides Q, K, V and O, every score is written and read four times (three times without a mask). Raises
    BadWorkload for another op."""
    if workload.op not in _WRITES:
        known = ", ".join(MATERIALIZED_OPS)
        raise BadWorkload(f"{workload.op} has no materialized form here; ops with one: {known}")
    dims, amounts = workload.dims, workload.amounts
    pairs = dims["batch"] * dims["heads"] * dims["seq"] ** 2
    passed = _WRITES[workload.op] * score_bytes(workload)
    return Amounts(
        flop_by_unit={matmul_unit(workload.dtype): 4 * pairs * dims["head_dim"]},
        bytes_read=amounts.bytes_read + passed,
        bytes_written=amounts.bytes_written + passed,
    )
