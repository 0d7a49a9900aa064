"""`python -m bench`: measure this machine.

    python -m bench run --gpu h100 --suite quick --out runs/h100

prints the table of the run and writes records.jsonl, report.md, figures and report.html into runs/h100. `list` says
what a suite runs and how long it takes, `doctor` what would spoil a measurement, `tune` ranks the configurations of a
kernel, and `evidence` does all that a GPU is needed for.
"""

import typer

from napkin_bench.packages import require_ours

require_ours()  # before another project's package is taken for one of these

from bench.commands import doctor, evidence, inputs, listing, run, tune
from predict.command_line import run_command_line

app = typer.Typer(
    help="Measure this machine's GPU, or its CPU, against napkin math.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,  # a shell completes `napkin-bench`: to it, this program is `python`
)
app.command(epilog=run.EXAMPLES)(run.run)
app.command("tune", epilog=tune.EXAMPLES)(tune.tune_op)
app.command("list")(listing.list_jobs)
app.command("inputs", epilog=inputs.EXAMPLES)(inputs.list_inputs)
app.command()(doctor.doctor)
app.command("evidence")(evidence.collect_evidence)

if __name__ == "__main__":
    run_command_line(app, "python -m bench")
