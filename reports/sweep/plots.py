"""The figures of a sweep, drawn from its frame alone: the same frame gives the same bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from reports.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SERIES_MARKERS,
    SKY,
    STYLES,
    count_text,
    house_style,
    legend_line,
    log_axis,
    make_figure,
    series_color,
    tick_duration,
    to_png,
)
from reports.files import write_file
from reports.sweep.grid import pick_sizes, setting

GPU_COLORS = (BLUE, ORANGE, PINK, SKY, GREY, GREEN)
GPUS_DRAWN = len(GPU_COLORS)
_BAND, _FAINT = 5, 0.25  # width and opacity of what lies under the lines
_FEW_DECADES = 10**2.5
_MARKED_POINTS = 24  # a line of more points than this is drawn without their markers


@dataclass(frozen=True, slots=True)
class SweepDrawing:
    """A figure of a sweep: its file name without .png."""

    name: str
    draw: Callable[[pd.DataFrame], Figure]


@house_style()
def draw_throughput(frame: pd.DataFrame) -> Figure:
    """Decode throughput against batch, a panel for each GPU and a line for each context."""
    gpus, contexts = _gpus(frame), pick_sizes(frame["context"], 5)
    figure, panels = make_figure(
        _subtitle(frame), "Decode throughput: batching pays until the KV cache or the arithmetic takes over",
        panels=len(gpus), share_y=True,
    )  # fmt: skip
    marker = _marker("o", frame["batch"])
    for axes, gpu in zip(panels, gpus, strict=True):
        _draw_roofs(axes, _line_rows(frame, gpu, contexts[0]))
        for index, context in enumerate(contexts):
            rows = _line_rows(frame, gpu, context)
            _draw_fitting(axes, rows, ("batch", "decode_tokens_per_s"), color=series_color(index), marker=marker)
        log_axis(axes, "x", count_text)
        log_axis(axes, "y", _rate)
        axes.set_title(gpu)
        axes.set_xlabel("batch (sequences decoded together)")
    _fine_ticks(panels, "y")
    panels[0].set_ylabel("decode throughput (tokens per second)")
    shortest = f"{count_text(contexts[0])} tokens"
    handles = [
        *(
            legend_line(f"context of {count_text(context)} tokens", color=series_color(index), marker=marker)
            for index, context in enumerate(contexts)
        ),
        *_fitting_handles(frame),
        legend_line(f"arithmetic alone, at {shortest}", color=RED, width=_BAND, alpha=_FAINT),
        legend_line(f"memory alone, at {shortest}", color=GREEN, width=_BAND, alpha=_FAINT),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


@house_style()
def draw_step(frame: pd.DataFrame) -> Figure:
    """Time of a decode step against batch: the memory line, which grows with the KV cache, and the compute line."""
    gpus, contexts = _gpus(frame), pick_sizes(frame["context"], 2)
    figure, panels = make_figure(
        _subtitle(frame), "Time of a decode step: the weights are read once, every sequence adds its KV cache",
        panels=len(gpus), share_y=True,
    )  # fmt: skip
    linked = bool((frame["decode_link_s"] > 0).any())
    marker = _marker(".", frame["batch"])
    for axes, gpu in zip(panels, gpus, strict=True):
        for style, context in zip(STYLES, contexts, strict=False):
            rows = _line_rows(frame, gpu, context)
            fitting = rows["decode_step_s"].where(rows["fits"])
            axes.plot(rows["batch"], fitting, color="black", linewidth=_BAND, alpha=_FAINT)
            for side, color in (("dram", GREEN), ("compute", RED)):
                axes.plot(
                    rows["batch"], rows[f"decode_{side}_s"], color=color, linestyle=style, marker=marker, linewidth=1.3
                )
        if linked:
            axes.plot(rows["batch"], rows["decode_link_s"], color=BLUE, linestyle=":", marker=marker, linewidth=1.3)
        _mark_ridge(axes, _line_rows(frame, gpu, contexts[0]))
        log_axis(axes, "x", count_text)
        log_axis(axes, "y", tick_duration)
        axes.set_title(gpu)
        axes.set_xlabel("batch (sequences decoded together)")
    _fine_ticks(panels, "y")
    panels[0].set_ylabel("time of a decode step")
    handles = [
        legend_line(f"{name}, context of {count_text(context)}", color=color, linestyle=style)
        for name, color in (("memory", GREEN), ("arithmetic", RED))
        for style, context in zip(STYLES, contexts, strict=False)
    ]
    if linked:
        handles.append(legend_line("between GPUs, any context", color=BLUE, linestyle=":"))
    handles.append(legend_line("napkin, where it fits in memory", color="black", width=_BAND, alpha=_FAINT))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)))
    return figure


@house_style()
def draw_latency(frame: pd.DataFrame) -> Figure:
    """Time per output token against throughput as the batch grows, a panel for each context and a line for each GPU."""
    gpus, contexts = _gpus(frame), pick_sizes(frame["context"], 3)
    figure, panels = make_figure(
        _subtitle(frame), "Throughput costs latency: each curve runs through the batches, from left to right",
        panels=len(contexts), share_y=True,
    )  # fmt: skip
    markers = [_marker(SERIES_MARKERS[index], frame["batch"]) for index in range(len(gpus))]
    for axes, context in zip(panels, contexts, strict=True):
        for index, gpu in enumerate(gpus):
            rows = _line_rows(frame, gpu, context)
            _draw_fitting(axes, rows, ("decode_tokens_per_s", "tpot_s"), color=GPU_COLORS[index], marker=markers[index])
        log_axis(axes, "x", _rate)
        log_axis(axes, "y", tick_duration)
        axes.set_title(f"context of {count_text(context)} tokens")
        axes.set_xlabel("decode throughput (tokens per second)")
    _share_x(panels)
    _fine_ticks(panels, "x")
    if frame["fits"].any():
        panels[0].set_ylim(top=frame.loc[frame["fits"], "tpot_s"].max() * 2)  # what fits no machine needs no room
    _fine_ticks(panels, "y")
    panels[0].set_ylabel("time per output token (TPOT)")
    handles = [
        legend_line(gpu, color=color, marker=marker)
        for gpu, color, marker in zip(gpus, GPU_COLORS, markers, strict=False)
    ]
    handles += _fitting_handles(frame)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


@house_style()
def draw_context(frame: pd.DataFrame) -> Figure:
    """What a longer context costs: the largest batch that fits, and the time to the first token, by GPU."""
    gpus = _gpus(frame)
    figure, (batch_axes, ttft_axes) = make_figure(
        _subtitle(frame), "What a longer context costs: room in memory, and time to the first token", panels=2
    )
    smallest = frame["batch"].min()
    handles = []
    for index, gpu in enumerate(gpus):
        rows = frame[(frame["gpu"] == gpu) & (frame["batch"] == smallest)]
        color, style = GPU_COLORS[index], STYLES[index % len(STYLES)]
        marker = _marker(SERIES_MARKERS[index], rows["context"])
        for axes, values in ((batch_axes, rows["max_batch"].where(rows["max_batch"] > 0)), (ttft_axes, rows["ttft_s"])):
            axes.plot(  # equal curves: the later lies over the earlier, broken and with smaller markers
                rows["context"], values, color=color, linestyle=style, marker=marker, markersize=9 - index,
                linewidth=1.3,
            )  # fmt: skip
        handles.append(legend_line(gpu, color=color, linestyle=style, marker=marker))
    batch_axes.set_title("largest batch whose KV cache fits beside the weights")
    batch_axes.set_ylabel("batch (sequences)")
    ttft_axes.set_title(f"time to first token, batch {smallest}")
    ttft_axes.set_ylabel("time to first token (TTFT)")
    if (frame["max_batch"] > 0).any():
        log_axis(batch_axes, "y", count_text)
    else:
        batch_axes.text(0.5, 0.5, "not even one sequence fits", transform=batch_axes.transAxes, ha="center")
        batch_axes.set_yticks([])
    log_axis(ttft_axes, "y", tick_duration)
    for axes in (batch_axes, ttft_axes):
        log_axis(axes, "x", count_text)
        axes.set_xlabel("context (tokens of the prompt and in the cache)")
    batch_axes.set_xlim(ttft_axes.get_xlim())
    _fine_ticks([ttft_axes], "y")
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


SWEEP_DRAWINGS: tuple[SweepDrawing, ...] = (
    SweepDrawing("throughput", draw_throughput),
    SweepDrawing("step", draw_step),
    SweepDrawing("latency", draw_latency),
    SweepDrawing("context", draw_context),
)


def write_figures(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write every figure of a sweep to out/*.png, each file in one step; return their paths."""
    files = []
    for drawing in SWEEP_DRAWINGS:
        files.append(out / f"{drawing.name}.png")
        write_file(files[-1], to_png(drawing.draw(frame)))
    return files


def _gpus(frame: pd.DataFrame) -> list[str]:
    """The GPUs that are drawn, in the order in which they were asked for."""
    return list(frame["gpu"].cat.categories[:GPUS_DRAWN])


def _subtitle(frame: pd.DataFrame) -> str:
    """The line under every title."""
    gpus = frame["gpu"].cat.categories.size
    return setting(frame) + (f"; the first {GPUS_DRAWN} of {gpus} GPUs" if gpus > GPUS_DRAWN else "")


def _line_rows(frame: pd.DataFrame, gpu: str, context: int) -> pd.DataFrame:
    """All batches of one GPU and context, in order."""
    return frame[(frame["gpu"] == gpu) & (frame["context"] == context)]


def _fine_ticks(panels: Sequence[Axes], axis: str) -> None:
    """Ticks at 1, 2 and 5 of every decade where an axis spans few of them."""
    for axes in panels:
        low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
        if high / low < _FEW_DECADES:
            each = axes.xaxis if axis == "x" else axes.yaxis
            each.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))


def _marker(marker: str, sizes: "pd.Series[int]") -> str:
    """The marker of a line over `sizes`: none where its points would touch."""
    return marker if sizes.nunique() <= _MARKED_POINTS else "None"


def _draw_fitting(axes: Axes, rows: pd.DataFrame, names: tuple[str, str], *, color: str, marker: str) -> None:
    """A line over the batches: solid where they fit in memory, faint and dashed beyond, and a ring at the limit."""
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
    """The throughput that arithmetic alone, and memory alone, would allow."""
    for side, color in (("compute", RED), ("dram", GREEN)):
        rate = rows["batch"] / rows[f"decode_{side}_s"]
        axes.plot(rows["batch"], rate, color=color, linewidth=_BAND, alpha=_FAINT)


def _mark_ridge(axes: Axes, rows: pd.DataFrame) -> None:
    """A line at the batch from which on arithmetic takes longest, if that is within the sweep.

    Between two batches the times are taken as straight lines, which they are but for a mixture of experts.
    """
    batch = rows["batch"].to_numpy(dtype=float)
    excess_s = (rows["decode_compute_s"] - rows[["decode_dram_s", "decode_link_s"]].max(axis=1)).to_numpy()
    above = np.flatnonzero(excess_s > 0)
    if not above.size or above[0] == 0:
        return
    pair = slice(above[0] - 1, above[0] + 1)
    ridge = float(np.interp(0, excess_s[pair], batch[pair]))
    axes.axvline(ridge, color=GREY, linestyle=":")
    axes.annotate(
        f"ridge at batch {ridge:.0f}\n({count_text(rows['context'].iloc[0])} tokens)",
        (ridge, 0), xycoords=("data", "axes fraction"), xytext=(-4, 4), textcoords="offset points",
        ha="right", color=GREY, fontsize=8,
    )  # fmt: skip


def _fitting_handles(frame: pd.DataFrame) -> list[Line2D]:
    if frame["fits"].all():
        return []
    ring = legend_line("the largest batch that fits", color=GREY, marker="o", linestyle="none")
    ring.set(markerfacecolor="none", markersize=9)
    return [legend_line("does not fit in memory", color=GREY, linestyle="--", width=1, alpha=0.6), ring]


def _share_x(panels: Sequence[Axes]) -> None:
    """One span of x for all panels, with a margin."""
    spans = [axes.get_xlim() for axes in panels]
    for axes in panels:
        axes.set_xlim(min(span[0] for span in spans) / 1.2, max(span[1] for span in spans) * 1.2)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
