"""`python -m bench doctor`: what this machine is, and what would spoil a measurement."""

from __future__ import annotations

import re
from dataclasses import asdict

import typer

from bench.commands.options import GpuOption, exit_if
from bench.finding import Level
from predict.forms import Form, table_text, with_form
from predict.lazily import lazily
from predict.table import Column, Table
from predict.terminal import Style, styled

with lazily():  # torch
    from bench import doctor as checks

COLUMNS = (
    Column("level", "", is_key=True),
    Column("subject", "subject", is_key=True),
    Column("text", "finding"),
    Column("remedy", "what to do"),
)


@with_form
def doctor(*, gpu: GpuOption = None, form: Form) -> None:
    """Say what this machine is, whether it matches the table, and what would spoil a measurement.

    Exits with status 1 if something would.
    """
    findings = checks.examine(gpu)
    rows = [asdict(finding) for finding in findings]
    text = table_text(Table(COLUMNS, tuple(rows)), form, lambda: rows)
    typer.echo(_colored(text) if form is Form.PAGE else text)
    exit_if(any(finding.level is Level.PROBLEM for finding in findings))


def _colored(text: str) -> str:
    """The table with each level in its color."""
    colors = {Level.OK: Style.GREEN, Level.WARNING: Style.YELLOW, Level.PROBLEM: Style.RED}
    for level, color in colors.items():
        text = re.sub(rf"^{level}\b", styled(level, color), text, flags=re.MULTILINE)
    return text
