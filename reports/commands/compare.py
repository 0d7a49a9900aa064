"""`python -m reports compare`: two runs, or tables of kernel times, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predict.errors import BadRun
from predict.forms import Form, with_form
from predict.lazily import lazily
from predict.terminal import Style, styled, terminal_width, wrapped
from reports.commands.options import SkipOption, load, make_folder

with lazily():  # pandas and matplotlib
    from reports import figures, files
    from reports import tables as drawing
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


@with_form
def compare_runs(
    paths: Annotated[list[Path], typer.Argument(metavar="A B", help="Two runs, or two or more tables.")],
    *,
    as_tables: Annotated[
        bool, typer.Option("--tables", help="Compare tables of kernel times (or runs) by their share of the roofline.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.png.")] = None,
    form: Form,
    skip_broken: SkipOption = False,
) -> None:
    """Compare two runs by % of roof (two machines, or one before and after a change), or tables of kernel times."""
    if as_tables:
        by_table = of_tables.compare_tables(importers.read_tables(paths, skip_broken=skip_broken))
        typer.echo(_by_table_text(by_table, form))
        _write_comparison(out, lambda: of_tables.draw_table_comparison(by_table), form)
        return
    if len(paths) != 2:
        raise BadRun(f"compare takes two runs, not {len(paths)}; with --tables two or more tables of kernel times")
    comparison = of_runs.compare(*(load(path, skip_broken=skip_broken) for path in paths))
    typer.echo(_comparison_text(comparison, form))
    _write_comparison(out, lambda: plots.draw_comparison(comparison), form)


def _write_comparison(out: Path | None, draw: Callable[[], Figure], form: Form) -> None:
    """Write comparison.png to `out`, if given, and print its path."""
    if out is not None:
        make_folder(out)
        files.write_file(out / "comparison.png", figures.to_png(draw()))
        typer.echo(out / "comparison.png", err=form is not Form.PAGE)


def _comparison_text(comparison: of_runs.Comparison, form: Form) -> str:
    match form:
        case Form.JSON:
            return _comparison_json(comparison)
        case Form.CSV:
            return frame.csv_rows(comparison.rows)
        case Form.MARKDOWN:
            return run_terminal.comparison_markdown(comparison)
        case Form.PAGE:
            return run_terminal.comparison_page(comparison, terminal_width())


def _by_table_text(comparison: of_tables.TableComparison, form: Form) -> str:
    match form:
        case Form.JSON:
            return frame.json_rows(comparison.rows)
        case Form.CSV:
            return frame.csv_rows(comparison.rows)
        case Form.MARKDOWN:
            return "\n\n".join(map(drawing.as_section, of_tables.op_tables(comparison)))
        case Form.PAGE:
            return "\n".join(_by_table_lines(comparison, terminal_width()))


def _by_table_lines(comparison: of_tables.TableComparison, width: int) -> Iterator[str]:
    """The sides and their letters, a table for each op, and the notes."""
    for place, side in enumerate(comparison.sides):
        yield from (styled(line, Style.BOLD) for line in wrapped(f"{of_tables.side_letter(place)}: {side}", width))
    yield from wrapped(
        "medians over shapes, each with its fastest kernel; times over shapes that all sides have", width
    )
    yield ""
    yield from (drawing.in_terminal(table, width) for table in of_tables.op_tables(comparison))
    for note in comparison.notes:
        yield from (styled(line, Style.YELLOW) for line in wrapped(note, width))


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
