"""Reads tables of kernel times into one tidy frame: aiconfigurator's tables (.parquet, .csv, .txt), pytest-benchmark's
JSON, and the records of our own runs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import union_categoricals

from bench.store import RECORDS
from predict.errors import BadRecord, UnknownGpu
from predict.gpus import find_gpu, resolve
from predict.workloads import FloatArray
from reports.accuracy.aiconfigurator import read_table
from reports.accuracy.benchmarks import read_benchmarks
from reports.accuracy.columns import (
    COMPUTED,
    DIMS,
    DIMS_OF_OP,
    FORMATS,
    FRACTIONS,
    OPS,
    STORED,
    by_spelling,
    column,
    first_reason,
)
from reports.accuracy.records import read_records

# A system's name in a file -> our GPU, for names that are neither ours nor an alias.
_SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "b200-sxm": "b200",
        "b300-sxm": "b300",
        "gb200-sxm": "gb200",
        "gb200-nvl72": "gb200",
        "rtx-pro-6000-server": "rtx-pro-6000-blackwell-server",
        "rtxpro6000-blackwell-server": "rtx-pro-6000-blackwell-server",
    }
)


# What L2 may hold from the call before: sets of weights that calls take in turn, and whether they come back to a cache.
CONDITIONS = ("weight_sets", "warm")


@dataclass(frozen=True, slots=True)
class MeasuredTables:
    """The usable rows, and the number of rows that were left out, by table and reason.

    `frame` has one row per measurement; repeated shapes stay repeated. Its columns: table, op, device (the file's
    text), gpu (a name in `predict.gpus.GPUS`), dtype (of the computation), weight_dtype, kv_dtype (attention only),
    dtype_text (the file's text), format (dtype_text in our spelling; special kernels such as fp8_block keep their
    name), window (0 = none), kernel_source, `DIMS` (NA where the op lacks the dimension), `CONDITIONS` (0 if
    other kernels run in between, or nothing is known), time_s.
    """

    frame: pd.DataFrame
    dropped: Mapping[tuple[str, str], int]  # (table, reason) -> rows


def read_tables(paths: Iterable[Path], *, skip_broken: bool = False) -> MeasuredTables:
    """Read the files, in order: tables (.parquet, .csv, .txt), pytest-benchmark's .json, a run's folder or .jsonl.

    A table takes its file's name without the suffix, a run its folder's name; two equal names become paths. With
    `skip_broken`, the broken lines of a run count as left out. Raises BadRecord for a file that cannot be read, lacks
    a column or was measured on a CPU, UnknownGpu for a device that is not in the GPU table.
    """
    files = list(paths)
    if not files:
        raise BadRecord("no table given")
    frames: list[pd.DataFrame] = []
    dropped: dict[tuple[str, str], int] = {}
    for path, table in zip(files, table_names(files), strict=True):
        try:
            frame, reasons = _tidy(_read(path, skip_broken=skip_broken), table)
        except UnknownGpu as error:
            raise UnknownGpu(f"{path}: {error}") from None
        frames.append(frame)
        for reason, rows in Counter(reasons).items():
            if reason:
                dropped[table, reason] = rows
    return MeasuredTables(_concatenate(frames), MappingProxyType(dropped))


def dropped_text(dropped: Mapping[tuple[str, str], int]) -> str:
    """The rows that were left out, by table and reason, in one line."""
    return "; ".join(f"{table}: {reason} ({rows} rows)" for (table, reason), rows in dropped.items())


def find_device(text: str) -> str:
    """Our name of a device; `text` is its NVML name, a value of `--gpu` or a system's name. Raises UnknownGpu."""
    try:
        return find_gpu(text).name
    except UnknownGpu:
        key = text.strip().lower().removeprefix("nvidia ").replace("_", "-").replace(" ", "-")
        try:
            return resolve(_SYSTEMS.get(key, key)).name
        except UnknownGpu as error:
            raise UnknownGpu(f"device {text!r} of the table: {error}") from None


def table_names(paths: Sequence[Path]) -> list[str]:
    """The name of each table; two names are equal only where one file is given twice."""
    whole = [path.resolve() for path in paths]
    names = [path.parent.name if path.name == RECORDS else path.name if path.is_dir() else path.stem for path in whole]
    return [str(path) if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]


def _concatenate(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All frames as one; each categorical column unites the categories of all frames."""
    columns: dict[str, object] = {}
    for name, kind in frames[0].dtypes.items():
        parts = [frame[name] for frame in frames]
        columns[str(name)] = union_categoricals(parts) if kind == "category" else pd.concat(parts, ignore_index=True)
    return pd.DataFrame(columns)


def _read(path: Path, *, skip_broken: bool) -> pd.DataFrame:
    """The rows of a file in our columns and units, with the file's own text: op, device, dtype, weight_dtype, kv_dtype,
    kernel_source, `DIMS`, window, time_s and reason. A reason says why a row cannot be used, where only this kind of
    file can tell; else it is ""."""
    if path.is_dir() or path.suffix == ".jsonl":
        return read_records(path, skip_broken=skip_broken)
    if not path.is_file():
        raise BadRecord(f"{path}: no such file")
    if path.suffix == ".json":
        return read_benchmarks(path)
    if path.suffix in (".parquet", ".csv", ".txt"):
        return read_table(path)
    raise BadRecord(
        f"{path}: unknown kind of file; give .parquet, .csv or .txt (tables), .json (pytest-benchmark),"
        " .jsonl or a folder (a run)"
    )


def _tidy(rows: pd.DataFrame, table: str) -> tuple[pd.DataFrame, npt.NDArray[np.object_]]:
    """The usable rows in the columns of `MeasuredTables.frame`, and for every row why it is left out ("" if usable)."""
    devices = {text: find_device(str(text)) for text in rows.loc[rows["reason"] == "", "device"].dropna().unique()}
    texts = {
        "table": pd.Categorical.from_codes(np.zeros(len(rows), dtype=np.intp), categories=_categories([table])),
        "op": _translate(rows["op"], OPS),
        "device": _translate(rows["device"]),
        "gpu": _translate(rows["device"], devices),
        "dtype": _translate(rows["dtype"], by_spelling(rows["dtype"], COMPUTED)),
        "weight_dtype": _translate(rows["weight_dtype"], by_spelling(rows["weight_dtype"], STORED)),
        "kv_dtype": _translate(rows["kv_dtype"], by_spelling(rows["kv_dtype"], STORED)),
        "dtype_text": _translate(rows["dtype"]),
        "format": _translate(rows["dtype"], by_spelling(rows["dtype"], FORMATS)),
        "kernel_source": _translate(rows["kernel_source"]),
    }
    numbers = {
        name: rows[name].to_numpy(dtype=float) if name in FRACTIONS else _whole(rows[name])
        for name in (*DIMS, "window")
    }
    time_s = rows["time_s"].to_numpy(dtype=float)
    reasons = _reasons(rows["reason"], texts, numbers, time_s)
    usable = reasons == ""
    columns = {
        **{name: values[usable] for name, values in texts.items()},
        **{
            name: values[usable] if name in FRACTIONS else _integers(values[usable]) for name, values in numbers.items()
        },
        **{name: column(rows, name, 0)[usable] for name in CONDITIONS},
        "time_s": time_s[usable],
    }
    return pd.DataFrame(columns), reasons


def _reasons(
    known: "pd.Series[str]", texts: Mapping[str, pd.Categorical], numbers: Mapping[str, FloatArray], time_s: FloatArray
) -> npt.NDArray[np.object_]:
    """Why each row cannot be used; "" for a usable row. A known reason wins, then the first test that the row meets."""
    op = texts["op"]
    complete = np.zeros(len(known), dtype=bool)
    for each in op.categories:
        given = [numbers[name] >= 0 if name in FRACTIONS else numbers[name] > 0 for name in DIMS_OF_OP[each]]
        complete |= (op == each) & np.logical_and.reduce(given)
    is_attention = np.isfinite(numbers["head_dim"]) | np.isfinite(numbers["latent"])
    kv_heads = np.fmax(numbers["kv_heads"], 1)  # avoids a division by 0; `complete` refuses such rows
    found = first_reason(
        {
            "time is not a positive number": ~(np.isfinite(time_s) & (time_s > 0)),
            "op is not one of " + ", ".join(DIMS_OF_OP): op.isna(),
            "no device": texts["gpu"].isna(),
            "unknown dtype": texts["dtype"].isna()
            | texts["weight_dtype"].isna()
            | (is_attention & texts["kv_dtype"].isna()),
            "a dimension is missing or not a positive whole number": ~complete,
            "the window is not a whole number": ~(numbers["window"] >= 0),
            "query heads are no multiple of the KV heads": np.mod(numbers["heads"], kv_heads) > 0,
            "a collective of one GPU": numbers["gpus"] == 1,
        },
        len(known),
    )
    return np.where(known == "", found, known.to_numpy(dtype=object))


def _whole(values: "pd.Series[float]") -> FloatArray:
    """The whole numbers among the values; NaN for anything else."""
    numbers = values.to_numpy(dtype=float)
    return np.where(np.isfinite(numbers) & (numbers == np.floor(numbers)), numbers, np.nan)


def _integers(values: FloatArray) -> pd.arrays.IntegerArray:
    """Whole floats as Int64; NaN becomes NA."""
    missing = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(np.int64), missing)


def _translate(values: "pd.Series[Any]", names: Mapping[str, str] | None = None) -> pd.Categorical:
    """The name of each value in `names`, missing where it is not listed; without `names`, the value itself."""
    codes, found = pd.factorize(values)
    ours = [str(text) if names is None else names.get(str(text)) for text in found]
    categories = list(dict.fromkeys(text for text in ours if text is not None))
    places = [-1 if text is None else categories.index(text) for text in ours]
    row_places: npt.NDArray[np.intp] = np.array([*places, -1], dtype=np.intp)[codes]
    return pd.Categorical.from_codes(row_places, categories=_categories(categories))


def _categories(names: Sequence[str]) -> "pd.Index[Any]":
    """The names as categories; the index has dtype object even if it is empty."""
    return pd.Index(names, dtype=object)
