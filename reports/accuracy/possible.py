"""Which measured rows can be true: none is faster than its work at the GPU's highest clock.

A row over that rate was not the work that its table says, such as attention in a window filed as full attention. A
table files all rows of one set of heads alike, so the shorter rows of such a set are wrong too, although they are slow
enough to pass.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Machine
from predict.gpus import Gpu, NvidiaGpu
from predict.gpus.gpu import physical_roofs
from predict.resources import Resource, find_ceiling, matmul_unit
from predict.units import DType, Formats
from predict.workloads import FloatArray
from reports.accuracy.columns import Mask

TOLERANCE = 1.02  # clocks and timers are no more exact
ALIKE = ("heads", "kv_heads", "head_dim")  # the dimensions of a set
FEW = 3  # fewer impossible rows of a set are disturbed ones
SOME = 0.25  # a set is wrong if so many of its long shapes are impossible
MOST = 0.5  # all sets of a head_dim are wrong if more than so many are

FASTER = "faster than the highest rates of the GPU allow"
UNTRUSTED = "filed like rows that are faster than the highest rates of the GPU allow"


def least_times(op: str, columns: Mapping[str, FloatArray], gpu: Gpu, dtype: DType, formats: Formats) -> FloatArray:
    """The time in seconds that no kernel can beat: all FLOP at the highest clock. Attention also reads the bytes that
    L2 cannot hold, at the rate of the memory's pins. Raises MissingCeiling."""
    machine = Machine.of(gpu, dtype)
    assert isinstance(gpu, NvidiaGpu)  # or the line before has raised
    roofs = physical_roofs(gpu)
    peak = max(machine.flop_per_s, roofs[unit].per_s if (unit := matmul_unit(dtype)) in roofs else 0)
    napkin_s = TIME_MODELS[op].napkin_s
    link = None if machine.link_bytes_per_s is None else np.inf  # only what is known is no limit
    computing = replace(machine, flop_per_s=peak, bytes_per_s=np.inf, link_bytes_per_s=link)
    least_s = napkin_s(columns, computing, formats)
    if "heads" not in columns:  # a result may stay in L2; which weights experts read depends on how tokens fall
        return least_s
    moved = napkin_s(columns, replace(machine, flop_per_s=np.inf, bytes_per_s=1.0), formats)
    return np.maximum(least_s, (moved - machine.l2_bytes) / find_ceiling(Resource.DRAM, roofs).per_s)


def why_impossible(
    columns: Mapping[str, FloatArray], time_s: FloatArray, least_s: FloatArray
) -> npt.NDArray[np.object_]:
    """For each row of a kernel why it cannot be true, else "". `least_s` are the `least_times`."""
    faster: Mask = time_s * TOLERANCE < least_s
    why = np.where(faster, FASTER, "").astype(object)
    if not faster.any() or "heads" not in columns:
        return why
    rows = pd.DataFrame({**columns, "time_s": time_s, "faster": faster})
    rows["set"] = rows.groupby([name for name in ALIKE if name in columns]).ngroup()
    rows["length"] = columns["seq" if "seq" in columns else "context"]
    wrong = np.flatnonzero(_of_wrong_set(rows, list(columns)))
    untrusted = wrong[~_may_be_true(rows.iloc[wrong], list(columns))]
    why[untrusted] = np.where(faster[untrusted], FASTER, UNTRUSTED)
    if "head_dim" in columns:
        why[(why == "") & _of_wrong_heads(rows.assign(wrong=why != ""))] = UNTRUSTED
    return why


def _of_wrong_set(rows: pd.DataFrame, dims: list[str]) -> Mask:
    """The rows of wrong sets: many shapes as long as an impossible one, or longer, are impossible."""
    shapes = rows.groupby([*dims, "set", "length"])["faster"].any().reset_index()
    typical = shapes["set"].map(shapes[shapes["faster"]].groupby("set")["length"].median())
    long = shapes[shapes["length"] >= typical].groupby("set")["faster"]
    wrong = (long.mean() >= SOME) & (long.sum() >= FEW)
    found: Mask = rows["set"].isin(wrong.index[wrong]).to_numpy()
    return found


def _may_be_true(rows: pd.DataFrame, dims: list[str]) -> Mask:
    """The rows of wrong sets that may be true: where several kernels are filed as one, each shape is there several
    times, and the slowest is the one with all the work. Not so where those are impossible too."""
    shapes = rows.groupby(dims)["time_s"]
    slowest = ((shapes.transform("size") > 1) & (rows["time_s"] == shapes.transform("max"))).to_numpy()
    true: Mask = np.zeros(len(rows), dtype=bool)
    true[slowest] = ~_of_wrong_set(rows[slowest], dims)
    return true


def _of_wrong_heads(rows: pd.DataFrame) -> Mask:
    """The rows whose head_dim is wrong in most sets: there, a set that passes has no row that is long enough."""
    sets = rows.groupby(["head_dim", "set"])["wrong"].all()
    most = sets.groupby("head_dim").mean() > MOST
    found: Mask = rows["head_dim"].map(most).to_numpy(dtype=bool)
    return found
