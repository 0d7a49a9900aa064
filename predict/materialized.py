"""Attention that stores its scores, as a framework without a fused kernel computes it: work and traffic.

A kernel for each step, and each step goes over the scores in memory: the first product writes them, scaling, mask and
softmax read and write them, the second product reads them (Dao et al. 2022, section 2.2, has the same without the
scaling, which is folded into a product there). Both products are over all pairs, those too that the mask hides.
"""

from collections.abc import Mapping
from types import MappingProxyType

from predict.errors import BadWorkload
from predict.peak_memory import score_bytes
from predict.resources import matmul_unit
from predict.workloads import Amounts, Workload

# How often the steps before, between and after the products go over the scores: written, and read.
_WRITES: Mapping[str, int] = MappingProxyType({"attention_prefill": 4, "attention_full": 3})
MATERIALIZED_OPS = tuple(_WRITES)


def materialized_amounts(workload: Workload) -> Amounts:
    """The amounts of a prompt's attention with its scores in memory: 4*head_dim FLOP for each of seq^2 pairs and head;
    beside Q, K, V and O, each score written and read four times, three times where there is no mask. Raises BadWorkload
    for another op."""
    if workload.op not in _WRITES:
        known = ", ".join(MATERIALIZED_OPS)
        raise BadWorkload(f"{workload.op} has no materialized form here; those that have: {known}")
    dims, amounts = workload.dims, workload.amounts
    pairs = dims["batch"] * dims["heads"] * dims["seq"] ** 2
    passed = _WRITES[workload.op] * score_bytes(workload)
    return Amounts(
        flop_by_unit={matmul_unit(workload.dtype): 4 * pairs * dims["head_dim"]},
        bytes_read=amounts.bytes_read + passed,
        bytes_written=amounts.bytes_written + passed,
    )
