"""`python -m reports sweep`: every batch and context of a model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predict import checks
from predict.completion import gpu_names, model_names
from predict.errors import BadModel
from predict.forms import Form, with_form
from predict.formulas.memory import WEIGHT_FORMATS, find_weight_format
from predict.gpus import Gpu, resolve
from predict.lazily import lazily
from predict.model.config.reader import read_config
from predict.model.layout import ONE_GPU
from predict.model.passes import Logits
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.model.storage import product_format
from predict.model.transformer import Model
from predict.ranges import RANGES, read_sizes
from predict.terminal import Style, styled, terminal_width, wrapped
from predict.units import DTYPES, Formats, Kind, find_dtype, read_quantity
from reports.commands.options import make_folder

with lazily():  # pandas and matplotlib
    from reports.run import frame as rows
    from reports.sweep import grid, layouts, plots, tables

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = """Examples:

python -m reports sweep --model llama-3-8b --gpu h100,h200 --batch 1:512 --context 1k:128k --out runs/sweep

python -m reports sweep --config config.json --gpu h200 --gpus 8 --weights fp8 --mfu 0.5 --mbu 0.8 --out runs/sweep
"""


@with_form
def sweep_model(
    *,
    model: Annotated[
        str | None, typer.Option(help="A model of `python -m predict models`.", autocompletion=model_names)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A Hugging Face config.json instead of --model.")] = None,
    gpu: Annotated[
        str,
        typer.Option(
            help="GPUs (see `python -m predict gpus`) or files of GPUs, comma-separated.", autocompletion=gpu_names
        ),
    ],
    batch: Annotated[str, typer.Option(help=f"Requests decoded together: {RANGES}")] = "1:512",
    context: Annotated[str, typer.Option(help=f"Tokens of a request, cached or as prompt: {RANGES}")] = "1k:128k",
    out: Annotated[Path, typer.Option(help="Folder for sweep.parquet and the figures.")],
    gpus: Annotated[int | None, typer.Option(help="GPUs of a replica. Default: 1, or tp x pp x dp.")] = None,
    tp: Annotated[
        int | None, typer.Option(help="GPUs that split heads and matrices. Default: the most tokens/s.")
    ] = None,
    pp: Annotated[int | None, typer.Option(help="Stages of layers, one after the other.")] = None,
    dp: Annotated[int | None, typer.Option(help="Copies of all but the experts.")] = None,
    ep: Annotated[int | None, typer.Option(help="GPUs that hold different experts of a layer.")] = None,
    logits: Annotated[Logits, typer.Option(help="Positions of a prompt projected to the vocabulary.")] = Logits.LAST,
    weights: Annotated[
        str | None, typer.Option(help=f"Stored weights: {', '.join(WEIGHT_FORMATS)}. Default: as the model ships.")
    ] = None,
    kv: Annotated[str | None, typer.Option(help=f"KV cache: {', '.join(DTYPES)}. Default: as the model asks.")] = None,
    compute: Annotated[
        str | None, typer.Option(help="Format of the products. Default: what the model narrows activations to.")
    ] = None,
    price: Annotated[float, typer.Option(help="$ per GPU-hour.")] = 2.0,
    hbm: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Memory per GPU, such as 80GB. Default: what NVML reports.")
    ] = None,
    overhead: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Memory per GPU that an engine keeps, such as 2GiB. Default: as usual."),
    ] = None,
    mfu: Annotated[float | None, typer.Option(help="Share of peak FLOP/s reached. Default: the full peak.")] = None,
    mbu: Annotated[float | None, typer.Option(help="Share of bandwidth reached. Default: all of it.")] = None,
    form: Form,
) -> None:
    """Predict every batch and context of a model on each GPU; write sweep.parquet and its figures."""
    shape = _find_model(model, config)
    skus = {sku.name: sku for sku in map(resolve, gpu.split(","))}.values()
    memory = None if hbm is None else read_quantity(hbm, "hbm", Kind.BYTES)
    kept = None if overhead is None else read_quantity(overhead, "overhead", Kind.BYTES)
    asked = {name: size for name, size in {"tp": tp, "pp": pp, "dp": dp, "ep": ep}.items() if size is not None}
    count = math.prod(size for name, size in asked.items() if name != "ep") if gpus is None else gpus
    checks.whole(gpus=count, **asked)
    sizes = read_sizes(batch, "--batch"), read_sizes(context, "--context")
    replicas = [
        layouts.laid_out(
            Replica(shape, sku, ONE_GPU, _formats(shape, sku, weights, kv, compute), mfu, mbu, memory, kept),
            count,
            asked,
            *sizes,
        )
        for sku in skus
    ]
    frame = grid.sweep(replicas, *sizes, logits=logits, usd_per_gpu_hour=price, largest=True)
    make_folder(out)
    grid.write_parquet(frame, out / "sweep.parquet")
    files = [out / "sweep.parquet", *plots.write_figures(frame, out)]
    typer.echo("\n".join(_sweep_lines(frame, files, shape.name, form)))


def _sweep_lines(frame: pd.DataFrame, files: list[Path], model: str, form: Form) -> Iterator[str]:
    best = grid.best_rows(frame)
    match form:
        case Form.JSON:
            yield _sweep_json(frame, files)
        case Form.CSV:
            yield rows.csv_rows(best)
        case Form.MARKDOWN:
            yield tables.sweep_table(best).markdown()
        case Form.PAGE:
            width = terminal_width()
            yield from (styled(line, Style.BOLD) for line in wrapped(tables.sweep_title(model), width))
            yield from (tables.sweep_table(best).text(width), "")
            for remark in grid.remarks(frame):
                yield from wrapped(remark, width)
            yield from (f"{len(frame):,} points:", *map(str, files))


def _formats(model: Model, gpu: Gpu, weights: str | None, kv: str | None, compute: str | None) -> Formats:
    """The formats that are asked for; else those that the model ships in and asks for, as far as the GPU goes."""
    storage = model.storage if weights is None else None
    bits = None if weights is None else find_weight_format(weights).bits_per_weight
    cache = find_dtype(kv) if kv else (storage and storage.kv) or DTYPES["bf16"]
    return Formats(bits, cache.bits, find_dtype(compute) if compute else product_format(storage, gpu))


def _find_model(name: str | None, config: Path | None) -> Model:
    if (name is None) == (config is None):
        raise BadModel("give either --model (see `python -m predict models`) or --config config.json")
    return read_config(config) if config is not None else find_model(name or "")


def _sweep_json(frame: pd.DataFrame, files: list[Path]) -> str:
    return json.dumps(
        {
            "points": len(frame),
            "files": [str(file) for file in files],
            "remarks": grid.remarks(frame),
            "assumptions": {name: value for name, value in frame.attrs.items() if name != "columns"},
            "best": json.loads(rows.json_rows(grid.best_rows(frame))),
        },
        allow_nan=False,
        indent=2,
    )
