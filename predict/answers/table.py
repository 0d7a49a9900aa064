"""A table of numbers: for the terminal at any width, as Markdown, and as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from predict.answers.lines import Unit, show
from predict.units import duration

GAP = "  "
ABSENT = "-"  # a number that is not known; a note below the table says why


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
        """The table without columns that no row has a value for."""
        known = [column for column in self.columns if any(row.get(column.key) is not None for row in self.rows)]
        return Table(tuple(known), self.rows)

    def text(self, width: int) -> str:
        """The table in at most `width` columns of text. A wider one is cut: the columns that do not fit stand below,
        behind the names of their rows, so that no number is lost."""
        return "\n\n".join(_draw(self._cells(columns), columns) for columns in self._cut(width))

    def markdown(self) -> str:
        """The table in Markdown."""
        heading, *rows = self._cells(self.columns)
        rule = ["---" if column.is_text else "--:" for column in self.columns]
        lines = [f"| {' | '.join(map(_escape, cells))} |" for cells in (heading, *rows)]
        return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])

    def csv(self) -> str:
        """The values as they are, in SI units, under the keys; what is not known is empty."""
        keys = [column.key for column in self.columns]
        return to_csv([keys, *([_raw(row.get(key)) for key in keys] for row in self.rows)])

    def _cells(self, columns: Sequence[Column]) -> list[list[str]]:
        shown = [[cell(row.get(column.key), column.unit) for column in columns] for row in self.rows]
        return [[column.heading for column in columns], *shown]

    def _cut(self, width: int) -> Iterator[list[Column]]:
        """The columns of each part. A part has at least one column beside the names of its rows."""
        names = [column for column in self.columns if column.is_key]
        part, used = list(names), self._width(names)
        for column in self.columns:
            if column.is_key:
                continue
            more = len(GAP) + self._width([column])
            if used + more > width and len(part) > len(names):
                yield part
                part, used = list(names), self._width(names)
            part.append(column)
            used += more
        yield part

    def _width(self, columns: Sequence[Column]) -> int:
        widths = [max(map(len, column)) for column in zip(*self._cells(columns), strict=True)]
        return sum(widths) + len(GAP) * max(0, len(columns) - 1)


def cell(value: object, unit: Unit) -> str:
    """A value for a cell, whose heading names the unit."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    assert isinstance(value, int | float)
    match unit:
        case Unit.SECONDS:
            return duration(value)
        case Unit.USD:
            return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        case Unit.TOKENS_PER_S | Unit.DAYS:
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        case Unit.SHARE:
            return f"{100 * value:.1f} %"  # one decimal in every row, so that a column can be read down
        case Unit.GPUS | Unit.REQUESTS | Unit.TOKENS:
            return f"{value:,.4g}" if value < 1000 and value != int(value) else f"{value:,.0f}"
        case _:
            return show(value, unit)


def to_csv(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV (RFC 4180), lines ending in a line feed; a cell with a comma or a quote is quoted."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().rstrip("\n")


def _draw(rows: Sequence[Sequence[str]], columns: Sequence[Column]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        GAP.join(
            f"{text:<{width}}" if column.is_text else f"{text:>{width}}"
            for text, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _escape(text: str) -> str:
    """A text that neither ends a cell of Markdown nor opens a tag."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _raw(value: object) -> object:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value
