"""Reads tables of kernel times into one tidy frame.

It reads aiconfigurator's tables (.parquet, .csv, .txt), pytest-benchmark's JSON and the records of our own runs. The
columns of an aiconfigurator table tell what it holds: matmuls, prefill or decode attention, or collectives. It gives
times in milliseconds and `message_size` in elements; the frame has seconds and bytes.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import union_categoricals

from bench.record import Status
from bench.store import RECORDS
from predict.errors import BadRecord, UnknownGpu
from predict.gpus import find_gpu, resolve
from predict.units import find_dtype
from predict.workloads import FloatArray
from reports.run.load import load_records

Mask = npt.NDArray[np.bool_]

_ATTENTION = {"batch": "batch_size", "heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
_COLLECTIVE = {"gpus": "num_gpus", "message_bytes": "message_size"}

# Our op -> our dimension -> aiconfigurator's column.
DIMS_OF_OP: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "matmul": {"m": "m", "n": "n", "k": "k"},
        "attention_prefill": {**_ATTENTION, "seq": "isl"},
        "attention_decode": {**_ATTENTION, "context": "step"},
        "all_reduce": _COLLECTIVE,
        "all_gather": _COLLECTIVE,
        "reduce_scatter": _COLLECTIVE,
        "all_to_all": _COLLECTIVE,
    }
)
DIMS: tuple[str, ...] = tuple(dict.fromkeys(name for dims in DIMS_OF_OP.values() for name in dims))

# An op's name in a file -> our op.
OPS: Mapping[str, str] = MappingProxyType(
    {
        **{op: op for op in DIMS_OF_OP},
        "gemm": "matmul",
        "context_attention": "attention_prefill",
        "generation_attention": "attention_decode",
        "alltoall": "all_to_all",
    }
)

# A format's spelling in a file -> our name.
_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("fp64", "float64"), "fp64"),
        **dict.fromkeys(("fp32", "float32", "float"), "fp32"),
        "tf32": "tf32",
        **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
        **dict.fromkeys(("fp16", "float16", "half"), "fp16"),
        **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "float8_e4m3fn"), "fp8"),
        "int8": "int8",
        **dict.fromkeys(("fp4", "nvfp4"), "fp4"),
        "int4": "int4",
    }
)
# A name that means a special kernel -> the format it multiplies in, the format of its stored weights.
_VARIANTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("fp8_static", "fp8_ootb", "fp8_block"), ("fp8", "fp8")),
        "sq": ("int8", "int8"),  # SmoothQuant: int8 on both sides
        "int8_wo": ("bf16", "int8"),  # weights only
        "int4_wo": ("bf16", "int4"),
    }
)
_COMPUTED = {**_SPELLINGS, **{text: computed for text, (computed, _) in _VARIANTS.items()}}
_STORED = {**_SPELLINGS, **{text: stored for text, (_, stored) in _VARIANTS.items()}}
_FORMATS = {**_SPELLINGS, **{text: text for text in _VARIANTS}}
_STORED_BYTES = {text: find_dtype(stored).bytes for text, stored in _STORED.items()}

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

_COMMON = ("device", "op_name", "kernel_source", "latency")
_ATTENTION_COLUMNS = (*_ATTENTION.values(), "isl", "step", "attn_dtype")
# Each kind of table: its first column identifies the kind, the other columns are required too.
_KINDS: tuple[tuple[str, ...], ...] = (
    ("gemm_dtype", *DIMS_OF_OP["matmul"].values(), *_COMMON),
    ("kv_cache_dtype", *_ATTENTION_COLUMNS, *_COMMON),
    ("nccl_dtype", *_COLLECTIVE.values(), *_COMMON),
    ("allreduce_dtype", *_COLLECTIVE.values(), *_COMMON),
)
T = TypeVar("T")
_TEXTS = ("op", "device", "dtype", "weight_dtype", "kv_dtype", "kernel_source")
_DTYPE_COLUMNS = ("gemm_dtype", "attn_dtype", "nccl_dtype", "allreduce_dtype")


@dataclass(frozen=True, slots=True)
class MeasuredTables:
    """The usable rows, and the number of rows that were left out, by table and reason.

    `frame` has one row per measurement; repeated shapes stay repeated. Its columns: table, op, device (the file's
    text), gpu (a name in `predict.gpus.GPUS`), dtype (of the computation), weight_dtype, kv_dtype (attention only),
    dtype_text (the file's text), format (dtype_text in our spelling; special kernels such as fp8_block keep their
    name), window (0 = none), kernel_source, `DIMS` (NA where the op lacks the dimension), time_s.
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
    for path, table in zip(files, _names(files), strict=True):
        frame, reasons = _tidy(_read(path, skip_broken=skip_broken), table)
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


def _names(paths: Sequence[Path]) -> list[str]:
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
        return _read_records(path, skip_broken=skip_broken)
    if not path.is_file():
        raise BadRecord(f"{path}: no such file")
    if path.suffix == ".json":
        return _read_benchmarks(path)
    if path.suffix in (".parquet", ".csv", ".txt"):
        return _read_table(path)
    raise BadRecord(
        f"{path}: unknown kind of file; give .parquet, .csv or .txt (tables), .json (pytest-benchmark),"
        " .jsonl or a folder (a run)"
    )


def _read_table(path: Path) -> pd.DataFrame:
    """The rows of an aiconfigurator table."""
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:  # the errors of pandas and pyarrow derive from these
        raise BadRecord(f"{path}: not a table ({str(error).splitlines()[0]})") from None
    kind = next((kind for kind in _KINDS if kind[0] in table), None)
    if kind is None:
        raise BadRecord(f"{path}: unknown kind of table: no column {', '.join(kind[0] for kind in _KINDS)}")
    if missing := [name for name in kind if name not in table]:
        raise BadRecord(f"{path}: missing column {', '.join(missing)}")
    dtype = table[next(name for name in _DTYPE_COLUMNS if name in table)]
    op = table["op_name"].map(OPS)
    numbers = {name: _table_dimension(name, table, op) for name in DIMS}
    numbers["message_bytes"] *= dtype.map(_by_spelling(dtype, _STORED_BYTES)).to_numpy(dtype=float)
    numbers["context"] += _column(table, "isl", 0)  # the new token attends to itself and to `step` cached ones
    return pd.DataFrame(
        {
            "op": table["op_name"],
            "device": table["device"],
            "dtype": dtype,
            "weight_dtype": dtype,
            "kv_dtype": table.get("kv_cache_dtype", np.nan),
            "kernel_source": table["kernel_source"],
            **numbers,
            "window": np.fmax(_column(table, "window_size", 0), 0),  # a negative window means none, like 0
            "time_s": pd.to_numeric(table["latency"], errors="coerce").to_numpy(dtype=float) * 1e-3,
            "reason": _first_reason(
                {
                    "the prompt continues a cached one": (op == "attention_prefill") & (_column(table, "step", 0) != 0),
                    "more than one token a step": (op == "attention_decode") & (_column(table, "isl", 1) != 1),
                    "beam search": _column(table, "beam_width", 1) != 1,
                },
                len(table),
            ),
        }
    )


def _table_dimension(name: str, table: pd.DataFrame, op: "pd.Series[str]") -> FloatArray:
    """One of `DIMS`; NaN in rows whose op lacks it."""
    values = np.full(len(table), np.nan)
    for each, dims in DIMS_OF_OP.items():
        column = dims.get(name)
        if column in table:
            values = np.where(op == each, _numbers(table[column]), values)
    return values


def _read_benchmarks(path: Path) -> pd.DataFrame:
    """The rows of a pytest-benchmark file; params or extra_info give op, dimensions, dtype and GPU."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRecord(f"{path}: not JSON ({error})") from None
    benchmarks = data.get("benchmarks") if isinstance(data, dict) else None
    if not isinstance(benchmarks, list) or not all(isinstance(benchmark, dict) for benchmark in benchmarks):
        raise BadRecord(f"{path}: not a pytest-benchmark file: it has no list 'benchmarks'")
    for benchmark in benchmarks:
        for name in ("params", "extra_info", "stats"):
            if not isinstance(benchmark.get(name) or {}, dict):
                raise BadRecord(
                    f"{path}: not a pytest-benchmark file: {name} of {benchmark.get('name')!r} is no object"
                )
    rows = [_benchmark_row(benchmark) for benchmark in benchmarks]
    return pd.DataFrame(rows, columns=[*_TEXTS, *DIMS, "window", "time_s", "reason"])


def _benchmark_row(benchmark: Mapping[str, Any]) -> dict[str, object]:
    """One row of `_read`; pytest-benchmark's times are in seconds."""
    said = {**(benchmark.get("params") or {}), **(benchmark.get("extra_info") or {})}
    op, dtype, device = str(said.get("op")), said.get("dtype"), said.get("gpu") or said.get("device")
    dims = DIMS_OF_OP.get(OPS.get(op, ""), {})
    needed = {"op": said.get("op"), "gpu": device, "dtype": dtype, **{name: said.get(name) for name in dims}}
    missing = [name for name, value in needed.items() if value is None]
    return {
        "op": op,
        "device": str(device),
        "dtype": str(dtype),
        "weight_dtype": str(said.get("weight_dtype") or dtype),
        "kv_dtype": str(said.get("kv_dtype") or dtype) if "kv_heads" in dims else None,
        "kernel_source": str(benchmark.get("name")).partition("[")[0],
        **{name: _number(said[name]) if name in dims and name in said else np.nan for name in DIMS},
        "window": _number(said.get("window") or 0),
        "time_s": _number((benchmark.get("stats") or {}).get("median")),
        "reason": f"extra_info lacks {', '.join(missing)}" if missing else "",
    }


def _number(value: object) -> float:
    """A JSON number; NaN for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def _read_records(path: Path, *, skip_broken: bool) -> pd.DataFrame:
    """The rows of our own records; raises BadRecord for a run on a CPU."""
    run = load_records(path, skip_broken=skip_broken)
    for environment in run.environments:
        if environment.device == "cpu":
            raise BadRecord(f"{path}: measured on a CPU ({environment.name}); only GPUs of the GPU table are read")
    frame = run.frame
    is_attention = frame["op"].isin(["attention_prefill", "attention_decode"])
    columns: dict[str, object] = {
        "op": frame["op"],
        "device": frame["machine"],
        "dtype": frame["dtype"],
        "weight_dtype": frame["dtype"],
        "kv_dtype": frame["dtype"].where(is_attention),
        "kernel_source": frame["implementation"],
        **{name: _numbers(frame[name]) if name in frame else np.nan for name in DIMS},
        "window": 0.0,
        "time_s": frame["time_s"],
        "reason": ("status " + frame["status"]).where(frame["status"] != Status.MEASURED, ""),
    }
    rows = pd.DataFrame(columns).reindex(range(len(frame) + len(run.broken)))
    rows["reason"] = rows["reason"].fillna("a broken line")
    return rows


def _tidy(rows: pd.DataFrame, table: str) -> tuple[pd.DataFrame, npt.NDArray[np.object_]]:
    """The usable rows in the columns of `MeasuredTables.frame`, and for every row why it is left out ("" if usable)."""
    devices = {text: find_device(str(text)) for text in rows.loc[rows["reason"] == "", "device"].dropna().unique()}
    texts = {
        "table": pd.Categorical.from_codes(np.zeros(len(rows), dtype=np.intp), categories=_categories([table])),
        "op": _translate(rows["op"], OPS),
        "device": _translate(rows["device"]),
        "gpu": _translate(rows["device"], devices),
        "dtype": _translate(rows["dtype"], _by_spelling(rows["dtype"], _COMPUTED)),
        "weight_dtype": _translate(rows["weight_dtype"], _by_spelling(rows["weight_dtype"], _STORED)),
        "kv_dtype": _translate(rows["kv_dtype"], _by_spelling(rows["kv_dtype"], _STORED)),
        "dtype_text": _translate(rows["dtype"]),
        "format": _translate(rows["dtype"], _by_spelling(rows["dtype"], _FORMATS)),
        "kernel_source": _translate(rows["kernel_source"]),
    }
    numbers = {name: _whole(rows[name]) for name in (*DIMS, "window")}
    time_s = rows["time_s"].to_numpy(dtype=float)
    reasons = _reasons(rows["reason"], texts, numbers, time_s)
    usable = reasons == ""
    columns = {
        **{name: values[usable] for name, values in texts.items()},
        **{name: _integers(values[usable]) for name, values in numbers.items()},
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
        complete |= (op == each) & np.logical_and.reduce([numbers[name] > 0 for name in DIMS_OF_OP[each]])
    is_attention = np.isfinite(numbers["head_dim"])
    kv_heads = np.fmax(numbers["kv_heads"], 1)  # avoids a division by 0; `complete` refuses such rows
    found = _first_reason(
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


def _first_reason(tests: "Mapping[str, Mask | pd.Series[bool]]", rows: int) -> npt.NDArray[np.object_]:
    """The first test that each row meets; "" where it meets none."""
    reasons = np.full(rows, "", dtype=object)
    for reason in reversed(list(tests)):
        reasons[np.asarray(tests[reason])] = reason
    return reasons


def _column(table: pd.DataFrame, name: str, default: float) -> FloatArray:
    """A column as numbers; `default` where the table or a row lacks it."""
    return _numbers(table[name].fillna(default)) if name in table else np.full(len(table), float(default))


def _numbers(values: "pd.Series[Any]") -> FloatArray:
    """The values as numbers; NaN for anything else."""
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


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


def _by_spelling(values: "pd.Series[Any]", names: Mapping[str, T]) -> dict[str, T]:
    """`names` by the spellings of `values`: upper case and torch's prefix do not matter ("BF16", "torch.bfloat16")."""
    keys = {str(text): str(text).lower().removeprefix("torch.") for text in values.dropna().unique()}
    return {text: names[key] for text, key in keys.items() if key in names}


def _categories(names: Sequence[str]) -> "pd.Index[Any]":
    """The names as categories; the index has dtype object even if it is empty."""
    return pd.Index(names, dtype=object)
