"""`python -m bench inputs`: which tensors an op gives to a function of yours, and which it takes back."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from predict.commands.pairs import read_pairs
from predict.errors import BadRun
from predict.forms import Form, table_text, with_form
from predict.lazily import lazily
from predict.ranges import read_sizes
from predict.table import Column, Table
from predict.terminal import terminal_width
from predict.units import find_dtype

with lazily():  # torch
    from bench import inputs
    from predict import workloads

EXAMPLES = "Example: python -m bench inputs matmul m=64 n=4096 k=4096 --dtype bf16"
COLUMNS = (
    Column("name", "", is_key=True),
    Column("format", "format"),
    Column("shape", "shape"),
    Column("note", "note"),
)


@with_form
def list_inputs(
    op: Annotated[str, typer.Argument(help="An op of `python -m predict ops`.")],
    dims: Annotated[list[str] | None, typer.Argument(metavar="[DIM=SIZE]...", help="Default: small ones.")] = None,
    *,
    dtype: Annotated[str | None, typer.Option(help="Default: the usual one of the op.")] = None,
    form: Form,
) -> None:
    """Which tensors a function of yours is given by `run --callable` and `measure(op=...)`, and what it returns."""
    workload = inputs.example(op)
    if dims or dtype:
        sizes = {name: _size(name, text) for name, text in read_pairs(dims or ()).items()} or workload.dims
        wanted = find_dtype(dtype) if dtype else workloads.taken_dtype(op, workload.dtype)
        workload = workloads.make_workload(op, sizes, wanted)
    rows = [asdict(each) for each in inputs.tensors_of(workload)]
    shown = [{**row, "shape": " x ".join(map(str, row["shape"])) or "-"} for row in rows]
    text = table_text(Table(COLUMNS, tuple(shown)), form, lambda: rows)
    if form is Form.PAGE:
        said = (textwrap.fill(line, terminal_width()) for line in inputs.meaning(op).splitlines())
        text = "\n".join([workload.id, "", text, "", *said])
    typer.echo(text)


def _size(name: str, text: str) -> int:
    sizes = read_sizes(text, name)
    if len(sizes) > 1:
        raise BadRun(f"inputs lists one size at a time: give one {name}, not {text}")
    return sizes[0]
