"""Draws columns of text in a given width, without losing one and without cutting a cell.

A table that is too wide first gets headings of two lines, and its texts wrap. If it still is too wide it is cut: the
columns that do not fit stand below, behind the names of their rows. Where not even one column fits beside the names,
long names wrap at their hyphens; where that is in vain, each row becomes a block of lines.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

GAP = "  "
LEAST_TEXT = 24  # columns of a text before it wraps


@dataclass(frozen=True)
class TextColumn:
    """One column as it is written."""

    heading: str
    cells: tuple[str, ...]
    is_text: bool = True  # aligned left, and may wrap; numbers are aligned right and never wrap
    is_key: bool = False  # names the row
    at_hyphens: bool = False  # whether a text may wrap behind them too

    @cached_property
    def full(self) -> int:
        """The width at which nothing wraps."""
        return max(map(len, (self.heading, *self.cells)))

    @cached_property
    def least(self) -> int:
        """The least width: a heading in two lines, a text of `LEAST_TEXT`, no word broken."""
        widest = max(map(len, self.cells), default=0)
        if self.is_text:
            pieces = (len(piece.strip()) for cell in self.cells for piece in _pieces(cell, self.at_hyphens))
            widest = max(min(widest, LEAST_TEXT), max(pieces, default=0))
        return max(widest, _two_lines(self.heading))

    def lines(self, cell: str, width: int) -> list[str]:
        """A cell in lines of at most `width`, padded to it."""
        aligned = str.ljust if self.is_text else str.rjust
        return [aligned(line, width) for line in _wrapped(cell, width, self.at_hyphens)]


def draw(columns: Sequence[TextColumn], width: int) -> str:
    """The columns in lines of at most `width`. A word that is longer than that is not broken."""
    columns = [_on_one_line(column) for column in columns]
    if _total([column.full for column in columns]) <= width:
        return _part(columns, [column.full for column in columns])
    for at_hyphens in (False, True):
        wrapping = [replace(column, at_hyphens=at_hyphens) for column in columns]
        names = [column.least for column in wrapping if column.is_key]
        if all(column.is_key or _total([*names, column.least]) <= width for column in wrapping):
            return "\n\n".join(_part(part, _widths(part, width)) for part in _cut(wrapping, width))
    apart = "\n\n" if len(columns) - len(names) > 2 else "\n"
    return apart.join(_blocks(columns, width))


def _cut(columns: Sequence[TextColumn], width: int) -> Iterator[list[TextColumn]]:
    """The columns of each part: the names of the rows, and as many others as fit."""
    names = [column for column in columns if column.is_key]
    part = list(names)
    for column in columns:
        if column.is_key:
            continue
        if len(part) > len(names) and _total([each.least for each in (*part, column)]) > width:
            yield part
            part = list(names)
        part.append(column)
    yield part


def _widths(columns: Sequence[TextColumn], width: int) -> list[int]:
    """The least width of each column, and what is left shared out among those that wrap most."""
    widths = [column.least for column in columns]
    for _ in range(width - _total(widths)):
        wraps = [place for place, column in enumerate(columns) if widths[place] < column.full]
        if not wraps:
            break
        widths[max(wraps, key=lambda place: columns[place].full / widths[place])] += 1
    return widths


def _part(columns: Sequence[TextColumn], widths: Sequence[int]) -> str:
    """Heading and rows. A heading stands on the rows, a cell below its row's top."""
    headings = [column.lines(column.heading, width) for column, width in zip(columns, widths, strict=True)]
    height = max(map(len, headings))
    headings = [[""] * (height - len(lines)) + lines for lines in headings]
    rows = (
        [column.lines(cell, width) for column, cell, width in zip(columns, cells, widths, strict=True)]
        for cells in zip(*(column.cells for column in columns), strict=True)
    )
    return "\n".join(
        GAP.join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for row in (headings, *rows)
        for line in zip_longest(*row, fillvalue="")
    )


def _blocks(columns: Sequence[TextColumn], width: int) -> Iterator[str]:
    """Each row as a block: its names, then a line for each other column."""
    for row in range(len(columns[0].cells)):
        names = (f"{column.heading} {column.cells[row]}".strip() for column in columns if column.is_key)
        lines = _wrapped(GAP.join(names), width)
        for column in columns:
            if not column.is_key:
                lines += _labeled(column.heading, column.cells[row], width)
        yield "\n".join(lines)


def _labeled(label: str, text: str, width: int) -> list[str]:
    """A label with its text behind it, or below it where that does not fit."""
    line = f"{GAP}{label}{GAP}{text}"
    if len(line) <= width:
        return [line.rstrip()]
    above = (f"{GAP}{each}" for each in _wrapped(label, width - len(GAP)))
    return [*above, *(f"{2 * GAP}{each}" for each in _wrapped(text, width - 2 * len(GAP)))]


def _two_lines(heading: str) -> int:
    """The least width in which a heading has at most two lines."""
    longest = max(map(len, heading.split()), default=0)
    return next(width for width in range(longest, len(heading) + 1) if len(_wrapped(heading, width)) <= 2)


def _wrapped(text: str, width: int, at_hyphens: bool = False) -> list[str]:  # noqa: FBT001, FBT002
    """The text in lines of at most `width`, or of one word; an empty text is one empty line."""
    lines = [""]
    for piece in _pieces(text, at_hyphens):
        if lines[-1] and len(lines[-1] + piece) > width:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return lines


def _pieces(text: str, at_hyphens: bool) -> list[str]:  # noqa: FBT001
    """The words of a text, each with the spaces before it; with `at_hyphens` the parts of words, each with the hyphens
    around it."""
    return re.findall(r"\s*(?:-*[^\s-]+-*|-+)" if at_hyphens else r"\s*\S+", text)


def _on_one_line(column: TextColumn) -> TextColumn:
    """The column with heading and cells on one line each."""
    heading, *cells = (" ".join(cell.split("\n")) for cell in (column.heading, *column.cells))
    return replace(column, heading=heading, cells=tuple(cells))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * max(0, len(widths) - 1)
