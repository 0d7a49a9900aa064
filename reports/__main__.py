"""`python -m reports`: reads a run's records and sweeps a model; needs no GPU and measures nothing."""

import typer

from napkin_bench.packages import require_ours

require_ours()  # before another project's package is taken for one of these

from predict.command_line import run_command_line
from reports.commands import calibrate, compare, explore, import_log, passes, run, scorecard, ship, sweep, validate

app = typer.Typer(
    help="Report, show and compare measured runs; sweep a model over batches and contexts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,  # a shell completes `napkin-bench`: to it, this program is `python`
)
app.command(epilog="Example: python -m reports render runs/h100")(run.render)
app.command(epilog="Example: python -m reports show runs/h100 --json | jq '.[] | select(.of_measured > 0.9)'")(run.show)
app.command("passes", epilog=passes.EXAMPLE)(passes.show_passes)
app.command("calibrate", epilog="Example: python -m reports calibrate runs/h100 --implementation torch")(
    calibrate.calibrate_run
)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare_runs)
app.command("validate", epilog=validate.EXAMPLES)(validate.validate_tables)
app.command("scorecard", epilog=scorecard.EXAMPLES)(scorecard.show_scorecard)
app.command("sweep", epilog=sweep.EXAMPLES)(sweep.sweep_model)
app.command("explore", epilog=explore.EXAMPLES)(explore.explore)
app.command("import", epilog=import_log.EXAMPLES)(import_log.import_log)
app.command("ship", epilog=ship.EXAMPLE)(ship.ship_calibrations)
app.command("accuracy", epilog="Example: python -m reports accuracy tables/*.parquet --out docs")(
    validate.write_accuracy
)

if __name__ == "__main__":
    run_command_line(app, "python -m reports")
