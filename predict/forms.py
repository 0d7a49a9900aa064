"""The forms in which a command prints what it found: a page for a person, or JSON, CSV or Markdown."""

import functools
import inspect
import json
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import typer

from predict.errors import BadQuantity
from predict.table import Table
from predict.terminal import terminal_width

OUTPUT = "What is printed"  # the panel of these options in --help


class Form(Enum):
    """A page for a person, or a form for other programs. The value is the option that asks for it."""

    PAGE = ""
    JSON = "--json"
    CSV = "--csv"
    MARKDOWN = "--markdown"


# Option -> its parameter, and its help.
_OPTIONS = {
    Form.JSON: ("as_json", "Print JSON, in SI units."),
    Form.CSV: ("as_csv", "Print the table as CSV, in SI units."),
    Form.MARKDOWN: ("as_markdown", "Print the table in Markdown."),
}


def flag(name: str, said: str) -> Any:
    """An option without a value that chooses what is printed."""
    return typer.Option(name, help=said, rich_help_panel=OUTPUT)


def with_form(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `form` of a command by the options --json, --csv and --markdown. More than one of them
    raises BadQuantity before the command begins."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def with_options(*arguments: Any, **options: Any) -> None:
        asked = [form for form, (name, _) in _OPTIONS.items() if options.pop(name)]
        if len(asked) > 1:
            raise BadQuantity(f"give one of {' or '.join(form.value for form in asked)}")
        command(*arguments, **options, form=asked[0] if asked else Form.PAGE)

    flags = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, flag(form.value, said)]
        )
        for form, (name, said) in _OPTIONS.items()
    ]
    parameters = [new for old in signature.parameters.values() for new in (flags if old.name == "form" else [old])]
    vars(with_options)["__signature__"] = signature.replace(parameters=parameters)
    return with_options


def table_text(table: Table, form: Form, data: Callable[[], object]) -> str:
    """The table in a form: CSV with all of its columns, page and Markdown without empty ones. `data` is what the JSON
    holds."""
    match form:
        case Form.JSON:
            return json.dumps(data(), indent=2, allow_nan=False)
        case Form.CSV:
            return table.csv()
        case Form.MARKDOWN:
            return table.without_empty().markdown()
        case Form.PAGE:
            return table.without_empty().text(terminal_width())
