"""`python -m reports scorecard`: every rule of thumb judged by runs, by measured tables and by public measurements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predict.errors import BadRun
from predict.forms import Form, with_form
from predict.lazily import lazily
from predict.terminal import terminal_width
from reports.commands.options import SkipOption, make_folder, tell_broken
from reports.commands.validate import judge_points

with lazily():  # pandas
    from reports import files as writing
    from reports.comparison import claims
    from reports.comparison import sides as reading
    from reports.scorecard import beside, card, knees, page, verdict

if TYPE_CHECKING:
    from reports.accuracy import validate

EXAMPLES = """Examples:

python -m reports scorecard runs/a100 runs/h100

python -m reports scorecard --tables tables/*.parquet --endtoend points.csv --out docs/scorecard.md

python -m reports scorecard runs/h100 --write-docs README.md
"""


@with_form
def show_scorecard(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Runs and tables of kernel times, mixed freely.")
    ] = None,
    *,
    as_tables: Annotated[
        bool, typer.Option("--tables", help="Refuse paths that are runs: all of them are to be tables.")
    ] = False,
    points: Annotated[
        Path | None, typer.Option("--endtoend", metavar="FILE", help="A CSV of measurements of whole models.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scorecard to this Markdown file.")] = None,
    write_docs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Put a run's verdicts, beside those of the GPUs in docs/scorecard.md, between the marks of this file.",
        ),
    ] = None,
    form: Form,
    skip_broken: SkipOption = False,
) -> None:
    """Judge the rules of thumb by what was measured: holds, holds within x, fails, or why it was not measured."""
    if not paths and points is None:
        raise BadRun("give runs or tables, or --endtoend points.csv")
    if as_tables:
        reading.refuse_runs(paths or [])
    if out is not None:
        make_folder(out.parent)
    judged = [] if points is None else judge_points(points)
    sides = reading.read_sides(paths or [], skip_broken=skip_broken)
    for side in sides:
        if side.run is not None:
            tell_broken(side.run)
    if write_docs is not None and (points is not None or [side.run is not None for side in sides] != [True]):
        raise BadRun("--write-docs takes the verdicts of one run: give a run alone, without --endtoend")
    groups = claims.groups_of_sides(sides)
    judgments = claims.judge_sides(sides, groups, judged)
    typer.echo(_text(judgments, form))
    every = [group for found in groups.values() for group in found]
    written = [] if out is None else _write(out, judgments, every, card.sources_of(every, judged))
    if write_docs is not None:
        beside.write_beside(write_docs, judgments)
        written.append(write_docs)
    for path in written:
        typer.echo(path, err=form is not Form.PAGE)


def _write(
    out: Path, judgments: list[verdict.Judgment], groups: Sequence[validate.Group], sources: list[str]
) -> list[Path]:
    """Write the scorecard, and figures/knees.png beside it where tables tell the knees; return the paths."""
    found, picture = knees.knees_of(groups), out.parent / "figures" / "knees.png"
    if found:
        make_folder(picture.parent)
        writing.write_file(picture, knees.knees_png(found))
    link = f"{picture.parent.name}/{picture.name}" if found else ""
    writing.write_file(out, page.document(judgments, sources, knees=link).encode())
    return [out, picture] if found else [out]


def _text(judgments: list[verdict.Judgment], form: Form) -> str:
    match form:
        case Form.JSON:
            return json.dumps([each.row() for each in judgments], indent=2, allow_nan=False)
        case Form.CSV:
            return page.flat(judgments).csv()
        case Form.MARKDOWN:
            return page.flat(judgments).markdown()
        case Form.PAGE:
            return "\n".join(page.in_terminal(judgments, terminal_width()))
