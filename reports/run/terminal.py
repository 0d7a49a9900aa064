"""Shows a run, or the comparison of two runs, in the terminal."""

import textwrap
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from reports.run.compare import Comparison, comparison_tables
from reports.run.leaderboard import against_peers, leaderboard, leaderboard_table
from reports.run.load import Run
from reports.run.machine import clock_text, expected_lines, machine_lines, roof_table, warning_lines
from reports.run.passes import MeasuredPass, measured_passes
from reports.run.rules import ratios, rule_table
from reports.run.tables import failures, op_tables, times, unstable
from reports.tables import TextTable
from reports.terminal import rich_table, two_lines

NO_DATASHEET = "no datasheet roof: roofs were measured on this machine"
# The columns that a narrow terminal leaves out, in this order, rather than break a number.
DISPENSABLE = (
    "energy per TFLOP",
    "energy per token",
    "host per call",
    "% of held clock",
    "predicted memory",
    "peak memory",
    "bound",
    "expected",
    "ratio",
    "predicted",
)


def run_page(run: Run, *, width: int) -> RenderableType:
    """A run in a terminal of `width` columns: machine, a table per op, leaderboard, rules of thumb, failures."""
    whole = op_tables(run.frame)
    fitting = [table.keep(_fitting(table, width)) for table in whole]
    parts = [_header(run), *_passes(run, width), *map(rich_table, fitting)]
    if any(len(kept.titles) < len(table.titles) for kept, table in zip(fitting, whole, strict=True)):
        parts.append(Text("this terminal is too narrow for some columns, which are left out\n", "dim"))
    if found := leaderboard(against_peers(run.frame)):
        parts.append(rich_table(leaderboard_table(found).without_empty_columns()))
    if rules := ratios(run.frame, run.roofs.primary):
        table = rule_table(rules)
        parts.append(rich_table(table, fold=table.titles))
    parts += _failures(failures(run.frame))
    if doubtful := unstable(run.frame).rows:
        parts.append(Text(f"{len(doubtful)} rows are unstable; `python -m reports render` lists them", "yellow"))
    return Group(*parts)


def passes_page(run: Run, *, width: int) -> str:
    """The passes of a model: a table of its kernels, the whole, what it says, and notes."""
    return "\n\n".join(text for each in measured_passes(run) for text in _pass_parts(each, width))


def comparison_page(comparison: Comparison) -> RenderableType:
    """The comparison of two runs: a table per op, geometric means, and the rows that only one run has."""
    parts: list[RenderableType] = [
        Text(f"A: {comparison.machine_a}    B: {comparison.machine_b}", "bold"),
        *(Text(warning, "yellow") for warning in comparison.warnings),
        Text(""),
    ]
    parts += [rich_table(table, fold=("workload",)) for table in comparison_tables(comparison)]
    means = ", ".join(f"{op} {times(ratio)}" for op, ratio in comparison.by_op.items())
    parts.append(Text(f"time of B over A, geometric mean by op: {means}"))
    for side, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            parts.append(Text(f"{len(names)} rows measured in {side} only, such as {names[0]}", "dim"))
    return Group(*parts)


def _passes(run: Run, width: int) -> list[RenderableType]:
    page = passes_page(run, width=width)
    return [Text(f"{page}\n")] if page else []


def _pass_parts(found: MeasuredPass, width: int) -> Iterator[str]:
    yield textwrap.fill(f"{found.asked.title}: where the time goes", width)
    yield found.table().text(width)
    yield found.whole_table().text(width)
    yield "\n".join(textwrap.fill(sentence, width) for sentence in found.sentences)
    if found.notes:
        yield "\n".join(textwrap.fill(note, width, initial_indent="- ", subsequent_indent="  ") for note in found.notes)


def _header(run: Run) -> RenderableType:
    parts: list[RenderableType] = [Text(line, "bold red") for line in warning_lines(run)]
    parts += [Text(line) for line in machine_lines(run.environment)]
    if clocks := clock_text(run.frame):
        parts.append(Text(clocks))
    if not run.roofs.datasheet:
        parts.append(Text(NO_DATASHEET, "bold yellow"))
    roofs = roof_table(run.roofs)
    shown = [0, 1, 2] if run.roofs.datasheet else [0, 2]
    parts += [Text(""), rich_table(roofs.keep(shown))]
    parts += [Text(f"expected {line}", "dim") for line in expected_lines(run)]
    if run.calibrations:
        parts.append(Text(""))
    return Group(*parts)


def _fitting(table: TextTable, width: int) -> list[int]:
    """Positions of the columns to keep so that the table fits `width`; drops columns in the order of `DISPENSABLE`."""
    kept = list(range(len(table.titles)))
    widths = [
        max(len(part) for part in (*two_lines(table.titles[place]).split("\n"), *cells)) + 2
        for place, cells in enumerate(zip(*table.rows, strict=True))
    ]
    for title in DISPENSABLE:
        if sum(widths[place] for place in kept) <= width:
            break
        kept = [place for place in kept if table.titles[place] != title]
    return kept


def _failures(failed: TextTable) -> list[RenderableType]:
    if not failed.rows:
        return []
    lines: list[RenderableType] = [Text(f"{len(failed.rows)} rows were not measured normally", "bold")]
    for workload, implementation, status, reason in failed.rows:
        lines.append(Text(f"{workload} {implementation}: {status}"))
        lines.append(Padding(Text(reason, "dim"), (0, 0, 0, 4)))
    return [*lines, Text("")]
