"""How many rows each expert of a mixture gets: evenly, or by a power law. Both are rules, not samples, so that every
run measures the same."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def even_rows(experts: int, tokens: int, active: int) -> IntArray:
    """Rows of each expert, as equal as whole numbers allow: tokens*active in all, the longer groups first. A router
    that is trained to balance its experts comes near this over many tokens."""
    rows = tokens * active
    return rows // experts + (np.arange(experts) < rows % experts)


def skewed_rows(experts: int, tokens: int, active: int) -> IntArray:
    """Rows of each expert by Zipf's law with exponent 1: expert i gets a share in proportion to 1/(i+1), and none more
    than `tokens`, because a token goes to an expert at most once; what is over goes to the next experts by the same
    law. Shares become whole numbers by largest remainder, tokens*active in all.

    One hot expert and a long tail is what serving sees for lack of balance. NVIDIA's aiconfigurator spreads tokens by
    power laws with exponents 1.01 and 1.2 (collector/helper.py, power_law_logits_v3), which it samples."""
    law = 1 / np.arange(1, experts + 1)
    tails = np.cumsum(law[::-1])[::-1]  # the law from each expert on
    shares, left = np.empty(experts), float(tokens * active)
    for expert in range(experts):
        shares[expert] = min(tokens, left * law[expert] / tails[expert])
        left -= shares[expert]
    rows = np.floor(shares).astype(np.int64)
    missing = tokens * active - int(rows.sum())
    rows[np.argsort(rows - shares, kind="stable")[:missing]] += 1
    return rows


@functools.lru_cache(maxsize=4096)
def skewed_experts(experts: int, tokens: int, active: int) -> int:
    """How many experts have a row under `skewed_rows`."""
    return int(np.count_nonzero(skewed_rows(experts, tokens, active)))


# The rule of each op that multiplies rows by the weights of experts.
RULES: Mapping[str, Callable[[int, int, int], IntArray]] = MappingProxyType(
    {"moe_experts": even_rows, "moe_experts_skewed": skewed_rows}
)


def expert_rows(op: str, dims: Mapping[str, int]) -> IntArray:
    """Rows of each expert in a workload of `op`, one of RULES."""
    return RULES[op](dims["experts"], dims["tokens"], dims["active"])
