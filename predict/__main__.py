"""`python -m predict`: the napkin on the command line. Needs no GPU."""

import inspect
import json
import sys
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from predict.errors import BadWorkload, run_command_line
from predict.gpus import GPUS, Gpu, resolve, ridge_flop_per_byte
from predict.resources import Resource, find_ceiling
from predict.roofline import Prediction, explain, predict
from predict.units import DTYPES, GIB, TB, find_dtype, in_units
from predict.workloads import OPS, Workload, dim_names, find_op, make_workload

app = typer.Typer(
    help="Predict how long work must take from its FLOP, its bytes and a GPU's roofs. Needs no GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

KERNEL_EXAMPLES = """Examples:

python -m predict kernel matmul m=16 n=8192 k=8192 --dtype bf16 --gpu h100 --explain

python -m predict kernel attention_decode batch=64 context=4096 heads=32 kv_heads=8 head_dim=128 --gpu h200 --json
"""


@app.command(epilog=KERNEL_EXAMPLES)
def kernel(
    op: Annotated[str, typer.Argument(help=f"One of: {', '.join(OPS)}.")],
    dims: Annotated[list[str] | None, typer.Argument(help="Dimensions as name=size: m=16 n=8192 k=8192.")] = None,
    *,
    gpu: Annotated[str, typer.Option(help="GPU name or alias: see `python -m predict gpus`.")],
    dtype: Annotated[str, typer.Option(help=f"One of: {', '.join(DTYPES)}.")] = "bf16",
    show_arithmetic: Annotated[bool, typer.Option("--explain", help="Print the arithmetic, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in SI units.")] = False,
) -> None:
    """Predict one kernel: the napkin bound, what limits it, and the arithmetic behind it."""
    machine = resolve(gpu)
    workload = make_workload(op, parse_dims(dims or []), find_dtype(dtype))
    prediction = predict(workload.amounts, machine.roofs)
    if as_json:
        typer.echo(json.dumps(_kernel_json(workload, machine, prediction), indent=2))
        return
    text = explain(workload, machine.name, prediction)
    if not show_arithmetic:
        typer.echo(text.splitlines()[0])
        return
    typer.echo(text)
    typer.echo(f"\n{_signature(op)}\n{inspect.getdoc(find_op(op))}")
    for resource in (term.resource for term in prediction.terms):
        typer.echo(f"{resource}: {find_ceiling(resource, machine.roofs).source}")


@app.command()
def gpus(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the source of each number.")] = False
) -> None:
    """List the GPUs of the table: dense peaks, bandwidth, ridge."""
    if as_json:
        typer.echo(json.dumps({name: _gpu_json(gpu) for name, gpu in GPUS.items()}, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="Dense peaks, accumulating in fp32. Sources: --json.")
    for heading in (
        "GPU",
        "bf16\nTFLOP/s",
        "fp8\nTFLOP/s",
        "fp32\nTFLOP/s",
        "DRAM\nTB/s",
        "ridge\nFLOP/B",
        "memory\nGiB",
    ):
        table.add_column(heading, justify="left" if heading == "GPU" else "right", no_wrap=True)
    table.add_column("--gpu also takes", overflow="fold")
    for gpu in GPUS.values():
        table.add_row(*_gpu_cells(gpu))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


@app.command()
def ops(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the ops: their dimensions and the napkin of each."""
    if as_json:
        listing = {name: {"dims": dim_names(name), "napkin": inspect.getdoc(op)} for name, op in OPS.items()}
        typer.echo(json.dumps(listing, indent=2))
        return
    for name, op in OPS.items():
        typer.echo(f"{_signature(name)}\n    {(inspect.getdoc(op) or '').replace(chr(10), chr(10) + '    ')}\n")


def parse_dims(arguments: list[str]) -> dict[str, int]:
    """Read ["m=16", "n=8192"]; raises BadWorkload naming what is not name=size or stands twice."""
    dims: dict[str, int] = {}
    for argument in arguments:
        name, equals, size = argument.partition("=")
        if not (name and equals):
            raise BadWorkload(f"a dimension is written name=size, such as m=16, not {argument!r}")
        if name in dims:
            raise BadWorkload(f"{name} is given twice")
        try:
            dims[name] = int(size)
        except ValueError:
            raise BadWorkload(f"{name} must be a positive whole number, not {size!r}") from None
    return dims


def _signature(op: str) -> str:
    return f"{op}({', '.join(dim_names(op))})"


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
        "expected_s": prediction.expected_s,
        "bound": prediction.bound,
    }


def _gpu_json(gpu: Gpu) -> dict[str, object]:
    return {
        "nvml_names": gpu.nvml_names,
        "aliases": gpu.aliases,
        "sm": gpu.sm,
        "sm_count": gpu.sm_count,
        "boost_hz": gpu.boost_hz,
        "max_hz": gpu.max_hz,
        "memory_bytes": gpu.memory_bytes,
        "memory_bus_bits": gpu.memory_bus_bits,
        "memory_pin_bits_per_s": gpu.memory_pin_bits_per_s,
        "l2_bytes": gpu.l2_bytes,
        "link_bytes_per_s": gpu.link_bytes_per_s,
        "power_w": gpu.power_w,
        "roofs": {resource: {"per_s": roof.per_s, "source": roof.source} for resource, roof in gpu.roofs.items()},
        "source": gpu.source,
    }


def _gpu_cells(gpu: Gpu) -> tuple[str, ...]:
    def rate(resource: Resource) -> str:
        return in_units(gpu.roofs[resource].per_s, TB) if resource in gpu.roofs else "-"

    known = Resource.TENSOR_BF16 in gpu.roofs and Resource.DRAM in gpu.roofs
    return (
        gpu.name,
        rate(Resource.TENSOR_BF16),
        rate(Resource.TENSOR_FP8),
        rate(Resource.VECTOR_FP32),
        rate(Resource.DRAM),
        in_units(ridge_flop_per_byte(gpu.roofs, Resource.TENSOR_BF16), 1) if known else "-",
        in_units(gpu.memory_bytes, GIB),
        ", ".join(gpu.aliases),
    )


if __name__ == "__main__":
    run_command_line(app, "python -m predict")
