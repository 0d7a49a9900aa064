"""Draws the figures of a sweep from its frame alone; the same frame gives the same bytes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from reports import figures
from reports.files import write_file
from reports.palette import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    STYLES,
    series_color,
    series_marker,
    series_style,
)
from reports.sweep.grid import pick_sizes, setting

BATCH = ("batch (sequences decoded together)", figures.count_text)
GPU_COLORS = (BLUE, ORANGE, PINK, SKY, GREY, GREEN)
GPUS_DRAWN = len(GPU_COLORS)
_BAND, _FAINT = 5, 0.25  # width and opacity of the bands under the lines
_FEW_DECADES = 10**2.5  # an axis whose ends have a smaller ratio gets finer ticks
_MARKED_POINTS = 24  # a line of more points has no markers


@figures.house_style()
def draw_throughput(frame: pd.DataFrame) -> Figure:
    """Decode throughput against batch: a panel for each GPU, a line for each context."""
    gpus, contexts = _gpus(frame), pick_sizes(frame["context"], 5)
    title = "Decode throughput: batching pays until the KV cache or the arithmetic takes over"
    figure, panels = figures.make_figure(_subtitle(frame), title, panels=len(gpus), share_y=True)
    marker = _marker("o", frame["batch"])
    for axes, gpu in zip(panels, gpus, strict=True):
        _draw_roofs(axes, _line_rows(frame, gpu, contexts[0]))
        for index, context in enumerate(contexts):
            rows = _line_rows(frame, gpu, context)
            _draw_fitting(axes, rows, ("batch", "decode_tokens_per_s"), color=series_color(index), marker=marker)
        figures.log_panel(axes, gpu, x=BATCH, y=("", _rate))
    _fine_ticks(panels, "y")
    panels[0].set_ylabel("decode throughput (tokens per second)")
    shortest = f"{figures.count_text(contexts[0])} tokens"
    handles = [
        *(
            figures.legend_line(
                f"context of {figures.count_text(context)} tokens", color=series_color(index), marker=marker
            )
            for index, context in enumerate(contexts)
        ),
        *_fitting_handles(frame),
        figures.legend_line(f"arithmetic alone, at {shortest}", color=RED, width=_BAND, alpha=_FAINT),
        figures.legend_line(f"memory alone, at {shortest}", color=GREEN, width=_BAND, alpha=_FAINT),
    ]
    figures.legend_below(figure, handles)
    return figure


@figures.house_style()
def draw_step(frame: pd.DataFrame) -> Figure:
    """Memory, arithmetic and link time of a decode step against batch, at the shortest and longest context."""
    gpus, contexts = _gpus(frame), pick_sizes(frame["context"], 2)
    title = "Time of a decode step: the weights are read once, every sequence adds its KV cache"
    figure, panels = figures.make_figure(_subtitle(frame), title, panels=len(gpus), share_y=True)
    marker = _marker(".", frame["batch"])
    for axes, gpu in zip(panels, gpus, strict=True):
        _draw_sides(axes, [_line_rows(frame, gpu, context) for context in contexts], marker)
        figures.log_panel(axes, gpu, x=BATCH, y=("", figures.tick_duration))
    _fine_ticks(panels, "y")
    panels[0].set_ylabel("time of a decode step")
    handles = [
        figures.legend_line(f"{name}, context of {figures.count_text(context)}", color=color, linestyle=style)
        for name, color in (("memory", GREEN), ("arithmetic", RED))
        for style, context in zip(STYLES, contexts, strict=False)
    ]
    if (frame["decode_link_s"] > 0).any():
        handles.append(figures.legend_line("between GPUs, any context", color=BLUE, linestyle=":"))
    handles.append(figures.legend_line("napkin, where it fits in memory", color="black", width=_BAND, alpha=_FAINT))
    figures.legend_below(figure, handles, columns=3)
    return figure


@figures.house_style()
def draw_latency(frame: pd.DataFrame) -> Figure:
    """Time per output token against throughput as the batch grows: a panel for each context, a line for each GPU."""
    gpus, contexts = _gpus(frame), pick_sizes(frame["context"], 3)
    title = "Throughput costs latency: each curve runs through the batches, from left to right"
    figure, panels = figures.make_figure(_subtitle(frame), title, panels=len(contexts), share_y=True)
    markers = [_marker(series_marker(index), frame["batch"]) for index in range(len(gpus))]
    x = ("decode throughput (tokens per second)", _rate)
    for axes, context in zip(panels, contexts, strict=True):
        for index, gpu in enumerate(gpus):
            rows = _line_rows(frame, gpu, context)
            _draw_fitting(axes, rows, ("decode_tokens_per_s", "tpot_s"), color=GPU_COLORS[index], marker=markers[index])
        figures.log_panel(axes, f"context of {figures.count_text(context)} tokens", x=x, y=("", figures.tick_duration))
    _share_x(panels)
    _fine_ticks(panels, "x")
    if frame["fits"].any():
        panels[0].set_ylim(top=frame.loc[frame["fits"], "tpot_s"].max() * 2)  # no room for batches that do not fit
    _fine_ticks(panels, "y")
    panels[0].set_ylabel("time per output token (TPOT)")
    handles = [
        figures.legend_line(gpu, color=color, marker=marker)
        for gpu, color, marker in zip(gpus, GPU_COLORS, markers, strict=False)
    ]
    figures.legend_below(figure, [*handles, *_fitting_handles(frame)])
    return figure


@figures.house_style()
def draw_context(frame: pd.DataFrame) -> Figure:
    """The largest batch that fits and the time to the first token against context, for each GPU."""
    title = "What a longer context costs: room in memory, and time to the first token"
    figure, (batch_axes, ttft_axes) = figures.make_figure(_subtitle(frame), title, panels=2)
    smallest = frame["batch"].min()
    handles = []
    for index, gpu in enumerate(_gpus(frame)):
        rows = frame[(frame["gpu"] == gpu) & (frame["batch"] == smallest)]
        color, style = GPU_COLORS[index], series_style(index)
        marker = _marker(series_marker(index), rows["context"])
        for axes, values in ((batch_axes, rows["max_batch"].where(rows["max_batch"] > 0)), (ttft_axes, rows["ttft_s"])):
            axes.plot(  # dashes and smaller markers keep an equal curve underneath visible
                rows["context"], values, color=color, linestyle=style, marker=marker, markersize=9 - index,
                linewidth=1.3,
            )  # fmt: skip
        handles.append(figures.legend_line(gpu, color=color, linestyle=style, marker=marker))
    x = ("context (tokens of the prompt and in the cache)", figures.count_text)
    title = f"time to first token, batch {smallest}"
    figures.log_panel(ttft_axes, title, x=x, y=("time to first token (TTFT)", figures.tick_duration))
    batch_axes.set(
        title="largest batch whose KV cache fits beside the weights", xlabel=x[0], ylabel="batch (sequences)"
    )
    figures.log_axis(batch_axes, "x", figures.count_text)
    if (frame["max_batch"] > 0).any():
        figures.log_axis(batch_axes, "y", figures.count_text)
    else:
        batch_axes.text(0.5, 0.5, "not even one sequence fits", transform=batch_axes.transAxes, ha="center")
        batch_axes.set_yticks([])
    batch_axes.set_xlim(ttft_axes.get_xlim())
    _fine_ticks([ttft_axes], "y")
    figures.legend_below(figure, handles)
    return figure


# Name of the file -> what draws it.
SWEEP_DRAWINGS: Mapping[str, Callable[[pd.DataFrame], Figure]] = MappingProxyType(
    {"throughput": draw_throughput, "step": draw_step, "latency": draw_latency, "context": draw_context}
)


def write_figures(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write every figure of a sweep to out/*.png, each file in one step; return their paths."""
    for name, draw in SWEEP_DRAWINGS.items():
        write_file(out / f"{name}.png", figures.to_png(draw(frame)))
    return [out / f"{name}.png" for name in SWEEP_DRAWINGS]


def _gpus(frame: pd.DataFrame) -> list[str]:
    """The GPUs that are drawn, in the order given."""
    return list(frame["gpu"].cat.categories[:GPUS_DRAWN])


def _subtitle(frame: pd.DataFrame) -> str:
    """The line under every title."""
    gpus = frame["gpu"].cat.categories.size
    return setting(frame) + (f"; the first {GPUS_DRAWN} of {gpus} GPUs" if gpus > GPUS_DRAWN else "")


def _line_rows(frame: pd.DataFrame, gpu: str, context: int) -> pd.DataFrame:
    """The rows of one GPU and context, in order of batch."""
    return frame[(frame["gpu"] == gpu) & (frame["context"] == context)]


def _fine_ticks(panels: Sequence[Axes], axis: str) -> None:
    """Set ticks at 1, 2 and 5 of every decade on an axis that spans few decades."""
    for axes in panels:
        low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
        if high / low < _FEW_DECADES:
            each = axes.xaxis if axis == "x" else axes.yaxis
            each.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))


def _marker(marker: str, sizes: "pd.Series[int]") -> str:
    """The marker of a line over `sizes`; none where its points would touch."""
    return marker if sizes.nunique() <= _MARKED_POINTS else "None"


def _draw_fitting(axes: Axes, rows: pd.DataFrame, names: tuple[str, str], *, color: str, marker: str) -> None:
    """Draw a line over the batches: solid where they fit in memory, faint and dashed beyond, with a ring at the last
    that fits."""
    x, y = rows[names[0]], rows[names[1]]
    fits = rows["fits"]
    axes.plot(x, y, color=color, linestyle="--", marker=marker, markersize=3, linewidth=1, alpha=0.45)
    axes.plot(x.where(fits), y, color=color, marker=marker, markersize=4, linewidth=1.6)
    last = int(np.count_nonzero(fits)) - 1
    if 0 <= last < len(rows) - 1:
        axes.plot(
            x.iloc[[last]], y.iloc[[last]], linestyle="none", marker="o", markersize=9, markerfacecolor="none",
            color=color,
        )  # fmt: skip


def _draw_roofs(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the throughput that arithmetic alone would allow, and that memory alone would."""
    for side, color in (("compute", RED), ("dram", GREEN)):
        rate = rows["batch"] / rows[f"decode_{side}_s"]
        axes.plot(rows["batch"], rate, color=color, linewidth=_BAND, alpha=_FAINT)


def _draw_sides(axes: Axes, by_context: Sequence[pd.DataFrame], marker: str) -> None:
    """Draw memory, arithmetic and link time of a decode step at each context, over the napkin where the batch fits."""
    for style, rows in zip(STYLES, by_context, strict=False):
        fitting = rows["decode_step_s"].where(rows["fits"])
        axes.plot(rows["batch"], fitting, color="black", linewidth=_BAND, alpha=_FAINT)
        for side, color in (("dram", GREEN), ("compute", RED)):
            time_s = rows[f"decode_{side}_s"]
            axes.plot(rows["batch"], time_s, color=color, linestyle=style, marker=marker, linewidth=1.3)
    rows = by_context[-1]
    if (rows["decode_link_s"] > 0).any():
        axes.plot(rows["batch"], rows["decode_link_s"], color=BLUE, linestyle=":", marker=marker, linewidth=1.3)
    _mark_ridge(axes, by_context[0])


def _mark_ridge(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw a line at the batch from which on arithmetic takes longest, if the sweep reaches it.

    It interpolates linearly between two batches, which is exact except for a mixture of experts.
    """
    batch = rows["batch"].to_numpy(dtype=float)
    excess_s = (rows["decode_compute_s"] - rows[["decode_dram_s", "decode_link_s"]].max(axis=1)).to_numpy()
    above = np.flatnonzero(excess_s > 0)
    if not above.size or above[0] == 0:
        return
    pair = slice(above[0] - 1, above[0] + 1)
    ridge = float(np.interp(0, excess_s[pair], batch[pair]))
    tokens = figures.count_text(rows["context"].iloc[0])
    figures.annotate_ridge(axes, ridge, f"ridge at batch {ridge:.0f}\n({tokens} tokens)", left=True)


def _fitting_handles(frame: pd.DataFrame) -> list[Line2D]:
    if frame["fits"].all():
        return []
    ring = figures.legend_line("the largest batch that fits", color=GREY, marker="o", linestyle="none")
    ring.set(markerfacecolor="none", markersize=9)
    return [figures.legend_line("does not fit in memory", color=GREY, linestyle="--", width=1, alpha=0.6), ring]


def _share_x(panels: Sequence[Axes]) -> None:
    """Give all panels one span of x, with a margin."""
    spans = [axes.get_xlim() for axes in panels]
    for axes in panels:
        axes.set_xlim(min(span[0] for span in spans) / 1.2, max(span[1] for span in spans) * 1.2)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
