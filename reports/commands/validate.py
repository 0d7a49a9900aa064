"""`python -m reports validate` and `accuracy`: expected times held against measured tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from predict.commands.arguments import question_of
from predict.errors import BadRun
from predict.forms import Form, with_form
from predict.gpus import resolve_all
from predict.lazily import lazily
from predict.terminal import Style, styled, terminal_width, wrapped
from reports.commands.options import make_folder

with lazily():  # pandas and matplotlib
    from reports import files as writing
    from reports.accuracy import (
        document,
        endtoend,
        endtoend_document,
        endtoend_points,
        endtoend_tables,
        importers,
        plots,
        tables,
        unmeasured,
        validate,
    )

EXAMPLES = """Examples:

python -m reports validate h100-sxm_gemm_vllm-0.24.0.parquet --gpu h100 --json

python -m reports validate tables/*.parquet --out runs/validation

python -m reports validate --endtoend points.csv --json
"""


@with_form
def validate_tables(
    measured: Annotated[
        list[Path] | None, typer.Argument(metavar="TABLE...", help="Measured tables: parquet, CSV, runs.")
    ] = None,
    *,
    points: Annotated[
        Path | None, typer.Option("--endtoend", metavar="FILE", help="A CSV of measurements of whole models.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Stop if a table is of another GPU than this.")] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="A GPU of which nothing that ships may count; a table's own GPU never counts. May repeat."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figures and the explained worst rows.")] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with status 1 if expected time misses a bar.")] = False,
    form: Form,
) -> None:
    """Calibrate expected time from up to 16 rows of each group of measured tables, predict the rest, print errors.

    --endtoend asks for every point of a file what `predict model` would say, and prints how far off it is."""
    if not measured and points is None:
        raise BadRun("give measured tables, or --endtoend points.csv, or both")
    if not measured and (gate or out is not None or gpu is not None or leave_out):
        raise BadRun("--gate, --out, --gpu and --leave-out are of measured tables; give some, or leave the options out")
    judged = [] if points is None else judge_points(points)
    left_out = {each.name for name in leave_out or () for each in resolve_all(name)}
    validation = validate.validate(importers.read_tables(measured), gpu, left_out) if measured else None
    typer.echo("\n".join(_lines(validation, judged, form)))
    if validation is None:
        return
    if out is not None:
        for file in _write_validation(validation, out):
            typer.echo(file, err=form is not Form.PAGE)
    if gate and (failures := validate.over_the_bar(validation.groups)):
        typer.echo("\n".join(failures), err=True)
        raise typer.Exit(1)


def judge_points(points: Path) -> list[endtoend.Judged]:
    """The points of a file with their predictions. Raises BadRecord."""
    return endtoend.judge(endtoend_points.read_points(points), lambda text: question_of(text, points.parent))


def _lines(validation: validate.Validation | None, judged: list[endtoend.Judged], form: Form) -> Iterator[str]:
    """Groups of tables, then whole models; one list in JSON."""
    if form is Form.JSON:
        entries: list[object] = []
        if validation is not None:
            entries += [validate.group_json(group, validation.skipped) for group in validation.groups]
        yield json.dumps([*entries, *endtoend_tables.tally_json(judged)], indent=2, allow_nan=False)
        return
    if validation is not None:
        yield from _validation_lines(validation, form)
    if validation is not None and judged:
        yield ""
    if judged:
        yield from _endtoend_lines(judged, form)


def _endtoend_lines(judged: list[endtoend.Judged], form: Form) -> Iterator[str]:
    match form:
        case Form.CSV:
            yield endtoend_tables.tally_table(judged, totals=False).csv()
        case Form.MARKDOWN:
            yield endtoend_tables.tally_table(judged, totals=True).markdown()
        case _:
            width = terminal_width()
            yield from (styled(line, Style.BOLD) for line in wrapped(endtoend_tables.TITLE, width))
            yield endtoend_tables.tally_table(judged, totals=True).text(width)
            yield from endtoend_tables.remarks(judged, width)


def _validation_lines(validation: validate.Validation, form: Form) -> Iterator[str]:
    groups = validation.groups
    match form:
        case Form.CSV:
            yield tables.validation_table(groups, tables.CSV_COLUMNS).csv()
        case Form.MARKDOWN:
            yield tables.validation_table(groups).markdown()
        case _:
            width = terminal_width()
            yield from (styled(line, Style.BOLD) for line in wrapped(tables.TITLE, width))
            yield tables.validation_table(groups).text(width)
            for (table, reason), rows in validation.skipped.items():
                yield from wrapped(f"{table}: {rows:,} rows left out: {reason}", width)


def write_accuracy(
    measured: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Measured tables: parquet, CSV, runs.")],
    *,
    points: Annotated[
        Path | None, typer.Option("--endtoend", metavar="FILE", help="A CSV of measurements of whole models.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for accuracy.md and accuracy/*.png.")] = Path("docs"),
) -> None:
    """Write accuracy.md: how far expected time is off, where and why; the same tables give the same bytes."""
    judged = [] if points is None else judge_points(points)
    measured_tables = importers.read_tables(measured)
    validation = validate.validate(measured_tables)
    make_folder(out / document.FOLDER)
    sections = [unmeasured.unmeasured(validation.groups), endtoend_document.whole_models(judged) if judged else None]
    known = [section for section in sections if section is not None]
    typer.echo("\n".join(map(str, document.write_accuracy(measured_tables, validation, out, known))))


def _write_validation(validation: validate.Validation, out: Path) -> list[Path]:
    """Write the figures and, for each group, a CSV of its worst rows; return the paths."""
    make_folder(out)
    files = plots.write_figures(validation.groups, out)
    for number, group in enumerate(validation.groups, start=1):
        file = out / f"worst-{number:02d}-{group.op}-{group.dtype}-{group.gpu}.csv"
        writing.write_file(file, validate.worst_rows(group).to_csv(index=False).encode())
        files.append(file)
    return files
