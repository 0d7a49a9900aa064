"""The tables of a run as text: one per op, with predicted beside measured; failed rows; doubtful rows."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from predict.units import binary_bytes, duration, energy, percent, times
from predict.workloads import OPS
from reports.run.frame import DIMS_OF_OP, dims_text
from reports.tables import TextTable


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


def unstable(frame: pd.DataFrame) -> TextTable:
    """The rows with warnings, and their warnings."""
    doubtful = frame[frame["warnings"].fillna("") != ""].rename(columns={"warnings": "why, and what to do"})
    return _selection("doubtful rows", doubtful, ("workload", "implementation", "why, and what to do"))


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
    cells = (_cell(row[column.source], column) for column in columns)
    return (*(str(row[key]) for key in keys), *cells, *(str(row[name]) for name in others))


def _cell(value: object, column: Column) -> str:
    return "" if pd.isna(value) else column.text(value)  # type: ignore[call-overload,arg-type]
