"""A comparison as a person reads it: in the terminal, as Markdown, and as one HTML file that needs no other."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from predict.terminal import Style, styled, wrapped
from reports.files import template
from reports.scorecard.page import matrix
from reports.scorecard.verdict import Judgment
from reports.tables import WORDS, TextTable, as_section, in_terminal

MARKDOWN = Path(__file__).with_name("comparison.md.jinja")
HTML = Path(__file__).with_name("comparison.html.jinja")


@dataclass(frozen=True, slots=True)
class Page:
    """What a comparison says, whichever it is."""

    sides: tuple[str, ...]  # letter, name and files of each
    notes: tuple[str, ...]  # what makes it doubtful, or was left out
    sentences: tuple[str, ...]
    tables: tuple[TextTable, ...]
    how: str  # how to read the tables
    alt: str  # what the figure shows
    judgments: tuple[Judgment, ...] = ()

    @property
    def title(self) -> str:
        """The sides in one line."""
        *names, last = (side.partition(": ")[2].partition(" (")[0] for side in self.sides)
        return f"Comparison of {', '.join(names)} and {last}"

    @property
    def all_tables(self) -> list[TextTable]:
        """The matrix of claims, where one was judged, and the tables."""
        claims = matrix(self.judgments)
        return [*([claims] if claims.rows else []), *self.tables]


def in_lines(page: Page, width: int) -> Iterator[str]:
    """The page in a terminal of `width` columns."""
    for side in page.sides:
        yield from (styled(line, Style.BOLD) for line in wrapped(side, width))
    for note in page.notes:
        yield from (styled(line, Style.YELLOW) for line in wrapped(note, width))
    yield ""
    for sentence in page.sentences:
        yield from wrapped(sentence, width)
    yield ""
    yield from (in_terminal(table, width) for table in page.all_tables)
    yield from wrapped(page.how, width)


def markdown(page: Page) -> str:
    """The tables in Markdown, each under its name."""
    return "\n\n".join(as_section(table) for table in page.all_tables if table.rows)


def document(page: Page, figure: str | None) -> str:
    """The page in Markdown; `figure` is the name of its file, None without one."""
    return template(MARKDOWN).render(page=page, figure=figure)


def html(page: Page, png: bytes | None) -> str:
    """The page as HTML; the figure is inside."""
    data = None if png is None else base64.b64encode(png).decode("ascii")
    return template(HTML).render(page=page, tables=_plain(page.all_tables), figure=data)


def _plain(tables: Sequence[TextTable]) -> list[tuple[str, list[tuple[str, bool]], tuple[tuple[str, ...], ...]]]:
    """Title, headings (each with whether its cells are words) and rows of each table."""
    return [
        (table.title, [(title, title in WORDS or place < table.names) for place, title in enumerate(table.titles)],
         table.rows)
        for table in tables
    ]  # fmt: skip
