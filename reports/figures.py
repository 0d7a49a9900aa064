"""The style, axes, legends and file format of every figure.

Drawing is deterministic: the same records give the same bytes. It uses matplotlib's defaults instead of the user's, no
canvas state, and no metadata in the file.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.typing import LineStyleType
from PIL import Image

from predict.errors import NapkinError
from predict.terminal import printable
from predict.units import duration
from reports.palette import GREY

DPI = 150
SMALL_COLORS = 160
LogAxis = tuple[str, Callable[[float], str]]  # label, and a function for the text of ticks


class NothingToDraw(NapkinError):
    """The run has no rows for this figure; the message says which rows are missing."""


Draws = TypeVar("Draws", bound=Callable[..., Figure])


@dataclass(frozen=True, slots=True)
class Drawing(Generic[Draws]):
    """A figure of a report."""

    name: str  # part of the file's name
    draw: Draws
    alt: str  # what it shows
    caption: str  # how to read it


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Set matplotlib's defaults and our changes, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "font.size": 9,
                "axes.titlesize": 10,
                "axes.grid": True,
                "grid.color": "#dddddd",
                "grid.linewidth": 0.6,
                "axes.axisbelow": True,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "legend.fontsize": 8,
                "legend.frameon": False,
                "lines.markersize": 5,
            }
        )
        yield


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG without time or software metadata: equal figures give equal bytes."""
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def to_small_png(figure: Figure) -> bytes:
    """The figure as a PNG of `SMALL_COLORS` colors: a third of the bytes, without a visible difference."""
    every_shade = Image.open(io.BytesIO(to_png(figure))).convert("RGB")
    buffer = io.BytesIO()
    every_shade.quantize(SMALL_COLORS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def make_figure(machine: str, title: str, *, panels: int = 1, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """An empty figure with a title that names the machine, and its panels, up to three in a row."""
    columns = min(panels, 3)
    lines = math.ceil(panels / columns)
    size = (9.0, 5.4) if panels == 1 else (4.6 * columns if columns > 2 else 11.0, 1.0 + 3.9 * lines)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.suptitle(words(f"{title}\n{machine}"), fontsize=11)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=share_y)
    flat = list(grid.flat)
    for spare in flat[panels:]:
        spare.remove()
    return figure, flat[:panels]


def log_axis(axes: Axes, axis: str, text: Callable[[float], str]) -> None:
    """Make an axis logarithmic; `text` formats its tick labels."""
    each = axes.xaxis if axis == "x" else axes.yaxis
    (axes.set_xscale if axis == "x" else axes.set_yscale)("log", base=2 if text is count_text else 10)
    each.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    each.set_minor_formatter(NullFormatter())
    each.set_minor_locator(NullLocator())
    if text is not count_text:
        each.set_major_locator(LogLocator(base=10, numticks=8))


def count_text(value: float) -> str:
    """A number of rows or tokens: whole up to 9999, then with a binary prefix."""
    if value < 10_000:
        return f"{value:g}"
    return f"{value / 1024:.4g}k" if value < 2**20 else f"{value / 2**20:.4g}M"


def tick_duration(value: float) -> str:
    """A time with one significant figure: 20 ms."""
    return duration(value, digits=1)


def log_panel(axes: Axes, title: str, *, x: LogAxis, y: LogAxis) -> None:
    """Make both axes logarithmic and set their labels, tick texts and the title."""
    for axis, (label, text) in (("x", x), ("y", y)):
        log_axis(axes, axis, text)
        axes.set(**{f"{axis}label": label})
    axes.set_title(title)


def percent_ticks(axis: Axis) -> None:
    """Format the ticks of an axis in percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def annotate_ridge(axes: Axes, x: float, text: str, *, left: bool = False) -> None:
    """Draw a dotted line at a ridge, with `text` at its foot, right or left of the line."""
    axes.axvline(x, color=GREY, linestyle=":")
    axes.annotate(
        text, (x, 0), xycoords=("data", "axes fraction"), xytext=(-4 if left else 4, 4), textcoords="offset points",
        ha="right" if left else "left", color=GREY, fontsize=8,
    )  # fmt: skip


def words(text: str) -> str:
    """A text that may hold names from records, as matplotlib draws it letter by letter: dollar signs are no formula."""
    return printable(text).replace("$", r"\$")


def legend_line(
    label: str,
    *,
    color: str,
    linestyle: LineStyleType = "-",
    marker: str = "None",
    width: float = 1.3,
    alpha: float = 1.0,
) -> Line2D:
    """A legend entry."""
    return Line2D(
        [], [], label=words(label), color=color, linestyle=linestyle, marker=marker, linewidth=width, alpha=alpha
    )  # fmt: skip


def legend_points(label: str, *, color: str, marker: str) -> Line2D:
    """A legend entry of points without a line."""
    return legend_line(label, color=color, marker=marker, linestyle="none")


def legend_below(figure: Figure, handles: Sequence[Artist], *, columns: int = 4) -> None:
    """Draw the legend of the whole figure, below its panels."""
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)))
