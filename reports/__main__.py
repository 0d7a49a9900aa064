"""`python -m reports`: reads a run's records and sweeps a model; needs no GPU and measures nothing."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from matplotlib.figure import Figure
from rich.console import Console, Group, RenderableType
from rich.text import Text

from predict import checks
from predict.command_line import run_command_line
from predict.errors import BadModel, BadRun
from predict.formulas.memory import WEIGHT_FORMATS, find_weight_format
from predict.gpus import Gpu, resolve
from predict.model.config.reader import read_config
from predict.model.layout import ONE_GPU
from predict.model.passes import Logits
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.model.storage import product_format
from predict.model.transformer import Model
from predict.units import DTYPES, Formats, Kind, find_dtype, read_quantity
from reports.accuracy import document as accuracy
from reports.accuracy import plots as validate_plots
from reports.accuracy.compare import TableComparison, compare_tables, draw_table_comparison, op_tables, side_letter
from reports.accuracy.importers import read_tables
from reports.accuracy.tables import validation_table
from reports.accuracy.validate import Validation, group_json, over_the_bar, validate, worst_rows
from reports.figures import to_png
from reports.files import write_file
from reports.run import page
from reports.run.calibrate import explain_fit, fit_json, fit_run, why_none, write_calibration
from reports.run.compare import Comparison, compare
from reports.run.frame import json_rows
from reports.run.load import Run, load_records, read_records
from reports.run.plots import draw_comparison
from reports.run.terminal import comparison_page, run_page
from reports.sweep.grid import best_rows, parse_sizes, remarks, sweep, write_parquet
from reports.sweep.layouts import laid_out
from reports.sweep.plots import write_figures
from reports.sweep.tables import sweep_table
from reports.terminal import rich_table

app = typer.Typer(
    help="Report, show and compare measured runs; sweep a model over batches and contexts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its records.jsonl.")]
SkipOption = Annotated[bool, typer.Option("--skip-broken", help="Skip broken lines instead of stopping at the first.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, in SI units.")]

COMPARE_EXAMPLES = """Examples:

python -m reports compare runs/a100 runs/h100 --out comparison

python -m reports compare --tables a100_gemm.parquet h100_gemm.parquet --out comparison
"""
SWEEP_EXAMPLES = """Examples:

python -m reports sweep --model llama-3-8b --gpu h100,h200 --batch 1:512 --context 1k:128k --out runs/sweep

python -m reports sweep --config config.json --gpu h200 --gpus 8 --weights fp8 --mfu 0.5 --mbu 0.8 --out runs/sweep
"""
VALIDATE_EXAMPLES = """Examples:

python -m reports validate h100-sxm_gemm_vllm-0.24.0.parquet --gpu h100 --json

python -m reports validate tables/*.parquet --out runs/validation
"""
RANGES = "8; 1,4,16; 1:512 doubles up to 512; 10:90:10 takes steps; k is 1024, m is 1024^2."

PLAIN_WIDTH = 120  # columns of output that is not a terminal


@app.command(epilog="Example: python -m reports render runs/h100")
def render(path: RunArgument, *, skip_broken: SkipOption = False) -> None:
    """Write report.md and figures/ beside the records; the same records give the same bytes."""
    run = _load(path, skip_broken=skip_broken)
    typer.echo(page.write_report(run, _folder(path)))


@app.command(epilog="Example: python -m reports show runs/h100 --json | jq '.[] | select(.of_measured > 0.9)'")
def show(path: RunArgument, *, as_json: JsonOption = False, skip_broken: SkipOption = False) -> None:
    """Print the tables of a run."""
    run = _load(path, skip_broken=skip_broken)
    if as_json:
        typer.echo(json_rows(run.frame))
    else:
        print_run(run)


@app.command("calibrate", epilog="Example: python -m reports calibrate runs/h100 --implementation torch")
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
    run = _tell_broken(read_records(path, skip_broken=skip_broken))
    fits = fit_run(run, implementation=implementation)
    if not fits:
        raise BadRun(why_none(run, implementation=implementation))
    file = write_calibration(run, _folder(path), fits)
    if as_json:
        typer.echo(json.dumps([fit_json(fit) for fit in fits], allow_nan=False, indent=2))
        return
    typer.echo("\n\n".join(map(explain_fit, fits)))
    typer.echo(f"\n{file}")


@app.command("compare", epilog=COMPARE_EXAMPLES)
def compare_runs(
    paths: Annotated[list[Path], typer.Argument(metavar="A B", help="Two runs, or two or more tables.")],
    *,
    as_tables: Annotated[
        bool, typer.Option("--tables", help="Compare tables of kernel times (or runs) by their share of the roofline.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.png.")] = None,
    as_json: JsonOption = False,
    skip_broken: SkipOption = False,
) -> None:
    """Compare two runs by % of roof (two machines, or one before and after a change), or tables of kernel times."""
    if as_tables:
        by_table = compare_tables(read_tables(paths, skip_broken=skip_broken))
        if as_json:
            typer.echo(json_rows(by_table.rows))
        else:
            console().print(_table_comparison(by_table))
        _write_comparison(out, lambda: draw_table_comparison(by_table), as_json=as_json)
        return
    if len(paths) != 2:
        raise BadRun(f"compare takes two runs, not {len(paths)}; with --tables two or more tables of kernel times")
    comparison = compare(*(_load(path, skip_broken=skip_broken) for path in paths))
    if as_json:
        typer.echo(_comparison_json(comparison))
    else:
        console().print(comparison_page(comparison))
    _write_comparison(out, lambda: draw_comparison(comparison), as_json=as_json)


@app.command("validate", epilog=VALIDATE_EXAMPLES)
def validate_tables(
    measured: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Measured tables: parquet, CSV, runs.")],
    *,
    gpu: Annotated[str | None, typer.Option(help="Stop if a table is of another GPU than this.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figures and the explained worst rows.")] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with status 1 if expected time misses a bar.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Calibrate expected time from up to 16 rows of each group of measured tables, predict the rest, print errors."""
    validation = validate(read_tables(measured), gpu)
    if as_json:
        entries = [group_json(group, validation.skipped) for group in validation.groups]
        typer.echo(json.dumps(entries, indent=2, allow_nan=False))
    else:
        console().print(validation_table(validation.groups))
        for (table, reason), rows in validation.skipped.items():
            typer.echo(f"{table}: {rows:,} rows left out: {reason}")
    if out is not None:
        for file in _write_validation(validation, out):
            typer.echo(file, err=as_json)
    if gate and (failures := over_the_bar(validation.groups)):
        typer.echo("\n".join(failures), err=True)
        raise typer.Exit(1)


@app.command("sweep", epilog=SWEEP_EXAMPLES)
def sweep_model(
    *,
    model: Annotated[str | None, typer.Option(help="A model of `python -m predict models`.")] = None,
    config: Annotated[Path | None, typer.Option(help="A Hugging Face config.json instead of --model.")] = None,
    gpu: Annotated[str, typer.Option(help="GPUs (see `python -m predict gpus`) or files of GPUs, comma-separated.")],
    batch: Annotated[str, typer.Option(help=f"Requests decoded together: {RANGES}")] = "1:512",
    context: Annotated[str, typer.Option(help=f"Tokens of a request, cached or as prompt: {RANGES}")] = "1k:128k",
    out: Annotated[Path, typer.Option(help="Folder for sweep.parquet and the figures.")],
    gpus: Annotated[int | None, typer.Option(help="GPUs of a replica. Default: 1, or tp x pp x dp.")] = None,
    tp: Annotated[
        int | None, typer.Option(help="GPUs that split heads and matrices. Default: the most tokens/s.")
    ] = None,
    pp: Annotated[int | None, typer.Option(help="Stages of layers, one after the other.")] = None,
    dp: Annotated[int | None, typer.Option(help="Copies of all but the experts.")] = None,
    ep: Annotated[int | None, typer.Option(help="GPUs that hold different experts of a layer.")] = None,
    logits: Annotated[Logits, typer.Option(help="Positions of a prompt projected to the vocabulary.")] = Logits.LAST,
    weights: Annotated[
        str | None, typer.Option(help=f"Stored weights: {', '.join(WEIGHT_FORMATS)}. Default: as the model ships.")
    ] = None,
    kv: Annotated[str | None, typer.Option(help=f"KV cache: {', '.join(DTYPES)}. Default: as the model asks.")] = None,
    compute: Annotated[
        str | None, typer.Option(help="Format of the products. Default: what the model narrows activations to.")
    ] = None,
    price: Annotated[float, typer.Option(help="$ per GPU-hour.")] = 2.0,
    hbm: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Memory per GPU, such as 80GB. Default: what NVML reports.")
    ] = None,
    overhead: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Memory per GPU that an engine keeps, such as 2GiB. Default: as usual."),
    ] = None,
    mfu: Annotated[float | None, typer.Option(help="Share of peak FLOP/s reached. Default: the full peak.")] = None,
    mbu: Annotated[float | None, typer.Option(help="Share of bandwidth reached. Default: all of it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict every batch and context of a model on each GPU; write sweep.parquet and its figures."""
    shape = _find_model(model, config)
    skus = {sku.name: sku for sku in map(resolve, gpu.split(","))}.values()
    memory = None if hbm is None else read_quantity(hbm, "hbm", Kind.BYTES)
    kept = None if overhead is None else read_quantity(overhead, "overhead", Kind.BYTES)
    asked = {name: size for name, size in {"tp": tp, "pp": pp, "dp": dp, "ep": ep}.items() if size is not None}
    count = math.prod(size for name, size in asked.items() if name != "ep") if gpus is None else gpus
    checks.whole(gpus=count, **asked)
    sizes = parse_sizes(batch, "--batch"), parse_sizes(context, "--context")
    replicas = [
        laid_out(
            Replica(shape, sku, ONE_GPU, _formats(shape, sku, weights, kv, compute), mfu, mbu, memory, kept),
            count,
            asked,
            *sizes,
        )
        for sku in skus
    ]
    frame = sweep(replicas, *sizes, logits=logits, usd_per_gpu_hour=price, largest=True)
    _make_folder(out)
    write_parquet(frame, out / "sweep.parquet")
    files = [out / "sweep.parquet", *write_figures(frame, out)]
    if as_json:
        typer.echo(_sweep_json(frame, files))
        return
    console().print(rich_table(sweep_table(best_rows(frame), shape.name)))
    typer.echo("\n".join([*remarks(frame), f"{len(frame):,} points:", *map(str, files)]))


@app.command("accuracy", epilog="Example: python -m reports accuracy tables/*.parquet --out docs")
def write_accuracy(
    measured: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Measured tables: parquet, CSV, runs.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for accuracy.md and accuracy/*.png.")] = Path("docs"),
) -> None:
    """Write accuracy.md: how far expected time is off, where and why; the same tables give the same bytes."""
    measured_tables = read_tables(measured)
    validation = validate(measured_tables)
    _make_folder(out / accuracy.FOLDER)
    typer.echo("\n".join(map(str, accuracy.write_accuracy(measured_tables, validation, out))))


def print_run(run: Run) -> None:
    """Print the tables of a run, fitted to the terminal."""
    terminal = console()
    terminal.print(run_page(run, width=terminal.width))


def console() -> Console:
    """Standard output; its width is `PLAIN_WIDTH` if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _load(path: Path, *, skip_broken: bool) -> Run:
    return _tell_broken(load_records(path, skip_broken=skip_broken))


def _tell_broken(run: Run) -> Run:
    for broken in run.broken:
        typer.echo(f"skipped {broken}", err=True)
    return run


def _formats(model: Model, gpu: Gpu, weights: str | None, kv: str | None, compute: str | None) -> Formats:
    """The formats that are asked for; else those that the model ships in and asks for, as far as the GPU goes."""
    storage = model.storage if weights is None else None
    bits = None if weights is None else find_weight_format(weights).bits_per_weight
    cache = find_dtype(kv) if kv else (storage and storage.kv) or DTYPES["bf16"]
    return Formats(bits, cache.bits, find_dtype(compute) if compute else product_format(storage, gpu))


def _find_model(name: str | None, config: Path | None) -> Model:
    if (name is None) == (config is None):
        raise BadModel("give either --model (see `python -m predict models`) or --config config.json")
    return read_config(config) if config is not None else find_model(name or "")


def _write_validation(validation: Validation, out: Path) -> list[Path]:
    """Write the figures and, for each group, a CSV of its worst rows; return the paths."""
    _make_folder(out)
    files = validate_plots.write_figures(validation.groups, out)
    for number, group in enumerate(validation.groups, start=1):
        file = out / f"worst-{number:02d}-{group.op}-{group.dtype}-{group.gpu}.csv"
        write_file(file, worst_rows(group).to_csv(index=False).encode())
        files.append(file)
    return files


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRun(f"cannot write to {out}: {error.strerror}") from None


def _sweep_json(frame: pd.DataFrame, files: list[Path]) -> str:
    return json.dumps(
        {
            "points": len(frame),
            "files": [str(file) for file in files],
            "remarks": remarks(frame),
            "assumptions": {name: value for name, value in frame.attrs.items() if name != "columns"},
            "best": json.loads(json_rows(best_rows(frame))),
        },
        allow_nan=False,
        indent=2,
    )


def _write_comparison(out: Path | None, draw: Callable[[], Figure], *, as_json: bool) -> None:
    """Write comparison.png to `out`, if given, and print its path."""
    if out is not None:
        _make_folder(out)
        write_file(out / "comparison.png", to_png(draw()))
        typer.echo(out / "comparison.png", err=as_json)


def _table_comparison(comparison: TableComparison) -> Group:
    """The sides and their letters, a table for each op, and the notes."""
    parts: list[RenderableType] = [
        Text(f"{side_letter(place)}: {side}", "bold") for place, side in enumerate(comparison.sides)
    ]
    parts.append(Text("medians over shapes, each with its fastest kernel; times over shapes that all sides have\n"))
    parts += [rich_table(table) for table in op_tables(comparison)]
    parts += [Text(note, "yellow") for note in comparison.notes]
    return Group(*parts)


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
