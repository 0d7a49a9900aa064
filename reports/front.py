"""The figure of Pareto fronts: tokens/s of a user against tokens/s of a GPU, a line for each GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from predict.units import count
from reports import figures
from reports.palette import BLACK, series_style, wide_color

WIDE_COLORS = 7  # of `wide_color`


@dataclass(frozen=True, slots=True)
class Front:
    """One line of the figure."""

    name: str
    points: Sequence[tuple[float, float]]  # tokens/s of a user (1 / TPOT), tokens/s of a GPU


def fronts_png(fronts: Sequence[Front], subtitle: str, *, best: Front, user_tokens_per_s: float | None = None) -> bytes:
    """Draw each front as a line through its points, the best as a star, and the speed asked for as a dotted line."""
    return figures.to_png(draw_fronts(fronts, subtitle, best=best, user_tokens_per_s=user_tokens_per_s))


@figures.house_style()
def draw_fronts(
    fronts: Sequence[Front], subtitle: str, *, best: Front, user_tokens_per_s: float | None = None
) -> Figure:
    """The same as a figure."""
    title = "Faster for each user or cheaper for all: along a line the number of running requests grows"
    figure, (axes,) = figures.make_figure(subtitle, title)
    handles = []
    for index, front in enumerate(fronts):
        color, style = wide_color(index), series_style(index // WIDE_COLORS)
        axes.plot(
            *zip(*front.points, strict=True), color=color, linestyle=style, marker=".", markersize=3, linewidth=1.3
        )
        handles.append(figures.legend_line(front.name, color=color, linestyle=style, marker="."))
    ((x_best, y_best),) = best.points
    axes.plot(x_best, y_best, marker="*", markersize=14, color=BLACK, linestyle="none", zorder=3)
    axes.annotate(best.name, (x_best, y_best), xytext=(6, 8), textcoords="offset points", fontsize=8)
    handles.append(figures.legend_points("the cheapest in time, of the fewest GPUs", color=BLACK, marker="*"))
    x, y = ("tokens per second of a user (1 / TPOT)", _rate), ("tokens per second of a GPU", _rate)
    figures.log_panel(axes, "", x=x, y=y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    if user_tokens_per_s is not None:
        slower = any(speed < user_tokens_per_s for front in fronts for speed, _ in front.points)
        figures.annotate_ridge(axes, user_tokens_per_s, "TPOT asked for", left=slower)  # room for text is on that side
    figures.legend_below(figure, handles)
    return figure


def _rate(value: float) -> str:
    return count(value, digits=1)
