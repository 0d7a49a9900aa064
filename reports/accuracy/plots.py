"""The figures of a validation, drawn from its groups alone: the same groups give the same bytes."""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator

from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.units import binary_bytes
from predict.workloads import FloatArray
from reports import figures
from reports.accuracy.validate import Group
from reports.calibration.errors import NEAR
from reports.files import write_file
from reports.palette import BLUE, GREY, ORANGE, series_marker, series_style, wide_color

MANY = 2000  # a panel of more rows shows their density instead of points
SMALL = 6.5  # font size of labels, in points
_WIDTH = 7.4  # inches: about the width of a page
_DENSITY = LinearSegmentedColormap.from_list("density", ["#c6dbef", BLUE, "#08244f"])
_OF_ERROR = BoundaryNorm(np.linspace(-NEAR, NEAR, 13), ncolors=256, extend="both")
_ERRORS_SHOWN = (0.001, 2.0)

_NAMES: Mapping[str, str] = MappingProxyType(
    {"matmul": "matmul", "attention_prefill": "prefill", "attention_decode": "decode", "moe_layer": "experts"}
    | dict.fromkeys(COLLECTIVES, "collectives")
)
_TITLES = {
    "prefill": "Prefill attention",
    "decode": "Decode attention",
    "attention_mla_prefill": "Latent attention of prompts",
    "attention_mla": "Latent attention of decode",
    "experts": "Experts of a MoE layer",
}
# Name of a family's figures and page -> its ops; an op that is in no other family is one by itself.
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        family: tuple(op for op in TIME_MODELS if _NAMES.get(op, op) == family)
        for family in dict.fromkeys([*_NAMES.values(), *(op for op in TIME_MODELS if op not in _NAMES)])
    }
)
TITLES: Mapping[str, str] = MappingProxyType(
    {family: _TITLES.get(family, family.replace("_", " ").capitalize()) for family in FAMILIES}
)


@dataclass(frozen=True, slots=True)
class Region:
    """The two sizes over which the error of an op is shown."""

    x_title: str
    y_title: str
    x: Callable[[pd.DataFrame], "pd.Series[float]"]
    y: Callable[[pd.DataFrame], "pd.Series[float]"]


_PROMPTS = Region(
    "prompt (tokens)", "batch x heads", lambda rows: rows["seq"], lambda rows: rows["batch"] * rows["heads"]
)
REGIONS: Mapping[str, Region] = MappingProxyType(
    {
        "matmul": Region(
            "weights n x k (elements)", "rows m", lambda rows: rows["n"] * rows["k"], lambda rows: rows["m"]
        ),
        "attention_prefill": _PROMPTS,
        "attention_decode": Region(
            "context (tokens)",
            "batch x KV heads",
            lambda rows: rows["context"],
            lambda rows: rows["batch"] * rows["kv_heads"],
        ),
        "attention_mla_prefill": _PROMPTS,
        "attention_mla": Region(
            "context (tokens)",
            "batch x heads",
            lambda rows: rows["context"],
            lambda rows: rows["batch"] * rows["heads"],
        ),
        "moe_layer": Region(
            "weights of an expert's matrix on one GPU (elements)",
            "tokens of all GPUs",
            lambda rows: rows["hidden"] * rows["intermediate"] / rows["tp"],
            lambda rows: rows["tokens"],
        ),
    }
)


ValidationDrawing = figures.Drawing[Callable[[str, Sequence[Group]], Figure]]


@dataclass(frozen=True, slots=True)
class DrawnFile:
    """A figure that was written."""

    path: Path
    family: str
    drawing: ValidationDrawing


def write_figures(groups: Sequence[Group], out: Path) -> list[Path]:
    """Write every figure to out/*.png, each file in one step; return their paths."""
    return [drawn.path for drawn in draw_files(groups, out)]


def draw_files(groups: Sequence[Group], out: Path) -> list[DrawnFile]:
    """Write every figure, and return what each file shows. Remove old figures of families that the groups lack."""
    drawn = []
    for family, ops in FAMILIES.items():
        of_family = [group for group in groups if group.op in ops]
        for drawing in DRAWINGS:
            path = out / f"{family}_{drawing.name}.png"
            if of_family and (drawing.draw is not draw_region or _has_sizes(family)):
                write_file(path, figures.to_small_png(drawing.draw(family, of_family)))
                drawn.append(DrawnFile(path, family, drawing))
            else:
                path.unlink(missing_ok=True)  # an old figure, drawn from other tables
    return drawn


def _has_sizes(family: str) -> bool:
    """Whether the errors of a family are shown by size."""
    return family == "collectives" or FAMILIES[family][0] in REGIONS


def labels(groups: Sequence[Group]) -> list[str]:
    """A label that tells each group from others of its op and GPU: formats and window, then if needed kernel, table."""
    texts = [group.formats for group in groups]
    for more in ("kernel_source", "table"):
        keys = [(group.gpu, group.op, text) for group, text in zip(groups, texts, strict=True)]
        texts = [
            f"{text}, {getattr(group, more)}" if keys.count(key) > 1 else text
            for group, text, key in zip(groups, texts, keys, strict=True)
        ]
    return texts


@figures.house_style()
def draw_parity(family: str, groups: Sequence[Group]) -> Figure:
    """Measured against predicted time, for each group: one panel for the napkin, one for expected time."""
    panels = list(_parity_panels(family, groups))
    figure, axes = _grid(
        f"{TITLES[family]}: measured time against the napkin (left of each pair) and expected time (right)",
        "every shape that was predicted, no probes; line: measured = predicted, band: prediction within 30 %",
        panels=2 * len(panels),
        in_line=2 if len(panels) == 1 else 4,
    )
    for place, (title, members) in enumerate(panels):
        left, right = axes[2 * place : 2 * place + 2]
        _draw_parity_panel(left, members, "napkin_s")
        _draw_parity_panel(right, members, "expected_s")
        right.set_ylim(left.get_ylim())
        left.set_title(title, fontsize=SMALL, loc="left")  # the title of both panels
        _label(left, x="napkin", y="measured")
        _label(right, x="expected time")
    if any(_is_pooled(members) for _, members in panels):
        ops = [op for op in FAMILIES[family] if op in {group.op for group in groups}]
        handles = [figures.legend_points(_op_name(op), color=_op_color(op), marker=_op_marker(op)) for op in ops]
        figures.legend_below(figure, handles, columns=len(handles))
    elif any(len(group.judged) > MANY for group in groups):
        shades = [Patch(color=_DENSITY(share), label=text) for share, text in ((0.0, "few shapes"), (1.0, "many"))]
        figures.legend_below(figure, shades)
    return figure


@figures.house_style()
def draw_region(family: str, groups: Sequence[Group]) -> Figure:
    """Mean error of expected time by size: a map for each group; collectives have lines over the message size."""
    if family == "collectives":
        return _draw_messages(groups)
    region = REGIONS[groups[0].op]
    figure, axes = _grid(
        f"{TITLES[family]}: mean error of expected time by size",
        "red: it is too short, most shapes there are slower; blue: too long; white: no shape was measured",
        panels=len(groups),
        in_line=min(3, len(groups)),
    )
    for each, group, label in zip(axes, groups, labels(groups), strict=True):
        _draw_map(each, group.judged, region)
        title = textwrap.fill(f"{group.gpu}: {label}", 42, break_long_words=False)
        _label(each, title, x=region.x_title, y=region.y_title)
    bar = figure.colorbar(
        ScalarMappable(_OF_ERROR, "RdBu"), ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.02
    )
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0%}"))
    bar.ax.xaxis.set_major_locator(MultipleLocator(0.1))
    bar.ax.tick_params(labelsize=6)
    bar.set_label("mean error: too short (left), too long (right)", fontsize=SMALL)
    return figure


@figures.house_style()
def draw_distribution(family: str, groups: Sequence[Group]) -> Figure:
    """Share of the shapes whose error is below x, by group: expected time solid, the napkin dashed."""
    panels: dict[str, list[tuple[Group, str]]] = {}
    for group, label in zip(groups, labels(groups), strict=True):
        panels.setdefault(f"{group.gpu}, {_op_name(group.op)}", []).append((group, label))
    in_line = min(len(panels), 4 if len(panels) > 3 else 3)
    figure, axes = _grid(
        f"{TITLES[family]}: share of the shapes that are predicted within an error",
        "solid: expected time, dashed: napkin; dotted: 30 %",
        panels=len(panels),
        in_line=in_line,
    )
    for each, (title, members) in zip(axes, panels.items(), strict=True):
        _draw_distribution_panel(each, members)
        _label(each, title, x="error of the predicted time")
    for first in axes[::in_line]:
        _label(first, y="share of shapes")
    return figure


DRAWINGS: tuple[ValidationDrawing, ...] = (
    figures.Drawing(
        "parity",
        draw_parity,
        "measured against predicted time",
        "The napkin is a bound: its points lie left of the line, and far left where the launch dominates a short call.",
    ),
    figures.Drawing(
        "region",
        draw_region,
        "error of expected time by size",
        "An evenly colored patch is a region where the model misses something; a single dark cell is a kernel of its "
        "own or a disturbed measurement.",
    ),
    figures.Drawing(
        "distribution",
        draw_distribution,
        "distribution of the error",
        "The dotted line shows the share of shapes within 30 %, for expected time and for the napkin.",
    ),
)


def _grid(title: str, subtitle: str, *, panels: int, in_line: int) -> tuple[Figure, list[Axes]]:
    """An empty figure as wide as the page, and its panels from left to right."""
    lines = math.ceil(panels / in_line)
    height = {1: 3.9, 2: 3.1, 3: 2.4}.get(in_line, 1.9)
    figure = Figure(figsize=(_WIDTH, 0.9 + height * lines), dpi=figures.DPI, layout="constrained")
    figure.suptitle(f"{title}\n{subtitle}", fontsize=8)
    flat = list(figure.subplots(lines, in_line, squeeze=False).flat)
    for spare in flat[panels:]:
        spare.remove()
    for axes in flat[:panels]:
        axes.tick_params(labelsize=5.5, length=2, pad=2)
    return figure, flat[:panels]


def _parity_panels(family: str, groups: Sequence[Group]) -> Iterator[tuple[str, list[Group]]]:
    """The panels: collectives of one GPU, table, format and kernel share one; any other group has its own."""
    if family != "collectives":
        for group, label in zip(groups, labels(groups), strict=True):
            yield f"{group.gpu}: {label}", [group]
        return
    pooled: dict[tuple[str, str, str, str], list[Group]] = {}
    for group in groups:
        pooled.setdefault((group.gpu, group.dtype, group.table, group.kernel_source), []).append(group)
    for (gpu, dtype, _, kernel), members in pooled.items():
        yield f"{gpu}: {dtype}, {kernel}", members


def _draw_parity_panel(axes: Axes, groups: Sequence[Group], side: str) -> None:
    rows = pd.concat([group.judged for group in groups])
    spans = [(rows[name].min() / 1.5, rows[name].max() * 1.5) for name in (side, "time_s")]
    axes.set_xlim(*spans[0])
    axes.set_ylim(*spans[1])
    for axis in ("x", "y"):
        figures.log_axis(axes, axis, figures.tick_duration)
    axes.xaxis.set_major_locator(LogLocator(base=10, numticks=4))
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
    line = np.array([min(span[0] for span in spans), max(span[1] for span in spans)])
    axes.fill_between(line, line / (1 + NEAR), line / (1 - NEAR), color=ORANGE, alpha=0.3, linewidth=0)
    axes.plot(line, line, color="black", linewidth=0.8)
    if len(rows) > MANY:
        edges = [np.geomspace(low, high, count) for (low, high), count in zip(spans, (81, 66), strict=True)]
        counts, *_ = np.histogram2d(rows[side], rows["time_s"], bins=edges)
        shapes = np.ma.masked_equal(counts.T, 0)
        axes.pcolormesh(*edges, shapes, cmap=_DENSITY, norm=LogNorm(1, 200), edgecolors="none", rasterized=True)
        return
    for group in groups:
        pooled = _is_pooled(groups)
        axes.plot(
            group.judged[side], group.judged["time_s"], linestyle="none", markersize=3, markeredgewidth=0, alpha=0.6,
            marker=_op_marker(group.op) if pooled else "o", color=_op_color(group.op) if pooled else BLUE,
        )  # fmt: skip


def _draw_map(axes: Axes, rows: pd.DataFrame, region: Region) -> None:
    """A cell for each octave of both sizes: its mean absolute error, with the sign of its mean error."""
    x, y = (np.rint(np.log2(sizes(rows).to_numpy(dtype=float))) for sizes in (region.x, region.y))
    error = (rows["expected_s"] / rows["time_s"] - 1).to_numpy()
    cells = pd.DataFrame({"x": x, "y": y, "error": error, "size": np.abs(error)}).groupby(["y", "x"])
    signed = (np.sign(cells["error"].mean()) * cells["size"].mean()).unstack("x")
    columns, lines = (np.arange(of.min(), of.max() + 1) for of in (x, y))
    grid = signed.reindex(index=lines, columns=columns).to_numpy()
    edges = (2 ** (np.append(each, each[-1] + 1) - 0.5) for each in (columns, lines))
    axes.pcolormesh(*edges, np.ma.masked_invalid(grid), cmap="RdBu", norm=_OF_ERROR, edgecolors="none")
    for axis in ("x", "y"):
        figures.log_axis(axes, axis, figures.count_text)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=6))
    axes.yaxis.set_major_locator(LogLocator(base=2, numticks=9))


def _draw_distribution_panel(axes: Axes, members: Sequence[tuple[Group, str]]) -> None:
    for place, (group, label) in enumerate(members):
        for side, style, name in (("expected_s", "-", label), ("napkin_s", "--", None)):
            errors, shares = _distribution(group.judged, side)
            axes.plot(errors, shares, color=wide_color(place), linestyle=style, linewidth=1.3, label=name)
    axes.axvline(NEAR, color=GREY, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(*_ERRORS_SHOWN)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.3g} %"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda _, __: ""))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_ylim(0, 1.02)
    axes.legend(loc="upper left", fontsize=5.2, handlelength=1.2)


def _draw_messages(groups: Sequence[Group]) -> Figure:
    """Error of collectives against message size, a line for each number of GPUs and format."""
    ops = [op for op in COLLECTIVES if op in {group.op for group in groups}]
    gpus = list(dict.fromkeys(group.gpu for group in groups))
    formats = list(dict.fromkeys(group.dtype for group in groups))
    numbers = sorted({int(number) for group in groups for number in group.judged["gpus"].unique()})
    figure, axes = _grid(
        "Collectives: error of expected time by message, for each number of GPUs",
        "below zero: expected time is too short; band: within 30 %",
        panels=len(ops) * len(gpus),
        in_line=len(ops),
    )
    for each, (gpu, op) in zip(axes, ((gpu, op) for gpu in gpus for op in ops), strict=True):
        _draw_message_panel(each, [group for group in groups if (group.gpu, group.op) == (gpu, op)], numbers, formats)
        _label(each, f"{gpu}, {_op_name(op)}")
        each.set_xlabel("message (bytes of the whole buffer)", fontsize=6)
    handles = [
        *(
            figures.legend_line(f"{number} GPUs", color=wide_color(place), marker=series_marker(place))
            for place, number in enumerate(numbers)
        ),
        *(figures.legend_line(name, color=GREY, linestyle=series_style(place)) for place, name in enumerate(formats)),
    ]
    figures.legend_below(figure, handles, columns=len(handles))
    return figure


def _draw_message_panel(axes: Axes, groups: Sequence[Group], numbers: Sequence[int], formats: Sequence[str]) -> None:
    axes.axhspan(-NEAR, NEAR, color=ORANGE, alpha=0.15, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.8)
    for group in groups:
        for place, number in enumerate(numbers):
            rows = group.judged[group.judged["gpus"] == number].sort_values("message_bytes")
            axes.plot(
                rows["message_bytes"], rows["expected_s"] / rows["time_s"] - 1, linewidth=1.0, markersize=2.5,
                linestyle=series_style(formats.index(group.dtype)), color=wide_color(place),
                marker=series_marker(place),
            )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: binary_bytes(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.0%}"))
    axes.set_ylim(-0.7, 0.7)


def _label(axes: Axes, title: str = "", *, x: str = "", y: str = "") -> None:
    """Set the given labels in a small font."""
    for text, put in ((title, axes.set_title), (x, axes.set_xlabel), (y, axes.set_ylabel)):
        if text:
            put(text, fontsize=SMALL)


def _distribution(rows: pd.DataFrame, side: str) -> tuple[FloatArray, FloatArray]:
    """Errors at up to 200 shares."""
    errors = np.abs(rows[side].to_numpy() / rows["time_s"].to_numpy() - 1)
    shares = np.linspace(0, 1, min(200, len(errors)))
    return np.maximum(np.quantile(errors, shares), _ERRORS_SHOWN[0]), shares


def _is_pooled(groups: Sequence[Group]) -> bool:
    return groups[0].op in COLLECTIVES


def _op_name(op: str) -> str:
    return op.replace("_", " ")


def _op_color(op: str) -> str:
    return wide_color(COLLECTIVES.index(op))


def _op_marker(op: str) -> str:
    return series_marker(COLLECTIVES.index(op))
