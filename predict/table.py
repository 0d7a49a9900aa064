"""A table: in the terminal at any width, as Markdown, and as CSV. None of them loses a column or cuts a value."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from predict.columns import TextColumn, draw
from predict.terminal import printable
from predict.units import GB, GIB, KIB, TB, Unit, count, duration, in_units, show, times

# What Markdown reads as more than itself; an underscore only where it is not inside a word.
_MARKUP = re.compile(r"[\\`|*\[\]]|(?<![^\W_])_|_(?![^\W_])")
ABSENT = "-"  # a number that is not known; a note below the table says why


class Bold(str):
    """A text that stands out in Markdown; in a terminal and in CSV it is like any other."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    key: str  # of the value in a row, and in the CSV
    heading: str
    unit: Unit = Unit.NAME
    is_key: bool = False  # names the row, and stands in every part of a table that is cut

    @property
    def is_text(self) -> bool:
        """Whether the cells are words, and so aligned left."""
        return self.unit is Unit.NAME


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values in SI units by key; None is a number that is not known."""

    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, object], ...]

    def without_empty(self) -> "Table":
        """The table without columns that no row has a value for; without rows it keeps all."""
        if not self.rows:
            return self
        known = [column for column in self.columns if any(row.get(column.key) is not None for row in self.rows)]
        return Table(tuple(known), self.rows)

    def text(self, width: int) -> str:
        """The table in at most `width` columns of text; `predict.columns` says how a wider one is cut."""
        columns = [
            TextColumn(column.heading, cells, column.is_text, column.is_key)
            for column, cells in zip(self.columns, self._cells(), strict=True)
        ]
        return draw(columns, width)

    def markdown(self) -> str:
        """The table in Markdown."""
        headings = [column.heading for column in self.columns]
        rule = ["---" if column.is_text else "--:" for column in self.columns]
        lines = [f"| {' | '.join(map(escape, cells))} |" for cells in (headings, *self.texts())]
        return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])

    def texts(self) -> list[tuple[str, ...]]:
        """The rows as they are shown, a text for each column."""
        return list(zip(*self._cells(), strict=True))

    def csv(self) -> str:
        """The values as they are, in SI units, under the keys; what is not known is empty."""
        keys = [column.key for column in self.columns]
        return to_csv([keys, *([_raw(row.get(key)) for key in keys] for row in self.rows)])

    def _cells(self) -> list[tuple[str, ...]]:
        """Each column's cells as text."""
        return [tuple(cell(row.get(column.key), column.unit) for row in self.rows) for column in self.columns]


def cell(value: object, unit: Unit) -> str:
    """A value for a cell, whose heading names the unit."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return printable(value)
    assert isinstance(value, int | float)
    return _NUMBERS[unit](value) if unit in _NUMBERS else show(value, unit)


def _usd(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.4g}" if value < 1000 and value != int(value) else f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"  # one decimal in every row, so that a column can be read down


def _multiple(of: float) -> Callable[[float], str]:
    """How many of what the heading names."""
    return lambda value: in_units(value, of)


_NUMBERS: Mapping[Unit, Callable[[float], str]] = MappingProxyType(
    {
        Unit.SECONDS: duration,
        Unit.USD: _usd,
        Unit.SHARE: _share,
        Unit.PARAMS: count,
        Unit.TIMES: times,
        **dict.fromkeys((Unit.TOKENS_PER_S, Unit.DAYS), _rate),
        **dict.fromkeys((Unit.GPUS, Unit.REQUESTS, Unit.TOKENS), _count),
        **dict.fromkeys((Unit.TFLOP_PER_S, Unit.TB_PER_S), _multiple(TB)),
        Unit.GB: _multiple(GB),
        Unit.GIB: _multiple(GIB),
        Unit.KIB: _multiple(KIB),
        Unit.FLOP_PER_BYTE: _multiple(1),
        Unit.COUNT: "{:.0f}".format,
        Unit.PLAIN: "{:.4g}".format,
        Unit.RELATIVE_ERROR: "{:.1e}".format,
    }
)


def to_csv(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV (RFC 4180), lines ending in a line feed; a cell with a comma or a quote is quoted."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().rstrip("\n")


def escape(text: str) -> str:
    """A text that stays words in Markdown: it ends no cell and no line, opens no tag, link, code or emphasis."""
    shown = printable(text).replace("\n", " ").replace("<", "&lt;")
    escaped = _MARKUP.sub(r"\\\g<0>", shown)
    return f"**{escaped}**" if isinstance(text, Bold) else escaped


def _raw(value: object) -> object:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value
