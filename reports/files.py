"""Generated files: templates, and writing a file as a whole or not at all."""

from pathlib import Path

import jinja2

from predict.table import escape
from predict.terminal import printable
from reports.tables import markdown


def template(file: Path) -> jinja2.Template:
    """A template for Markdown or HTML; an undefined name in it is an error.

    The filter `table` formats a `TextTable`; `text` escapes a text of a record.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=jinja2.select_autoescape(("html", "html.jinja")),  # Markdown is left as it is
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(table=markdown, text=_text)
    return environment.get_template(file.name)


def _text(text: str) -> str:
    """A text of a record inside a paragraph: it is no markup, and begins no heading, quote or list."""
    escaped = escape(text)
    return f"\\{escaped}" if escaped.startswith(("#", ">", "-", "+", "=")) else escaped


def html_template(file: Path) -> jinja2.Template:
    """A template for HTML, which escapes every text; an undefined name in it is an error.

    The filter `prose` keeps a percent sign with its number.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # what is not markup of ours
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template(file.name)


def write_file(file: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees either the old file or the new one."""
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(content)
    part.replace(file)
