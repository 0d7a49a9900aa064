"""`python -m reports compare`: any number of runs and tables of kernel times, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predict.errors import BadRun
from predict.forms import Form, with_form
from predict.lazily import lazily
from predict.terminal import terminal_width
from reports.commands.options import SkipOption, make_folder, tell_broken

with lazily():  # pandas and matplotlib
    from reports import figures, files
    from reports.accuracy import compare as by_share
    from reports.comparison import claims, many, page, pages
    from reports.comparison import sides as reading
    from reports.run import compare as by_row
    from reports.run import frame, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reports.scorecard.verdict import Judgment

EXAMPLES = """Examples:

python -m reports compare runs/before runs/after

python -m reports compare runs/a100 runs/h100 tables/b200_gemm.parquet --out comparison
"""


@with_form
def compare_runs(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Two or more runs or tables, mixed freely.")],
    *,
    as_tables: Annotated[
        bool, typer.Option("--tables", help="Refuse paths that are runs: all of them are to be tables.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.png, .md and .html.")] = None,
    with_claims: Annotated[
        bool, typer.Option("--claims/--no-claims", help="Judge the rules of thumb too; large tables take a minute.")
    ] = True,
    form: Form,
    skip_broken: SkipOption = False,
) -> None:
    """Compare two runs row by row, or any number of runs and tables by their share of the roof."""
    if len(paths) < 2:
        raise BadRun(f"compare takes two or more runs or tables, not {len(paths)}")
    if as_tables:
        reading.refuse_runs(paths)
    if out is not None:
        make_folder(out)
    sides = reading.read_sides(paths, skip_broken=skip_broken)
    runs = [tell_broken(side.run) for side in sides if side.run is not None]
    if len(runs) == len(sides) == 2:
        _compare_two(sides, with_claims=with_claims, form=form, out=out)
    else:
        _compare_many(sides, with_claims=with_claims, form=form, out=out)


def _compare_two(sides: Sequence[reading.Side], *, with_claims: bool, form: Form, out: Path | None) -> None:
    a, b = (side.run for side in sides)
    assert a is not None
    assert b is not None
    comparison = by_row.compare(a, b)
    judgments, _ = _judged(sides, with_claims=with_claims, form=form, out=out)
    whole = pages.page_of_two(comparison, sides, judgments)
    match form:
        case Form.JSON:
            typer.echo(pages.json_of_two(comparison, judgments))
        case Form.CSV:
            typer.echo(frame.csv_rows(comparison.rows))
        case _:
            typer.echo(_page_text(whole, form))
    if out is not None:
        _write(out, whole, _drawn(lambda: plots.draw_comparison(comparison)), form)


def _compare_many(sides: Sequence[reading.Side], *, with_claims: bool, form: Form, out: Path | None) -> None:
    comparison = many.compare_many(sides)
    judgments, notes = _judged(sides, with_claims=with_claims, form=form, out=out)
    whole = pages.page_of_many(comparison, judgments, notes)
    match form:
        case Form.JSON:
            typer.echo(pages.json_of_many(comparison, judgments, notes))
        case Form.CSV:
            typer.echo(frame.csv_rows(comparison.shares.rows))
        case _:
            typer.echo(_page_text(whole, form))
    if out is not None:
        _write(out, whole, _drawn(lambda: by_share.draw_shares(comparison.shares)), form)


def _judged(
    sides: Sequence[reading.Side], *, with_claims: bool, form: Form, out: Path | None
) -> tuple[list[Judgment], list[str]]:
    """The claims on every side, and notes; none where nobody will read them."""
    if not with_claims or (form is Form.CSV and out is None):
        return [], []
    return claims.judge_what_can_be(sides)


def _page_text(whole: page.Page, form: Form) -> str:
    return page.markdown(whole) if form is Form.MARKDOWN else "\n".join(page.in_lines(whole, terminal_width()))


def _write(out: Path, whole: page.Page, figure: Figure | None, form: Form) -> None:
    """Write comparison.png, .md and .html to `out`, and print their paths; without a figure no .png."""
    png = None if figure is None else figures.to_png(figure)
    written = {
        "comparison.png": png,
        "comparison.md": page.document(whole, None if png is None else "comparison.png").encode(),
        "comparison.html": page.html(whole, png).encode(),
    }
    for name, content in written.items():
        if content is None:
            (out / name).unlink(missing_ok=True)  # an old figure, of other sides
        else:
            files.write_file(out / name, content)
            typer.echo(out / name, err=form is not Form.PAGE)


def _drawn(draw: Callable[[], Figure]) -> Figure | None:
    """The figure; None, and why on stderr, where nothing can be drawn."""
    try:
        return draw()
    except figures.NothingToDraw as error:
        typer.echo(f"no figure: {error}", err=True)
        return None
