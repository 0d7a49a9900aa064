"""Generated files: templates, and writing a file as a whole or not at all."""

from pathlib import Path

import jinja2

from predict.table import escape
from reports.tables import markdown


def template(file: Path) -> jinja2.Template:
    """A template for Markdown or HTML; an undefined name in it is an error.

    The filter `table` formats a `TextTable`; `cell` escapes a text for a cell.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=jinja2.select_autoescape(("html", "html.jinja")),  # Markdown is left as it is
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(table=markdown, cell=escape)
    return environment.get_template(file.name)


def write_file(file: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees either the old file or the new one."""
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(content)
    part.replace(file)
