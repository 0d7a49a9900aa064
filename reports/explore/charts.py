"""The two kinds of charts of the page, as Vega-Lite specifications: curves over a size, and bars from here to there.

A specification is made once and holds no numbers. The rows that it draws have names, and the answers bring them, so a
slider that moves sends rows alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from reports.palette import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY
from reports.report.charts import COUNT, INK, SECONDS, Spec

BYTES = "format(datum.value, '~s') + 'B'"
FLOP = "format(datum.value, '~s')"
SHARE = "format(datum.value, '~%')"
PLAIN = "format(datum.value, '~r')"
DOLLARS = "'$' + format(datum.value, datum.value < 1 ? '~g' : '~s')"
HEIGHT_PX, ROW_PX = 300, 26
GRAPH_PX = 190
LEGEND_PX = 240


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of a section: what it shows, in words, and how it is drawn."""

    name: str
    title: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a chart."""

    title: str
    text: str = PLAIN  # of a tick, as an expression of Vega
    is_log: bool = False

    def scale(self, *, zero: bool = False) -> alt.Scale:
        """Its scale, as wide as the rows."""
        if self.is_log:
            return alt.Scale(type="log", base=2 if self.text == COUNT else 10, nice=False, padding=8)
        return alt.Scale(nice=False, zero=zero, padding=8)

    def axis(self, *, grid: bool) -> alt.Axis:
        """Its ticks. Of a decimal logarithmic one 1, 2 and 5 have labels, and powers of ten lines."""
        if not self.is_log or self.text == COUNT:
            return alt.Axis(grid=grid, labelExpr=self.text, labelOverlap=True, tickCount=6)
        label = f"test(/^[125]/, format(datum.value, 'e')) ? {self.text} : ''"
        power = alt.condition("test(/^1/, format(datum.value, 'e'))", alt.value(1), alt.value(0))
        return alt.Axis(grid=grid, labelExpr=label, labelOverlap="greedy", gridOpacity=power, tickOpacity=power)


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart, told apart by its dashes as well as by its color."""

    name: str
    color: str
    dash: tuple[int, int] = (1, 0)


# The same in every chart: memory and arithmetic apart, what they bound, and what is expected above it.
BOUND = Series("bound", INK)
MEMORY = Series("memory", GREEN, (6, 3))
ARITHMETIC = Series("FLOP", RED, (2, 2))
LINK = Series("between GPUs", PINK, (8, 2))
EXPECTED = Series("expected", BLUE, (10, 3))
REFINED = Series("refined", ORANGE, (4, 2))
COLORS = (GREEN, BLUE, ORANGE, PINK, SKY, RED, GREY)


def curves(
    name: str, title: str, x: Axis, y: Axis, series: Sequence[Series], *, points: Sequence[str] | None = None
) -> Chart:
    """Lines of the rows `name` (x, y, series, says), dotted uprights at `name`_marks (x, label, says; see
    `mark`), and points of `name`_points (x, y, by, says), in a shape by what they are by. These are `points`, which get
    a legend; without them hovering tells, since a legend of nothing has no size."""
    across = alt.X("x:Q", title=x.title, scale=x.scale(), axis=x.axis(grid=False))
    up = alt.Y("y:Q", title=y.title, scale=y.scale(), axis=y.axis(grid=True))
    names = [each.name for each in series]
    legend = alt.Legend(labelLimit=LEGEND_PX)
    scale = alt.Scale(domain=names, range=[each.color for each in series])
    color = alt.Color("series:N", scale=scale, title=None, legend=legend)
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=names, range=[list(each.dash) for each in series]))
    rows, tip = alt.Chart(alt.NamedData(name)), _says()
    line = rows.mark_line(strokeWidth=1.8).encode(across, up, color, dash)
    touch = rows.mark_point(opacity=0, size=160).encode(across, up, tooltip=tip)
    marks = alt.Chart(alt.NamedData(f"{name}_marks"))
    upright = marks.mark_rule(color=INK, strokeDash=[2, 3], opacity=0.7).encode(across, tooltip=tip)
    told = marks.mark_text(align="left", baseline="top", dx=4, color=INK, fontSize=11, lineBreak="\n")
    dots = alt.Chart(alt.NamedData(f"{name}_points")).mark_point(size=40, color=INK, filled=False, strokeWidth=1.2)
    shape = alt.Shape("by:N", title=None, legend=None)
    if points:
        shape = alt.Shape("by:N", title=None, scale=alt.Scale(domain=list(points)), legend=alt.Legend(columns=3))
    label = told.encode(across, y=alt.value(4), text="label:N")
    layers = [line, upright, label, touch, dots.encode(across, up, shape, tooltip=tip)]
    return Chart(name, title, _spec(layers, HEIGHT_PX))


def bars(name: str, title: str, x: Axis, groups: Sequence[str], colors: Sequence[str] = COLORS) -> Chart:
    """Bars of the rows `name` (row, start, end, group, text, says), one below the other, and uprights at `name`_marks
    (x, label, says)."""
    across = alt.X("start:Q", title=x.title, scale=x.scale(zero=True), axis=x.axis(grid=True))
    down = alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=220, tickSize=0, domain=False))
    scale = alt.Scale(domain=list(groups), range=list(colors[: len(groups)]))
    legend = None if len(groups) == 1 else alt.Legend(labelLimit=LEGEND_PX)
    color = alt.Color("group:N", scale=scale, title=None, legend=legend)
    rows, tip = alt.Chart(alt.NamedData(name)), _says()
    bar = rows.mark_bar(opacity=0.75, stroke=INK, strokeWidth=0.6, height={"band": 0.72})
    text = rows.mark_text(align="left", dx=4, color=INK, fontSize=11)
    marks = alt.Chart(alt.NamedData(f"{name}_marks"))
    upright = marks.mark_rule(color=INK, strokeWidth=1.5, strokeDash=[4, 2])
    label = marks.mark_text(align="right", baseline="bottom", dx=-4, dy=-2, color=INK, fontSize=11)
    layers = [
        bar.encode(across, alt.X2("end:Q"), down, color, tooltip=tip),
        text.encode(x=alt.X("start:Q"), y=down, text="text:N", tooltip=tip),
        upright.encode(x=alt.X("x:Q"), tooltip=tip),
        label.encode(x=alt.X("x:Q"), y=alt.value(0), text="label:N"),
    ]
    return Chart(name, title, _spec(layers, alt.Step(ROW_PX)))


def graph(name: str, title: str) -> Chart:
    """Nodes of the rows `name` (x, y, label, value, gradient, state, says), and lines between them of `name`_edges."""
    flat = alt.Axis(labels=False, ticks=False, domain=False, grid=False, title=None)
    across = alt.X("x:Q", axis=flat, scale=alt.Scale(domain=[-0.4, 3.4]))
    up = alt.Y("y:Q", axis=flat, scale=alt.Scale(domain=[-0.6, 2.6]))
    edges = alt.Chart(alt.NamedData(f"{name}_edges")).mark_line(color=INK, opacity=0.5)
    nodes = alt.Chart(alt.NamedData(name))
    states = alt.Scale(domain=["waits", "known", "now"], range=[GREY, GREEN, ORANGE])
    circle = nodes.mark_point(size=1500, filled=True, opacity=0.25, strokeWidth=2)
    color = alt.Color("state:N", scale=states, title=None)
    text = nodes.mark_text(color=INK, fontSize=12)
    below = nodes.mark_text(color=INK, fontSize=11, dy=30)
    layers = [
        edges.encode(across, up, detail="edge:N"),
        circle.encode(across, up, color, tooltip=_says()),
        text.encode(across, up, text="label:N"),
        below.encode(across, up, text="value:N"),
        nodes.mark_text(color=INK, fontSize=11, dy=44).encode(across, up, text="gradient:N"),
    ]
    return Chart(name, title, _spec(layers, GRAPH_PX))


def log_sizes(title: str) -> Axis:
    """Sizes that double from tick to tick."""
    return Axis(title, COUNT, is_log=True)


def log_seconds(title: str) -> Axis:
    """Times on a logarithmic scale."""
    return Axis(title, SECONDS, is_log=True)


def _says() -> list[alt.Tooltip]:
    return [alt.Tooltip("says:N", title=" ")]


def _spec(layers: Sequence[alt.Chart], height: int | alt.Step) -> Spec:
    """Layers as JSON, as wide as the page lets them be."""
    spec = alt.layer(*layers).properties(width="container", height=height).to_dict()
    return {name: value for name, value in spec.items() if name not in ("$schema", "config")}  # the page says both
