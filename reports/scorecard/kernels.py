"""What measured tables of kernels say about claims: the groups of one GPU, as `reports.accuracy.validate` judges them.

Expected times are those of the group's own 16 probes, refined ones rest on other GPUs, so that nothing is judged by
what was fitted to it. A shape that several kernels compute counts with its fastest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd

from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.units import DTYPES, percent, times
from predict.workloads import FloatArray
from reports.accuracy.validate import Group, usual_heads
from reports.scorecard.verdict import Evidence

Kernels = Sequence[Group]
BF16 = DTYPES["bf16"]
FEW_ROWS = 16  # of a matmul that memory binds
MANY_ROWS = 2048  # of a matmul that FLOP bind
WEIGHTS = 5  # the largest weights, whose matmuls stand for all
PAST_L2 = 4.0  # a kernel that moves so many times L2 reads DRAM
LONG = 4.0  # prompts whose FLOP take so many times their bytes
PARTS = (2, 4, 8)  # GPUs of tensor parallelism
WIDE = 4096  # matrices that are divided


def of_kernels(groups: Kernels) -> dict[int, Evidence | str]:
    """The evidence of each claim that tables of one GPU can judge, or why they do not, by the claim's number."""
    return {number: find(groups) for number, find in _FINDERS.items()}


def _bounds(groups: Kernels) -> Evidence | str:
    """Claim 1: every plain kernel in 16 bits."""
    plain = [group for group in groups if _is_plain(group) and group.op not in COLLECTIVES]
    if not plain:
        return "no plain kernel in bf16"
    rows = pd.concat([usual_heads(group.judged) for group in plain])
    measured, bound = rows["time_s"].to_numpy(), rows["napkin_s"].to_numpy()
    near = [float((np.abs(rows[name] / rows["time_s"] - 1) <= 0.3).mean()) for name in ("napkin_s", "expected_s")]
    refined = _refined_near(plain)
    return Evidence(
        measured,
        bound,
        f"Of {len(rows):,} kernels {percent(near[0])} are within 30 % of their bound, {percent(near[1])} of their"
        f" expected time{refined}. The median kernel takes {times(float(np.median(measured / bound)))} its bound.",
    )


def _refined_near(groups: Kernels) -> str:
    """How many are near their refined time, where another GPU refines them."""
    found = [group for group in groups if group.relative.refined_s is not None]
    if not found:
        return ""
    near = np.concatenate(
        [
            np.abs(group.relative.refined_s[group.is_judged] / group.judged["time_s"].to_numpy() - 1) <= 0.3
            for group in found
            if group.relative.refined_s is not None
        ]
    )
    return f" and {percent(float(near.mean()))} of the time refined by another GPU alone"


def _knees(groups: Kernels) -> Evidence | str:
    """Claim 2: where the line of few rows meets that of many."""
    rows, machine = matmuls(groups), machine_of(groups)
    knees: list[float] = []
    for _, weight in largest_weights(rows):
        few, many = weight[weight["m"] <= FEW_ROWS], weight[weight["m"] >= MANY_ROWS]
        knees.append(float(few["time_s"].median() / (many["time_s"] / many["m"]).median()))
    if not knees:
        return "no weights with matmuls of few and of many rows"
    ridge = machine.flop_per_s / machine.bytes_per_s
    return Evidence(
        np.array(knees),
        np.full(len(knees), ridge),
        f"The largest matmuls leave the memory line at {min(knees):.0f} to {max(knees):.0f} rows; the ridge point is"
        f" {ridge:.0f}.",
    )


def _regimes(groups: Kernels) -> Evidence | str:
    """Claim 7: the shares of the roofs in prefill and in decode."""
    machine = machine_of(groups)
    products = matmuls(groups)
    flop_bound = pd.concat([products[products["m"] >= MANY_ROWS], _fastest(groups, "attention_prefill")])
    byte_bound = pd.concat([products[products["m"] <= FEW_ROWS], _fastest(groups, "attention_decode")])
    flop_bound = flop_bound[flop_bound["flop_s"] > LONG * flop_bound["bytes_s"]]
    byte_bound = byte_bound[byte_bound["bytes_s"] * machine.bytes_per_s > PAST_L2 * machine.l2_bytes]
    if flop_bound.empty or byte_bound.empty:
        return "no kernels of prefill and of decode in bf16"
    of_peak = (flop_bound["flop_s"] / flop_bound["time_s"]).to_numpy()
    of_bandwidth = (byte_bound["bytes_s"] / byte_bound["time_s"]).to_numpy()
    idle = float((byte_bound["flop_s"] / byte_bound["time_s"]).median())
    shares = np.concatenate([of_peak, of_bandwidth])
    return Evidence(
        shares,
        np.ones_like(shares),
        f"Kernels of prefill use {percent(float(np.median(of_peak)))} of the peak, kernels of decode"
        f" {percent(float(np.median(of_bandwidth)))} of the bandwidth and {percent(idle)} of the peak.",
    )


def _shared_heads(groups: Kernels) -> Evidence | str:
    """Claim 9: decode attention with fewer KV heads over one for each query head."""
    rows, machine = _fastest(groups, "attention_decode"), machine_of(groups)
    if rows.empty:
        return "no decode attention in bf16"
    rows = rows[rows["bytes_s"] * machine.bytes_per_s > PAST_L2 * machine.l2_bytes]
    same = ["batch", "context", "heads", "head_dim"]
    both = rows[rows["kv_heads"] < rows["heads"]].merge(rows[rows["kv_heads"] == rows["heads"]], on=same)
    if both.empty:
        return "no shape with and without shared KV heads that is larger than L2"
    measured, predicted = (both[f"{name}_x"] / both[f"{name}_y"] for name in ("time_s", "napkin_s"))
    return Evidence(
        measured.to_numpy(),
        predicted.to_numpy(),
        f"Over {len(both):,} pairs the time falls to {percent(float(measured.median()))}, the bytes to"
        f" {percent(float(predicted.median()))} (medians).",
    )


def _batches(groups: Kernels) -> Evidence | str:
    """Claim 12: matmuls of a batch over one row, for the largest weights."""
    rows, machine = matmuls(groups), machine_of(groups)
    ridge = machine.flop_per_s / machine.bytes_per_s
    measured: list[float] = []
    predicted: list[float] = []
    below: list[float] = []
    for _, weight in largest_weights(rows):
        one = weight[weight["m"] == weight["m"].min()].iloc[0]
        rest = weight[weight["m"] > one["m"]]
        measured += (rest["time_s"] / one["time_s"]).tolist()
        predicted += (rest["napkin_s"] / one["napkin_s"]).tolist()
        below += (rest["time_s"] / one["time_s"])[rest["m"] <= ridge / 2].tolist()
    if not below:
        return "no weights with matmuls of several batches below the ridge"
    return Evidence(
        np.array(measured),
        np.array(predicted),
        f"Up to half the ridge, {ridge / 2:.0f} rows, a batch takes {np.median(below):.2f}x to {max(below):.2f}x the"
        " time of one row (median and most); beyond it time grows as the bound says.",
    )


def _fewer_bits(groups: Kernels) -> Evidence | str:
    """Claim 16: fewer bits over 16, where memory binds."""
    machine = machine_of(groups)
    measured: list[FloatArray] = []
    predicted: list[FloatArray] = []
    said: list[str] = []
    for name, wide, narrow in _narrowed(groups, machine):
        keys = [key for key in wide if key not in ("time_s", "napkin_s", "flop_s", "bytes_s")]
        both = narrow.merge(wide, on=keys)
        if both.empty:
            continue
        ratio, bound = ((both[f"{key}_x"] / both[f"{key}_y"]).to_numpy() for key in ("time_s", "napkin_s"))
        measured.append(ratio)
        predicted.append(bound)
        said.append(f"{name} {np.median(ratio):.2f}x ({np.median(bound):.2f}x by bytes)")
    if not said:
        return "no kernel in 16 and in fewer bits that reads more than L2 holds"
    return Evidence(np.concatenate(measured), np.concatenate(predicted), f"Times: {', '.join(said)}.")


def _narrowed(groups: Kernels, machine: Machine) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Pairs of rows in 16 bits and in fewer, that read more than L2 holds in both."""

    def large(rows: pd.DataFrame) -> pd.DataFrame:
        return rows if rows.empty else rows[rows["bytes_s"] * machine.bytes_per_s > PAST_L2 * machine.l2_bytes]

    found = []
    for dtype in dict.fromkeys(group.dtype for group in groups if group.op == "matmul" and group.dtype != "bf16"):
        narrow = _fastest(groups, "matmul", dtype)
        wide = matmuls(groups)
        few, less = (large(rows[rows["m"] <= FEW_ROWS]) for rows in (wide, narrow))
        found.append((f"weights in {dtype}", few, less))
    cached = _fastest(groups, "attention_decode", cache="fp8")
    if not cached.empty:
        found.append(("a cache in fp8", large(_fastest(groups, "attention_decode")), large(cached)))
    return found


def _parallel(groups: Kernels) -> Evidence | str:
    """Claim 17: a pair of matrices on one GPU over its part on several, with an all-reduce of the result."""
    rows, sent = matmuls(groups), _fastest(groups, "all_reduce", "fp16")
    if rows.empty or sent.empty:
        return "no matmuls and all-reduces in 16 bits"
    shapes = rows[["m", "n", "k"]].itertuples(index=False, name=None)
    known = dict(zip(shapes, rows[["time_s", "napkin_s"]].to_numpy(), strict=True))
    wide = rows[(rows["n"] >= WIDE) & (rows["k"] >= WIDE)][["m", "n", "k"]].to_numpy()
    messages = {
        parts: of_parts[["message_bytes", "time_s", "napkin_s"]].to_numpy().T
        for parts in PARTS
        if not (of_parts := sent[sent["gpus"] == parts]).empty
    }
    found = [
        ratio
        for parts, sums in messages.items()
        for shape in wide
        if (ratio := _part_of_pair(shape, parts, known, sums)) is not None
    ]
    if not found:
        return "no pair of matrices whose parts were measured too"
    ratio, bound = np.array(found).T
    return Evidence(
        ratio,
        bound,
        f"Over {len(ratio):,} pairs of matrices on {', '.join(map(str, PARTS))} GPUs the time falls to"
        f" {percent(float(np.median(ratio)))}, the bound to {percent(float(np.median(bound)))} (medians).",
    )


def _part_of_pair(
    shape: FloatArray, parts: int, known: Mapping[tuple[float, ...], FloatArray], sums: FloatArray
) -> FloatArray | None:
    """Time and bound of a GPU's part of a pair of matrices and the sum of its results, over those of the whole pair;
    None if one of them was not measured. `sums` are bytes, times and bounds of all-reduces of so many GPUs."""
    m, n, k = shape
    keys = [(m, n, k), (m, k, n), (m, n / parts, k), (m, k, n / parts)]
    message_bytes = m * k * BF16.bytes
    if not sums[0].min() <= message_bytes <= sums[0].max() or not all(key in known for key in keys):
        return None
    sizes, *times_s = np.log(sums)
    sum_s = np.exp([np.interp(np.log(message_bytes), sizes, each) for each in times_s])
    up, down, part_up, part_down = (known[key] for key in keys)
    return np.asarray((part_up + part_down + sum_s) / (up + down))


_FINDERS: Mapping[int, Callable[[Kernels], Evidence | str]] = MappingProxyType(
    {1: _bounds, 2: _knees, 7: _regimes, 9: _shared_heads, 12: _batches, 16: _fewer_bits, 17: _parallel}
)


def _is_plain(group: Group) -> bool:
    return group.is_plain and group.dtype == "bf16"


def machine_of(groups: Kernels) -> Machine:
    """The GPU of these groups, with its peak in bf16."""
    return Machine.of(GPUS[groups[0].gpu], BF16)


def matmuls(groups: Kernels) -> pd.DataFrame:
    """The matmuls in bf16, each shape with its fastest kernel: m, n, k, time_s, napkin_s, flop_s, bytes_s."""
    return _fastest(groups, "matmul")


def _fastest(groups: Kernels, op: str, dtype: str = "bf16", cache: str | None = None) -> pd.DataFrame:
    """The shapes of an op without a window, each with its fastest kernel: dimensions, time_s, napkin_s, and the times
    of its FLOP and of its bytes alone."""
    kinds = (None, cache or "bf16")
    dims = list(TIME_MODELS[op].dims)
    rows = [
        _with_parts(group)
        for group in groups
        if (group.op, group.dtype) == (op, dtype) and not group.window and group.kv_dtype in kinds
    ]
    if not rows:
        return pd.DataFrame(columns=[*dims, "time_s", "napkin_s", "flop_s", "bytes_s"], dtype=float)
    every = pd.concat(rows).sort_values("time_s", kind="stable")
    return every.drop_duplicates(dims).sort_values(dims, kind="stable").reset_index(drop=True)


def _with_parts(group: Group) -> pd.DataFrame:
    """The shapes of a group with the two parts of their bound; NaN for a collective, which has one."""
    rows = group.rows[[*TIME_MODELS[group.op].dims, "time_s", "napkin_s"]]
    if group.op in COLLECTIVES:
        return rows.assign(flop_s=np.nan, bytes_s=np.nan)
    napkin_s, shapes = TIME_MODELS[group.op].napkin_s, group.shapes
    # On a machine without one of the two limits the bound is the other part.
    machines = (replace(shapes.machine, bytes_per_s=np.inf), replace(shapes.machine, flop_per_s=np.inf))
    flop_s, bytes_s = (napkin_s(shapes.columns, machine, shapes.formats) for machine in machines)
    return rows.assign(flop_s=flop_s, bytes_s=bytes_s)


def largest_weights(rows: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """The matmuls of the largest weights that were measured with few rows and with many: sizes and rows."""
    weights = [
        (float((weight["n"] * weight["k"]).iloc[0]), weight.sort_values("m"))
        for _, weight in rows.groupby(["n", "k"])
        if weight["m"].min() <= FEW_ROWS and weight["m"].max() >= MANY_ROWS
    ]
    return sorted(weights, key=lambda each: -each[0])[:WEIGHTS]
