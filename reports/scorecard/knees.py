"""The figure of the knee: large matmuls against their batch, on GPUs whose ridges differ, in units of the ridge."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from predict.workloads import FloatArray
from reports import figures
from reports.accuracy.validate import Group
from reports.palette import BLACK, GREY, series_marker, wide_color
from reports.scorecard.kernels import largest_weights, machine_of, matmuls

SIZE = (8.0, 3.6)  # inches


@dataclass(frozen=True, slots=True)
class Knee:
    """The largest matmuls of one GPU by batch: medians over their weights."""

    gpu: str
    ridge_rows: float  # peak over bandwidth, for weights of 2 bytes
    rows: FloatArray
    over_peak: FloatArray  # time over the time of the FLOP alone: what a row costs, 1 at the peak rate
    share_of_bound: FloatArray  # bound over time


def knees_of(groups: Sequence[Group]) -> list[Knee]:
    """The knee of each GPU whose largest weights were measured with few rows and with many."""
    by_gpu = ([each for each in groups if each.gpu == gpu] for gpu in dict.fromkeys(each.gpu for each in groups))
    return [knee for of_gpu in by_gpu if (knee := _knee(of_gpu)) is not None]


def _knee(groups: Sequence[Group]) -> Knee | None:
    rows = [weight for _, weight in largest_weights(matmuls(groups))]
    if not rows:
        return None
    measured = [
        weight.assign(over_peak=weight["time_s"] / weight["flop_s"], share=weight["napkin_s"] / weight["time_s"])
        for weight in rows
    ]
    batches = sorted(set.intersection(*(set(weight["m"]) for weight in measured)))
    over_peak, share = (
        np.median([weight.set_index("m")[name].loc[batches].to_numpy() for weight in measured], axis=0)
        for name in ("over_peak", "share")
    )
    machine = machine_of(groups)
    ridge = machine.flop_per_s / machine.bytes_per_s
    return Knee(groups[0].gpu, ridge, np.array(batches, dtype=float), over_peak, share)


def knees_png(knees: Sequence[Knee]) -> bytes:
    """The figure as a small PNG: the same knees give the same bytes."""
    return figures.to_small_png(draw_knees(knees))


@figures.house_style()
def draw_knees(knees: Sequence[Knee]) -> Figure:
    """Left the cost of a row, right the share of the bound; both against the batch in units of the ridge."""
    figure = Figure(figsize=SIZE, dpi=figures.DPI, layout="constrained")
    cost, share = figure.subplots(1, 2)
    handles = [figures.legend_line("napkin", color=BLACK, linestyle="--")]
    for place, knee in enumerate(knees):
        color, marker = wide_color(place), series_marker(place)
        batch = knee.rows / knee.ridge_rows
        for axes, values in ((cost, knee.over_peak), (share, 100 * knee.share_of_bound)):
            axes.plot(batch, values, color=color, marker=marker, markersize=2.5, linewidth=1.0)
        handles.append(figures.legend_line(f"{knee.gpu}: ridge {knee.ridge_rows:.0f}", color=color, marker=marker))
    ends = [float(end) for knee in knees for end in knee.rows[[0, -1]] / knee.ridge_rows]
    batch = np.geomspace(min(ends), max(ends), 200)
    cost.plot(batch, np.maximum(1, 1 / batch), color=BLACK, linestyle="--", linewidth=1.0)
    share.axhline(100, color=BLACK, linestyle="--", linewidth=1.0)
    _finish(cost, share)
    figures.legend_below(figure, handles, columns=3)
    return figure


def _finish(cost: Axes, share: Axes) -> None:
    for axes in (cost, share):
        axes.axvline(1, color=GREY, linestyle=":")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("batch (rows / ridge)")
    cost.set_yscale("log")
    cost.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    cost.set_ylabel("time of a row (1x: at the peak rate)")
    cost.set_title("A row costs less up to the ridge, and no less beyond it")
    share.set_ylim(0, 105)
    figures.percent_ticks(share.yaxis)
    share.set_ylabel("bound / measured time")
    share.set_title("How near the kernels come to the bound")
