"""Writes the report of a run from its records alone; the same records give the same bytes.

    python -m reports render runs/h100

writes runs/h100/report.md (what the numbers say, the scorecard, figures, roofs, a table per op, the leaderboard, rules
of thumb, what failed and what is doubtful), runs/h100/figures/*.png and runs/h100/report.html, the same as one page
that answers questions.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from predict.extras import say_what_is_missing
from predict.lazily import lazily
from predict.table import escape
from reports.figures import NothingToDraw, to_png
from reports.files import template, write_file
from reports.report.story import story
from reports.report.verdicts import judgments_of, scorecard_table, scorecard_unmeasured
from reports.run.leaderboard import against_peers, leaderboard, leaderboard_table, peer_tables
from reports.run.load import Run
from reports.run.machine import clock_text, expected_lines, machine_lines, roof_table, slow_bf16, warning_lines
from reports.run.passes import measured_passes
from reports.run.plots import DRAWINGS
from reports.run.rules import broken_table, ratios, rule_table, rules_say
from reports.run.tables import doubtful, failures, mark_lines, op_tables

with lazily():  # altair and vl_convert
    from reports.report import html

TEMPLATE = Path(__file__).with_name("report.md.jinja")
PAGE = "report.html"
DRAWN_WITH = ("altair", "vl_convert")


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure of the report, or the reason why it is missing."""

    name: str
    alt: str
    caption: str
    png: bytes | None
    reason: str | None


def write_report(run: Run, out: Path) -> Path:
    """Write out/report.md and out/figures/*.png, each file in one step; return the report's path."""
    shown = draw_all(run)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for figure in shown:
        file = out / "figures" / f"{figure.name}.png"
        if figure.png is not None:
            write_file(file, figure.png)
        else:
            file.unlink(missing_ok=True)  # an old figure, drawn from other records
    report = out / "report.md"
    write_file(report, render(run, shown).encode())
    return report


def write_page(run: Run, out: Path) -> str:
    """Write out/report.html in one step. Return why it could not be written, "" if it was: a machine that measures may
    lack the packages that draw it, and its records are rendered elsewhere."""
    file = out / PAGE
    try:
        text = html.render_html(run)
    except ModuleNotFoundError as error:
        if error.name not in DRAWN_WITH:
            raise
        file.unlink(missing_ok=True)  # an old page, made from other records
        return f"{PAGE} was not written: it {say_what_is_missing(error)}"
    write_file(file, text.encode())
    return ""


def draw_all(run: Run) -> tuple[Shown, ...]:
    """Every figure; one that the run has no rows for has a reason instead of a PNG."""
    shown = []
    for drawing in DRAWINGS:
        try:
            png, reason = to_png(drawing.draw(run)), None
        except NothingToDraw as error:
            png, reason = None, str(error)
        shown.append(Shown(drawing.name, drawing.alt, drawing.caption, png, reason))
    return tuple(shown)


def render(run: Run, shown: tuple[Shown, ...]) -> str:
    """The text of report.md."""
    frame, roofs = run.frame, run.roofs
    rows, rules, judgments = against_peers(frame), ratios(frame, roofs.primary), judgments_of(run)
    return template(TEMPLATE).render(
        run=run,
        warnings=warning_lines(run),
        machine=machine_lines(run.environment),
        clocks=clock_text(frame),
        counts=sorted(Counter(frame["status"]).items()),
        story=story(frame, roofs),
        scorecard=scorecard_table(judgments),
        unmeasured=scorecard_unmeasured(judgments),
        passes=measured_passes(run),
        roofs=roof_table(roofs).without_empty_columns(),
        expected=expected_lines(run),
        refined=bool(run.frame["refined_s"].notna().any()),
        tables=op_tables(frame),
        leaderboard=leaderboard_table(leaderboard(rows)).without_empty_columns(),
        peer_tables=peer_tables(rows),
        rules=rule_table(rules),
        rules_say=rules_say(rules),
        broken=broken_table(rules),
        shown=shown,
        failures=failures(frame),
        methods=method_lines(frame),
        marks=mark_lines(frame),
        slow_bf16=slow_bf16(run),
        doubtful=doubtful(frame),
    )


def method_lines(frame: pd.DataFrame) -> tuple[str, ...]:
    """How the times were taken, counted over the rows."""
    timed = frame[frame["time_s"].notna()]
    if timed.empty:
        return ("nothing was timed",)
    lines = [f"{count} rows by {_code(method)}" for method, count in sorted(Counter(timed["method"]).items())]
    samples = timed["samples"].astype(int)
    lines.append(f"samples per row: median {samples.median():.0f}, from {samples.min()} to {samples.max()}")
    stops = Counter(timed["stop"])
    lines.append(f"{stops['converged']} rows stopped when their median was known, {stops['budget']} when time was up")
    cold = Counter("unknown" if pd.isna(each) else "cold" if each else "warm" for each in timed["cold_l2"])
    lines.append(
        f"operands in the last-level cache: {cold['cold']} rows cold, {cold['warm']} possibly warm,"
        f" {cold['unknown']} not known"
    )
    energies = int(timed["energy_j"].notna().sum())
    if energies:
        lines.append(f"energy of {energies} rows: the power of the card while it worked, times the time of a call")
    return tuple(lines)


def _code(text: str) -> str:
    """A word as code; anything else escaped, since it may end the code."""
    return f"`{text}`" if text.isidentifier() else escape(text)
