"""The figures of report.html as Vega-Lite specifications, built by Altair from the frame and the roofs of a run.

The points of all figures are the rows of the page's table, which the page has once and calls `rows`. A specification
holds only lines: roofs, napkins, ridges. It names no style: `CONFIG` does, and the page's style sheet colors the text.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from predict.errors import MissingCeiling
from predict.resources import Resource, Roofs, find_ceiling
from predict.roofline import predict
from predict.units import find_dtype, percent, si, times
from predict.workloads import sweep_amounts
from reports.palette import BLUE, GREEN, ORANGE, PINK, RED, SKY, series_color
from reports.report.rows import ARITHMETIC, MEMORY, NOTHING, batch_sweeps
from reports.run.load import Run
from reports.run.plots import best_memory, ridge_batch

Spec = Mapping[str, Any]

INK = "currentColor"  # follows the page into dark mode and onto paper
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
UNIT_COLORS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
SIDES = {MEMORY: GREEN, ARITHMETIC: RED, NOTHING: INK}
MOST_SWEEPS = 3
CURVE_POINTS = 60
ROWS = alt.NamedData("rows")
TOOLTIP = [
    alt.Tooltip(f"{name}:N", title=title)
    for name, title in (
        ("workload", "workload"),
        ("implementation", "by"),
        ("time", "measured"),
        ("napkin", "napkin"),
        ("share", "of its roof"),
        ("bound", "bound"),
        ("why", "why"),
    )
]
CONFIG: Spec = MappingProxyType(
    {
        "background": None,
        "aria": False,  # the figure around it has the text
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "titlePadding": 8, "tickSize": 4},
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "columns": 3,
            "labelFontSize": 11,
            "labelLimit": 220,
            "title": None,
            "symbolSize": 70,
        },
        "point": {"filled": True, "size": 45, "strokeWidth": 1},
    }
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: what it shows, in words, and how it is drawn."""

    alt: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class WebFigure:
    """A figure of the page: a heading, the answer, and the charts; or why there is none."""

    name: str
    title: str
    answer: str
    panels: tuple[Panel, ...] = ()
    missing: str = ""


def draw_figures(run: Run) -> tuple[WebFigure, ...]:
    """Every figure of the page; one without rows says what is missing."""
    rows = run.frame.assign(of_roof=run.frame["of_datasheet" if run.roofs.datasheet else "of_measured"])
    measured = rows[rows["status"] == "measured"]
    return (
        _roofline(run, measured),
        _parity(measured),
        *_sweeps(run, measured),
        _shares(measured),
    )


def _roofline(run: Run, measured: pd.DataFrame) -> WebFigure:
    name, title = "roofline", "Where the roofs are, and how close the rows come"
    rows = measured[(measured["flop"] > 0) & (measured["bytes"] > 0)]
    if rows.empty:
        return WebFigure(name, title, "", missing="no measured row does arithmetic on data from memory")
    units = [unit.value for unit in Resource if unit in set(rows["unit"])]
    span = (min(rows["arithmetic_intensity"].min(), 0.3) / 2, max(rows["arithmetic_intensity"].max(), 1000.0) * 3)
    lines = [
        line
        for roofs, kind in ((run.roofs.datasheet, "datasheet"), (run.roofs.measured, "measured"))
        for line in _roof_lines(roofs, kind, units=units, span=span)
    ]
    x = alt.X("intensity:Q", title="FLOP per byte of memory traffic", scale=alt.Scale(type="log", domain=span, nice=False))
    x = x.axis(grid=False, format="~s", tickCount=5)
    y = alt.Y("flop_per_s:Q", title="FLOP per second", scale=alt.Scale(type="log", nice=False))
    y = y.axis(format="~s", tickCount=5)
    color = _scale(alt.Color("unit:N"), units, UNIT_COLORS)
    layers = [_points(alt.datum.flop_per_s > 0).encode(x, y, color, _shape("unit", units))]
    slopes, flats = ([line for line in lines if (line["unit"] is None) == is_memory] for is_memory in (True, False))
    if slopes:
        layers = [_roof_layer(slopes, x, y, INK), _roof_layer(flats, x, y, color), *layers]
    return WebFigure(name, title, _roofline_answer(run, rows), (Panel(_alt(title, rows), _spec(layers, height=340)),))


def _roof_layer(lines: Sequence[Mapping[str, object]], x: alt.X, y: alt.Y, color: alt.Color | str) -> alt.Chart:
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=["datasheet", "measured"], range=[[1, 0], [5, 3]]))
    tip = [alt.Tooltip("says:N", title="roof")]
    encoded = alt.value(color) if isinstance(color, str) else color
    return alt.Chart(_values(lines)).mark_line(strokeWidth=1.5).encode(
        x, y, alt.Detail("line:N"), dash, color=encoded, tooltip=tip
    )


def _roof_lines(
    roofs: Roofs, kind: str, *, units: Sequence[str], span: tuple[float, float]
) -> Iterator[Mapping[str, object]]:
    """Two ends of the line of each roof: the slope of the memory, and what is flat from its ridge on."""
    memory = best_memory(roofs)
    if memory is None:
        return
    tops = {unit: top for unit in units if (top := _top(Resource(unit), roofs)) is not None}
    for unit, top in tops.items():
        ridge = top / memory
        says = f"{unit}, {kind}: {si(top, 'FLOP/s')}, from {ridge:.3g} FLOP per byte on"
        for intensity in (ridge, max(span[1], ridge)):
            yield _end(f"{unit} {kind}", unit, kind, says, intensity, top)
    end = max((top / memory for top in tops.values()), default=span[1])
    for intensity in (span[0], end):
        yield _end(f"memory {kind}", None, kind, f"memory, {kind}: {si(memory, 'B/s')}", intensity, intensity * memory)


def _end(line: str, unit: str | None, kind: str, says: str, intensity: float, flop_per_s: float) -> Mapping[str, object]:
    return {
        "line": line,
        "unit": unit,
        "kind": kind,
        "says": says,
        "intensity": _short(intensity),
        "flop_per_s": _short(flop_per_s),
    }


def _top(unit: Resource, roofs: Roofs) -> float | None:
    try:
        return find_ceiling(unit, roofs).per_s
    except MissingCeiling:
        return None


def _roofline_answer(run: Run, rows: pd.DataFrame) -> str:
    bound = rows["bound"].dropna()
    of_memory = sum(not Resource(each).is_compute for each in bound)
    text = f"Memory bounds {of_memory} of {len(bound)} rows, arithmetic {len(bound) - of_memory}."
    stable = rows[rows["unstable"].isna() & rows["of_roof"].notna()]
    if not stable.empty:
        best = stable.loc[stable["of_roof"].idxmax()]
        kind = "datasheet" if run.roofs.datasheet else "measured"
        text += (
            f" Closest to its {kind} roof: {best['workload']} by {best['implementation']}, {percent(best['of_roof'])}."
        )
    return text


def _parity(measured: pd.DataFrame) -> WebFigure:
    name, title = "parity", "How far measured times are above the napkin"
    rows = measured[measured["napkin_s"] > 0]
    if rows.empty:
        return WebFigure(name, title, "", missing="no measured row has a napkin time above zero")
    ends = [_short(end) for end in (rows["napkin_s"].min() / 2, rows["time_s"].max() * 2)]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    x = alt.X("napkin_s:Q", title="napkin: the least time that the roofs allow", scale=scale)
    y = alt.Y("time_s:Q", title="measured time (median)", scale=scale)
    x, y = (each.axis(labelExpr=_SECONDS, tickCount=5, grid=each is y) for each in (x, y))
    sides = [side for side in SIDES if side != NOTHING]
    color = _scale(alt.Color("side:N"), sides, [SIDES[side] for side in sides])
    line = alt.Chart(_values([{"napkin_s": end, "time_s": end} for end in ends])).mark_line(color=INK, strokeWidth=1)
    points = _points((alt.datum.napkin_s > 0) & (alt.datum.time_s > 0)).encode(x, y, color, _shape("side", sides))
    return WebFigure(
        name,
        title,
        _parity_answer(rows),
        (Panel(_alt(title, rows), _spec([line.encode(x, y), points], height=340)),),
    )


def _parity_answer(rows: pd.DataFrame) -> str:
    ratios = rows.loc[rows["unstable"].isna(), "ratio"].dropna()
    if ratios.empty:
        return "No row is stable, so nothing can be said of all of them. On the line, measured equals napkin."
    within = float(ratios.between(1 / 1.3, 1.3).mean())
    return (
        f"Measured times are {times(float(ratios.median()))} their napkin in the median of {len(ratios)} stable rows;"
        f" {percent(within)} lie within 30 %. On the line, measured equals napkin."
    )


def _sweeps(run: Run, measured: pd.DataFrame) -> Iterator[WebFigure]:
    name, title = "matmul", "Time of a matrix product against its batch"
    sweeps = batch_sweeps(measured)
    if not sweeps:
        yield WebFigure(name, title, "", missing="no weight matrix was multiplied at two batch sizes or more")
    for place, (n, k, dtype) in enumerate(sweeps[:MOST_SWEEPS]):
        rows = measured[(measured["op"] == "matmul") & (measured["n"] == n) & (measured["k"] == k)]
        rows = rows[rows["dtype"] == dtype]
        titled = f"{title}: {k} x {n} weights in {dtype}"
        ridge = ridge_batch(run.roofs.primary, n=int(n), k=int(k), dtype=dtype)
        panels = (
            Panel(_alt(f"{titled}; time", rows), _time_spec(run.roofs.primary, rows, place, ridge)),
            Panel(_alt(f"{titled}; % of roof", rows), _share_spec(rows, place, ridge)),
        )
        yield WebFigure(f"{name}-{place}", titled, _sweep_answer(rows, ridge), panels)


def _sweep_answer(rows: pd.DataFrame, ridge: float) -> str:
    where = f"The napkin's ridge is at M = {ridge:.0f}: up to it the batch is nearly free." if math.isfinite(ridge) else (
        "The napkin sees no ridge: memory bounds every batch."
    )
    fastest = rows[rows["unstable"].isna()].groupby("m")["time_s"].min()
    if len(fastest) < 2:
        return f"{where} Too few batches are stable to say more."
    first, last = fastest.index[0], fastest.index[-1]
    ratio = times(float(fastest.iloc[-1] / fastest.iloc[0]))
    return f"{where} The fastest stable row of M = {last} takes {ratio} as long as that of M = {first}."


def _time_spec(roofs: Roofs, rows: pd.DataFrame, place: int, ridge: float) -> Spec:
    x, y = _batch(rows), alt.Y("time_s:Q", title="time", scale=alt.Scale(type="log"))
    y = y.axis(labelExpr=_SECONDS, tickCount=5)
    napkin = alt.Chart(_values(list(_curve(roofs, rows)))).mark_line(color=INK, strokeWidth=1.5, strokeDash=[5, 3])
    tip = [alt.Tooltip("says:N", title="napkin")]
    return _spec([napkin.encode(x, y, tooltip=tip), *_ridge(ridge, x), _swept(rows, place).encode(x, y)], height=260)


def _share_spec(rows: pd.DataFrame, place: int, ridge: float) -> Spec:
    x, y = _batch(rows), alt.Y("of_roof:Q", title="% of roof", scale=alt.Scale(domainMin=0)).axis(format="~%")
    return _spec([*_ridge(ridge, x), _swept(rows, place).encode(x, y)], height=260)


def _batch(rows: pd.DataFrame) -> alt.X:
    scale = alt.Scale(type="log", base=2, nice=False, padding=8, domain=[int(rows["m"].min()), int(rows["m"].max())])
    return alt.X("m:Q", title="batch M (rows of activations)", scale=scale).axis(grid=False, format="~s", tickCount=6)


def _curve(roofs: Roofs, rows: pd.DataFrame) -> Iterator[Mapping[str, object]]:
    """The napkin between the least and the largest batch."""
    n, k, dtype = int(rows["n"].iloc[0]), int(rows["k"].iloc[0]), str(rows["dtype"].iloc[0])
    m = np.unique(np.geomspace(float(rows["m"].min()), float(rows["m"].max()), CURVE_POINTS).round())
    napkin_s = predict(sweep_amounts("matmul", {"m": m, "n": n, "k": k}, find_dtype(dtype)), roofs).napkin_s
    for batch, time_s in zip(m.tolist(), np.broadcast_to(napkin_s, m.shape).tolist(), strict=True):
        yield {"m": int(batch), "time_s": _short(time_s), "says": "the least time that the roofs allow"}


def _ridge(ridge: float, x: alt.X) -> list[alt.Chart]:
    """A line at the ridge; none where the napkin has none, or it is beyond the batches."""
    low, high = x.to_dict()["scale"]["domain"]
    if not low <= ridge <= high:
        return []
    data = _values([{"m": _short(ridge), "says": f"ridge: M = {ridge:.0f}"}])
    rule = alt.Chart(data).mark_rule(color=INK, strokeDash=[2, 3], opacity=0.7).encode(x)
    label = alt.Chart(data).mark_text(align="left", dx=4, y=8, color=INK, fontSize=11)
    return [rule, label.encode(x, text="says:N")]


def _swept(rows: pd.DataFrame, place: int) -> alt.Chart:
    names = sorted(set(rows["implementation"]))
    color = _scale(alt.Color("implementation:N"), names, [series_color(index) for index in range(len(names))])
    points = _points((alt.datum.sweep == place) & (alt.datum.time_s > 0))
    return points.encode(color, _shape("implementation", names))


def _shares(measured: pd.DataFrame) -> WebFigure:
    name, title = "shares", "Which share of its roof each op reaches"
    rows = measured[measured["of_roof"].notna()]
    if rows.empty:
        return WebFigure(name, title, "", missing="no measured row has a roof")
    ops = sorted(set(rows["op"]))
    y = alt.Y("op:N", title=None, scale=alt.Scale(domain=ops)).axis(grid=True, tickSize=0, labelLimit=150)
    x = alt.X("of_roof:Q", title="% of roof", scale=alt.Scale(domainMin=0)).axis(format="~%", grid=False, tickCount=5)
    sides = [side for side in SIDES if side != NOTHING]
    color = _scale(alt.Color("side:N"), sides, [SIDES[side] for side in sides])
    full = alt.Chart(_values([{"of_roof": 1}])).mark_rule(color=INK, strokeDash=[2, 3]).encode(x)
    points = _points(alt.datum.of_roof > 0).encode(x, y, color, _shape("side", sides))
    return WebFigure(
        name, title, _shares_answer(rows), (Panel(_alt(title, rows), _spec([full, points], height=22 * len(ops))),)
    )


def _shares_answer(rows: pd.DataFrame) -> str:
    fastest = rows[rows["unstable"].isna()].groupby(["op", "workload"])["of_roof"].max()
    by_op = fastest.groupby(level="op").median().sort_values(kind="stable")
    if by_op.empty:
        return "No row is stable, so nothing can be said of an op. The dotted line is the roof."
    text = f"Closest in the median of its workloads: {by_op.index[-1]}, {percent(by_op.iloc[-1])}"
    if len(by_op) > 1:
        text += f"; furthest: {by_op.index[0]}, {percent(by_op.iloc[0])}"
    return f"{text}. The fastest stable row of each workload counts. The dotted line is the roof."


_SECONDS = "format(datum.value, '~s') + 's'"


def _points(shown: Any) -> alt.Chart:
    """The measured rows of the page; an unstable one is hollow."""
    condition: Callable[..., Any] = alt.condition
    return (
        alt.Chart(ROWS)
        .transform_filter((alt.datum.status == "measured") & shown)
        .mark_point()
        .encode(
            tooltip=TOOLTIP,
            fillOpacity=condition("datum.is_unstable", alt.value(0.0), alt.value(0.75)),
        )
    )


def _scale(channel: alt.Color, names: Sequence[str], colors: Sequence[str]) -> alt.Color:
    repeated = [colors[place % len(colors)] for place in range(len(names))]
    return channel.scale(alt.Scale(domain=list(names), range=repeated))


def _shape(field: str, names: Sequence[str]) -> alt.Shape:
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(names))]
    return alt.Shape(f"{field}:N", scale=alt.Scale(domain=list(names), range=shapes))


def _values(rows: Sequence[Mapping[str, object]]) -> alt.InlineData:
    return alt.InlineData(values=[dict(row) for row in rows])


def _spec(layers: Sequence[alt.Chart], *, height: int) -> Spec:
    """Layers as JSON, as wide as the page lets them be."""
    chart = alt.layer(*layers).properties(width="container", height=height)
    spec = chart.to_dict()
    return {name: value for name, value in spec.items() if name not in ("$schema", "config")}


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _alt(title: str, rows: pd.DataFrame) -> str:
    return f"{title}: a chart of {len(rows)} rows, which the table below has in numbers"
