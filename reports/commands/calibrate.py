"""`python -m reports calibrate`: expected times from a run's own probes."""

import json
from typing import Annotated

import typer

from predict.errors import BadRun
from predict.lazily import lazily
from reports.commands.options import JsonOption, RunArgument, SkipOption, folder_of, tell_broken

with lazily():  # pandas and SciPy
    from reports.run import calibrate, load


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
    run = tell_broken(load.read_records(path, skip_broken=skip_broken))
    fits = calibrate.fit_run(run, implementation=implementation)
    if not fits:
        raise BadRun(calibrate.why_none(run, implementation=implementation))
    file = calibrate.write_calibration(run, folder_of(path), fits)
    if as_json:
        typer.echo(json.dumps([calibrate.fit_json(fit) for fit in fits], allow_nan=False, indent=2))
        return
    typer.echo("\n\n".join(map(calibrate.explain_fit, fits)))
    typer.echo(f"\n{file}")
