"""Compares tables of kernel times: the share of the roofline that each GPU or table reaches, by op and size.

Shares compare machines of any speed. Times are compared only over shapes that both sides measured.
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
from predict.units import DTYPES, DType, Formats, binary_bytes, find_dtype, percent, times
from predict.workloads import FloatArray
from reports import figures
from reports.accuracy.columns import DIMS_OF_OP
from reports.accuracy.importers import MeasuredTables, dropped_text
from reports.palette import GREY, series_marker, series_style, wide_color
from reports.run.frame import groups_of
from reports.tables import TextTable

MAX_SIDES = 6

# Rows with equal values in these columns get their napkin in one call.
_MACHINE = ("op", "gpu", "dtype", "weight_dtype", "kv_dtype")


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of an op, in classes."""

    title: str  # what is sized
    ends: tuple[int, ...]  # the largest size of each class; one more class, without an end, follows
    is_bytes: bool = False

    def class_of(self, sizes: FloatArray) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        """The index of each size's class."""
        return np.searchsorted(np.array(self.ends), sizes, side="left")

    def text(self, place: int) -> str:
        """A class as text: 17-64, over 4096 or to 64 KiB."""
        if place == len(self.ends):
            return f"over {self.number_text(self.ends[-1])}"
        if self.is_bytes:
            return f"to {self.number_text(self.ends[place])}"
        return f"{self.ends[place - 1] + 1 if place else 1}-{self.ends[place]}"

    def number_text(self, size: int) -> str:
        """A size as text: 4096 or 64 KiB."""
        return binary_bytes(size) if self.is_bytes else str(size)


_MESSAGE = Scale("message", (2**14, 2**18, 2**22, 2**26), is_bytes=True)
SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "matmul": Scale("rows m", (16, 64, 256, 1024, 4096)),
        "moe_layer": Scale("tokens of all GPUs", (16, 64, 256, 1024, 4096)),
        "attention_prefill": Scale("tokens", (256, 1024, 4096, 16384, 65536)),
        "attention_decode": Scale("KV cache read", (2**16, 2**20, 2**24, 2**28, 2**32), is_bytes=True),
        "attention_mla": Scale("latents read", (2**16, 2**20, 2**24, 2**28, 2**32), is_bytes=True),
        "attention_mla_prefill": Scale("tokens", (256, 1024, 4096, 16384, 65536)),
        **dict.fromkeys(COLLECTIVES, _MESSAGE),
    }
)


@dataclass(frozen=True, slots=True)
class TableComparison:
    """The share of the roofline that each side reaches, by op, format and size.

    `sides` are GPUs where the tables hold several, else the tables themselves. A shape counts once on each side, with
    its fastest kernel there. `rows` has one row per op, format, size class and side. Columns: op, format, size_of (what
    is sized), size (the class), side; over all shapes of the side: of_roofline (median share; NaN where no roof is
    known), shapes; over the shapes that every side with this op and format has: common_of_roofline, common_shapes,
    time_ratio (median of this side's time over the first side's).
    """

    sides: tuple[str, ...]
    rows: pd.DataFrame
    notes: tuple[str, ...]


def merge_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each shape, table and kernel, in order of first appearance: repeats become their median."""
    keys = [name for name in frame.columns if name != "time_s"]
    return frame.groupby(keys, observed=True, dropna=False, sort=False)["time_s"].median().reset_index()


def compare_tables(measured_tables: MeasuredTables) -> TableComparison:
    """Compare the GPUs of the tables, or the tables where all are of one GPU.

    Raises BadRecord for fewer than two sides or more than `MAX_SIDES`.
    """
    frame = merge_repeats(measured_tables.frame)
    by = "gpu" if frame["gpu"].nunique() > 1 else "table"
    sides = tuple(str(side) for side in frame[by].unique())
    if not sides:
        raise BadRecord(f"the tables have no usable row: {dropped_text(measured_tables.dropped) or 'they are empty'}")
    if len(sides) < 2:
        raise BadRecord(f"nothing to compare: all rows are of {sides[0]}")
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
    """A side's letter in tables: A, B, C."""
    return "ABCDEF"[place]


def op_tables(comparison: TableComparison) -> list[TextTable]:
    """One text table per op; more than two sides show only shares and times, to fit a terminal."""
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
    """The napkin of each row of `MeasuredTables.frame` by its GPU's datasheet, NaN where that lacks a roof; and the
    number of rows without one, by reason.

    matmul: max(2 m n k / peak, ((m k + m n) a + k n w) / DRAM bandwidth). Attention: 4 heads head_dim FLOP for each
    query and each key within its window; Q and O move in 16 bits, the keys and values of these pairs in v bytes.
    Latent attention and experts: `napkin_s` in `predict.expected.latent` and `.experts`. A collective: W S / bandwidth
    of a link in one direction, with W = (n-1)/n; all_reduce has twice that, or 1 + 1/n where a switch may reduce. a, w
    and v are the bytes of an element in computation (this format decides the peak), in the weights and in the cache.
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
    # A collective multiplies nothing, so any format's peak will do.
    machine = Machine.of(gpu, DTYPES["bf16"] if op in COLLECTIVES else dtype)
    return TIME_MODELS[op].napkin_s(dims, machine, Formats.of(dtype, weight, kv))


def _within(keys: FloatArray, window: FloatArray) -> FloatArray:
    """The most keys that a query attends to; a window of 0 means no window."""
    return np.asarray(np.where(window > 0, np.minimum(keys, window), keys))


def _format_text(frame: pd.DataFrame) -> "pd.Series[str]":
    """The format of each row; it names the format of weights or cache too where that differs: bf16, fp8 KV."""
    text, dtype, weight, kv = (frame[name].astype(object) for name in ("format", "dtype", "weight_dtype", "kv_dtype"))
    # The name of a special kernel, such as int8_wo, already tells the format of its weights.
    text = text.where((text != dtype) | (weight == dtype), text + ", " + weight + " weights")
    return text.where(kv.isna() | (kv == dtype), text + ", " + kv + " KV")


def _fastest(op: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The fastest row of each shape on each side, with the shape's size class in `place`."""
    shape = [*DIMS_OF_OP[op], "window"]
    rows = frame.sort_values("time_s", kind="stable").drop_duplicates(["side", *shape])
    rows = rows[["side", *shape, "time_s", "napkin_s", "kv_dtype"]]
    return rows.assign(place=SCALES[op].class_of(_sizes(op, rows)))


def _sizes(op: str, rows: pd.DataFrame) -> FloatArray:
    """The size of each row, as `SCALES` defines it for the op."""
    if op in COLLECTIVES:
        return _floats(rows, "message_bytes")
    if op == "matmul":
        return _floats(rows, "m")
    if op == "moe_layer":
        return _floats(rows, "tokens")
    if op in ("attention_prefill", "attention_mla_prefill"):
        return _floats(rows, "batch") * _floats(rows, "seq")
    keys = _within(_floats(rows, "context"), _floats(rows, "window"))
    if op == "attention_mla":
        per_key = _floats(rows, "latent") + _floats(rows, "rope")
    else:
        per_key = 2 * _floats(rows, "kv_heads") * _floats(rows, "head_dim")
    elements = _floats(rows, "batch") * keys * per_key
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
    titles = ["format", rows["size_of"].iloc[0], *(f"% of roof {letter}" for letter in letters)]
    if detailed:
        titles += ["shapes A", "shapes B", "shapes of both", "there % of roof A", "there % of roof B"]
    titles += [f"time {letter}/A" for letter in letters[1:]]
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
    return TextTable(op, tuple(titles), tuple(cells), names=2)


def _text(number: float, text: Callable[[float], str]) -> str:
    return text(number) if number > 0 else ""  # also for NaN


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _notes(measured_tables: MeasuredTables, frame: pd.DataFrame, missing: Mapping[str, int]) -> Iterator[str]:
    """Notes on rows that were left out, have no roof or beat the roofline."""
    for (table, reason), rows in measured_tables.dropped.items():
        yield f"{table}: {rows:,} rows left out: {reason}"
    for reason, rows in missing.items():
        yield f"{rows:,} rows without a share of the roofline: {reason}"
    if over := int((frame["napkin_s"] > frame["time_s"]).sum()):
        yield f"{over:,} rows beat the roofline: operands stayed in L2, or the clock exceeded the datasheet's"


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
