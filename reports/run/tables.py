"""The tables of a run as text: one per op, with predicted beside measured; failed rows; doubtful rows."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.stats import DRIFTS, WIDE
from predict.units import binary_bytes, duration, energy, percent, times
from predict.workloads import OPS
from reports.run.frame import DIMS_OF_OP, OVER, dims_text
from reports.tables import TextTable

UNSTABLE_MARK = "~"  # in front of a time that another run may not find again
OVER_MARK = "^"  # in front of a share of a roof over 100 %
ROOF_COLUMNS = ("of_datasheet", "of_measured")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an op's table."""

    title: str
    source: str  # the column of the frame that it shows; if that is empty, the table leaves the column out
    text: Callable[[float], str]  # formats a number
    beside: str | None = None  # another column of the frame that decides instead whether the table has this one


COLUMNS: tuple[Column, ...] = (
    Column("bound", "bound", str),
    Column("predicted", "napkin_s", duration),
    Column("expected", "expected_s", duration),
    Column("refined", "refined_s", duration),
    Column("measured", "time_s", duration),
    Column("ratio", "ratio", times),
    Column("% of datasheet", "of_datasheet", percent),
    Column("% of measured", "of_measured", percent),
    Column("% of held clock", "of_held_clock", percent),
    Column("predicted memory", "predicted_peak_bytes", binary_bytes, beside="peak_bytes"),
    Column("peak memory", "peak_bytes", binary_bytes),
    Column("host per call", "host_s", duration),
    Column("energy per token", "joules_per_token", energy),
    Column("energy per TFLOP", "joules_per_tflop", energy),
)


def op_tables(frame: pd.DataFrame) -> list[TextTable]:
    """One table per op of the frame, in the order of `predict.workloads.OPS`."""
    return [_op_table(op, rows) for op, rows in by_op(frame)]


def failures(frame: pd.DataFrame) -> TextTable:
    """The rows that were not measured normally, with status and reason."""
    failed = frame[frame["status"] != "measured"].fillna({"reason": ""})
    return _selection("failures", failed, ("workload", "implementation", "status", "reason"))


def marked(text: str, unstable: object) -> str:
    """A time as tables show it: with a mark in front if there is a reason to call it unstable."""
    return f"{UNSTABLE_MARK}{text}" if isinstance(unstable, str) else text


def mark_lines(frame: pd.DataFrame) -> tuple[str, ...]:
    """What each mark in the tables of the frame means, and how many rows have it. A line begins with its mark."""
    timed = frame[frame["time_s"].notna()]
    lines = []
    if unstable := int(timed["unstable"].notna().sum()):
        lines.append(
            f"{UNSTABLE_MARK} unstable, {unstable} of {len(timed)} times: the median is known to no better than"
            f" +-{WIDE:.0%}, or the last third of the samples is over {DRIFTS:.0%} off the first"
        )
    if over := int((timed[list(ROOF_COLUMNS)] > OVER).any(axis=1).sum()):
        lines.append(
            f"{OVER_MARK} over 100 %, {over} of {len(timed)} rows: a measured roof is the best that a few probes"
            " reached at the start of the run, perhaps beside other work; a datasheet's is that of the boost clock"
        )
    return tuple(lines)


def doubtful(frame: pd.DataFrame) -> TextTable:
    """The rows with warnings, and their warnings."""
    warned = frame[frame["warnings"].fillna("") != ""].rename(columns={"warnings": "why, and what to do"})
    return _selection("doubtful rows", warned, ("workload", "implementation", "why, and what to do"))


def by_op(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each op of the frame with its rows, in the order of `predict.workloads.OPS`; then users' functions."""
    functions = sorted(set(frame["op"]).difference(OPS))
    return [(op, frame[frame["op"] == op]) for op in (*OPS, *functions) if (frame["op"] == op).any()]


def split_keys(op: str, rows: pd.DataFrame) -> tuple[list[str], str]:
    """The dimensions (and dtype) that vary, and as text those that all rows share.

    Those with the fewest values come first, so that a sweep reads down the table.
    """
    keys = [*DIMS_OF_OP.get(op, ()), "dtype"]
    varying = sorted((key for key in keys if rows[key].nunique() > 1), key=lambda key: rows[key].nunique())
    shared = {key: rows[key].iloc[0] for key in keys if key not in varying and rows[key].notna().all()}
    dtype = str(shared.pop("dtype", ""))
    return varying, ", ".join(text for text in (dims_text(shared), dtype) if text)


def _selection(name: str, rows: pd.DataFrame, titles: tuple[str, ...]) -> TextTable:
    return TextTable(name, titles, tuple(rows[list(titles)].astype(str).itertuples(index=False, name=None)))


def _op_table(op: str, rows: pd.DataFrame) -> TextTable:
    varying, shared = split_keys(op, rows)
    keys = [*varying, "implementation"]
    rows = rows.sort_values(keys, kind="stable")
    columns = [
        column for column in COLUMNS if rows[column.beside or column.source].notna().any() or column.source == "time_s"
    ]
    failed = ["status"] if (rows["status"] != "measured").any() else []
    titles = (*keys, *(column.title for column in columns), *failed)
    lines = rows.assign(status=rows["status"].replace("measured", "")).to_dict(orient="records")
    return TextTable(op, titles, tuple(_line(row, keys, columns, failed) for row in lines), shared, len(keys))


def _line(
    row: Mapping[Hashable, object], keys: Sequence[str], columns: Sequence[Column], others: Sequence[str]
) -> tuple[str, ...]:
    cells = (_cell(row, column) for column in columns)
    return (*(str(row[key]) for key in keys), *cells, *(str(row[name]) for name in others))


def _cell(row: Mapping[Hashable, object], column: Column) -> str:
    value = row[column.source]
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    text = column.text(value)  # type: ignore[arg-type]
    if column.source in ROOF_COLUMNS and isinstance(value, float) and value > OVER:
        return f"{OVER_MARK}{text}"
    return marked(text, row["unstable"]) if column.source == "time_s" else text
