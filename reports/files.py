"""Files that are generated: from a template, and written as a whole or not at all."""

from pathlib import Path

import jinja2


def template(file: Path) -> jinja2.Template:
    """A template for Markdown: an undefined name is an error, the filter `cell` keeps tables whole."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=jinja2.select_autoescape(),  # Markdown is left as it is
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
    return environment.get_template(file.name)


def write_file(file: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old one or the new one."""
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(content)
    part.replace(file)
