"""What the records of one run say about claims: rows, and ratios of rows on the same machine."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from predict.units import percent, times
from predict.workloads import FloatArray
from reports.run.frame import settled
from reports.run.load import Run
from reports.run.rules import SCORES, Ratio, ratios
from reports.scorecard.verdict import Evidence

# Claim -> the rules of thumb of a run (`reports.run.rules`) that judge it.
_RULES: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        4: ("linear backward", "attention backward", "training step"),
        8: ("KV cache",),
        11: ("verification",),
        14: ("paging",),
        15: (SCORES,),
        16: ("fp8 cache",),
    }
)


def of_records(run: Run) -> dict[int, Evidence | str]:
    """The evidence of each claim that a run's records can judge, or why they do not, by the claim's number."""
    rows = run.frame[(run.frame["status"] == "measured") & (run.frame["napkin_s"] > 0)]
    if rows.empty:
        return {}
    found = [each for each in ratios(run.frame, run.roofs.primary) if each.is_stable]
    return {1: _bounds(rows), 12: _batches(rows), **{number: _ratios(found, rules) for number, rules in _RULES.items()}}


def _bounds(rows: pd.DataFrame) -> Evidence | str:
    """Claim 1: every workload by its fastest stable row."""
    stable = settled(rows)
    if stable.empty:
        return "no stable row"
    fastest = stable.loc[stable.groupby("workload")["time_s"].idxmin()]
    measured, bound = (fastest[name].to_numpy(dtype=float) for name in ("time_s", "napkin_s"))
    near = float((np.abs(bound / measured - 1) <= 0.3).mean())
    known = fastest[fastest["expected_s"].notna()]
    expected = ""
    if len(known):
        share = float((np.abs(known["expected_s"] / known["time_s"] - 1) <= 0.3).mean())
        expected = f", {percent(share)} of {len(known)} of their expected time"
    return Evidence(
        measured,
        bound,
        f"Of {len(fastest)} workloads {percent(near)} are within 30 % of their bound{expected}. The median one takes"
        f" {times(float(np.median(measured / bound)))} its bound.",
    )


def _batches(rows: pd.DataFrame) -> Evidence | str:
    """Claim 12: matmuls of several batches over the smallest one, by weights, format and implementation."""
    matmuls = rows[(rows["op"] == "matmul") & rows["unstable"].isna()]
    measured: list[float] = []
    predicted: list[float] = []
    for _, same in matmuls.groupby(["n", "k", "dtype", "implementation"]):
        ordered = same.sort_values("m")
        first, rest = ordered.iloc[0], ordered.iloc[1:]
        measured += (rest["time_s"] / first["time_s"]).tolist()
        predicted += (rest["napkin_s"] / first["napkin_s"]).tolist()
    if not measured:
        return "no stable matmuls of several batches with the same weights"
    ratio, bound = np.array(measured), np.array(predicted)
    return Evidence(ratio, bound, _range(ratio, bound, "batch over the smallest one", "batches over the smallest one"))


def _ratios(found: Sequence[Ratio], rules: tuple[str, ...]) -> Evidence | str:
    """The evidence of rules of thumb: ratios of two rows of one implementation."""
    own = [each for each in found if each.rule in rules]
    if not own:
        return f"no pair of stable rows tells: {', '.join(rules)}"
    measured, predicted = (np.array([getattr(each, name) for each in own]) for name in ("measured", "predicted"))
    return Evidence(measured, predicted, _range(measured, predicted, "pair of rows", "pairs of rows"))


def _range(measured: FloatArray, predicted: FloatArray, one: str, several: str) -> str:
    if len(measured) == 1:
        return f"1 {one}: {times(float(measured[0]))} measured, {times(float(predicted[0]))} by the bound."
    ends = (times(float(end)) for values in (measured, predicted) for end in (values.min(), values.max()))
    low, high, least, most = ends
    return f"{len(measured)} {several}: {low} to {high} measured, {least} to {most} by the bound."
