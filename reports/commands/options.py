"""What the commands have in common: the run that is read, and where output goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from predict.errors import BadRun
from predict.forms import Form
from predict.lazily import lazily
from predict.terminal import terminal_width

with lazily():  # pandas, matplotlib and altair
    from reports.report import page
    from reports.run import frame
    from reports.run import load as loading
    from reports.run import terminal as terminal_page

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its records.jsonl.")]
SkipOption = Annotated[bool, typer.Option("--skip-broken", help="Skip broken lines instead of stopping at the first.")]


def print_run(run: loading.Run, form: Form) -> None:
    """Print the tables of a run. JSON and CSV are its rows, one for each record."""
    match form:
        case Form.JSON:
            typer.echo(frame.json_rows(run.frame))
        case Form.CSV:
            typer.echo(frame.csv_rows(run.frame))
        case Form.MARKDOWN:
            typer.echo(terminal_page.run_markdown(run))
        case Form.PAGE:
            typer.echo(terminal_page.run_page(run, terminal_width()))


def write_files(run: loading.Run, folder: Path) -> Path:
    """Write report.md, figures/ and report.html; a page that cannot be made is told on stderr. Return the report."""
    report = page.write_report(run, folder)
    if missing := page.write_page(run, folder):
        typer.echo(missing, err=True)
    return report


def folder_of(path: Path) -> Path:
    """The folder of a run that is named by it or by its records."""
    return path if path.is_dir() else path.parent


def load(path: Path, *, skip_broken: bool) -> loading.Run:
    """A run with expected times; what is broken is told on stderr."""
    return tell_broken(loading.load_records(path, skip_broken=skip_broken))


def tell_broken(run: loading.Run) -> loading.Run:
    """Tell on stderr which lines were skipped; return the run."""
    for broken in run.broken:
        typer.echo(f"skipped {broken}", err=True)
    return run


def make_folder(out: Path) -> None:
    """Make a folder for files. Raises BadRun where it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRun(f"cannot write to {out}: {error.strerror}") from None
