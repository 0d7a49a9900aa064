"""Ours against the best of the others: times of our Triton kernels over the fastest peer's, in one and the same run."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predict.workloads import OPS
from reports.run.load import DIMS, groups_of

# As launched by default, one by one or all in one graph: a configuration that was tuned for one shape is another row,
# triton@...
OURS = frozenset({"triton", "triton_graph"})
# Where PyTorch itself calls the vendor's library, and ours is held against that alone too.
LIBRARY = "torch"
LIBRARY_OPS = frozenset({"matmul"})


@dataclass(frozen=True, slots=True)
class Standing:
    """Where ours stands in one op and dtype: the geometric mean of its times over those of the fastest peer of each
    shape, on how many shapes, on which share of them ours is at least as fast, and the same mean against the vendor's
    library alone (None where the op has none, or where it was not measured)."""

    op: str
    dtype: str
    shapes: int
    ratio: float
    share: float
    library_ratio: float | None


def against_peers(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each workload that was measured by ours, of which the faster counts, and by at least one peer.

    Columns: op, dtype, the dimensions, our_s, peer (the fastest), peer_s, ratio (our_s over peer_s) and library_ratio
    (our_s over the vendor's library's; NaN where there is none).
    """
    measured = frame[frame["status"] == "measured"]
    is_ours, is_tuned = measured["implementation"].isin(OURS), measured["implementation"].str.startswith("triton@")
    ours = _fastest(measured.loc[is_ours, ["workload", "op", "dtype", *DIMS, "time_s"]])
    others = measured.loc[~is_ours & ~is_tuned, ["workload", "implementation", "time_s"]]
    best = _fastest(others)
    library = others[others["implementation"] == LIBRARY].set_index("workload")["time_s"]
    rows = ours.rename(columns={"time_s": "our_s"}).merge(
        best.rename(columns={"implementation": "peer", "time_s": "peer_s"}), on="workload", validate="one_to_one"
    )
    rows["ratio"] = rows["our_s"] / rows["peer_s"]
    rows["library_ratio"] = (rows["our_s"] / rows["workload"].map(library)).where(rows["op"].isin(LIBRARY_OPS))
    return rows


def standings(rows: pd.DataFrame) -> tuple[Standing, ...]:
    """What the rows of `against_peers` come to, by op in the order of `predict.workloads.OPS`, and dtype."""
    found = [
        Standing(
            op=str(op),
            dtype=str(dtype),
            shapes=len(group),
            ratio=_geometric_mean(group["ratio"]),
            share=float((group["ratio"] <= 1).mean()),
            library_ratio=_geometric_mean(known) if len(known := group["library_ratio"].dropna()) else None,
        )
        for (op, dtype), group in groups_of(rows, ["op", "dtype"])
    ]
    order = list(OPS)
    return tuple(sorted(found, key=lambda each: order.index(each.op)))


def _fastest(rows: pd.DataFrame) -> pd.DataFrame:
    """The row of the shortest time of each workload."""
    return rows.loc[rows.groupby("workload", sort=False)["time_s"].idxmin()]


def _geometric_mean(ratios: "pd.Series[float]") -> float:
    return math.exp(np.log(ratios).mean())
