"""Tables of GPUs and models for the terminal."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from predict.gpus import GPUS, NVIDIA_GPUS, Gpu, resolve, ridge_flop_per_byte
from predict.model.presets import PRESETS, find_model
from predict.model.transformer import Model
from predict.resources import Resource
from predict.units import GB, GIB, KIB, TB, count, in_units

PLAIN_WIDTH = 120  # columns if the output is not a terminal
NARROW_WIDTH = 110  # columns below which the aliases of the GPUs stand under their table
SIXTEEN_BITS = (Resource.TENSOR_BF16, Resource.TENSOR_FP16)


def console() -> Console:
    """A console as wide as the terminal."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def show(table: Table) -> None:
    """Print a table in the terminal's width."""
    console().print(table)


def model_table() -> Table:
    """The presets: size, shape, weights as they ship, KV cache per token, source."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "model",
        "params",
        "active",
        "layers",
        "hidden",
        "weights\nGB",
        "KV/token\nKiB",
        "context",
        "source",
    ):
        left = heading in ("model", "source")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "source", overflow="fold")
    for name, preset in PRESETS.items():
        table.add_row(*_model_cells(find_model(name)), preset.source)
    return table


def gpu_table(width: int) -> Table:
    """The GPUs: dense peaks, bandwidth, ridge. Below `NARROW_WIDTH` columns the aliases stand in the caption."""
    narrow = width < NARROW_WIDTH
    caption = "Dense peaks, accumulating in fp32; 16-bit: bf16, or fp16 where there is no bf16. Sources: --json."
    if narrow:
        caption += f"\n--gpu also takes {_aliases()}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0 if narrow else 1), caption=caption)
    for heading in (
        "GPU",
        "16-bit\nTFLOP/s",
        "fp8\nTFLOP/s",
        "fp32\nTFLOP/s",
        "DRAM\nTB/s",
        "ridge\nFLOP/B",
        "memory\nGiB",
    ):
        table.add_column(heading, justify="left" if heading == "GPU" else "right", no_wrap=True)
    if not narrow:
        table.add_column("--gpu also takes", overflow="fold")
    for measurable in NVIDIA_GPUS.values():
        table.add_row(*_gpu_cells(measurable, narrow=narrow))
    table.add_section()
    table.add_row("Only the napkin knows these:")
    for gpu in (gpu for gpu in GPUS.values() if gpu.name not in NVIDIA_GPUS):
        table.add_row(*_gpu_cells(gpu, narrow=narrow))
    return table


def _model_cells(shape: Model) -> tuple[str, ...]:
    return (
        shape.name,
        count(shape.params),
        count(shape.active_params),
        str(shape.layers),
        str(shape.hidden),
        in_units(float(shape.stored_bytes()), GB),
        in_units(2 * shape.kv_elements_per_token, KIB),
        f"{shape.context_limit:,}" if shape.context_limit else "-",
    )


def _gpu_cells(gpu: Gpu, *, narrow: bool) -> tuple[str, ...]:
    def rate(resource: Resource) -> str:
        return in_units(gpu.roofs[resource].per_s, TB) if resource in gpu.roofs else "-"

    unit = next(unit for unit in SIXTEEN_BITS if unit in gpu.roofs)
    cells = (
        gpu.name,
        rate(unit),
        rate(Resource.TENSOR_FP8),
        rate(Resource.VECTOR_FP32),
        rate(Resource.DRAM),
        in_units(ridge_flop_per_byte(gpu.roofs, unit), 1) if Resource.DRAM in gpu.roofs else "-",
        in_units(gpu.memory.bytes, GIB),
    )
    return cells if narrow else (*cells, ", ".join(gpu.aliases))


def _aliases() -> str:
    """Each alias and the GPU that it means."""
    aliases = dict.fromkeys(alias for gpu in GPUS.values() for alias in gpu.aliases)
    return ", ".join(f"{alias} ({resolve(alias).name})" for alias in aliases)
