"""Measured times of kernels, of runs and of tables, found by op, format and size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from predict.errors import BadRecord, BadRun
from predict.gpus import GPUS, Gpu
from predict.resources import Roofs
from predict.terminal import printable
from predict.units import duration
from predict.workloads import OPS, FloatArray, dim_names
from reports.accuracy.importers import read_tables
from reports.comparison.sides import Side, is_run, read_sides
from reports.run.frame import DIMS_OF_OP

VARIED = ("m", "seq", "context")  # the dimension that a kernel is drawn over: the first of these that its op has
LEAST_SIZES = 3  # of a family that a page offers
ABSENT = -1  # an optional dimension that a row leaves out


@dataclass(frozen=True, slots=True)
class Family:
    """Measured rows that differ in one dimension alone."""

    op: str
    dtype: str
    fixed: Mapping[str, int]  # the other dimensions
    sizes: int  # how many different ones were measured


@dataclass(frozen=True, slots=True)
class Point:
    """One measured time."""

    size: int  # of the dimension that varies
    time_s: float
    by: str  # the implementation or kernel
    says: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The measured times of one op in one format."""

    dims: Mapping[str, npt.NDArray[np.int64]]
    times_s: FloatArray
    by: npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Source:
    """What one machine measured: a run, or all tables of a GPU."""

    name: str
    machine: str
    gpu: Gpu | None  # None: a CPU
    roofs: Roofs  # datasheet roofs of a GPU, measured ones of a CPU
    rows: Mapping[tuple[str, str], Rows]  # by op and format
    families: tuple[Family, ...]  # most sizes first

    def points(self, op: str, dtype: str, fixed: Mapping[str, int]) -> Iterator[Point]:
        """The measured times at these sizes, whatever the dimension that varies."""
        rows, vary = self.rows.get((op, dtype)), varied(op)
        if rows is None or vary is None:
            return
        of_it = np.ones(len(rows.times_s), dtype=np.bool_)
        for name, sizes in rows.dims.items():
            if name != vary:
                of_it &= sizes == fixed.get(name, ABSENT)
        sizes = rows.dims[vary]
        shape = ", ".join(f"{name} {each:,}" for name, each in fixed.items())
        for place in np.flatnonzero(of_it).tolist():
            size, time_s, by = int(sizes[place]), float(rows.times_s[place]), str(rows.by[place])
            says = f"{duration(time_s, 4)} by {by}, {self.name}: {op} {shape}, {vary} {size:,} in {dtype}"
            yield Point(size, time_s, by, says)


def varied(op: str) -> str | None:
    """The dimension that the op is drawn over; None if it has none of `VARIED`."""
    return next((name for name in VARIED if name in DIMS_OF_OP[op]), None) if op in OPS else None


def read_sources(runs: Sequence[Path], tables: Sequence[Path]) -> tuple[Source, ...]:
    """The runs, each a source, and the tables, a source for each GPU. Raises BadRun for a run among the tables, a table
    among the runs and one that is given twice, BadRecord for tables without a row that can be drawn, and the errors of
    reading them."""
    for path in runs:
        if path.exists() and not is_run(path):
            raise BadRun(f"--run takes folders of runs, and {path} is a file: give it to --tables")
    for place, path in enumerate(tables):
        if path.resolve() in {each.resolve() for each in tables[:place]}:
            raise BadRun(f"{path} is given twice: give each table once")
        if not path.exists():
            raise BadRecord(f"{path}: no such file; give tables of kernel times")
        if is_run(path):
            raise BadRun(f"--tables takes tables, and {path} is a run: give it to --run")
    measured = [_of_run(side) for side in read_sides(runs)] if runs else []
    listed = tuple(_of_tables(tables)) if tables else ()
    if tables and not any(source.rows for source in listed):
        names = ", ".join(map(str, tables))
        raise BadRecord(
            f"{names}: no row can be drawn; give times of matmul or attention in one format, without a window"
        )
    return (*measured, *listed)


def _of_run(side: Side) -> Source:
    run = side.run
    assert run is not None
    frame = run.frame
    frame = frame[(frame["status"] == "measured") & frame["op"].isin(list(OPS))]
    rows = {
        (str(op), str(dtype)): _rows(group, DIMS_OF_OP[str(op)], group["implementation"])
        for (op, dtype), group in frame.groupby(["op", "dtype"], sort=True)
    }
    return _source(f"run {side.name}", side.machine, GPUS.get(side.machine), run.roofs.primary, rows)


def _of_tables(paths: Sequence[Path]) -> Iterator[Source]:
    """Rows that compare with the op of their name: all operands in one format, and no window."""
    frame = read_tables(paths).frame
    plain = frame["format"].astype(object) == frame["dtype"].astype(object)
    for name in ("weight_dtype", "kv_dtype"):
        stored = frame[name].astype(object)
        plain &= stored.isna() | (stored == frame["dtype"].astype(object))
    frame = frame[plain & (frame["window"].fillna(0) == 0)]
    for gpu, of_gpu in frame.groupby("gpu", observed=True, sort=True):
        rows = {
            (str(op), str(dtype)): _rows(group, dim_names(str(op)), group["kernel_source"])
            for (op, dtype), group in of_gpu.groupby(["op", "dtype"], observed=True, sort=True)
            if str(op) in OPS and set(dim_names(str(op))) <= set(group.columns)
        }
        yield _source(f"tables of {gpu}", str(gpu), GPUS[str(gpu)], GPUS[str(gpu)].roofs, rows)


def _rows(group: pd.DataFrame, dims: Iterable[str], by: pd.Series) -> Rows:
    sizes = {name: group[name].fillna(ABSENT).to_numpy(dtype=np.int64) for name in dims}
    names = np.array([printable(str(each)) for each in by], dtype=np.object_)
    return Rows(sizes, group["time_s"].to_numpy(dtype=np.float64), names)


def _source(name: str, machine: str, gpu: Gpu | None, roofs: Roofs, rows: Mapping[tuple[str, str], Rows]) -> Source:
    found = [each for (op, dtype), of_op in rows.items() for each in _families(op, dtype, of_op)]
    ordered = sorted(found, key=lambda each: (-each.sizes, each.op, each.dtype, tuple(each.fixed.items())))
    return Source(printable(name), printable(machine), gpu, roofs, rows, tuple(ordered))


def _families(op: str, dtype: str, rows: Rows) -> Iterator[Family]:
    vary = varied(op)
    if vary is None:
        return
    others = [name for name in rows.dims if name != vary]
    frame = pd.DataFrame(dict(rows.dims))
    counts = frame.groupby(others)[vary].nunique() if others else pd.Series([frame[vary].nunique()], index=[()])
    for sizes, count in counts[counts >= LEAST_SIZES].items():
        values = sizes if isinstance(sizes, tuple) else (sizes,)
        fixed = {name: int(size) for name, size in zip(others, values, strict=True) if int(size) != ABSENT}
        yield Family(op, dtype, fixed, int(count))
