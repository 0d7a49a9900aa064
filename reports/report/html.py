"""report.html: the report of a run as one page that asks nobody for anything.

Style, script, the library that draws and all rows stand in the file. Its content security policy lets no request leave
it, and runs no script but the two that it names by their hash. Every text of a record is escaped.
"""

import base64
import functools
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import vl_convert
from markupsafe import Markup

from predict.table import Table
from predict.terminal import printable
from reports import palette
from reports.files import html_template
from reports.report.charts import CONFIG, draw_figures
from reports.report.reproduce import run_commands, version_rows
from reports.report.rows import COLUMNS, NUMBERS, TEXTS, PageRow, page_rows
from reports.report.story import story
from reports.report.verdicts import badges, judgments_of, scorecard_unmeasured
from reports.run.leaderboard import against_peers, leaderboard, leaderboard_table
from reports.run.load import Run
from reports.run.machine import cautions, clock_text, expected_lines, machine_lines, roof_table, slow_bf16
from reports.run.passes import measured_passes
from reports.run.rules import ratios, rule_table
from reports.run.tables import doubtful, failures, mark_lines
from reports.tables import TextTable

HERE = Path(__file__).parent
TEMPLATE = HERE / "report.html.jinja"
STYLE = HERE / "page.css"
COLORS = {"green": palette.GREEN, "orange": palette.ORANGE, "red": palette.RED, "blue": palette.BLUE}
# In a script these end it, or end a line of it, wherever they stand.
_IN_SCRIPT = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def render_html(run: Run) -> str:
    """The text of report.html; the same records give the same text."""
    frame, rows = run.frame, page_rows(run)
    judgments = judgments_of(run)
    figures = draw_figures(run)
    scripts = (library(), _own("page.js"))
    return html_template(TEMPLATE).render(
        run=run,
        policy=_policy(scripts),
        style=_own("page.css"),
        colors=COLORS,
        scripts=scripts,
        data=script_json(_data(rows)),
        specs=script_json(
            {"config": dict(CONFIG), "panels": [panel.spec for each in figures for panel in each.panels]}
        ),
        counts=sorted(Counter(frame["status"]).items()),
        badges=badges(judgments),
        unmeasured=scorecard_unmeasured(judgments),
        story=[*([f"{slow}."] if (slow := slow_bf16(run)) else []), *story(frame, run.roofs)],
        machine=[line for line in (*machine_lines(run.environment), clock_text(frame)) if line],
        roofs=roof_table(run.roofs).without_empty_columns(),
        expected=expected_lines(run),
        passes=measured_passes(run),
        figures=figures,
        columns=COLUMNS,
        rows=rows,
        ops=sorted({row.numbers[0] for row in rows}),
        statuses=sorted({row.cells[2] for row in rows}),
        marks=mark_lines(frame),
        leaderboard=leaderboard_table(leaderboard(against_peers(frame))).without_empty_columns(),
        rules=rule_table(ratios(frame, run.roofs.primary)),
        cautions=cautions(run),
        failures=alike(failures(frame)),
        doubtful=alike(doubtful(frame)),
        commands=run_commands(run),
        versions=version_rows(run),
        cells=_cells,
    )


def script_json(value: object) -> Markup:
    """JSON that may stand in a script element: no text in it ends the element. Raises ValueError for NaN."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_IN_SCRIPT))  # noqa: S704  (no sign of markup is left in it)


def alike(table: TextTable) -> TextTable:
    """Rows of workload, implementation and words, those together whose words differ in digits alone: how many they
    are, the words of the first, and its name."""
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in table.rows:
        groups.setdefault(tuple(re.sub(r"[\d.]+", "", words) for words in row[2:]), []).append(row)
    rows = tuple(
        (str(len(group)), *group[0][2:], f"{group[0][0]} by {group[0][1]}")
        for group in sorted(groups.values(), key=len, reverse=True)
    )
    return TextTable(table.name, ("rows", *table.titles[2:], "such as"), rows)


def _data(rows: tuple[PageRow, ...]) -> dict[str, object]:
    """What the page's script needs of the rows beside their cells. Each text is written once, and named by its place:
    those of `NUMBERS`, and of details the names and words in turn."""
    places: dict[str, int] = {}

    def place_of(text: str) -> int:
        return places.setdefault(printable(text), len(places))

    texts = {NUMBERS.index(name) for name in TEXTS}
    numbers = [
        [
            place_of(value) if isinstance(value, str) and place in texts else value
            for place, value in enumerate(row.numbers)
        ]
        for row in rows
    ]
    details = [[place_of(text) for pair in row.details for text in pair] for row in rows]
    return {"numbers": NUMBERS, "texts": TEXTS, "rows": numbers, "details": details, "words": list(places)}


def _cells(table: Table | TextTable) -> dict[str, object]:
    """A table for the template: headings, whether each column holds words, and rows."""
    drawn = table.table if isinstance(table, TextTable) else table
    return {
        "headings": [(column.heading, column.is_text) for column in drawn.columns],
        "rows": [list(zip(row, (column.is_text for column in drawn.columns), strict=True)) for row in drawn.texts()],
    }


def _policy(scripts: tuple[Markup, ...]) -> str:
    """Nothing is loaded; these scripts run. Vega makes functions of its expressions, and styles its tooltip."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def library() -> Markup:
    """Vega, Vega-Lite and what embeds them, as vl-convert's wheel holds them."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in bundle
    assert "<!--" not in bundle
    return Markup(bundle)  # noqa: S704  (a script, which holds no record)


@functools.cache
def _own(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))  # noqa: S704  (style and script, which hold no record)
