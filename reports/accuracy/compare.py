"""Compares machines by the share of the roofline that each reaches, by op, format and size.

Shares compare machines of any speed. Times are compared only over shapes that all sides measured.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from predict.errors import BadRecord
from predict.units import percent, times
from reports import figures
from reports.accuracy.importers import MeasuredTables, dropped_text
from reports.accuracy.shapes import in_order, scale_of, shapes_of
from reports.palette import GREY, series_marker, series_style, side_colors
from reports.run.frame import groups_of
from reports.tables import TextTable


@dataclass(frozen=True, slots=True)
class ShareComparison:
    """The share of the roofline that each side reaches, by op, format and size.

    A shape counts once on each side, with its fastest kernel there. `rows` has one row per op, format, size class and
    side. Columns: op, format, size_of (what is sized), size (the class), side; over all shapes of the side: of_roofline
    (median share; NaN where no roof is known), shapes, bound (what bounds most of them; None where no roof is known)
    and bound_share (how many of them); over the shapes that every side with this op and format has:
    common_of_roofline, common_shapes, time_ratio (median of this side's time over the first side's).
    """

    sides: tuple[str, ...]
    rows: pd.DataFrame
    notes: tuple[str, ...]


def compare_tables(measured_tables: MeasuredTables) -> ShareComparison:
    """Compare the GPUs of the tables, or the tables where all are of one GPU. Raises BadRecord for fewer than two."""
    frame = measured_tables.frame
    by = "gpu" if frame["gpu"].nunique() > 1 else "table"
    sides = tuple(str(side) for side in frame[by].unique())
    if not sides:
        raise BadRecord(f"the tables have no usable row: {dropped_text(measured_tables.dropped) or 'they are empty'}")
    if len(sides) < 2:
        raise BadRecord(f"nothing to compare: all rows are of {sides[0]}")
    shapes, missing = shapes_of(frame.assign(side=frame[by].astype(object)))
    notes = (*dropped_notes(measured_tables.dropped), *roof_notes(shapes, missing))
    return ShareComparison(sides, share_rows(shapes, sides), notes)


def share_rows(shapes: pd.DataFrame, sides: Sequence[str]) -> pd.DataFrame:
    """The rows of `ShareComparison` for shapes as `shapes_of` returns them."""
    rows = [
        row
        for op in in_order(shapes["op"])
        for (name,), of_format in groups_of(shapes[shapes["op"] == op], ["format"])
        for row in _rows(op, name, of_format, sides)
    ]
    return pd.DataFrame(rows)


def with_common(shapes: pd.DataFrame) -> pd.DataFrame:
    """The shapes of one op and format with `is_common`: whether every side that has any of them has this one."""
    measured_by = shapes.groupby("shape")["side"].transform("size")
    return shapes.assign(is_common=(measured_by == shapes["side"].nunique()) & (measured_by > 1))


def dropped_notes(dropped: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """The rows of tables that were left out, and why."""
    for (table, reason), rows in dropped.items():
        yield f"{table}: {rows:,} rows left out: {reason}"


def roof_notes(shapes: pd.DataFrame, missing: Mapping[str, int]) -> Iterator[str]:
    """Notes on rows that have no roof, and on shapes that beat it."""
    for reason, rows in missing.items():
        yield f"{rows:,} rows without a share of the roofline: {reason}"
    if over := int((shapes["napkin_s"] > shapes["time_s"]).sum()):
        yield f"{over:,} shapes beat the roofline: operands stayed in L2, or the clock exceeded the datasheet's"


def side_letter(place: int) -> str:
    """A side's letter in tables: A, B, ... Z, AA, AB."""
    more, last = divmod(place, 26)
    return (side_letter(more - 1) if more else "") + chr(ord("A") + last)


def op_tables(comparison: ShareComparison) -> list[TextTable]:
    """One text table per op: shares, times and what bounds each side, by format and size."""
    rows = comparison.rows
    return [_op_table(op, rows[rows["op"] == op], comparison.sides) for op in rows["op"].unique()]


@figures.house_style()
def draw_shares(comparison: ShareComparison) -> Figure:
    """Median share of the roofline against size, by op (panel), side (color) and format (style)."""
    rows = comparison.rows.dropna(subset=["of_roofline"])
    ops = in_order(rows["op"])
    if not ops:
        raise figures.NothingToDraw("no row has a roof: none of these GPUs has one for these formats")
    figure, panels = figures.make_figure(
        "median by size, over the shapes that all of them have (of a format that only one has: over its own)",
        f"Share of the roofline that kernels reach: {_sides_text(comparison.sides)}",
        panels=len(ops),
    )
    formats = list(dict.fromkeys(rows["format"]))
    colors = dict(zip(comparison.sides, side_colors(len(comparison.sides)), strict=True))
    for axes, op in zip(panels, ops, strict=True):
        _draw_op(axes, op, rows[rows["op"] == op], colors, formats)
    handles = [figures.legend_line(side, color=color, width=3) for side, color in colors.items()]
    handles += [
        figures.legend_line(name, color=GREY, linestyle=series_style(place), marker=series_marker(place))
        for place, name in enumerate(formats)
    ]
    figures.legend_below(figure, handles)
    return figure


def _sides_text(sides: Sequence[str]) -> str:
    """The sides of a title; how many there are where their names do not fit."""
    return ", ".join(sides) if len(sides) <= 7 else f"{len(sides)} sides"


def _rows(op: str, name: str, shapes: pd.DataFrame, sides: Sequence[str]) -> Iterator[dict[str, object]]:
    """The rows of `ShareComparison` for one op and format."""
    first = shapes.loc[shapes["side"] == sides[0], ["shape", "time_s"]]
    shapes = with_common(shapes.merge(first, on="shape", how="left", suffixes=("", "_first")))
    shapes["of_roofline"] = shapes["napkin_s"].where(shapes["napkin_s"] > 0) / shapes["time_s"]
    shapes["time_ratio"] = shapes["time_s"] / shapes["time_s_first"]
    for (place,), of_size in groups_of(shapes, ["place"]):
        for side in sides:
            own = of_size[of_size["side"] == side]
            common = own[own["is_common"]]
            if not own.empty:
                bounds = own["bound"].value_counts()
                yield {
                    "op": op,
                    "format": name,
                    "size_of": scale_of(op).title,
                    "size": scale_of(op).text(place),
                    "side": side,
                    "of_roofline": own["of_roofline"].median(),
                    "shapes": len(own),
                    "bound": None if bounds.empty else str(bounds.index[0]),
                    "bound_share": None if bounds.empty else float(bounds.iloc[0] / len(own)),
                    "common_of_roofline": common["of_roofline"].median(),
                    "common_shapes": len(common),
                    "time_ratio": common["time_ratio"].median(),
                }


def _op_table(op: str, rows: pd.DataFrame, sides: Sequence[str]) -> TextTable:
    letters = [side_letter(place) for place in range(len(sides))]
    titles = ["format", rows["size_of"].iloc[0], "in common", *(f"% of roof {letter}" for letter in letters)]
    titles += [f"time {letter}/A" for letter in letters[1:]]
    cells = []
    for (name, size), of_size in rows.groupby(["format", "size"], sort=False):
        by_side = of_size.set_index("side").reindex(list(sides))
        share = by_side["common_of_roofline"].fillna(by_side["of_roofline"])
        row = [str(name), str(size), f"{by_side['common_shapes'].max():,.0f}"]
        row += [_text(each, percent) for each in share]
        row += [_text(ratio, times) for ratio in by_side["time_ratio"][1:]]
        cells.append((*row, _bound_text(dict(zip(letters, by_side["bound"], strict=True)))))
    return TextTable(op, (*titles, "bound"), tuple(cells), names=2)


def _bound_text(bounds: Mapping[str, object]) -> str:
    """What bounds most shapes: `memory`, or by side where it differs: `compute A B, memory C`."""
    by_bound: dict[str, list[str]] = {}
    for letter, bound in bounds.items():
        if isinstance(bound, str):
            by_bound.setdefault(bound, []).append(letter)
    if len(by_bound) < 2:
        return "".join(by_bound)
    return ", ".join(f"{bound} {' '.join(letters)}" for bound, letters in by_bound.items())


def _text(number: float, text: Callable[[float], str]) -> str:
    return text(number) if number > 0 else ""  # also for NaN


def _draw_op(axes: Axes, op: str, rows: pd.DataFrame, colors: Mapping[str, str], formats: Sequence[str]) -> None:
    """The lines of one op."""
    scale = scale_of(op)
    texts = [scale.text(place) for place in range(len(scale.ends) + 1)]
    for side, color in colors.items():
        for place, name in enumerate(formats):
            line = rows[(rows["side"] == side) & (rows["format"] == name)]
            share = line["common_of_roofline"] if line["common_shapes"].any() else line["of_roofline"]
            axes.plot(
                [texts.index(size) for size in line["size"]], share * 100,
                color=color, linestyle=series_style(place), marker=series_marker(place), alpha=0.85,
            )  # fmt: skip
    axes.axhline(100, color="black", linewidth=1)
    axes.set_xticks(range(len(texts)), [*map(scale.number_text, scale.ends), "more"])
    axes.set_ylim(0, None)
    figures.percent_ticks(axes.yaxis)
    axes.set_title(op.replace("_", " "))
    axes.set_xlabel(f"{scale.title}, up to")
