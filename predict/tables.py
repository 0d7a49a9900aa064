"""Tables of GPUs and models for the terminal."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from predict.gpus import GPUS, Gpu, ridge_flop_per_byte
from predict.model.presets import PRESETS, find_model
from predict.model.transformer import Model
from predict.resources import Resource
from predict.units import GIB, KIB, TB, count, in_units

PLAIN_WIDTH = 120  # columns if the output is not a terminal


def show(table: Table) -> None:
    """Print a table in the terminal's width."""
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


def model_table() -> Table:
    """The presets: size, shape, KV cache per token, source."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "params", "active", "layers", "hidden", "KV/token\nKiB", "context", "source"):
        left = heading in ("model", "source")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "source", overflow="fold")
    for name, preset in PRESETS.items():
        table.add_row(*_model_cells(find_model(name)), preset.source)
    return table


def gpu_table() -> Table:
    """The GPUs: dense peaks, bandwidth, ridge."""
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
    return table


def _model_cells(shape: Model) -> tuple[str, ...]:
    return (
        shape.name,
        count(shape.params),
        count(shape.active_params),
        str(shape.layers),
        str(shape.hidden),
        in_units(2 * shape.kv_elements_per_token, KIB),
        f"{shape.context_limit:,}" if shape.context_limit else "-",
    )


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
        in_units(gpu.memory.bytes, GIB),
        ", ".join(gpu.aliases),
    )
