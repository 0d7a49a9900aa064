"""`python -m bench doctor`: what this machine is, and what would spoil a measurement."""

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from bench.commands.options import GpuOption, JsonOption, exit_if, print_json
from bench.doctor import Finding, Level, examine
from reports.commands.options import console


def doctor(*, gpu: GpuOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine is, whether it matches the table, and what would spoil a measurement.

    Exits with status 1 if something would.
    """
    findings = examine(gpu)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console().print(_findings_table(findings))
    exit_if(any(finding.level is Level.PROBLEM for finding in findings))


def _findings_table(findings: tuple[Finding, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "subject", "finding", "what to do"):
        table.add_column(heading, overflow="fold")
    colors = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
    for finding in findings:
        level = Text(finding.level, style=colors[finding.level])
        table.add_row(level, Text(finding.subject), Text(finding.text), Text(finding.remedy or ""))
    return table
