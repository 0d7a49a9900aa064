"""Draws tables in the terminal."""

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from reports.tables import WORDS, TextTable


def rich_table(table: TextTable, *, fold: tuple[str, ...] = ()) -> RenderableType:
    """The table under its name, with an empty line below it; only cells of the columns in `fold` may wrap."""
    name = f"{table.name}  ({table.shared})" if table.shared else table.name
    drawn = Table(title=name, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for title in table.titles:
        drawn.add_column(
            two_lines(title),
            justify="left" if title in WORDS else "right",
            no_wrap=title not in fold,
            overflow="fold" if title in fold else "ellipsis",
        )
    for row in table.rows:
        drawn.add_row(*row)
    return Padding(drawn, (0, 0, 1, 0))


def two_lines(title: str) -> str:
    """A title broken into two lines, if it has a place to break."""
    if "\n" in title:
        return title
    for before, after in (("% of ", "% of\n"), (" memory", "\nmemory"), (" per ", "\nper "), (" / ", "\n/ ")):
        title = title.replace(before, after)
    return title.replace("as fast ", "as fast\n")
