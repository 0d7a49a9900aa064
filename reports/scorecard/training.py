"""What the blocks of one run say about claims: FLOP of a forward pass, memory of a parameter, and recomputation."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from predict.peak_memory import saved_activation_bytes
from predict.units import find_dtype, percent, times
from predict.workloads import block_matrices, complete_dims, dim_names, make_workload, optional_dims
from reports.run.rules import Ratio
from reports.scorecard.verdict import Evidence

Row = Mapping[Hashable, Any]
PASSES = ("block_forward", "model_forward")
STATE_BYTES = 16.0  # of a parameter: weight and gradient in 16 bits, master, m and v in fp32
FEW_ACTIVATIONS = 0.05  # of the state, where a step's memory is that of its parameters


def forwards(fastest: pd.DataFrame) -> Evidence | str:
    """Claim 3: passes that FLOP bind, at the best rate of the run's matmuls of their format."""
    matmuls = fastest[fastest["op"] == "matmul"]
    rates = (matmuls["flop"] / matmuls["time_s"]).groupby(matmuls["dtype"]).max()
    rows = fastest[fastest["op"].isin(PASSES) & ~fastest["bound"].str.startswith("dram")]
    rows = rows[rows["dtype"].isin(rates.index)]
    if rows.empty:
        return "no stable whole pass that FLOP bind, with matmuls in its format"
    predicted = np.array(
        [2 * _parameters(row) * row["batch"] * row["seq"] / rates[row["dtype"]] for row in rows.to_dict("records")],
        dtype=np.float64,
    )
    measured = rows["time_s"].to_numpy(dtype=float)
    return Evidence(
        measured,
        predicted,
        f"{len(rows)} passes take {times(float(np.median(measured / predicted)))} 2PT at the rate that the run's best"
        " matmul reaches (median).",
    )


def parameters(fastest: pd.DataFrame) -> Evidence | str:
    """Claim 5: peak memory of training steps whose activations are few, by parameter."""
    found = []
    for row in fastest[(fastest["op"] == "block_train") & (fastest["peak_bytes"] > 0)].to_dict("records"):
        count = _parameters(row)
        if _activation_bytes(row) <= FEW_ACTIVATIONS * STATE_BYTES * count:
            found.append(row["peak_bytes"] / count)
    if not found:
        return "no training step whose memory was measured, and whose activations are few"
    return Evidence(
        np.array(found, dtype=np.float64),
        np.full(len(found), STATE_BYTES),
        f"{len(found)} training steps hold {min(found):.1f} to {max(found):.1f} bytes a parameter. PyTorch's AdamW"
        " takes gradients in the format of the master weights: 4 bytes more.",
    )


def recomputed(fastest: pd.DataFrame, found: Sequence[Ratio]) -> Evidence | str:
    """Claim 6: a second forward pass, in time and in what is kept, over kept activations."""
    times_of = [each for each in found if each.rule == "recomputing"]
    kept = _kept(fastest)
    if not times_of and not kept:
        return "no pair of stable training steps with and without recomputation"
    measured = [each.measured for each in times_of] + [pair[0] for pair in kept]
    predicted = [each.predicted for each in times_of] + [pair[1] for pair in kept]
    said = []
    if times_of:
        slower = np.median([[each.measured, each.predicted] for each in times_of], axis=0)
        said.append(f"it takes {times(float(slower[0]))} the time ({times(float(slower[1]))} by the bound)")
    if kept:
        less = np.median(kept, axis=0)
        said.append(
            f"what a longer prompt adds to memory falls to {percent(float(less[0]))} ({percent(float(less[1]))} by the"
            " tensors that are kept)"
        )
    return Evidence(np.array(measured), np.array(predicted), f"With recomputation {', and '.join(said)}.")


def _kept(fastest: pd.DataFrame) -> list[tuple[float, float]]:
    """What longer prompts add to the memory of a step with recomputation, over what they add without: measured, and by
    the tensors that are kept. The difference of two lengths leaves the parameters out."""
    rows = fastest[(fastest["op"] == "block_train") & (fastest["layers"] > 1) & (fastest["peak_bytes"] > 0)]
    model = ["layers", "heads", "kv_heads", "head_dim", "inner", "dtype"]
    added: dict[object, dict[bool, tuple[float, float]]] = {}
    for key, same in rows.groupby([*model, rows["forwards"].fillna(1)]):
        ordered = same.sort_values("seq").to_dict("records")
        short, long = ordered[0], ordered[-1]
        if long["seq"] > short["seq"]:
            names = ("peak_bytes", "predicted_peak_bytes")
            grown = tuple(float(long[name] - short[name]) for name in names)
            added.setdefault(key[:-1], {})[key[-1] == 2] = (grown[0], grown[1])
    pairs = [each for each in added.values() if len(each) == 2]
    return [(each[True][0] / each[False][0], each[True][1] / each[False][1]) for each in pairs]


def _parameters(row: Row) -> float:
    """Elements of the matrices of all layers. A vocabulary, which works on a prompt's last token alone, counts none."""
    dims = complete_dims(row["op"], _dims(row))
    names = ("heads", "kv_heads", "head_dim", "inner", "hidden", "matrices")
    sizes = {name: dims[name] for name in names if name in dims}
    return float(dims.get("layers", 1) * block_matrices(**sizes))


def _activation_bytes(row: Row) -> float:
    return saved_activation_bytes(make_workload(row["op"], _dims(row), find_dtype(row["dtype"])))


def _dims(row: Row) -> dict[str, int]:
    op = row["op"]
    names = (*dim_names(op), *optional_dims(op))
    return {name: int(row[name]) for name in names if not pd.isna(row[name])}
