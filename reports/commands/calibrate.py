"""`python -m reports calibrate`: expected times from a run's own probes."""

import json
from typing import Annotated

import typer

from predict.errors import BadRun
from predict.forms import Form, with_form
from predict.lazily import lazily
from predict.terminal import terminal_width
from reports.commands.options import RunArgument, SkipOption, folder_of, tell_broken

with lazily():  # pandas and SciPy
    from reports.run import calibrate, load


@with_form
def calibrate_run(
    path: RunArgument,
    *,
    implementation: Annotated[
        str | None, typer.Option(help="The implementation to calibrate. Default: the fastest for each shape.")
    ] = None,
    form: Form,
    skip_broken: SkipOption = False,
) -> None:
    """Fit the constants of expected time to the run's own probes; write calibration.json beside the records."""
    run = tell_broken(load.read_records(path, skip_broken=skip_broken))
    fits = calibrate.fit_run(run, implementation=implementation)
    if not fits:
        raise BadRun(calibrate.why_none(run, implementation=implementation))
    file = calibrate.write_calibration(run, folder_of(path), fits)
    match form:
        case Form.JSON:
            typer.echo(json.dumps([calibrate.fit_json(fit) for fit in fits], allow_nan=False, indent=2))
        case Form.CSV:
            typer.echo(calibrate.fits_table(fits).csv())
        case Form.MARKDOWN:
            typer.echo(calibrate.fits_table(fits).markdown())
        case Form.PAGE:
            typer.echo("\n\n".join(calibrate.explain_fit(fit, terminal_width()) for fit in fits))
            typer.echo(f"\n{file}")
