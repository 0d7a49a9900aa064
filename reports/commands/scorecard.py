"""`python -m reports scorecard`: every rule of thumb judged by runs, by measured tables and by public measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
    from reports.scorecard import card, page, verdict

EXAMPLES = """Examples:

python -m reports scorecard runs/a100 runs/h100

python -m reports scorecard tables/*.parquet --endtoend points.csv --out docs/scorecard.md
"""


@with_form
def show_scorecard(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Runs and tables of kernel times, mixed freely.")
    ] = None,
    *,
    points: Annotated[
        Path | None, typer.Option("--endtoend", metavar="FILE", help="A CSV of measurements of whole models.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scorecard to this Markdown file.")] = None,
    form: Form,
    skip_broken: SkipOption = False,
) -> None:
    """Judge the rules of thumb by what was measured: holds, holds within x, fails, or why it was not measured."""
    if not paths and points is None:
        raise BadRun("give runs or tables, or --endtoend points.csv")
    if out is not None:
        make_folder(out.parent)
    judged = [] if points is None else judge_points(points)
    sides = reading.read_sides(paths or [], skip_broken=skip_broken)
    for side in sides:
        if side.run is not None:
            tell_broken(side.run)
    groups = claims.groups_of_sides(sides)
    judgments = claims.judge_sides(sides, groups, judged)
    typer.echo(_text(judgments, form))
    if out is not None:
        every = [group for found in groups.values() for group in found]
        writing.write_file(out, page.document(judgments, card.sources_of(every, judged)).encode())
        typer.echo(out, err=form is not Form.PAGE)


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
