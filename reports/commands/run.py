"""`python -m reports render` and `show`: a run as files, and in the terminal."""

import typer

from predict.forms import Form, with_form
from reports.commands.options import RunArgument, SkipOption, folder_of, load, print_run, write_files


def render(path: RunArgument, *, skip_broken: SkipOption = False) -> None:
    """Write report.md, figures/ and report.html beside the records; the same records give the same bytes."""
    run = load(path, skip_broken=skip_broken)
    typer.echo(write_files(run, folder_of(path)))


@with_form
def show(path: RunArgument, *, form: Form, skip_broken: SkipOption = False) -> None:
    """Print the tables of a run; as JSON and CSV all of its rows."""
    print_run(load(path, skip_broken=skip_broken), form)
