"""What the matmuls of one run say about claims: the knee of a batch, what a batch costs, and fewer bits."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from predict.resources import Roofs
from predict.units import times
from predict.workloads import FloatArray
from reports.run.frame import groups_of
from reports.run.plots import ridge_batch
from reports.run.rules import Ratio
from reports.scorecard.verdict import Evidence

NARROW = ("matmul_w8a16", "matmul_w4a16", "matmul_scaled")
FEW, MANY = 4.0, 4.0  # rows that are so many times under the ridge, and so many over it


def knees(fastest: pd.DataFrame, roofs: Roofs) -> Evidence | str:
    """Claim 2: where the line of few rows meets that of many, for each weight."""
    measured: list[float] = []
    ridges: list[float] = []
    for (n, k, dtype), weight in groups_of(fastest[fastest["op"] == "matmul"], ["n", "k", "dtype"]):
        ridge = ridge_batch(roofs, n=int(n), k=int(k), dtype=dtype)
        if not math.isfinite(ridge):
            continue
        few, many = weight[weight["m"] <= max(1.0, ridge / FEW)], weight[weight["m"] >= MANY * ridge]
        if len(few) and len(many):
            measured.append(float(few["time_s"].median() / (many["time_s"] / many["m"].astype(float)).median()))
            ridges.append(ridge)
    if not measured:
        return "no weight with stable matmuls of rows far below the ridge and far beyond it"
    return Evidence(
        np.array(measured),
        np.array(ridges),
        f"{'1 weight leaves' if len(measured) == 1 else f'{len(measured)} weights leave'} the memory line at"
        f" {_rows(measured)} rows; the napkin puts the ridge at {_rows(ridges)}.",
    )


def _rows(values: list[float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:.0f}" for end in (min(values), max(values))))


def batches(rows: pd.DataFrame) -> Evidence | str:
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
    return Evidence(ratio, bound, said_of(ratio, bound, "batch over the smallest one", "batches over the smallest one"))


def said_of(measured: FloatArray, predicted: FloatArray, one: str, several: str) -> str:
    """Ratios as a sentence: their ends, measured and by the bound."""
    what = f"1 {one}" if len(measured) == 1 else f"{len(measured)} {several}"
    return f"{what}: {ends(measured)} measured, {ends(predicted)} by the bound."


def ends(values: FloatArray) -> str:
    """The least and the largest as text; one of them where both read the same."""
    return " to ".join(dict.fromkeys(times(float(end)) for end in (values.min(), values.max())))


def fewer_bits(fastest: pd.DataFrame, cached: Sequence[Ratio]) -> Evidence | str:
    """Claim 16: weights in fewer bits over those in 16 where memory binds both, and caches in fp8 (`cached`)."""
    bound = fastest[fastest["bound"].str.startswith("dram")]
    wide = bound[(bound["op"] == "matmul") & bound["dtype"].isin(["bf16", "fp16"])]
    said: list[str] = []
    measured = [each.measured for each in cached]
    predicted = [each.predicted for each in cached]
    for op in NARROW:
        both = bound[bound["op"] == op].merge(wide, on=["m", "n", "k"])
        if len(both):
            ratio, by_bytes = (both[f"{name}_x"] / both[f"{name}_y"] for name in ("time_s", "napkin_s"))
            measured += ratio.tolist()
            predicted += by_bytes.tolist()
            said.append(f"{op} {ratio.median():.2f}x ({by_bytes.median():.2f}x by the bound)")
    if cached:
        ends = np.median([[each.measured, each.predicted] for each in cached], axis=0)
        said.append(f"a cache in fp8 {ends[0]:.2f}x ({ends[1]:.2f}x)")
    if not said:
        return "no stable pair of kernels in 16 and in fewer bits that memory binds"
    return Evidence(np.array(measured), np.array(predicted), f"Times over 16 bits: {', '.join(said)}.")
