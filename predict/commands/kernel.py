"""`python -m predict kernel`: predicts one op at one size, as one line, with its arithmetic, or as JSON."""

import inspect
import json
from collections.abc import Iterator
from typing import Annotated

import typer

from predict.commands.pairs import read_pairs
from predict.completion import gpu_names, one_of
from predict.errors import BadWorkload, MissingCeiling
from predict.expected.refined import Estimate, estimate, estimate_json, explain_estimate, summary, with_estimate
from predict.gpus import Gpu, resolve
from predict.materialized import MATERIALIZED_OPS, materialized_amounts
from predict.peak_memory import Scores, peak_bytes
from predict.resources import find_ceiling
from predict.roofline import Prediction, explain, predict
from predict.terminal import paragraphs, terminal_width, wrapped
from predict.units import DTYPES, Kind, binary_bytes, duration, find_dtype, read_quantity
from predict.workloads import OPS, Workload, find_op, make_workload, signature

EXAMPLES = """Examples:

python -m predict kernel matmul m=16 n=8192 k=8192 --dtype bf16 --gpu h100 --explain

python -m predict kernel attention_decode batch=64 context=4096 heads=32 kv_heads=8 head_dim=128 --gpu h200 --json
"""

# The napkin's bound is that of a kernel by itself.
FROM_L2 = "the expected time is below the bound, which counts all bytes from DRAM: L2 keeps some from kernel to kernel"


def kernel(
    op: Annotated[str, typer.Argument(help=f"One of: {', '.join(OPS)}.", autocompletion=one_of(OPS))],
    dims: Annotated[
        list[str] | None, typer.Argument(help="Dimensions as name=size: m=16 n=8192 k=8k; k is 1024, M 1024^2.")
    ] = None,
    *,
    gpu: Annotated[
        str,
        typer.Option(help="GPU name, alias or file.json: see `python -m predict gpus`.", autocompletion=gpu_names),
    ],
    dtype: Annotated[str, typer.Option(help=f"One of: {', '.join(DTYPES)}.", autocompletion=one_of(DTYPES))] = "bf16",
    show_arithmetic: Annotated[bool, typer.Option("--explain", help="Print the arithmetic, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in SI units.")] = False,
) -> None:
    """Predict one kernel: the napkin bound, the limiting resource, the expected time, and the arithmetic."""
    machine = resolve(gpu)
    workload = make_workload(op, _read_dims(dims or []), find_dtype(dtype))
    prediction = predict(workload.amounts, machine.roofs)
    found, reason = _estimate(workload, machine)
    if found is not None:
        prediction = with_estimate(prediction, found)
    if as_json:
        about = _kernel_json(workload, machine, prediction)
        typer.echo(json.dumps(about | estimate_json(found, reason), indent=2))
        return
    text, width = explain(workload, machine.name, prediction), terminal_width()
    if not show_arithmetic:
        typer.echo(text.splitlines()[0])
        said = f"expected: not known, {reason}" if found is None else summary(found.known)
        for line in (said, *_remarks(found, prediction)):
            typer.echo("\n".join(wrapped(line, width, "    ", "    ")))
        return
    typer.echo(text)
    unknown = "\n".join(wrapped(f"expected: not known, {reason}", width))
    typer.echo(unknown if found is None else explain_estimate(found, width))
    for line in _remarks(found, prediction):
        typer.echo("\n".join(wrapped(line, width)))
    sources = (f"{term.resource}: {find_ceiling(term.resource, machine.roofs).source}" for term in prediction.terms)
    lines = [
        *_memory_lines(workload, machine),
        *("", signature(op), *paragraphs(inspect.getdoc(find_op(op)) or "", width)),
        *sources,
    ]
    typer.echo("\n".join(part for line in lines for part in paragraphs(line, width) or [""]))


def _remarks(found: Estimate | None, prediction: Prediction) -> Iterator[str]:
    """Why an expected time is below the bound."""
    if found is not None and float(found.expected_s[0]) < prediction.napkin_s:
        yield FROM_L2


def _estimate(workload: Workload, machine: Gpu) -> tuple[Estimate | None, str]:
    """The expected time, or why there is none."""
    try:
        return estimate(workload, machine), ""
    except MissingCeiling as error:
        return None, str(error)


def _read_dims(arguments: list[str]) -> dict[str, int]:
    """Read ["m=16", "n=8k"]. Raises BadWorkload for an argument that is not name=size or is repeated, BadQuantity for a
    size that cannot be read."""
    dims: dict[str, int] = {}
    for name, text in read_pairs(arguments).items():
        size = read_quantity(text, name, Kind.SIZE)
        if not isinstance(size, int):
            raise BadWorkload(f"{name} must be a positive whole number, not {text!r}")
        dims[name] = size
    return dims


def _memory_lines(workload: Workload, machine: Gpu) -> list[str]:
    """The peak memory of a call. For attention over a prompt, also the time and memory with stored scores."""
    lines = [f"peak memory: {binary_bytes(peak_bytes(workload))} of inputs, outputs and intermediates between kernels"]
    if workload.op in MATERIALIZED_OPS:
        stored_s = float(predict(materialized_amounts(workload), machine.roofs).napkin_s)
        stored_bytes = peak_bytes(workload, Scores.STORED)
        lines.append(f"with its scores in memory: napkin {duration(stored_s)}, peak {binary_bytes(stored_bytes)}")
    return lines


def _kernel_json(workload: Workload, machine: Gpu, prediction: Prediction) -> dict[str, object]:
    return {
        "workload": workload.id,
        "op": workload.op,
        "dims": dict(workload.dims),
        "dtype": workload.dtype.name,
        "gpu": machine.name,
        "flop": workload.amounts.flop,
        "bytes_read": workload.amounts.bytes_read,
        "bytes_written": workload.amounts.bytes_written,
        "arithmetic_intensity": workload.amounts.arithmetic_intensity if workload.amounts.bytes else None,
        "terms": [
            {
                "resource": term.resource,
                "amount": term.amount,
                "per_s": term.per_s,
                "time_s": term.time_s,
                "source": find_ceiling(term.resource, machine.roofs).source,
            }
            for term in prediction.terms
        ],
        "napkin_s": prediction.napkin_s,
        "serial_s": prediction.serial_s,
        "bound": prediction.bound,
        "peak_bytes": peak_bytes(workload),
    }
