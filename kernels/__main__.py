"""Command line: which kernels there are, and what they compile to. Text goes to stdout, progress to stderr."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from kernels.peers.packages import package_version
from predict.command_line import run_command_line
from predict.lazily import lazily

with lazily():  # torch
    from kernels import catalog
    from kernels.triton import compile as compiling
    from kernels.triton import document as docs

DEFAULT_ARCHITECTURES = "sm80,sm90,sm100,sm120"

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("list")
def list_command(*, as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False) -> None:
    """List every implementation of every op with its dtypes, its architectures and the package it comes with."""
    if not catalog.HAS_TRITON:
        typer.echo("Triton is not installed: only PyTorch's implementations are listed", err=True)
    rows = [
        {
            "op": row.op,
            "implementation": row.name,
            "devices": row.devices,
            "dtypes": row.dtypes,
            "architectures": row.architectures,
            "package": row.package,
            "version": package_version(row.package),
        }
        for row in catalog.list_implementations()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("op", "implementation", "devices", "dtypes", "architectures", "package")
    for row in catalog.list_implementations():
        names = ", ".join(f"sm{architecture}" for architecture in row.architectures) or f"as {row.package}"
        package = f"{row.package} {package_version(row.package) or ''}".rstrip()
        table.add_row(row.op, row.name, ", ".join(row.devices), ", ".join(row.dtypes), names, package)
    _print(table)


@app.command("compile")
def compile_command(
    *,
    arch: Annotated[str, typer.Option(help="Architectures, separated by commas.")] = DEFAULT_ARCHITECTURES,
    every: Annotated[bool, typer.Option("--every", help="Every configuration, not only the defaults.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    write_docs: Annotated[
        Path | None, typer.Option(help="Write the table of what is compiled into this document.")
    ] = None,
    check_docs: Annotated[Path | None, typer.Option(help="Fail where this document's table differs.")] = None,
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
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print(_make_table(rows))
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


def _make_table(rows: list[compiling.Compiled]) -> Table:
    table = Table("kernel", "arch", "dtype", "configuration", "status")
    for heading in ("registers", "spills", "shared", "occupancy"):
        table.add_column(heading, justify="right")
    table.add_column("instructions")
    for row in rows:
        sizes = (row.registers, row.spill_instructions, row.shared_bytes)
        table.add_row(
            row.kernel,
            row.arch,
            row.dtype,
            row.config if row.default else f"{row.config} (not a default)",
            f"{row.status}: {row.reason}" if row.reason else row.status,
            *("" if size is None else str(size) for size in sizes),
            "" if row.occupancy is None else f"{row.occupancy:.0%}",
            ", ".join(f"{count} {opcode}" for opcode, count in row.instructions.items()),
        )
    return table


def _print(table: Table) -> None:
    """Print a table, 200 columns wide where stdout is no terminal."""
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


if __name__ == "__main__":
    run_command_line(app, "python -m kernels")
