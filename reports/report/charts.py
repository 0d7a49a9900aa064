"""The figures of report.html as Vega-Lite specifications, built by Altair from the frame and the roofs of a run.

The points of all figures are the rows of the page's table, which the page has once and calls `rows`. A specification
itself holds only lines: roofs, napkins, ridges. `CONFIG` has fonts and sizes; the page's style sheet colors the text.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import altair as alt
import numpy as np
import pandas as pd

from predict.errors import MissingCeiling
from predict.resources import Resource, Roofs, find_ceiling
from predict.roofline import predict
from predict.terminal import printable
from predict.units import duration, find_dtype, percent, si, times
from predict.workloads import sweep_amounts
from reports.palette import BLUE, GREEN, ORANGE, PINK, RED, SKY, series_color
from reports.report.rows import ARITHMETIC, MEMORY, batch_sweeps, with_share
from reports.run.load import Run
from reports.run.plots import best_memory, ridge_batch

Spec = Mapping[str, Any]
Line = Mapping[str, Any]
Channel = TypeVar("Channel", alt.X, alt.Y)

INK = "currentColor"  # follows the page into dark mode and onto paper
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")  # told apart without color
UNIT_COLORS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
SIDES = (MEMORY, ARITHMETIC)
SIDE_COLORS = (GREEN, RED)
TALL, LOW, PER_OP = 340, 260, 22  # heights in pixels
MOST_SWEEPS = 3
CURVE_POINTS = 60
DIGITS = 5  # of a number of a line
COUNT = "datum.value < 10000 ? datum.value : datum.value / 1024 + 'k'"
SECONDS = "format(datum.value, '~s') + 's'"
TIPS = ("workload", "implementation", "time", "napkin", "share", "bound", "why")
TITLES = ("workload", "by", "measured", "napkin", "of its roof", "bound", "why")
CONFIG: Spec = MappingProxyType(
    {
        "background": None,
        "aria": False,  # the element around a chart has the text
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "tickSize": 4,
        },
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "columns": 2,
            "labelFontSize": 11,
            "labelLimit": 110,
            "title": None,
            "symbolSize": 70,
        },
        "point": {"filled": False, "opacity": 0.9, "size": 45, "strokeWidth": 1.2},
    }
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: what it shows, in words, and how it is drawn."""

    alt: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class WebFigure:
    """A figure of the page: a heading, the answer, and the charts; or why there are none."""

    name: str
    title: str
    answer: str
    panels: tuple[Panel, ...] = ()
    missing: str = ""


def draw_figures(run: Run) -> tuple[WebFigure, ...]:
    """Every figure of the page; one without rows says what is missing."""
    rows = with_share(run)
    measured = rows[rows["status"] == "measured"]
    return (_roofline(run, measured), _parity(measured), *_sweeps(run, measured), _shares(measured))


def _roofline(run: Run, measured: pd.DataFrame) -> WebFigure:
    name, title = "roofline", "Where the roofs are, and how close the rows come"
    rows = measured[(measured["flop"] > 0) & (measured["bytes"] > 0)]
    if rows.empty:
        return WebFigure(name, title, "", missing="no measured row does arithmetic on data from memory")
    units = [unit.value for unit in Resource if unit in set(rows["unit"])]
    intensity = rows["arithmetic_intensity"]
    span = (min(intensity.min(), 0.3) / 2, max(intensity.max(), 1000.0) * 3)
    lines = _all_roof_lines(run, units, span)
    rates = [*(rows["flop"] / rows["time_s"]), *(line["flop_per_s"] for line in lines)]
    x = _log(alt.X("intensity:Q", title="FLOP per byte of memory traffic"), *span, grid=False)
    y = _log(
        alt.Y("flop_per_s:Q", title="FLOP per second"),
        min(rates) / 1.5,
        max(rates) * 1.5,
        text="format(datum.value, '~s')",
    )
    points = _points(alt.datum.flop_per_s > 0, "unit", units, UNIT_COLORS).encode(x, y)
    spec = _spec([*_roof_layers(lines, units, x, y), points], TALL)
    return WebFigure(name, title, _roofline_answer(run, rows), (Panel(_alt(title, rows), spec),))


def _roof_layers(lines: Sequence[Line], units: Sequence[str], x: alt.X, y: alt.Y) -> Iterator[alt.Chart]:
    """The slopes of the memory, and the flat roofs in the colors of their units."""
    kinds = [kind for kind in ("datasheet", "measured") if any(line["kind"] == kind for line in lines)]
    dashes = [[1, 0] if kind == "datasheet" else [5, 3] for kind in kinds]
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds, range=dashes))
    for is_memory, stroke in ((True, alt.value(INK)), (False, alt.Stroke("unit:N", scale=_colors(units, UNIT_COLORS)))):
        if drawn := [line for line in lines if (line["unit"] is None) == is_memory]:
            chart = alt.Chart(_values(drawn)).mark_line(strokeWidth=1.5)
            yield chart.encode(x, y, dash, alt.Detail("line:N"), stroke=stroke, tooltip=_says("roof"))


def _all_roof_lines(run: Run, units: Sequence[str], span: tuple[float, float]) -> list[Line]:
    both = (("datasheet", run.roofs.datasheet), ("measured", run.roofs.measured))
    return [line for kind, roofs in both for line in _roof_lines(roofs, kind, units=units, span=span)]


def _roof_lines(roofs: Roofs, kind: str, *, units: Sequence[str], span: tuple[float, float]) -> Iterator[Line]:
    """Two ends of the line of each roof: the slope of the memory, and what is flat from its ridge on."""
    memory = best_memory(roofs)
    if memory is None:
        return
    tops = {unit: top for unit in units if (top := _top(Resource(unit), roofs)) is not None}
    for unit, top in tops.items():
        says = f"{unit}, {kind}: {si(top, 'FLOP/s')}, from {top / memory:.3g} FLOP per byte on"
        line = {"line": f"{unit} {kind}", "unit": unit, "kind": kind, "says": says}
        for intensity in (top / memory, max(span[1], top / memory)):
            yield {**line, "intensity": _short(intensity), "flop_per_s": _short(top)}
    end = max((top / memory for top in tops.values()), default=span[1])
    slope = {"line": f"memory {kind}", "unit": None, "kind": kind, "says": f"memory, {kind}: {si(memory, 'B/s')}"}
    for intensity in (span[0], end):
        yield {**slope, "intensity": _short(intensity), "flop_per_s": _short(intensity * memory)}


def _top(unit: Resource, roofs: Roofs) -> float | None:
    try:
        return find_ceiling(unit, roofs).per_s
    except MissingCeiling:
        return None


def _roofline_answer(run: Run, rows: pd.DataFrame) -> str:
    bounds = rows["bound"].dropna()
    by_memory = sum(not Resource(each).is_compute for each in bounds)
    text = f"Memory bounds {by_memory} of these {len(rows)} rows, arithmetic {len(bounds) - by_memory}."
    stable = rows[rows["unstable"].isna() & rows["of_roof"].notna()]
    if stable.empty:
        return text
    best = stable.sort_values("of_roof", kind="stable").iloc[-1]
    roof = f"{'datasheet' if run.roofs.datasheet else 'measured'} roof"
    return f"{text} Closest to its {roof}: {best['workload']} by {best['implementation']}, {percent(best['of_roof'])}."


def _parity(measured: pd.DataFrame) -> WebFigure:
    name, title = "parity", "How far measured times are above the napkin"
    rows = measured[measured["napkin_s"] > 0]
    if rows.empty:
        return WebFigure(name, title, "", missing="no measured row has a napkin time above zero")
    both = pd.concat([rows["napkin_s"], rows["time_s"]])
    ends = (_short(both.min() / 2), _short(both.max() * 2))
    x = _log(alt.X("napkin_s:Q", title="napkin: the least time that the roofs allow"), *ends, text=SECONDS, grid=False)
    y = _log(alt.Y("time_s:Q", title="measured time (median)"), *ends, text=SECONDS)
    line = alt.Chart(_values([{"napkin_s": end, "time_s": end} for end in ends])).mark_line(color=INK, strokeWidth=1)
    points = _points((alt.datum.napkin_s > 0) & (alt.datum.time_s > 0), "side", SIDES, SIDE_COLORS)
    spec = _spec([line.encode(x, y), points.encode(x, y)], TALL)
    return WebFigure(name, title, _parity_answer(rows), (Panel(_alt(title, rows), spec),))


def _parity_answer(rows: pd.DataFrame) -> str:
    ratios = rows.loc[rows["unstable"].isna(), "ratio"].dropna()
    if ratios.empty:
        return "No row is stable, so nothing can be said of all. On the line, measured equals napkin."
    within = float(ratios.between(1 / 1.3, 1.3).mean())
    return (
        f"Measured times are {times(float(ratios.median()))} their napkin in the median of {len(ratios)} stable rows;"
        f" {percent(within)} lie within 30 %. On the line, measured equals napkin."
    )


def _sweeps(run: Run, measured: pd.DataFrame) -> Iterator[WebFigure]:
    """A figure for each matrix of weights that was multiplied at several batches, at most `MOST_SWEEPS`."""
    name, title = "matmul", "Time of a matrix product against its batch"
    sweeps = batch_sweeps(measured)
    if not sweeps:
        yield WebFigure(name, title, "", missing="no weight matrix was multiplied at two batch sizes or more")
    for place, (n, k, dtype) in enumerate(sweeps[:MOST_SWEEPS]):
        of_matrix = (measured["op"] == "matmul") & (measured["n"] == n) & (measured["k"] == k)
        rows = measured[of_matrix & (measured["dtype"] == dtype)]
        titled = f"{title}: {k} x {n} weights in {dtype}"
        ridge = ridge_batch(run.roofs.primary, n=int(n), k=int(k), dtype=dtype)
        panels = (
            Panel(_alt(f"{titled}, time", rows), _time_spec(run.roofs.primary, rows, place, ridge)),
            Panel(_alt(f"{titled}, % of roof", rows), _share_spec(rows, place, ridge)),
        )
        yield WebFigure(f"{name}-{place}", titled, _sweep_answer(rows, ridge), panels)


def _sweep_answer(rows: pd.DataFrame, ridge: float) -> str:
    where = "The napkin sees no ridge: memory bounds every batch."
    if math.isfinite(ridge):
        where = f"The napkin's ridge is at M = {ridge:.0f}: up to there a larger batch is nearly free."
    fastest = rows[rows["unstable"].isna()].groupby("m")["time_s"].min()
    if len(fastest) < 2:
        return f"{where} Too few batches are stable to say more."
    first, last = fastest.index[0], fastest.index[-1]
    ratio = times(float(fastest.iloc[-1] / fastest.iloc[0]))
    return f"{where} The fastest stable row of M = {last} takes {ratio} as long as that of M = {first}."


def _time_spec(roofs: Roofs, rows: pd.DataFrame, place: int, ridge: float) -> Spec:
    curve = list(_curve(roofs, rows))
    drawn = [*rows["time_s"], *(point["time_s"] for point in curve)]
    x, y = _batch(rows), _log(alt.Y("time_s:Q", title="time"), min(drawn) / 1.5, max(drawn) * 1.5, text=SECONDS)
    napkin = alt.Chart(_values(curve)).mark_line(color=INK, strokeWidth=1.5, strokeDash=[5, 3])
    layers = [napkin.encode(x, y, tooltip=_says("napkin")), *_ridge(rows, ridge, x), _swept(rows, place).encode(x, y)]
    return _spec(layers, LOW)


def _share_spec(rows: pd.DataFrame, place: int, ridge: float) -> Spec:
    x, y = _batch(rows), _share(alt.Y("of_roof:Q"), rows)
    return _spec([*_ridge(rows, ridge, x), _swept(rows, place).encode(x, y)], LOW)


def _batch(rows: pd.DataFrame) -> alt.X:
    ends = [float(rows["m"].min()), float(rows["m"].max())]
    scale = alt.Scale(type="log", base=2, nice=False, padding=10, domain=ends)
    axis = alt.Axis(grid=False, labelExpr=COUNT, tickCount=6)
    return alt.X("m:Q", title="batch M (rows of activations)", scale=scale, axis=axis)


def _curve(roofs: Roofs, rows: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    """The napkin between the least and the largest batch."""
    n, k, dtype = int(rows["n"].iloc[0]), int(rows["k"].iloc[0]), str(rows["dtype"].iloc[0])
    m = np.unique(np.geomspace(float(rows["m"].min()), float(rows["m"].max()), CURVE_POINTS).round())
    napkin_s = predict(sweep_amounts("matmul", {"m": m, "n": n, "k": k}, find_dtype(dtype)), roofs).napkin_s
    for batch, time_s in zip(m.tolist(), np.broadcast_to(napkin_s, m.shape).tolist(), strict=True):
        yield {"m": int(batch), "time_s": _short(time_s), "says": f"at least {duration(time_s)} at M = {batch:.0f}"}


def _ridge(rows: pd.DataFrame, ridge: float, x: alt.X) -> list[alt.Chart]:
    """A line at the ridge; none where the napkin has none, or it is beyond the batches."""
    if not rows["m"].min() <= ridge <= rows["m"].max():
        return []
    data = _values([{"m": _short(ridge), "says": f"ridge: M = {ridge:.0f}"}])
    rule = alt.Chart(data).mark_rule(color=INK, strokeDash=[2, 3], opacity=0.7).encode(x, tooltip=_says("napkin"))
    label = alt.Chart(data).mark_text(align="left", dx=4, color=INK, fontSize=11)
    return [rule, label.encode(x, y=alt.value(8), text="says:N")]


def _swept(rows: pd.DataFrame, place: int) -> alt.Chart:
    names = sorted(map(printable, set(rows["implementation"])))  # as the page shows them
    colors = [series_color(index) for index in range(len(names))]
    return _points((alt.datum.sweep == place) & (alt.datum.time_s > 0), "implementation", names, colors)


def _shares(measured: pd.DataFrame) -> WebFigure:
    name, title = "shares", "Which share of its roof each op reaches"
    rows = measured[measured["of_roof"] > 0]
    if rows.empty:
        return WebFigure(name, title, "", missing="no measured row has a roof")
    ops = sorted(map(printable, set(rows["op"])))
    x = _share(alt.X("of_roof:Q"), rows)
    axis = alt.Axis(grid=True, tickSize=0, labelLimit=150)
    y = alt.Y("op:N", title=None, scale=alt.Scale(domain=ops), axis=axis)
    full = alt.Chart(_values([{"of_roof": 1}])).mark_rule(color=INK, strokeDash=[2, 3]).encode(x)
    points = _points(alt.datum.of_roof > 0, "side", SIDES, SIDE_COLORS).encode(x, y)
    spec = _spec([full, points], max(PER_OP * len(ops), 2 * PER_OP))
    return WebFigure(name, title, _shares_answer(rows), (Panel(_alt(title, rows), spec),))


def _shares_answer(rows: pd.DataFrame) -> str:
    line = "The dotted line is the roof."
    fastest = rows[rows["unstable"].isna()].groupby(["op", "workload"])["of_roof"].max()
    by_op = fastest.groupby(level="op").median().sort_values(kind="stable")
    if by_op.empty:
        return f"No row is stable, so nothing can be said of an op. {line}"
    text = f"Closest in the median of its workloads: {by_op.index[-1]}, {percent(by_op.iloc[-1])}"
    if len(by_op) > 1:
        text += f"; furthest: {by_op.index[0]}, {percent(by_op.iloc[0])}"
    return f"{text}. The fastest stable row of each workload counts. {line}"


def _points(shown: Any, field: str, names: Sequence[str], colors: Sequence[str]) -> alt.Chart:
    """The measured rows of the page for which `shown` holds, by a field; an unstable row is hollow."""
    scale = _colors(names, colors)
    shapes = alt.Scale(domain=list(names), range=[SHAPES[place % len(SHAPES)] for place in range(len(names))])
    points: alt.Chart = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter((alt.datum.status == "measured") & shown)
        .mark_point()
        .encode(
            stroke=alt.Stroke(f"{field}:N", scale=scale),
            fill=alt.Fill(f"{field}:N", scale=scale),
            shape=alt.Shape(f"{field}:N", scale=shapes),
            fillOpacity=alt.condition("datum.is_unstable", alt.value(0), alt.value(0.6)),
            tooltip=[alt.Tooltip(f"{tip}:N", title=title) for tip, title in zip(TIPS, TITLES, strict=True)],
        )
    )
    return points


def _colors(names: Sequence[str], colors: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=[colors[place % len(colors)] for place in range(len(names))])


def _log(
    channel: Channel, low: float, high: float, *, text: str = "format(datum.value, '~g')", grid: bool = True
) -> Channel:
    """The channel on a logarithmic scale, with ticks at powers of ten, or finer where there are few of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = sum(low <= 10.0**power <= high for power in powers) < 3
    values = [step * 10.0**power for power in powers for step in ((1, 2, 5) if fine else (1,))]
    values = [float(f"{value:.3g}") for value in values if low <= value <= high]
    axis = alt.Axis(grid=grid, labelExpr=text, values=values, labelOverlap=True)
    return channel.scale(alt.Scale(type="log", domain=[_short(low), _short(high)], nice=False)).axis(axis)


def _share(channel: Channel, rows: pd.DataFrame) -> Channel:
    """The channel from 0 to a little over the largest share of a roof."""
    top = max(1.0, float(rows["of_roof"].max())) * 1.03 if rows["of_roof"].notna().any() else 1.0
    scale = alt.Scale(domain=[0, _short(top)], nice=False)
    axis = alt.Axis(format="~%", tickCount=5, grid=isinstance(channel, alt.Y))
    return channel.scale(scale).axis(axis).title("% of roof")


def _says(title: str) -> list[alt.Tooltip]:
    return [alt.Tooltip("says:N", title=title)]


def _values(rows: Sequence[Line]) -> alt.InlineData:
    return alt.InlineData(values=[dict(row) for row in rows])


def _spec(layers: Sequence[alt.Chart], height_px: int) -> Spec:
    """Layers as JSON, as wide as the page lets them be."""
    spec = alt.layer(*layers).properties(width="container", height=height_px).to_dict()
    return {name: value for name, value in spec.items() if name not in ("$schema", "config")}  # the page says both


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _alt(title: str, rows: pd.DataFrame) -> str:
    return f"{title}: a chart of {len(rows)} rows, whose numbers are in the table below"
