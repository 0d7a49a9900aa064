"""A table as text; this module draws it as Markdown, `reports.terminal` in the terminal."""

from dataclasses import dataclass

# Columns of words are aligned left; all others hold numbers and are aligned right.
WORDS = frozenset(
    {
        *("GPU", "KV cache", "bound", "dtype", "format", "group", "implementation", "kernel", "largest term", "of"),
        *("op", "over", "peer", "reason", "roof", "rule", "source", "status", "verdict", "what is off", "workload"),
        "why, and what to do",
    }
)


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table as text."""

    name: str
    titles: tuple[str, ...]  # only the terminal keeps a line break in a title
    rows: tuple[tuple[str, ...], ...]
    shared: str = ""  # what all rows have in common

    def without_empty_columns(self) -> "TextTable":
        """The table without columns that are empty in every row."""
        kept = [place for place in range(len(self.titles)) if any(row[place] for row in self.rows)]
        return self.keep(kept)

    def keep(self, places: list[int]) -> "TextTable":
        """The table with only the columns at these positions."""
        titles, *rows = (tuple(line[place] for place in places) for line in (self.titles, *self.rows))
        return TextTable(self.name, titles, tuple(rows), self.shared)


def markdown(table: TextTable) -> str:
    """The lines of a Markdown table, without its name."""
    rules = ("---" if title in WORDS else "--:" for title in table.titles)
    lines = [" | ".join(map(cell, line)) for line in (table.titles, *table.rows)]
    return "\n".join([f"| {lines[0]} |", f"|{'|'.join(rules)}|", *(f"| {line} |" for line in lines[1:])])


def cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table, so that it neither ends the cell nor opens a tag."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
