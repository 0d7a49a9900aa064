"""`python -m reports`: read a run's records; needs no GPU and measures nothing."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from predict.errors import run_command_line
from reports import page, tables
from reports.compare import Comparison, compare
from reports.load import Loaded, json_rows, load_records, to_frame
from reports.plots import draw_comparison, to_png

app = typer.Typer(
    help="Read the records of a run: report, tables, comparison of two runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its records.jsonl.")]
SkipOption = Annotated[bool, typer.Option("--skip-broken", help="Read past lines that are not understood.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, in SI units.")]

PLAIN_WIDTH = 120  # columns, where the output is not a terminal


@app.command(epilog="Example: python -m reports render runs/h100")
def render(run: RunArgument, *, skip_broken: SkipOption = False) -> None:
    """Write report.md and figures/ beside the records; the same records give the same bytes."""
    loaded = _load(run, skip_broken=skip_broken)
    typer.echo(page.write_report(loaded, run if run.is_dir() else run.parent))


@app.command(epilog="Example: python -m reports show runs/h100 --json | jq '.[] | select(.of_measured > 0.9)'")
def show(run: RunArgument, *, as_json: JsonOption = False, skip_broken: SkipOption = False) -> None:
    """Print the tables of a run."""
    loaded = _load(run, skip_broken=skip_broken)
    if as_json:
        typer.echo(json_rows(to_frame(loaded.records)))
    else:
        print_run(loaded)


@app.command("compare", epilog="Example: python -m reports compare runs/a100 runs/h100 --out comparison")
def compare_runs(
    a: Annotated[Path, typer.Argument(help="Folder of a run.")],
    b: Annotated[Path, typer.Argument(help="Folder of another run.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.png.")] = None,
    as_json: JsonOption = False,
    skip_broken: SkipOption = False,
) -> None:
    """Put two runs side by side on % of roof: two machines, or one before and after."""
    comparison = compare(_load(a, skip_broken=skip_broken), _load(b, skip_broken=skip_broken))
    if as_json:
        typer.echo(_comparison_json(comparison))
    else:
        console().print(tables.comparison_tables(comparison))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        page.write_file(out / "comparison.png", to_png(draw_comparison(comparison)))
        typer.echo(out / "comparison.png", err=as_json)


def print_run(loaded: Loaded) -> None:
    """Print the tables of a run, fitted to the terminal."""
    terminal = console()
    terminal.print(tables.run_tables(loaded, width=terminal.width))


def console() -> Console:
    """Standard output, of a fixed width where it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def _load(run: Path, *, skip_broken: bool) -> Loaded:
    loaded = load_records(run, skip_broken=skip_broken)
    for broken in loaded.broken:
        typer.echo(f"skipped {broken}", err=True)
    return loaded


def _comparison_json(comparison: Comparison) -> str:
    return json.dumps(
        {
            "machine_a": comparison.machine_a,
            "machine_b": comparison.machine_b,
            "warnings": comparison.warnings,
            "only_a": comparison.only_a,
            "only_b": comparison.only_b,
            "time_ratio_by_op": comparison.by_op.to_dict(),
            "rows": json.loads(json_rows(comparison.rows)),
        },
        allow_nan=False,
        indent=2,
    )


if __name__ == "__main__":
    run_command_line(app, "python -m reports")
