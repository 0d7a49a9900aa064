"""Speculative decoding: tokens per target step, and when drafting pays.

A draft model proposes k tokens. The target model checks all of them in one step, keeps the prefix that it agrees with
and adds one token of its own. `alpha` is the chance that one guess is accepted, independent of the others. `c` is the
time of a draft step over the time of a target step. Source: Leviathan et al. 2023, "Fast Inference from Transformers
via Speculative Decoding"; for trees Cai et al. 2024, "Medusa".
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from predict import checks
from predict.errors import BadQuantity
from predict.workloads import Number

_BISECTIONS = 60  # makes the interval smaller than the spacing of float64 at 1
_ROUNDING = 1e-9  # tolerated rounding error of a sum


def expected_tokens(alpha: Number, k: Number) -> Number:
    """Tokens per target step: 1 + alpha + ... + alpha^k = (1 - alpha^(k+1)) / (1 - alpha); k+1 at alpha = 1.
    Source: Leviathan et al. 2023, equation 1."""
    checks.probability(alpha=alpha)
    checks.whole(k=k)
    miss = np.subtract(1, alpha)
    with np.errstate(divide="ignore"):  # at alpha = 0 the logarithm is -inf, which correctly gives powers of 0
        rejected = -np.expm1((k + 1) * np.log(alpha))  # 1 - alpha^(k+1) would lose its digits near alpha = 1
    tokens: Number = np.where(miss > 0, rejected / np.where(miss > 0, miss, 1), k + 1)[()]
    return tokens


def speedup(alpha: Number, k: Number, c: Number) -> Number:
    """Speed-up over plain decoding if checking k+1 tokens takes as long as making one: expected_tokens / (k*c + 1).
    Some k gives more than 1 only if alpha > c. Source: Leviathan et al. 2023, theorem 3.8."""
    checks.not_negative(c=c)
    return expected_tokens(alpha, k) / (k * c + 1)


def flop_factor(alpha: Number, k: Number, c_flop: Number) -> Number:
    """FLOP per token over the FLOP of plain decoding: (k*c_flop + k + 1) / expected_tokens. `c_flop` is the FLOP of a
    draft token over the FLOP of a target token. Source: Leviathan et al. 2023, theorem 3.11."""
    checks.not_negative(c_flop=c_flop)
    return (k * c_flop + k + 1) / expected_tokens(alpha, k)


def best_k(alpha: float, c: float, limit: int = 64) -> int:
    """The k from 1 to `limit` with the highest speed-up (the smallest on a tie), or 0 if no speed-up exceeds 1. Scalars
    only. Some k pays if and only if alpha > c: then k = 1 gives (1 + alpha)/(1 + c) > 1; otherwise expected_tokens <=
    1 + k*alpha <= 1 + k*c. Source: Leviathan et al. 2023, corollary 3.9."""
    checks.probability(alpha=alpha)
    checks.not_negative(c=c)
    checks.whole(limit=limit)
    if alpha <= c:
        return 0
    return int(np.argmax(speedup(alpha, np.arange(1.0, limit + 1), c))) + 1


def batch_speedup(alpha: Number, k: Number, target_s: Number, draft_s: Number, verify_s: Number) -> Number:
    """Speed-up of a batch from its step times: expected_tokens * target / (k*draft + verify). A step of `target_s` or
    `draft_s` makes one token per request; a step of `verify_s` checks k+1 tokens per request. Checking slows down once
    batch*(k+1) reaches the ridge point, and the speed-up falls. Source: Leviathan et al. 2023, theorem 3.8, without its
    assumption that checking costs no more than one step."""
    checks.positive(target_s=target_s, verify_s=verify_s)
    checks.not_negative(draft_s=draft_s)
    return expected_tokens(alpha, k) * target_s / (k * draft_s + verify_s)


def implied_acceptance(measured_speedup: float, k: int, c: float) -> float:
    """The alpha at which `speedup(alpha, k, c)` equals the measured speed-up, by bisection. Scalars only. Raises
    BadQuantity if no alpha gives that speed-up, since a step yields 1 to k+1 tokens."""
    checks.positive(measured_speedup=measured_speedup)
    checks.whole(k=k)
    checks.not_negative(c=c)
    tokens = measured_speedup * (k * c + 1)
    if not 1 - _ROUNDING <= tokens <= (k + 1) * (1 + _ROUNDING):
        raise BadQuantity(f"measured_speedup means {tokens:g} tokens per step, but k = {k:g} yields 1 to {k + 1:g}")
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if expected_tokens(middle, k) < tokens:
            low = middle
        else:
            high = middle
    return high


def tree_expected_tokens(acceptance: Sequence[Sequence[float]], tree: Iterable[Sequence[int]]) -> float:
    """Tokens per target step with a tree of guesses: 1 + the sum, over all nodes, of the product of `acceptance` along
    the path from the root.

    `acceptance[depth][rank]` is the chance that guess `rank` of head `depth` is right if the guesses above it are.
    A node is written as its path of ranks from the root: (0, 2) is the second head's third guess below the first head's
    first guess. Raises BadQuantity for a node without an acceptance or without its parent, for a repeated node, and for
    a head whose chances add up to more than 1. Source: Cai et al. 2024, section on tree construction.
    """
    for chances in acceptance:
        checks.probability(acceptance=chances)
        if math.fsum(chances) > 1 + _ROUNDING:
            raise BadQuantity(f"acceptance of one head adds up to {math.fsum(chances):g}, which is more than 1")
    nodes = [tuple(path) for path in tree]
    known = {(), *nodes}
    if len(known) != len(nodes) + 1:
        raise BadQuantity("tree lists a node twice or lists the root (the empty path); list each other node once")
    for path in nodes:
        if path[:-1] not in known:
            raise BadQuantity(f"tree lists {path} but not its parent {path[:-1]}")
        if len(path) > len(acceptance) or not 0 <= path[-1] < len(acceptance[len(path) - 1]):
            raise BadQuantity(f"tree lists {path}, but acceptance has no entry for it")
    return 1 + math.fsum(math.prod(acceptance[depth][rank] for depth, rank in enumerate(path)) for path in nodes)


def medusa_speedup(tokens_per_step: Number, relative_step_latency: Number) -> Number:
    """Speed-up of decoding with extra heads: tokens per step (the acceleration rate) over the step's relative latency
    (the overhead). The relative latency is the step's time over that of a plain step. Source: Cai et al. 2024."""
    checks.positive(tokens_per_step=tokens_per_step, relative_step_latency=relative_step_latency)
    return tokens_per_step / relative_step_latency
