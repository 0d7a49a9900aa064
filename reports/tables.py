"""A table as text, drawn from one description for Markdown (here) and for the terminal (`reports.terminal`)."""

from dataclasses import dataclass

# Columns of words stand left, all others hold numbers and stand right.
WORDS = frozenset(
    {
        *("GPU", "KV cache", "bound", "dtype", "format", "group", "implementation", "kernel", "largest term", "of"),
        *("op", "over", "peer", "reason", "roof", "rule", "source", "status", "verdict", "what is off", "workload"),
        "why, and what to do",
    }
)


@dataclass(frozen=True, slots=True)
class TextTable:
    """Titles and cells as text; `shared` says what all rows have in common. A line break in a title is for the terminal
    only."""

    name: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shared: str = ""

    def without_empty_columns(self) -> "TextTable":
        """The same without columns that no row fills."""
        kept = [place for place in range(len(self.titles)) if any(row[place] for row in self.rows)]
        return self.keep(kept)

    def keep(self, places: list[int]) -> "TextTable":
        """The same with the columns at these places only."""
        titles, *rows = (tuple(line[place] for place in places) for line in (self.titles, *self.rows))
        return TextTable(self.name, titles, tuple(rows), self.shared)


def markdown(table: TextTable) -> str:
    """The lines of a Markdown table, without its name."""
    rules = ("---" if title in WORDS else "--:" for title in table.titles)
    lines = [" | ".join(map(cell, line)) for line in (table.titles, *table.rows)]
    return "\n".join([f"| {lines[0]} |", f"|{'|'.join(rules)}|", *(f"| {line} |" for line in lines[1:])])


def cell(text: str) -> str:
    """A cell of a Markdown table: nothing in it ends the cell or opens a tag."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
