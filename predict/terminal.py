"""How wide a command's output is, and how its words stand out."""

import os
import shutil
import sys
import textwrap
import unicodedata
from enum import IntEnum

PLAIN_WIDTH = 100  # columns of output that is not a terminal, unless COLUMNS says another number
LEAST_WIDTH = 40
PROSE_WIDTH = 100  # sentences in longer lines are hard to read; tables may be wider


def terminal_width() -> int:
    """Columns of the terminal; of piped output what COLUMNS says, else `PLAIN_WIDTH`; at least `LEAST_WIDTH`.

    In a terminal COLUMNS wins if it is set, as it does for other programs."""
    said = os.environ.get("COLUMNS", "")
    columns = int(said) if said.isdecimal() else 0
    if not columns:
        columns = shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns if sys.stdout.isatty() else PLAIN_WIDTH
    return max(columns, LEAST_WIDTH)


def printable(text: str) -> str:
    """The text with an escape in place of each character that a terminal obeys, or that turns or hides others: ESC
    becomes a backslash and x1b. Lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(each if each in "\n\t" or not _is_control(each) else _escaped(each) for each in text)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # the last two end a line


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """Sentences in lines of at most `width` and at most `PROSE_WIDTH`. A longer word is not broken, so that names and
    paths can be copied, and a percent sign stays with its number."""
    lines = textwrap.wrap(
        printable(text).replace(" %", "\N{NO-BREAK SPACE}%"),
        min(width, PROSE_WIDTH),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def paragraphs(text: str, width: int, indent: str = "") -> list[str]:
    """Paragraphs as they are written, such as a docstring's; one with a line that is too long wraps anew."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        written = [f"{indent}{line}" for line in paragraph.splitlines()]
        fits = max(map(len, written), default=0) <= width
        lines += [*(written if fits else wrapped(paragraph, width, indent, indent)), ""]
    return lines[:-1]


class Style(IntEnum):
    """How a text stands out: a code of ECMA-48."""

    BOLD = 1
    DIM = 2
    RED = 31
    GREEN = 32
    YELLOW = 33


def styled(text: str, style: Style) -> str:
    """The text in a style; `typer.echo` takes it away where output is piped. Plain if NO_COLOR is set."""
    return text if os.environ.get("NO_COLOR") else f"\x1b[{style}m{text}\x1b[0m"


def bold(text: str) -> str:
    """The text in bold type, as `styled`."""
    return styled(text, Style.BOLD)
