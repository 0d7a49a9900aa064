"""Command line: which kernels there are, and what they compile to. Text goes to stdout, progress to stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from napkin_bench.packages import require_ours

require_ours()  # before another project's package is taken for one of these

from kernels.peers.packages import package_version
from predict.command_line import run_command_line
from predict.forms import Form, table_text, with_form
from predict.lazily import lazily
from predict.table import Column, Table
from predict.terminal import terminal_width, wrapped
from predict.units import Unit

with lazily():  # torch
    from kernels import catalog, implementation
    from kernels.triton import compile as compiling
    from kernels.triton import document as docs

DEFAULT_ARCHITECTURES = "sm80,sm90,sm100,sm120"
LIST_COLUMNS = (
    Column("op", "op", is_key=True),
    Column("implementation", "implementation", is_key=True),
    Column("devices", "devices"),
    Column("dtypes", "dtypes"),
    Column("architectures", "architectures"),
    Column("package", "package"),
)
VERSION = Column("version", "version")  # the page tells it below the table
COMPILE_COLUMNS = (
    Column("kernel", "kernel", is_key=True),
    Column("arch", "arch", is_key=True),
    Column("dtype", "dtype", is_key=True),
    Column("config", "configuration"),  # too long to stand in every part of a table that is cut
    Column("default", "default"),
    Column("status", "status"),
    Column("registers", "registers", Unit.COUNT),
    Column("spill_instructions", "spills", Unit.COUNT),
    Column("shared_bytes", "shared bytes", Unit.COUNT),
    Column("occupancy", "occupancy", Unit.SHARE),
    Column("instructions", "instructions"),
    Column("reason", "reason"),
)

app = typer.Typer(
    help="List the kernels; compile them for GPUs that are not here.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,  # a shell completes `napkin-bench`: to it, this program is `python`
)


@app.command("list")
@with_form
def list_command(*, form: Form) -> None:
    """List every implementation of every op with its dtypes, its architectures and the package it comes with."""
    if not catalog.HAS_TRITON:
        typer.echo("Triton is not installed: only PyTorch's implementations are listed", err=True)
    listed = catalog.list_implementations()
    columns = LIST_COLUMNS if form is Form.PAGE else (*LIST_COLUMNS, VERSION)
    versions = {name: package_version(name) for name in dict.fromkeys(row.package for row in listed)}
    table = Table(columns, tuple(_listed_row(row, versions) for row in listed))
    typer.echo(table_text(table, form, lambda: [_listed_json(row, versions) for row in listed]))
    if form is Form.PAGE:
        said = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
        typer.echo("\n".join(["", *wrapped(said, terminal_width())]))


@app.command("compile")
@with_form
def compile_command(
    *,
    arch: Annotated[str, typer.Option(help="Architectures, separated by commas.")] = DEFAULT_ARCHITECTURES,
    every: Annotated[bool, typer.Option("--every", help="Every configuration, not only the defaults.")] = False,
    write_docs: Annotated[
        Path | None, typer.Option(help="Write the table of what is compiled into this document.")
    ] = None,
    check_docs: Annotated[Path | None, typer.Option(help="Fail where this document's table differs.")] = None,
    form: Form,
) -> None:
    """Compile every Triton kernel ahead of time: registers, spills, shared memory, instructions, occupancy.

    Exit code 1 when a default fails or the document differs, 2 for a bad request. A document of another version of
    Triton is not compared, and a line says so; failures, spills and limits still count."""
    triton = package_version("triton") or "none"
    try:
        for path in filter(None, (write_docs, check_docs)):
            docs.tables_version(path)  # refuses a document without a place for the tables before minutes of compiling
        rows = compiling.compile_kernels(_parse_architectures(arch), every=every, on_row=_show_progress)
        if write_docs:
            docs.write_tables(write_docs, rows, triton=triton)
        comparable = check_docs is not None and docs.tables_version(check_docs) in (triton, None)
        differing = docs.differing_rows(check_docs, rows, triton=triton) if check_docs and comparable else []
    except (compiling.CompileError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        typer.echo(f"error: {reason}", err=True)
        raise typer.Exit(2) from None
    typer.echo(table_text(_compiled_table(rows), form, lambda: [asdict(row) for row in rows]))
    if check_docs is not None and not comparable:
        theirs = docs.tables_version(check_docs)
        typer.echo(f"{check_docs} is of Triton {theirs}, this is {triton}: its tables were not compared", err=True)
    if differing:
        where = f"error: {check_docs} differs in {'; '.join(differing)}"
        typer.echo(f"{where}. To write it again: --write-docs {check_docs}", err=True)
    if differing or any(row.status == "failed" for row in rows):
        raise typer.Exit(1)


def _parse_architectures(text: str) -> list[int]:
    numbers = [name.strip().removeprefix("sm") for name in text.split(",")]
    for number in numbers:
        if not number.isdecimal():
            raise compiling.CompileError(f"--arch must be like sm80,sm90, not {text!r}")
    return [int(number) for number in numbers]


def _show_progress(row: compiling.Compiled) -> None:
    typer.echo(f"{row.kernel} {row.arch} {row.dtype} {row.config}: {row.status} {row.reason}".rstrip(), err=True)


def _listed_json(row: implementation.Implementation, versions: Mapping[str, str | None]) -> Mapping[str, object]:
    return {
        "op": row.op,
        "implementation": row.name,
        "devices": row.devices,
        "dtypes": row.dtypes,
        "architectures": row.architectures,
        "package": row.package,
        "version": versions[row.package],
    }


def _listed_row(row: implementation.Implementation, versions: Mapping[str, str | None]) -> Mapping[str, object]:
    """The JSON with its lists as texts."""
    return {
        **_listed_json(row, versions),
        "devices": ", ".join(row.devices),
        "dtypes": ", ".join(row.dtypes),
        "architectures": ", ".join(f"sm{each}" for each in row.architectures) or f"as {row.package}",
    }


def _compiled_table(compiled: Sequence[compiling.Compiled]) -> Table:
    rows = (
        {
            **asdict(row),
            "instructions": ", ".join(f"{count} {opcode}" for opcode, count in row.instructions.items()) or None,
            "reason": row.reason or None,
        }
        for row in compiled
    )
    return Table(COMPILE_COLUMNS, tuple(rows))


if __name__ == "__main__":
    run_command_line(app, "python -m kernels")
