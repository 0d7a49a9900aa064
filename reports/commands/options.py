"""What the commands have in common: the run that is read, and where output goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from predict.errors import BadRun
from predict.lazily import lazily

with lazily():  # pandas
    from reports.run import load as loading
    from reports.run import terminal as terminal_page

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its records.jsonl.")]
SkipOption = Annotated[bool, typer.Option("--skip-broken", help="Skip broken lines instead of stopping at the first.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, in SI units.")]
PLAIN_WIDTH = 120  # columns of output that is not a terminal


def print_run(run: loading.Run) -> None:
    """Print the tables of a run, fitted to the terminal."""
    terminal = console()
    terminal.print(terminal_page.run_page(run, width=terminal.width))


def console() -> Console:
    """Standard output; its width is `PLAIN_WIDTH` if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


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
