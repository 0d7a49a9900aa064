"""A run in the terminal, and as Markdown."""

from collections.abc import Iterable, Iterator

from predict.table import escape
from predict.terminal import Style, styled, wrapped
from reports.run.leaderboard import against_peers, leaderboard, leaderboard_table
from reports.run.load import Run
from reports.run.machine import clock_text, expected_lines, machine_lines, roof_table, slow_bf16, warning_lines
from reports.run.passes import MeasuredPass, measured_passes
from reports.run.rules import ratios, rule_table
from reports.run.tables import doubtful, failures, mark_lines, op_tables
from reports.tables import TextTable, as_section, in_terminal

NO_DATASHEET = "no datasheet roof: roofs were measured on this machine"


def run_page(run: Run, width: int) -> str:
    """A run in a terminal of `width` columns: machine, a table per op, leaderboard, rules of thumb, failures."""
    return "\n".join(_run_lines(run, width))


def passes_page(run: Run, *, width: int) -> str:
    """The passes of a model: a table of its kernels, the whole, what it says, and notes."""
    return "\n\n".join(text for each in measured_passes(run) for text in _pass_parts(each, width))


def run_markdown(run: Run) -> str:
    """The tables of a run in Markdown: roofs, passes, ops, leaderboard, rules of thumb, failures and doubtful rows."""
    passes = [
        f"## {escape(each.asked.title)}\n\n{each.table().markdown()}\n\n{each.whole_table().markdown()}"
        for each in measured_passes(run)
    ]
    roofs, frame = roof_table(run.roofs).without_empty_columns(), run.frame
    return "\n\n".join(
        [
            _markdown([roofs]),
            *passes,
            _markdown([*op_tables(frame), *_summaries(run), failures(frame), doubtful(frame)]),
        ]
    )


def _markdown(tables: Iterable[TextTable]) -> str:
    return "\n\n".join(as_section(table) for table in tables if table.rows)


def _summaries(run: Run) -> Iterator[TextTable]:
    if found := leaderboard(against_peers(run.frame)):
        yield leaderboard_table(found).without_empty_columns()
    if rules := ratios(run.frame, run.roofs.primary):
        yield rule_table(rules)


def _run_lines(run: Run, width: int) -> Iterator[str]:
    yield from _header(run, width)
    if run.passes:
        yield from (passes_page(run, width=width), "")
    yield from (in_terminal(table, width) for table in op_tables(run.frame))
    if marks := mark_lines(run.frame):
        for mark in marks:
            yield from _styled(mark, width, Style.YELLOW)
        yield from (*_styled("report.md says more of each such row", width, Style.DIM), "")
    yield from (in_terminal(table, width) for table in _summaries(run))
    yield from _failures(failures(run.frame), width)


def _pass_parts(found: MeasuredPass, width: int) -> Iterator[str]:
    yield "\n".join(wrapped(f"{found.asked.title}: where the time goes", width))
    yield found.table().text(width)
    yield found.whole_table().text(width)
    yield "\n".join(line for sentence in found.sentences for line in wrapped(sentence, width))
    if found.notes:
        yield "\n".join(line for note in found.notes for line in wrapped(note, width, "- ", "  "))


def _header(run: Run, width: int) -> Iterator[str]:
    for line in warning_lines(run):
        yield from _styled(line, width, Style.RED)
    for line in (*machine_lines(run.environment), clock_text(run.frame)):
        yield from wrapped(line, width)
    if not run.roofs.datasheet:
        yield from _styled(NO_DATASHEET, width, Style.YELLOW)
    if slow := slow_bf16(run):
        yield from _styled(slow, width, Style.YELLOW)
    roofs = roof_table(run.roofs)
    shown = [0, 1, 2] if run.roofs.datasheet else [0, 2]
    yield from ("", in_terminal(roofs.keep(shown), width))
    for line in expected_lines(run):
        yield from _styled(f"expected {line}", width, Style.DIM)
    if run.calibrations:
        yield ""


def _failures(failed: TextTable, width: int) -> Iterator[str]:
    if not failed.rows:
        return
    yield styled(f"{len(failed.rows)} rows were not measured normally", Style.BOLD)
    for workload, implementation, status, reason in failed.rows:
        yield from wrapped(f"{workload} {implementation}: {status}", width)
        yield from wrapped(reason, width, "    ", "    ")
    yield ""


def _styled(text: str, width: int, style: Style) -> Iterator[str]:
    return (styled(line, style) for line in wrapped(text, width))
