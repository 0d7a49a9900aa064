"""Compares two runs: one machine before and after a change, or two machines by % of roof."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from predict.errors import BadRecord
from predict.units import duration, percent, times
from reports.run.load import Run
from reports.run.tables import by_op, marked
from reports.tables import TextTable


class Verdict(StrEnum):
    """Whether run B is faster than run A, by the confidence intervals of their medians."""

    FASTER = "B faster"
    SLOWER = "B slower"
    UNCLEAR = "no difference seen"  # the intervals overlap


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs compared.

    `rows` has the rows that both runs measured: workload, op, implementation, roof_a and roof_b ("datasheet" or
    "measured"), of_roof_a and of_roof_b (fractions of that roof), time_s_a, time_s_b, unstable_a and unstable_b (why
    that time is; None if it is not), ratio (B's time over A's) and verdict.
    """

    machine_a: str
    machine_b: str
    rows: pd.DataFrame
    only_a: tuple[str, ...]  # "workload implementation" of the rows that only A measured
    only_b: tuple[str, ...]
    warnings: tuple[str, ...]  # what makes the comparison doubtful

    @property
    def stable(self) -> pd.DataFrame:
        """The rows that are stable in both runs."""
        return self.rows[self.rows["unstable_a"].isna() & self.rows["unstable_b"].isna()]

    @property
    def by_op(self) -> "pd.Series[float]":
        """Geometric mean of B's time over A's, by op, over the rows that are stable in both."""
        return self.stable.groupby("op", sort=True)["ratio"].agg(lambda ratios: math.exp(np.log(ratios).mean()))


def compare(a: Run, b: Run) -> Comparison:
    """Match the measured rows of two runs. Raises BadRecord if different harnesses took their times, or if they have no
    measured row in common."""
    refuse_harnesses((a, b))
    left, right = _measured(a), _measured(b)
    rows = left.merge(right, on=["workload", "op", "implementation"], suffixes=("_a", "_b"), validate="one_to_one")
    if rows.empty:
        raise BadRecord(
            "the two runs have no measured workload and implementation in common; run the same suite on both"
        )
    rows["ratio"] = rows["time_s_b"] / rows["time_s_a"]
    rows["verdict"] = [
        _verdict(low_a, high_a, low_b, high_b)
        for low_a, high_a, low_b, high_b in zip(
            rows["low_s_a"], rows["high_s_a"], rows["low_s_b"], rows["high_s_b"], strict=True
        )
    ]
    names = set(rows["workload"] + " " + rows["implementation"])
    return Comparison(
        machine_a=a.machine,
        machine_b=b.machine,
        rows=rows,
        only_a=_others(left, names),
        only_b=_others(right, names),
        warnings=_warnings(a, b),
    )


def refuse_harnesses(runs: Sequence[Run]) -> None:
    """Raise BadRecord if different harnesses took the times of the runs."""
    if len(frozenset().union(*(run.harnesses for run in runs))) > 1:
        texts = " and ".join(dict.fromkeys(run.harnesses_text for run in runs))
        raise BadRecord(
            f"the runs were taken by harness {texts}, whose times are not comparable; measure all again with one"
            " harness"
        )


def comparison_tables(comparison: Comparison) -> list[TextTable]:
    """One table per op; the dimensions that all its workloads share stand beside its name, to keep lines short."""
    return [_comparison_table(op, rows) for op, rows in by_op(comparison.rows)]


def _comparison_table(op: str, rows: pd.DataFrame) -> TextTable:
    parts = [workload.split("-")[1:] for workload in rows["workload"]]
    shared = [part for part in parts[0] if len(parts) > 1 and all(part in others for others in parts)]
    lines = tuple(
        (
            " ".join(part for part in own if part not in shared),
            row["implementation"],
            marked(duration(row["time_s_a"]), row["unstable_a"]),
            marked(duration(row["time_s_b"]), row["unstable_b"]),
            "" if pd.isna(row["of_roof_a"]) else percent(row["of_roof_a"]),
            "" if pd.isna(row["of_roof_b"]) else percent(row["of_roof_b"]),
            times(row["ratio"]),
            row["verdict"],
        )
        for row, own in zip(rows.to_dict(orient="records"), parts, strict=True)
    )
    titles = ("workload", "implementation", "A", "B", "% of roof A", "% of roof B", "B/A", "verdict")
    return TextTable(op, titles, lines, ", ".join(shared), names=2)


def _measured(run: Run) -> pd.DataFrame:
    """The measured rows with the columns to compare; the roof is the datasheet's, else the measured one."""
    frame = run.frame[run.frame["status"] == "measured"]
    known = frame["of_datasheet"].notna()
    return pd.DataFrame(
        {
            "workload": frame["workload"],
            "op": frame["op"],
            "implementation": frame["implementation"],
            "roof": np.where(known, "datasheet", "measured"),
            "of_roof": frame["of_datasheet"].where(known, frame["of_measured"]),
            "time_s": frame["time_s"],
            "low_s": frame["low_s"],
            "high_s": frame["high_s"],
            "unstable": frame["unstable"],
        }
    )


def _verdict(low_a: float, high_a: float, low_b: float, high_b: float) -> Verdict:
    if high_b < low_a:
        return Verdict.FASTER
    if low_b > high_a:
        return Verdict.SLOWER
    return Verdict.UNCLEAR


def _others(frame: pd.DataFrame, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in frame["workload"] + " " + frame["implementation"] if name not in names)


def _warnings(a: Run, b: Run) -> tuple[str, ...]:
    """Differences between the runs other than the machine, and faults of either run."""
    warnings = [
        f"{name} differs: {getattr(a.environment, name)} and {getattr(b.environment, name)}"
        for name in ("driver", "torch", "triton", "warm_cache", "power_limit_w", "threads")
        if getattr(a.environment, name) != getattr(b.environment, name)
    ]
    for side, run in (("A", a), ("B", b)):
        if run.environment.forced:
            warnings.append(f"run {side} was forced: its roofs may be another card's")
        warnings += [f"run {side}: the driver contradicts the GPU table: {why}" for why in run.environment.mismatches]
    if bool(a.roofs.datasheet) != bool(b.roofs.datasheet):
        warnings.append("one run has datasheet roofs, the other measured ones: their % of roof are not comparable")
    return tuple(warnings)
