"""`python -m bench doctor`: what this machine is, and what would spoil a measurement."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from bench.commands.options import GpuOption, JsonOption, exit_if, print_json
from predict.lazily import lazily
from reports.commands.options import console

with lazily():  # torch
    from bench import doctor as checks


def doctor(*, gpu: GpuOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine is, whether it matches the table, and what would spoil a measurement.

    Exits with status 1 if something would.
    """
    findings = checks.examine(gpu)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console().print(_findings_table(findings))
    exit_if(any(finding.level is checks.Level.PROBLEM for finding in findings))


def _findings_table(findings: tuple[checks.Finding, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "subject", "finding", "what to do"):
        table.add_column(heading, overflow="fold")
    colors = {checks.Level.OK: "green", checks.Level.WARNING: "yellow", checks.Level.PROBLEM: "red"}
    for finding in findings:
        level = Text(finding.level, style=colors[finding.level])
        table.add_row(level, Text(finding.subject), Text(finding.text), Text(finding.remedy or ""))
    return table
