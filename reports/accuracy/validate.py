"""Compares expected time with measured tables: calibrates from at most 16 rows of a group, judges on all others.

    python -m reports validate h100-sxm_gemm_vllm-0.24.0.parquet --gpu h100 --out runs/validation

prints the errors of each group, and writes figures and the worst rows.

A group is one kernel family: one table, op, format, cache format, kernel source, and with or without a window. Rows
that cannot be true are left out first (`possible`), then rows of one shape are merged by their median.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from predict.errors import BadRecord, MissingCeiling
from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS, resolve_all
from predict.units import DTYPES, DType, Formats, find_dtype, percent
from predict.workloads import FloatArray
from reports.accuracy.columns import Mask
from reports.accuracy.importers import MeasuredTables, dropped_text
from reports.accuracy.possible import least_times, why_impossible
from reports.accuracy.relatives import ByRelative, Identity, by_relative, relative_json
from reports.calibration.errors import errors
from reports.calibration.fit import LARGEST_HEAD_DIM, PROBES, calibrate, choose_probes
from reports.calibration.refine import Sample

MIN_SHAPES = 200  # a `FAMILY` with fewer shapes, over all its ops, is left out
MIN_SIZES = 12  # except for a collective of at least so many sizes for each number of GPUs: a sweep of all sizes
GROUP = ("table", "gpu", "op", "dtype", "weight_dtype", "dtype_text", "kv_dtype", "windowed", "kernel_source")
FAMILY = tuple(name for name in GROUP if name != "op")
NAMES = ("table", "gpu", "op", "dtype", "kv_dtype", "window", "kernel_source")
_LATENT = ("attention_mla", "attention_mla_prefill")
# Largest mean error of expected time that passes on any GPU, by op and format. DESIGNED_BARS are for GPUs that the time
# models were designed on; a GPU whose L2 holds what others read from DRAM is harder to predict.
BARS: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("matmul", "bf16"): 0.09,
        ("matmul", "fp8"): 0.16,
        ("attention_prefill", "bf16"): 0.12,
        ("attention_decode", "bf16"): 0.13,
        **{(op, "bf16"): 0.14 for op in _LATENT},
        ("moe_layer", "bf16"): 0.22,
        **{("all_reduce", dtype): 0.12 for dtype in ("bf16", "fp16", "int8")},
    }
)
_ATTENTION = ("attention_prefill", "attention_decode")
DESIGNED_BARS: Mapping[tuple[str, str, str], float] = MappingProxyType(
    {
        ("a100-sxm-80gb", "matmul", "bf16"): 0.075,
        ("h100-sxm", "matmul", "bf16"): 0.06,
        ("h200-sxm", "matmul", "bf16"): 0.065,
        ("b200", "matmul", "bf16"): 0.075,
        ("h100-sxm", "matmul", "fp8"): 0.14,
        **{(gpu, op, "bf16"): 0.08 for gpu in ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200") for op in _ATTENTION},
        **{("l40s", op, "bf16"): 0.13 for op in ("matmul", *_ATTENTION)},
        ("l40s", "matmul", "fp8"): 0.19,  # its library picks tiles by m alone, in steps that the form does not know
        **{("rtx-pro-6000-blackwell-server", op, "bf16"): 0.14 for op in ("matmul", *_ATTENTION)},
        **{(gpu, op, "bf16"): 0.10 for gpu in ("a100-sxm-80gb", "h100-sxm") for op in _LATENT},
        **{(gpu, "moe_layer", "bf16"): 0.18 for gpu in ("a100-sxm-80gb", "h100-sxm")},
        **{(gpu, "all_reduce", dtype): 0.09 for gpu in ("a100-sxm-80gb", "h100-sxm") for dtype in ("fp16", "int8")},
    }
)
MAX_FASTER_THAN_BOUND = 0.005  # share of rows; operands that stay in L2 beat the bound


@dataclass(frozen=True, slots=True)
class Group:
    """One group: its identity, its calibration and its shapes.

    `rows` has one row per shape: the op's dimensions, time_s, napkin_s, expected_s, is_probe and the terms of expected
    time (`term_...`).
    """

    table: str
    gpu: str
    op: str
    dtype: str
    kv_dtype: str | None
    window: bool
    kernel_source: str
    calibration: Calibration
    rows: pd.DataFrame
    skipped: Mapping[str, int]
    shapes: Sample  # of `rows`
    relative: ByRelative  # times of `rows` by another GPU's measurements

    @property
    def identity(self) -> Identity:
        """Which kernels these are."""
        return Identity(self.gpu, self.op, self.dtype, self.kv_dtype, self.window, self.kernel_source)

    @property
    def judged(self) -> pd.DataFrame:
        """The predicted shapes: all but the probes."""
        return self.rows[self.is_judged]

    @property
    def is_judged(self) -> Mask:
        """Which of `rows` are predicted: all but the probes."""
        return ~self.rows["is_probe"].to_numpy()

    @property
    def is_plain(self) -> bool:
        """Whether it has no window, and its cache the format of its products."""
        return not self.window and self.kv_dtype in (None, self.dtype)

    @property
    def formats(self) -> str:
        """The format, then the cache's where it differs, then "window" where there is one: bf16, fp8 cache, window."""
        cache = f", {self.kv_dtype} cache" if self.kv_dtype not in (None, self.dtype) else ""
        return f"{self.dtype}{cache}{', window' if self.window else ''}"

    @property
    def title(self) -> str:
        """Op, formats and GPU in one line."""
        return f"{self.op} {self.formats} on {self.gpu}"


@dataclass(frozen=True, slots=True)
class Validation:
    """The validated groups, and the rows that were left out."""

    groups: tuple[Group, ...]
    skipped: Mapping[tuple[str, str], int]  # (table, reason) -> rows


def validate(measured_tables: MeasuredTables, gpu: str | None = None, leave_out: Collection[str] = ()) -> Validation:
    """Calibrate and predict every group; skip a group whose GPU lacks a peak that it needs. What ships of the GPUs
    `leave_out`, and of a group's own, refines nothing. Raises BadRecord if a table's device is not `gpu`, or if every
    group was skipped or is too small."""
    frame = measured_tables.frame
    _check_gpu(frame, gpu)
    frame = frame.assign(windowed=frame["window"] > 0)
    skipped = dict(measured_tables.dropped)
    groups: list[Group] = []
    for key, family in frame.groupby(list(FAMILY), observed=True, dropna=False):
        table = str(key[0])
        ops = {str(op): _possible(str(op), rows, skipped) for op, rows in family.groupby("op", observed=True)}
        shapes = {op: _merge(op, rows) for op, rows in ops.items() if len(rows)}
        total = sum(map(len, shapes.values()))
        for op, merged in shapes.items():
            if total < MIN_SHAPES and not _is_sweep(op, merged):
                _count(skipped, table, f"group of fewer than {MIN_SHAPES} shapes", len(ops[op]))
            else:
                groups.append(_group(table, op, ops[op], merged, leave_out))
    if not groups:
        raise BadRecord(f"nothing can be validated: {dropped_text(skipped) or 'the tables have no rows'}")
    return Validation(tuple(groups), MappingProxyType(skipped))


def usual_heads(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with head_dim up to LARGEST_HEAD_DIM; all rows of an op without heads."""
    return rows[rows["head_dim"] <= LARGEST_HEAD_DIM] if "head_dim" in rows else rows


def group_json(group: Group, skipped: Mapping[tuple[str, str], int]) -> dict[str, object]:
    """One entry of `validate --json`."""
    found, usual = errors(group.judged), usual_heads(group.judged)
    entry: dict[str, object] = {name: getattr(group, name) for name in NAMES}
    of_table = {reason: rows for (table, reason), rows in skipped.items() if table == group.table}
    entry |= {
        **relative_json(group.relative, group.shapes.time_s, group.is_judged),
        "rows": found.rows,
        "rows_skipped": {**group.skipped, **of_table},
        "calibration": _calibration_json(group),
        "mape_napkin": found.mape_napkin,
        "mape_expected": found.mape_expected,
        "median_error": found.median_error,
        "p90_error": found.p90_error,
        "within_30_percent": found.within_30_percent,
        "faster_than_bound": found.faster_than_bound,
        "faster_than_bound_rows": _faster(group),
    }
    if 0 < len(usual) < found.rows:
        entry["mape_expected_head_dim_to_256"] = errors(usual).mape_expected
    return entry


def bar_of(group: Group) -> float | None:
    """The largest mean error over `usual_heads` with which this group passes. None where no bar applies: a window, a
    cache in another format, larger heads only, an op or format without a bar."""
    if not group.is_plain or usual_heads(group.judged).empty:
        return None
    return DESIGNED_BARS.get((group.gpu, group.op, group.dtype), BARS.get((group.op, group.dtype)))


def over_the_bar(groups: Iterable[Group]) -> list[str]:
    """One line for each group that misses its bar, and one for each with too many rows faster than the napkin."""
    failures = []
    for group in groups:
        if (bar := bar_of(group)) is None:
            continue
        found, name = errors(usual_heads(group.judged)), f"{group.title} ({group.table})"
        if found.mape_expected > bar:
            failures.append(f"{name}: expected time is off by {percent(found.mape_expected)}, more than {percent(bar)}")
        if found.faster_than_bound > MAX_FASTER_THAN_BOUND * found.rows:
            failures.append(f"{name}: {found.faster_than_bound} of {found.rows} rows are faster than the bound")
    return failures


def only_possible(measured_tables: MeasuredTables) -> MeasuredTables:
    """The tables without the rows that cannot be true, which count as left out. A row whose GPU lacks a peak stays."""
    frame = measured_tables.frame.assign(windowed=measured_tables.frame["window"] > 0)
    dropped = dict(measured_tables.dropped)
    kept = [frame.index[:0]]
    for _, rows in frame.groupby([*FAMILY, "op"], observed=True, dropna=False):
        try:
            kept.append(_without_impossible(str(rows["op"].iloc[0]), rows, dropped).index)
        except MissingCeiling:
            kept.append(rows.index)
    places = np.sort(np.concatenate(kept).astype(np.intp))
    return MeasuredTables(measured_tables.frame.iloc[places], MappingProxyType(dropped))


def _possible(op: str, rows: pd.DataFrame, skipped: dict[tuple[str, str], int]) -> pd.DataFrame:
    """The rows of one kernel that can be true; none if the GPU lacks a peak that the op needs."""
    try:
        return _without_impossible(op, rows, skipped)
    except MissingCeiling as error:
        _count(skipped, str(rows["table"].iloc[0]), str(error), len(rows))
        return rows.iloc[:0]


def _without_impossible(op: str, rows: pd.DataFrame, skipped: dict[tuple[str, str], int]) -> pd.DataFrame:
    """The rows of one kernel that can be true. Raises MissingCeiling if the GPU lacks a peak that the op needs."""
    first = rows.iloc[0]
    dtype, formats = _formats(op, first)
    columns = _dims(op, rows)
    least_s = least_times(op, columns, GPUS[str(first["gpu"])], dtype, formats)
    why = why_impossible(columns, rows["time_s"].to_numpy(), least_s)
    for reason, count in zip(*np.unique(why[why != ""].astype(str), return_counts=True), strict=True):
        _count(skipped, str(first["table"]), str(reason), int(count))
    possible: pd.DataFrame = rows[why == ""]
    return possible


def _is_sweep(op: str, shapes: pd.DataFrame) -> bool:
    """Whether a collective was measured at enough sizes to be judged."""
    return op in COLLECTIVES and len(shapes) >= MIN_SIZES * shapes["gpus"].nunique()


def _formats(op: str, row: "pd.Series[Any]") -> tuple[DType, Formats]:
    """The format whose peak counts, and all formats of a kernel."""
    dtype, weight = find_dtype(str(row["dtype"])), find_dtype(str(row["weight_dtype"]))
    kv = None if pd.isna(row["kv_dtype"]) else find_dtype(str(row["kv_dtype"]))
    # A collective multiplies nothing, so any peak will do; the GPU may lack one in the collective's format.
    return DTYPES["bf16"] if op in COLLECTIVES else dtype, Formats.of(dtype, weight, kv)


def _dims(op: str, rows: pd.DataFrame) -> dict[str, FloatArray]:
    return {name: rows[name].to_numpy(dtype=np.float64) for name in TIME_MODELS[op].dims}


def _conditions(op: str, row: "pd.Series[Any]", count: int) -> dict[str, FloatArray]:
    """The conditions under which all rows of a group were measured, as far as tables tell them."""
    told = (name for name in TIME_MODELS[op].conditions if name in row)
    return {name: np.full(count, float(row[name])) for name in told}


def _group(table: str, op: str, measured: pd.DataFrame, shapes: pd.DataFrame, leave_out: Collection[str]) -> Group:
    first = measured.iloc[0]
    dtype, formats = _formats(op, first)
    machine = Machine.of(GPUS[str(first["gpu"])], dtype)
    columns = _dims(op, shapes) | _conditions(op, first, len(shapes))
    time_s = shapes["time_s"].to_numpy()
    probes = choose_probes(op, columns, machine, formats, most=min(PROBES, len(shapes) // 2))
    source = f"{len(probes)} probes of {table}, {first['kernel_source']}"
    all_shapes = Sample(op, columns, time_s, machine, formats)
    probed = all_shapes.at(probes)
    calibration = calibrate(op, probed.columns, probed.time_s, machine, formats, source)
    terms = expect(columns, machine, formats, calibration)
    identity = Identity(
        gpu=str(first["gpu"]),
        op=op,
        format=str(first["format"]),
        cache=None if pd.isna(first["kv_dtype"]) else str(first["kv_dtype"]),
        window=bool(first["windowed"]),
        kernel=str(first["kernel_source"]),
    )
    rows = pd.DataFrame(
        {
            **columns,
            "time_s": time_s,
            "napkin_s": TIME_MODELS[op].napkin_s(columns, machine, formats),
            "expected_s": terms.time_s,
            "is_probe": np.isin(np.arange(len(shapes)), probes),
            **{f"term_{name}": part for name, part in terms.parts.items()},
        }
    )
    repeated = len(measured) - len(shapes)
    skipped = {"probe": len(probes), **({"repeated shape, merged by its median": repeated} if repeated else {})}
    return Group(
        table=table,
        gpu=identity.gpu,
        op=op,
        dtype=identity.format,
        kv_dtype=identity.cache,
        window=identity.window,
        kernel_source=identity.kernel,
        calibration=calibration,
        rows=rows,
        skipped=MappingProxyType(skipped),
        shapes=all_shapes,
        relative=by_relative(all_shapes, identity, probes, calibration, leave_out),
    )


def _merge(op: str, rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each shape, with its median time; in the order of the dimensions."""
    dims = list(TIME_MODELS[op].dims)
    return rows.groupby(sorted(dims), sort=True)["time_s"].median().reset_index()


def _check_gpu(frame: pd.DataFrame, gpu: str | None) -> None:
    if gpu is None:
        return
    meant = {each.name for each in resolve_all(gpu)}
    for table, device, name in frame[["table", "device", "gpu"]].drop_duplicates().itertuples(index=False):
        if name not in meant:
            raise BadRecord(f"{table} was measured on {device} ({name}), not on --gpu {gpu}")


def _calibration_json(group: Group) -> dict[str, object]:
    model = TIME_MODELS[group.op]
    constants = {
        name: {"value": value, "unit": model.constants[name].unit, "rows": group.calibration.probes}
        for name, value in group.calibration.constants.items()
    }
    return {**constants, "switches": dict(group.calibration.switches), "probes": group.calibration.probes}


def _faster(group: Group, most: int = 20) -> list[dict[str, float]]:
    """The rows faster than the napkin, the furthest below it first."""
    under = group.judged[group.judged["time_s"] < group.judged["napkin_s"]]
    under = under.assign(of_bound=under["time_s"] / under["napkin_s"]).nsmallest(most, "of_bound")
    columns = [*TIME_MODELS[group.op].dims, "time_s", "napkin_s"]
    return [{str(name): float(value) for name, value in row.items()} for row in under[columns].to_dict("records")]


def _count(skipped: dict[tuple[str, str], int], table: str, reason: str, rows: int) -> None:
    skipped[table, reason] = skipped.get((table, reason), 0) + rows


def worst_rows(group: Group, count: int = 20) -> pd.DataFrame:
    """The rows with the largest error, each with the largest term of its expected time and its neighbors' ratio.

    `neighbors` is the median of measured over expected among the nearest shapes. If it is near the row's own ratio, the
    model misses this region. If it is near 1, only this row is off: a disturbed measurement, or a kernel of its own.
    """
    rows = group.judged.assign(ratio=group.judged["time_s"] / group.judged["expected_s"])
    far = np.abs(np.log(rows["ratio"]))
    worst = rows.loc[far.nlargest(count).index].copy()
    terms = [str(name) for name in rows if str(name).startswith("term_")]
    worst["largest_term"] = [name.removeprefix("term_") for name in worst[terms].idxmax(axis=1)]
    dims = list(TIME_MODELS[group.op].dims)
    points = np.log2(rows[dims].to_numpy() + 1)
    worst["neighbors"] = [
        _neighbors(points, rows["ratio"].to_numpy(), np.log2(row + 1)) for row in worst[dims].to_numpy()
    ]
    worst["why"] = [
        _why(ratio, around, term)
        for ratio, around, term in zip(worst["ratio"], worst["neighbors"], worst["largest_term"], strict=True)
    ]
    shown: pd.DataFrame = worst[
        [*dims, "time_s", "expected_s", "napkin_s", "ratio", "largest_term", "neighbors", "why"]
    ]
    return shown


def _neighbors(points: FloatArray, ratios: FloatArray, point: FloatArray, count: int = 8) -> float:
    distance = np.abs(points - point).sum(axis=1)
    nearest = np.argsort(distance, kind="stable")[1 : count + 1]
    return float(np.median(ratios[nearest]))


def _why(ratio: float, around: float, term: str) -> str:
    """Whether the row or its region is off."""
    if abs(np.log(around)) < abs(np.log(ratio)) / 3:
        return "this row alone: its neighbors are as expected"
    direction = "slower" if ratio > 1 else "faster"
    return f"its region is {direction} than the model predicts; {term} is its largest term"
