"""`python -m reports calibrate`: expected times from a run's own probes."""

import json
from typing import Annotated

import typer

from predict.errors import BadRun
from reports.commands.options import JsonOption, RunArgument, SkipOption, folder_of, tell_broken
from reports.run.calibrate import explain_fit, fit_json, fit_run, why_none, write_calibration
from reports.run.load import read_records


def calibrate_run(
    path: RunArgument,
    *,
    implementation: Annotated[
        str | None, typer.Option(help="The implementation to calibrate. Default: the fastest for each shape.")
    ] = None,
    as_json: JsonOption = False,
    skip_broken: SkipOption = False,
) -> None:
    """Fit the constants of expected time to the run's own probes; write calibration.json beside the records."""
    run = tell_broken(read_records(path, skip_broken=skip_broken))
    fits = fit_run(run, implementation=implementation)
    if not fits:
        raise BadRun(why_none(run, implementation=implementation))
    file = write_calibration(run, folder_of(path), fits)
    if as_json:
        typer.echo(json.dumps([fit_json(fit) for fit in fits], allow_nan=False, indent=2))
        return
    typer.echo("\n\n".join(map(explain_fit, fits)))
    typer.echo(f"\n{file}")
