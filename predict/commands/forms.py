"""The forms in which a command prints an answer."""

import shutil
import sys
from enum import Enum
from typing import Annotated, Any

import typer

from predict.answers.lines import BOTH, Use
from predict.errors import BadQuantity

OUTPUT = "What is printed"  # the panel of these options in --help
PAGE_WIDTH = 100  # columns if the output is not a terminal, and at most


class Form(Enum):
    """A page for a person, or a form for other programs."""

    PAGE = ""
    JSON = "--json"
    CSV = "--csv"
    MARKDOWN = "--markdown"


def _flag(name: str, said: str) -> Any:
    """An option without a value that chooses what is printed."""
    return typer.Option(name, help=said, rich_help_panel=OUTPUT)


Serve = Annotated[bool, _flag("--serve", "Only serving. The default.")]
Train = Annotated[bool, _flag("--train", "Only training.")]
Everything = Annotated[bool, _flag("--all", "Serving and training.")]
Explain = Annotated[bool, _flag("--explain", "Print the arithmetic, line by line.")]
AsJson = Annotated[bool, _flag("--json", "Print flat JSON, in SI units; a list for machines.")]
AsCsv = Annotated[bool, _flag("--csv", "Print the table as CSV, in SI units.")]
AsMarkdown = Annotated[bool, _flag("--markdown", "Print the table in Markdown.")]


def read_form(*, as_json: bool, as_csv: bool, as_markdown: bool) -> Form:
    """The form asked for. Raises BadQuantity for more than one."""
    forms = {Form.JSON: as_json, Form.CSV: as_csv, Form.MARKDOWN: as_markdown}
    asked = [form for form, is_asked in forms.items() if is_asked]
    if len(asked) > 1:
        raise BadQuantity(f"give one of {' or '.join(form.value for form in asked)}")
    return asked[0] if asked else Form.PAGE


def read_uses(*, serve: bool, train: bool, everything: bool) -> frozenset[Use]:
    """What the page is about; serving by default. Raises BadQuantity for more than one option."""
    options = {"--serve": serve, "--train": train, "--all": everything}
    asked = [option for option, is_asked in options.items() if is_asked]
    if len(asked) > 1:
        raise BadQuantity(f"give one of {' or '.join(asked)}")
    if everything:
        return BOTH
    return frozenset({Use.TRAIN if train else Use.SERVE})


def page_width() -> int:
    """Columns of the page: those of the terminal, at most `PAGE_WIDTH`."""
    return min(shutil.get_terminal_size((PAGE_WIDTH, 0)).columns, PAGE_WIDTH) if sys.stdout.isatty() else PAGE_WIDTH
