"""What public measurements of whole models say about claims: judged points of one GPU."""

from collections.abc import Callable, Sequence

import numpy as np

from predict.units import percent, times
from reports.accuracy.endtoend import Judged
from reports.accuracy.endtoend_kinds import KINDS
from reports.scorecard.verdict import Evidence

CACHED_TOKENS = "kv_tokens"  # the kind of point that says how much fits
FEWEST = 3  # measurements that judge a claim


def of_points(judged: Sequence[Judged]) -> dict[int, Evidence | str]:
    """The evidence of the claims about whole models (19), about prices (18) and about what fits (10), by the claim's
    number."""
    return {
        10: _fitting(judged),
        18: _evidence(judged, lambda each: KINDS[each.point.kind].is_rate, "throughputs"),
        19: _evidence(judged, lambda each: not KINDS[each.point.kind].is_rate, "times"),
    }


def _fitting(judged: Sequence[Judged]) -> Evidence | str:
    """Claim 10: tokens of cache that an engine says it has room for."""
    found = [each for each in judged if each.point.kind == CACHED_TOKENS and each.expected is not None]
    if len(found) < FEWEST:
        return f"{len(found) or 'no'} public logs of engines that say how many tokens fit; {FEWEST} are needed"
    measured = np.array([each.point.measured for each in found])
    predicted = np.array([each.expected for each in found], dtype=float)
    room = float(np.median(measured / predicted))
    return Evidence(
        measured, predicted, f"{len(found)} engines have room for {times(room)} the tokens predicted (median)."
    )


def _evidence(judged: Sequence[Judged], counts: Callable[[Judged], bool], what: str) -> Evidence | str:
    timed = [each for each in judged if each.point.kind in KINDS and not KINDS[each.point.kind].is_size]
    found = [each for each in timed if counts(each) and each.expected is not None]
    if len(found) < FEWEST:
        return f"{len(found) or 'no'} public {what} with an expected one; {FEWEST} are needed"
    measured = np.array([each.point.measured for each in found])
    expected = np.array([each.expected for each in found], dtype=float)
    near = float((np.abs(expected / measured - 1) <= 0.15).mean())
    beaten = sum(each.beats_bound for each in found)
    kinds = ", ".join(dict.fromkeys(each.point.kind for each in found))
    return Evidence(
        measured,
        expected,
        f"Of {len(found)} public {what} ({kinds}) {percent(near)} are within 15 % of the expected ones;"
        f" {beaten or 'none'} beat the bound.",
    )
