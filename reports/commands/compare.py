"""`python -m reports compare`: two runs, or tables of kernel times, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from predict.errors import BadRun
from predict.lazily import lazily
from reports.commands.options import JsonOption, SkipOption, console, load, make_folder

with lazily():  # pandas and matplotlib
    from reports import figures, files, terminal
    from reports.accuracy import compare as of_tables
    from reports.accuracy import importers
    from reports.run import compare as of_runs
    from reports.run import frame, plots
    from reports.run import terminal as run_terminal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = """Examples:

python -m reports compare runs/a100 runs/h100 --out comparison

python -m reports compare --tables a100_gemm.parquet h100_gemm.parquet --out comparison
"""


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
        by_table = of_tables.compare_tables(importers.read_tables(paths, skip_broken=skip_broken))
        if as_json:
            typer.echo(frame.json_rows(by_table.rows))
        else:
            console().print(_table_comparison(by_table))
        _write_comparison(out, lambda: of_tables.draw_table_comparison(by_table), as_json=as_json)
        return
    if len(paths) != 2:
        raise BadRun(f"compare takes two runs, not {len(paths)}; with --tables two or more tables of kernel times")
    comparison = of_runs.compare(*(load(path, skip_broken=skip_broken) for path in paths))
    if as_json:
        typer.echo(_comparison_json(comparison))
    else:
        console().print(run_terminal.comparison_page(comparison))
    _write_comparison(out, lambda: plots.draw_comparison(comparison), as_json=as_json)


def _write_comparison(out: Path | None, draw: Callable[[], Figure], *, as_json: bool) -> None:
    """Write comparison.png to `out`, if given, and print its path."""
    if out is not None:
        make_folder(out)
        files.write_file(out / "comparison.png", figures.to_png(draw()))
        typer.echo(out / "comparison.png", err=as_json)


def _table_comparison(comparison: of_tables.TableComparison) -> Group:
    """The sides and their letters, a table for each op, and the notes."""
    parts: list[RenderableType] = [
        Text(f"{of_tables.side_letter(place)}: {side}", "bold") for place, side in enumerate(comparison.sides)
    ]
    parts.append(Text("medians over shapes, each with its fastest kernel; times over shapes that all sides have\n"))
    parts += [terminal.rich_table(table) for table in of_tables.op_tables(comparison)]
    parts += [Text(note, "yellow") for note in comparison.notes]
    return Group(*parts)


def _comparison_json(comparison: of_runs.Comparison) -> str:
    return json.dumps(
        {
            "machine_a": comparison.machine_a,
            "machine_b": comparison.machine_b,
            "warnings": comparison.warnings,
            "only_a": comparison.only_a,
            "only_b": comparison.only_b,
            "time_ratio_by_op": comparison.by_op.to_dict(),
            "rows": json.loads(frame.json_rows(comparison.rows)),
        },
        allow_nan=False,
        indent=2,
    )
