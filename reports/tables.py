"""A table of texts, as the report of a run shows it: a `Table` that has a name, and all of whose cells are written."""

from dataclasses import dataclass

import pandas as pd

from predict.table import Column, Table, escape
from predict.terminal import Style, styled, wrapped
from predict.units import Unit

# Columns of words are aligned left; all others hold numbers and are aligned right.
WORDS = frozenset(
    {
        *("GPU", "KV cache", "bound", "dtype", "format", "group", "implementation", "kernel", "largest term", "of"),
        *("op", "over", "peer", "reason", "roof", "rule", "source", "status", "verdict", "what is off", "workload"),
        *("by", "by a GPU of", "claim", "kind", "model", "side", "such as", "what was measured", "why, and what to do"),
    }
)


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of texts."""

    name: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shared: str = ""  # what all rows have in common
    names: int = 1  # the first columns that name a row; a table that is cut repeats them

    @property
    def title(self) -> str:
        """The name, and what all rows have in common."""
        return f"{self.name}  ({self.shared})" if self.shared else self.name

    @property
    def table(self) -> Table:
        """The table as it is drawn and written."""
        columns = tuple(
            Column(str(place), title, Unit.NAME if title in WORDS else Unit.WRITTEN, is_key=place < self.names)
            for place, title in enumerate(self.titles)
        )
        return Table(columns, tuple({str(place): cell for place, cell in enumerate(row)} for row in self.rows))

    def without_empty_columns(self) -> "TextTable":
        """The table without columns that are empty in every row."""
        kept = [place for place in range(len(self.titles)) if any(row[place] for row in self.rows)]
        return self.keep(kept)

    def keep(self, places: list[int]) -> "TextTable":
        """The table with only the columns at these positions."""
        titles, *rows = (tuple(line[place] for place in places) for line in (self.titles, *self.rows))
        names = sum(place < self.names for place in places)
        return TextTable(self.name, titles, tuple(rows), self.shared, names)


def markdown(table: TextTable) -> str:
    """The lines of a Markdown table, without its name."""
    return table.table.markdown()


def in_terminal(table: TextTable, width: int) -> str:
    """The table under its name, with an empty line below it."""
    name = (styled(line, Style.BOLD) for line in wrapped(table.title, width))
    return "\n".join([*name, table.table.text(width), ""])


def as_section(table: TextTable) -> str:
    """The table in Markdown under its name."""
    return f"## {escape(table.title)}\n\n{markdown(table)}"


def plain_rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of a frame by column; None where something is absent."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.astype(object).to_dict(orient="records")
    ]
