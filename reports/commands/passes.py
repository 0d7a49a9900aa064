"""`python -m reports passes`: the passes of a model that a run measured."""

from __future__ import annotations

import typer

from predict.errors import BadRun
from predict.forms import Form, table_text, with_form
from predict.lazily import lazily
from predict.terminal import terminal_width
from reports.commands.options import RunArgument, SkipOption, load

with lazily():  # pandas
    from reports.run import passes as measured
    from reports.run import terminal

EXAMPLE = "Example: python -m reports passes runs/llama --csv"


@with_form
def show_passes(path: RunArgument, *, form: Form, skip_broken: SkipOption = False) -> None:
    """Print a model's passes as a run measured them: each kernel's bound, expected and measured time, and their sum."""
    run = load(path, skip_broken=skip_broken)
    if not run.passes:
        raise BadRun(f"{path} holds no pass of a model; `python -m bench run --model llama-3-8b` measures some")
    if form is Form.PAGE:
        typer.echo(terminal.passes_page(run, width=terminal_width()))
        return
    found = measured.measured_passes(run)
    typer.echo(table_text(measured.passes_table(found), form, lambda: [each.json() for each in found]))
