"""The leaderboard: the time of our Triton kernels over the fastest peer's time in the same run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predict.units import duration, percent, times
from predict.workloads import OPS
from reports.run.frame import DIMS, groups_of
from reports.run.tables import by_op, marked, split_keys
from reports.tables import TextTable

# Ours in the default configuration, launched one by one or as one graph. A configuration tuned for a shape,
# `triton@...`, counts neither as ours nor as a peer.
OURS = frozenset({"triton", "triton_graph"})
# In these ops PyTorch calls the vendor's library; ours is also compared with that alone.
LIBRARY = "torch"
LIBRARY_OPS = frozenset({"matmul"})


@dataclass(frozen=True, slots=True)
class VsPeer:
    """Ours against the fastest peer of each shape, in one op and dtype."""

    op: str
    dtype: str
    shapes: int  # that count
    unstable: int  # shapes that do not, because a time is unstable
    ratio: float | None  # geometric mean of our time over the peer's; None over no shape
    share: float | None  # of the shapes: those on which ours is at least as fast
    library_ratio: float | None  # `ratio` against the vendor's library alone; None if it was not measured


def against_peers(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each workload measured with ours and at least one peer; the faster of `OURS` counts.

    Columns: op, dtype, the dimensions, our_s, peer (the fastest), peer_s, ratio (our_s over peer_s), library_ratio
    (our_s over the time of the vendor's library; NaN without it), and our_doubt, peer_doubt and library_doubt: why that
    time is unstable; absent if it is not.
    """
    measured = frame[frame["status"] == "measured"]
    is_ours, is_tuned = measured["implementation"].isin(OURS), measured["implementation"].str.startswith("triton@")
    ours = _fastest(measured.loc[is_ours, ["workload", "op", "dtype", *DIMS, "time_s", "unstable"]])
    others = measured.loc[~is_ours & ~is_tuned, ["workload", "implementation", "time_s", "unstable"]]
    best = _fastest(others)
    library = others[others["implementation"] == LIBRARY].set_index("workload")
    rows = ours.rename(columns={"time_s": "our_s", "unstable": "our_doubt"}).merge(
        best.rename(columns={"implementation": "peer", "time_s": "peer_s", "unstable": "peer_doubt"}),
        on="workload",
        validate="one_to_one",
    )
    rows["ratio"] = rows["our_s"] / rows["peer_s"]
    library_s = rows["workload"].map(library["time_s"])
    rows["library_ratio"] = (rows["our_s"] / library_s).where(rows["op"].isin(LIBRARY_OPS))
    rows["library_doubt"] = rows["workload"].map(library["unstable"])
    return rows


def leaderboard(rows: pd.DataFrame) -> tuple[VsPeer, ...]:
    """The rows of `against_peers` summarized by op and dtype; ops in the order of `predict.workloads.OPS`. Shapes with
    an unstable time on either side do not count."""
    found = [_summarize(str(op), str(dtype), group) for (op, dtype), group in groups_of(rows, ["op", "dtype"])]
    order = list(OPS)
    return tuple(sorted(found, key=lambda each: order.index(each.op)))


def _summarize(op: str, dtype: str, group: pd.DataFrame) -> VsPeer:
    ours = group[group["our_doubt"].isna()]
    stable = ours[ours["peer_doubt"].isna()]
    library = ours.loc[ours["library_doubt"].isna(), "library_ratio"].dropna()
    return VsPeer(
        op=op,
        dtype=dtype,
        shapes=len(stable),
        unstable=len(group) - len(stable),
        ratio=_geometric_mean(stable["ratio"]),
        share=float((stable["ratio"] <= 1).mean()) if len(stable) else None,
        library_ratio=_geometric_mean(library),
    )


def leaderboard_table(found: Iterable[VsPeer]) -> TextTable:
    """A line for each op and dtype."""
    rows = tuple(
        (
            each.op,
            each.dtype,
            str(each.shapes),
            "" if each.ratio is None else times(each.ratio),
            "" if each.share is None else percent(each.share),
            "" if each.library_ratio is None else times(each.library_ratio),
            str(each.unstable or ""),
        )
        for each in found
    )
    name = "leaderboard: ours against the best peer, geometric mean over shapes; under 1.00x ours is faster"
    ratios = ("ours / best peer", "as fast or faster", f"ours / {LIBRARY} (cuBLAS)")
    titles = ("op", "dtype", "shapes", *ratios, "unstable shapes")
    return TextTable(name, titles, rows, names=2)


def peer_tables(rows: pd.DataFrame) -> list[TextTable]:
    """One table per op of the rows of `against_peers`: our time beside the fastest peer's."""
    return [_peer_table(op, of_op) for op, of_op in by_op(rows)]


def _peer_table(op: str, rows: pd.DataFrame) -> TextTable:
    varying, shared = split_keys(op, rows)
    lines = tuple(
        (
            *(str(row[key]) for key in varying),
            marked(duration(row["our_s"]), row["our_doubt"]),
            marked(duration(row["peer_s"]), row["peer_doubt"]),
            str(row["peer"]),
            times(row["ratio"]),
        )
        for row in (rows.sort_values(varying, kind="stable") if varying else rows).to_dict(orient="records")
    )
    return TextTable(op, (*varying, "ours", "best peer", "peer", "ours / best peer"), lines, shared, len(varying))


def _fastest(rows: pd.DataFrame) -> pd.DataFrame:
    """The row with the shortest time of each workload."""
    return rows.loc[rows.groupby("workload", sort=False)["time_s"].idxmin()]


def _geometric_mean(ratios: "pd.Series[float]") -> float | None:
    return math.exp(np.log(ratios).mean()) if len(ratios) else None
