"""`python -m reports render` and `show`: a run as files, and in the terminal."""

import typer

from predict.lazily import lazily
from reports.commands.options import JsonOption, RunArgument, SkipOption, folder_of, load, print_run

with lazily():  # pandas and matplotlib
    from reports.run import frame, page


def render(path: RunArgument, *, skip_broken: SkipOption = False) -> None:
    """Write report.md and figures/ beside the records; the same records give the same bytes."""
    run = load(path, skip_broken=skip_broken)
    typer.echo(page.write_report(run, folder_of(path)))


def show(path: RunArgument, *, as_json: JsonOption = False, skip_broken: SkipOption = False) -> None:
    """Print the tables of a run."""
    run = load(path, skip_broken=skip_broken)
    if as_json:
        typer.echo(frame.json_rows(run.frame))
    else:
        print_run(run)
