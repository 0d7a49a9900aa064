"""The colors, markers and lines of every figure."""

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.typing import LineStyleType

# Okabe and Ito's palette: distinct for the color-blind. Ops of a family share a color. Each op has its own marker,
# because in the roofline the color tells the unit.
BLUE, SKY, GREEN, ORANGE, RED, PINK, GREY, BLACK = (
    "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#595959", "#000000",
)  # fmt: skip
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES: tuple[LineStyleType, ...] = ("-", "--", ":", "-.")


def series_color(index: int) -> str:
    """The color of one of several series; without green and red, which mean memory and arithmetic."""
    return (BLUE, ORANGE, PINK, SKY, GREY)[index % 5]


def wide_color(index: int) -> str:
    """The color of one of up to seven series, for figures where green and red mean nothing else."""
    return (BLUE, ORANGE, GREEN, PINK, RED, SKY, GREY)[index % 7]


def side_colors(count: int) -> list[str]:
    """A color for each of any number of sides: those of `wide_color`, or shades of one scale where they are more."""
    if count <= 7:
        return [wide_color(index) for index in range(count)]
    return [to_hex(colormaps["turbo"](index / (count - 1))) for index in range(count)]


def series_marker(index: int) -> str:
    """The marker of one of several series."""
    return SERIES_MARKERS[index % len(SERIES_MARKERS)]


def series_style(index: int) -> LineStyleType:
    """The line of one of several series."""
    return STYLES[index % len(STYLES)]
