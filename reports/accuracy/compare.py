"""Tables of kernel times side by side: the share of the roofline that each GPU or table reaches, by op and size.

Shares compare machines of any speed. Where two sides measured the same shapes, their times are compared as well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from predict.errors import BadRecord, MissingCeiling
from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Machine
from predict.gpus import GPUS, Gpu
from predict.units import DTYPES, DType, Formats, binary_bytes, find_dtype, percent
from predict.workloads import FloatArray
from reports import figures
from reports.accuracy.importers import DIMS_OF_OP, MeasuredTables
from reports.palette import GREY, series_marker, series_style, wide_color
from reports.run.frame import groups_of
from reports.run.tables import times
from reports.tables import TextTable

MAX_SIDES = 6

# What the napkin of all rows is computed with at once.
_MACHINE = ("op", "gpu", "dtype", "weight_dtype", "kv_dtype")


@dataclass(frozen=True, slots=True)
class Scale:
    """What counts as the size of an op, and where its classes end (inclusively); the last class has no end."""

    title: str
    ends: tuple[int, ...]
    is_bytes: bool = False

    def class_of(self, sizes: FloatArray) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        """The number of the class of each size."""
        return np.searchsorted(np.array(self.ends), sizes, side="left")

    def text(self, place: int) -> str:
        """A class in words: 17-64, over 4096; to 64 KiB."""
        if place == len(self.ends):
            return f"over {self.number_text(self.ends[-1])}"
        if self.is_bytes:
            return f"to {self.number_text(self.ends[place])}"
        return f"{self.ends[place - 1] + 1 if place else 1}-{self.ends[place]}"

    def number_text(self, size: int) -> str:
        """A size as the classes say it: 4096; 64 KiB."""
        return binary_bytes(size) if self.is_bytes else str(size)


_MESSAGE = Scale("message", (2**14, 2**18, 2**22, 2**26), is_bytes=True)
SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "matmul": Scale("rows m", (16, 64, 256, 1024, 4096)),
        "attention_prefill": Scale("tokens", (256, 1024, 4096, 16384, 65536)),
        "attention_decode": Scale("KV cache read", (2**16, 2**20, 2**24, 2**28, 2**32), is_bytes=True),
        **dict.fromkeys(COLLECTIVES, _MESSAGE),
    }
)


@dataclass(frozen=True, slots=True)
class TableComparison:
    """What each side reaches, by op, format and size.

    `sides` are GPUs where the tables hold several, else the tables themselves. Each shape counts once, by the fastest
    kernel of its side. `rows` has one row per op, format, size class and side: op, format, size_of (what is sized),
    size (the class), side, of_roofline (median share; NaN where no roof is known) and shapes, over all shapes of the
    side; common_of_roofline, common_shapes and time_ratio (median of time over the first side's), over the shapes that
    every side with this op and format has.
    """

    sides: tuple[str, ...]
    rows: pd.DataFrame
    notes: tuple[str, ...]


def merge_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each shape, table and kernel: repeated measurements become their median, in order of first sight."""
    keys = [name for name in frame.columns if name != "time_s"]
    return frame.groupby(keys, observed=True, dropna=False, sort=False)["time_s"].median().reset_index()


def compare_tables(measured_tables: MeasuredTables) -> TableComparison:
    """Put the GPUs of the tables side by side, or the tables where all are of one GPU.

    Raises BadRecord where there is only one side, or more than `MAX_SIDES`.
    """
    frame = merge_repeats(measured_tables.frame)
    by = "gpu" if frame["gpu"].nunique() > 1 else "table"
    sides = tuple(str(side) for side in frame[by].unique())
    if len(sides) < 2:
        raise BadRecord(f"nothing to compare: all rows are of {sides[0]}" if sides else "the tables have no usable row")
    if len(sides) > MAX_SIDES:
        raise BadRecord(f"{len(sides)} {by}s side by side are too many: compare at most {MAX_SIDES}")
    bounds, missing = napkin_s(frame)
    frame = frame.assign(side=frame[by].astype(object), napkin_s=bounds, format=_format_text(frame))
    rows = [
        row
        for op in SCALES
        for (name,), shapes in groups_of(frame[frame["op"] == op], ["format"])
        for row in _rows(op, name, _fastest(op, shapes), sides)
    ]
    return TableComparison(sides, pd.DataFrame(rows), tuple(_notes(measured_tables, frame, missing)))


def side_letter(place: int) -> str:
    """What a side is called in tables: A, B, C."""
    return "ABCDEF"[place]


def op_tables(comparison: TableComparison) -> list[TextTable]:
    """One table per op as text; of more than two sides only shares and times, to fit a terminal."""
    rows = comparison.rows
    return [_op_table(op, rows[rows["op"] == op], comparison.sides) for op in rows["op"].unique()]


@figures.house_style()
def draw_table_comparison(comparison: TableComparison) -> Figure:
    """Median share of the roofline against size, by op (panel), side (color) and format (style)."""
    rows = comparison.rows.dropna(subset=["of_roofline"])
    ops = [op for op in SCALES if op in set(rows["op"])]
    if not ops:
        raise figures.NothingToDraw("no row has a roof: none of these GPUs has one for these formats")
    figure, panels = figures.make_figure(
        "median by size, over the shapes that all of them have (of a format that only one has: over its own)",
        f"Share of the roofline that kernels reach: {', '.join(comparison.sides)}",
        panels=len(ops),
    )
    formats = list(dict.fromkeys(rows["format"]))
    for axes, op in zip(panels, ops, strict=True):
        _draw_op(axes, op, rows[rows["op"] == op], comparison.sides, formats)
    handles = [
        figures.legend_line(side, color=wide_color(place), width=3) for place, side in enumerate(comparison.sides)
    ]
    handles += [
        figures.legend_line(name, color=GREY, linestyle=series_style(place), marker=series_marker(place))
        for place, name in enumerate(formats)
    ]
    figures.legend_below(figure, handles)
    return figure


def napkin_s(frame: pd.DataFrame) -> tuple[FloatArray, Mapping[str, int]]:
    """Least time of each row of `MeasuredTables.frame` by its GPU's datasheet, NaN where that has no such roof; then
    how many rows have none, by reason.

    matmul max(2 m n k / peak, (m k + m n) a + k n w over DRAM); attention 4 heads head_dim FLOP for each pair of a
    query and a key within its window, Q and O in 16 bits and the keys and values met in v bytes; a collective W S /
    link, one direction, W = (n-1)/n, for all_reduce twice that, or 1 + 1/n where a switch may reduce. a, w, v: bytes of
    the format computed with (which decides the peak), of the weights, of the cache.
    """
    bounds = np.full(len(frame), np.nan)
    missing: dict[str, int] = {}
    machines = frame[list(_MACHINE)].astype(object).reset_index(drop=True)
    machines["kv_dtype"] = machines["kv_dtype"].fillna(machines["dtype"])
    for (op, gpu, *formats), group in groups_of(machines, _MACHINE):
        rows = frame.iloc[group.index]
        dims = {name: _floats(rows, name) for name in (*DIMS_OF_OP[op], "window")}
        try:
            bounds[group.index] = _bound_s(op, dims, GPUS[gpu], *map(find_dtype, formats))
        except MissingCeiling as error:
            reason = f"{gpu}: {str(error).partition(' (')[0]}"
            missing[reason] = missing.get(reason, 0) + len(rows)
    return bounds, missing


def _bound_s(op: str, dims: Mapping[str, FloatArray], gpu: Gpu, dtype: DType, weight: DType, kv: DType) -> FloatArray:
    """Least time of rows of one op on one GPU in one set of formats; raises MissingCeiling."""
    # A collective multiplies nothing: the peak of its format plays no part.
    machine = Machine.of(gpu, DTYPES["bf16"] if op in COLLECTIVES else dtype)
    return TIME_MODELS[op].napkin_s(dims, machine, Formats.of(dtype, weight, kv))


def _within(keys: FloatArray, window: FloatArray) -> FloatArray:
    """How many of `keys` a query meets at most; a window of 0 is none."""
    return np.asarray(np.where(window > 0, np.minimum(keys, window), keys))


def _format_text(frame: pd.DataFrame) -> "pd.Series[str]":
    """The format of each row, with that of the weights or the cache where it is another: bf16, fp8 KV."""
    text, dtype, weight, kv = (frame[name].astype(object) for name in ("format", "dtype", "weight_dtype", "kv_dtype"))
    # A kernel of its own says in its name what its weights are.
    text = text.where((text != dtype) | (weight == dtype), text + ", " + weight + " weights")
    return text.where(kv.isna() | (kv == dtype), text + ", " + kv + " KV")


def _fastest(op: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The fastest kernel of each shape on each side, and the size of the shape."""
    shape = [*DIMS_OF_OP[op], "window"]
    rows = frame.sort_values("time_s", kind="stable").drop_duplicates(["side", *shape])
    rows = rows[["side", *shape, "time_s", "napkin_s", "kv_dtype"]]
    return rows.assign(place=SCALES[op].class_of(_sizes(op, rows)))


def _sizes(op: str, rows: pd.DataFrame) -> FloatArray:
    """What `SCALES` says the size of each row is."""
    if op in COLLECTIVES:
        return _floats(rows, "message_bytes")
    if op == "matmul":
        return _floats(rows, "m")
    if op == "attention_prefill":
        return _floats(rows, "batch") * _floats(rows, "seq")
    keys = _within(_floats(rows, "context"), _floats(rows, "window"))
    elements = 2 * _floats(rows, "batch") * keys * _floats(rows, "kv_heads") * _floats(rows, "head_dim")
    element_bytes = rows["kv_dtype"].map(lambda name: find_dtype(name).bytes).to_numpy(dtype=np.float64)
    return np.asarray(elements * element_bytes)


def _floats(rows: pd.DataFrame, name: str) -> FloatArray:
    return np.asarray(rows[name], dtype=np.float64)


def _rows(op: str, name: str, shapes: pd.DataFrame, sides: Sequence[str]) -> Iterator[dict[str, object]]:
    """The rows of `TableComparison` for one op and format."""
    shape = [*DIMS_OF_OP[op], "window"]
    first = shapes.loc[shapes["side"] == sides[0], [*shape, "time_s"]]
    shapes = shapes.merge(first, on=shape, how="left", suffixes=("", "_first"))
    shapes["of_roofline"] = shapes["napkin_s"] / shapes["time_s"]
    shapes["time_ratio"] = shapes["time_s"] / shapes["time_s_first"]
    measured_by = shapes.groupby(shape)["side"].transform("size")
    shapes["is_common"] = (measured_by == shapes["side"].nunique()) & (measured_by > 1)
    for (place,), of_size in groups_of(shapes, ["place"]):
        for side in sides:
            own = of_size[of_size["side"] == side]
            common = own[own["is_common"]]
            if not own.empty:
                yield {
                    "op": op,
                    "format": name,
                    "size_of": SCALES[op].title,
                    "size": SCALES[op].text(place),
                    "side": side,
                    "of_roofline": own["of_roofline"].median(),
                    "shapes": len(own),
                    "common_of_roofline": common["of_roofline"].median(),
                    "common_shapes": len(common),
                    "time_ratio": common["time_ratio"].median(),
                }


def _op_table(op: str, rows: pd.DataFrame, sides: Sequence[str]) -> TextTable:
    detailed = len(sides) == 2
    letters = [side_letter(place) for place in range(len(sides))]
    titles = ["format", rows["size_of"].iloc[0], *(f"% of\nroof {letter}" for letter in letters)]
    if detailed:
        titles += ["shapes\nA", "shapes\nB", "shapes\nof both", "there %\nof roof A", "there %\nof roof B"]
    titles += [f"time\n{letter}/A" for letter in letters[1:]]
    cells = []
    for (name, size), of_size in rows.groupby(["format", "size"], sort=False):
        by_side = of_size.set_index("side").reindex(list(sides))
        row = [str(name), str(size), *(_text(share, percent) for share in by_side["of_roofline"])]
        if detailed:
            row += [_text(number, _count) for number in by_side["shapes"]]
            row.append(_text(by_side["common_shapes"].max(), _count))
            row += [_text(share, percent) for share in by_side["common_of_roofline"]]
        row += [_text(ratio, times) for ratio in by_side["time_ratio"][1:]]
        cells.append(tuple(row))
    return TextTable(op, tuple(titles), tuple(cells))


def _text(number: float, text: Callable[[float], str]) -> str:
    return text(number) if number > 0 else ""  # NaN is not


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _notes(measured_tables: MeasuredTables, frame: pd.DataFrame, missing: Mapping[str, int]) -> Iterator[str]:
    """What was left out or has no roof, and what is faster than its roofline."""
    for (table, reason), rows in measured_tables.dropped.items():
        yield f"{table}: {rows:,} rows left out: {reason}"
    for reason, rows in missing.items():
        yield f"{rows:,} rows without a share of the roofline: {reason}"
    if over := int((frame["napkin_s"] > frame["time_s"]).sum()):
        yield f"{over:,} rows beat the roofline: operands that stayed in L2, or a clock above the datasheet's"


def _draw_op(axes: Axes, op: str, rows: pd.DataFrame, sides: Sequence[str], formats: Sequence[str]) -> None:
    """The lines of one op."""
    scale = SCALES[op]
    sizes = [scale.text(place) for place in range(len(scale.ends) + 1)]
    for side_place, side in enumerate(sides):
        for place, name in enumerate(formats):
            line = rows[(rows["side"] == side) & (rows["format"] == name)]
            share = line["common_of_roofline"] if line["common_shapes"].any() else line["of_roofline"]
            axes.plot(
                [sizes.index(size) for size in line["size"]], share * 100,
                color=wide_color(side_place), linestyle=series_style(place), marker=series_marker(place), alpha=0.85,
            )  # fmt: skip
    axes.axhline(100, color="black", linewidth=1)
    axes.set_xticks(range(len(sizes)), [*map(scale.number_text, scale.ends), "more"])
    axes.set_ylim(0, None)
    figures.percent_ticks(axes.yaxis)
    axes.set_title(op.replace("_", " "))
    axes.set_xlabel(f"{scale.title}, up to")
