"""The commands that list GPUs, models, ops and formulas, and `formula`, which evaluates one."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from predict.answers.lines import plain
from predict.commands.pairs import read_pairs
from predict.formulas.catalog import FORMULAS, evaluate, find_formula
from predict.gpus import GPUS, Gpu, NvidiaGpu
from predict.model.presets import PRESETS, find_model
from predict.workloads import OPS, dim_names, optional_dims, signature

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def models(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with config fields and sources.")] = False
) -> None:
    """List the model presets: size, shape, weights as they ship, KV cache per token, source."""
    if as_json:
        typer.echo(json.dumps({name: _preset_json(name) for name in PRESETS}, indent=2))
        return
    from predict import tables  # noqa: PLC0415 - importing rich takes a tenth of a second, and only tables need it

    tables.show(tables.model_table())


def formula(
    name: Annotated[str, typer.Argument(help="A formula of `python -m predict formulas`, with or without its module.")],
    values: Annotated[list[str] | None, typer.Argument(help="Its arguments as name=value.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Evaluate one formula: batching, paging, speculation, collectives, pipelines, activations, money."""
    arguments = read_pairs(values or [])
    full, function = find_formula(name)
    result = plain(evaluate(name, arguments))
    if as_json:
        typer.echo(json.dumps({"formula": full, "arguments": arguments, "value": result}, indent=2, allow_nan=False))
        return
    typer.echo(f"{full} = {result:.10g}\n\n{inspect.getdoc(function)}")


def formulas(*, as_json: AsJson = False) -> None:
    """List the formulas with their arguments, meaning and source."""
    arguments = {name: tuple(inspect.signature(function).parameters) for name, function in FORMULAS.items()}
    if as_json:
        listing = {
            name: {"arguments": arguments[name], "meaning": inspect.getdoc(function)}
            for name, function in FORMULAS.items()
        }
        typer.echo(json.dumps(listing, indent=2))
        return
    _list({f"{name}({', '.join(arguments[name])})": function for name, function in FORMULAS.items()})


def gpus(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the source of each number.")] = False
) -> None:
    """List the GPUs: dense peaks, bandwidth, ridge point."""
    if as_json:
        typer.echo(json.dumps({name: _gpu_json(gpu) for name, gpu in GPUS.items()}, indent=2))
        return
    from predict import tables  # noqa: PLC0415 - as above

    tables.show(tables.gpu_table(tables.console().width))


def ops(*, as_json: AsJson = False) -> None:
    """List the ops with their dimensions, FLOP and bytes."""
    if as_json:
        listing = {
            name: {"dims": dim_names(name), "optional": optional_dims(name), "napkin": inspect.getdoc(op)}
            for name, op in OPS.items()
        }
        typer.echo(json.dumps(listing, indent=2))
        return
    _list({signature(name): op for name, op in OPS.items()})


def _list(functions: Mapping[str, Callable[..., object]]) -> None:
    """Print each call and, indented below it, the function's docstring."""
    for called, function in functions.items():
        typer.echo(f"{called}\n    {(inspect.getdoc(function) or '').replace(chr(10), chr(10) + '    ')}\n")


def _preset_json(name: str) -> dict[str, object]:
    preset, shape = PRESETS[name], find_model(name)
    return {
        "params": shape.params,
        "active_params": shape.active_params,
        "weights": shape.storage.name,
        "weight_bytes": float(shape.stored_bytes()),
        "kv_elements_per_token": shape.kv_elements_per_token,
        "aliases": preset.aliases,
        "source": preset.source,
        "training_tokens": preset.training_tokens,
        "training_source": preset.training_source,
        "config": preset.config,
    }


def _gpu_json(gpu: Gpu) -> dict[str, object]:
    silicon = gpu if isinstance(gpu, NvidiaGpu) else None
    return {
        "napkin_only": silicon is None,
        "nvml_names": silicon.nvml_names if silicon else (),
        "aliases": gpu.aliases,
        "sm": silicon and silicon.architecture.sm,
        "sm_count": silicon and silicon.sm_count,
        "boost_hz": silicon and silicon.boost_hz,
        "max_hz": silicon and silicon.max_hz,
        "memory_bytes": gpu.memory.bytes,
        "memory_bus_bits": gpu.memory.bus_bits,
        "memory_pin_bits_per_s": gpu.memory.pin_bits_per_s,
        "l2_bytes": silicon and silicon.l2_bytes,
        "link_bytes_per_s": gpu.link_bytes_per_s,
        "link_reduces": gpu.link_reduces,
        "gpus_per_node": gpu.gpus_per_node,
        "network_bytes_per_s": gpu.network_bytes_per_s,
        "power_w": gpu.power_w,
        "roofs": {resource: {"per_s": roof.per_s, "source": roof.source} for resource, roof in gpu.roofs.items()},
        "source": gpu.source,
    }
