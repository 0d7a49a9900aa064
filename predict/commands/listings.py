"""The commands that list GPUs, models, ops and formulas, and `formula`, which evaluates one."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from predict.answers.lines import plain
from predict.commands.pairs import read_pairs
from predict.completion import one_of
from predict.expected.coverage import coverage_json
from predict.forms import Form, table_text, with_form
from predict.formulas.catalog import FORMULAS, evaluate, find_formula
from predict.gpus import GPUS, Gpu, NvidiaGpu
from predict.model.config.families import KNOWN
from predict.model.presets import PRESETS, find_model
from predict.table import Column, Table
from predict.tables import GPU_NOTE, gpu_table, model_table
from predict.terminal import paragraphs, terminal_width, wrapped
from predict.workloads import OPS, dim_names, optional_dims, signature

OP_COLUMNS = (
    Column("op", "op", is_key=True),
    Column("dims", "dimensions"),
    Column("optional", "optional"),
    Column("napkin", "napkin"),
)
FORMULA_COLUMNS = (
    Column("formula", "formula", is_key=True),
    Column("arguments", "arguments"),
    Column("meaning", "meaning"),
)


@with_form
def models(
    *,
    types: Annotated[bool, typer.Option("--types", help="List each model_type that --config reads instead.")] = False,
    form: Form,
) -> None:
    """List the model presets: size, shape, weights as they ship, KV cache per token, source."""
    if types:
        rows = tuple({"model_type": name} for name in KNOWN)
        typer.echo(table_text(Table((Column("model_type", "model_type", is_key=True),), rows), form, lambda: KNOWN))
        return
    typer.echo(table_text(model_table(), form, lambda: {name: _preset_json(name) for name in PRESETS}))


def formula(
    name: Annotated[
        str,
        typer.Argument(
            help="A formula of `python -m predict formulas`, with or without its module.",
            autocompletion=one_of(FORMULAS),
        ),
    ],
    values: Annotated[list[str] | None, typer.Argument(help="Its arguments as name=value.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate one formula: batching, paging, speculation, collectives, pipelines, activations, money."""
    arguments = read_pairs(values or [])
    full, function = find_formula(name)
    result = plain(evaluate(name, arguments))
    if as_json:
        typer.echo(json.dumps({"formula": full, "arguments": arguments, "value": result}, indent=2, allow_nan=False))
        return
    said = paragraphs(inspect.getdoc(function) or "", terminal_width())
    typer.echo("\n".join([f"{full} = {result:.10g}", "", *said]))


@with_form
def formulas(*, form: Form) -> None:
    """List the formulas with their arguments, meaning and source."""
    arguments = {name: tuple(inspect.signature(function).parameters) for name, function in FORMULAS.items()}
    if form is Form.PAGE:
        _list({f"{name}({', '.join(arguments[name])})": function for name, function in FORMULAS.items()})
        return
    rows = (
        {"formula": name, "arguments": ", ".join(arguments[name]), "meaning": _one_line(function)}
        for name, function in FORMULAS.items()
    )
    listing = {
        name: {"arguments": arguments[name], "meaning": inspect.getdoc(function)} for name, function in FORMULAS.items()
    }
    typer.echo(table_text(Table(FORMULA_COLUMNS, tuple(rows)), form, lambda: listing))


@with_form
def gpus(*, form: Form) -> None:
    """List the GPUs: dense peaks, bandwidth, ridge point, and what expected times rest on, with their measured error.
    The JSON has the source of each number."""
    table = gpu_table(by_op=form is Form.CSV)
    typer.echo(table_text(table, form, lambda: {name: _gpu_json(gpu) for name, gpu in GPUS.items()}))
    if form is Form.PAGE:
        typer.echo("\n".join(["", *wrapped(GPU_NOTE, terminal_width())]))


@with_form
def ops(*, form: Form) -> None:
    """List the ops with their dimensions, FLOP and bytes."""
    if form is Form.PAGE:
        _list({signature(name): op for name, op in OPS.items()})
        return
    rows = (
        {
            "op": name,
            "dims": ", ".join(dim_names(name)),
            "optional": ", ".join(optional_dims(name)) or None,
            "napkin": _one_line(op),
        }
        for name, op in OPS.items()
    )
    listing = {
        name: {"dims": dim_names(name), "optional": optional_dims(name), "napkin": inspect.getdoc(op)}
        for name, op in OPS.items()
    }
    typer.echo(table_text(Table(OP_COLUMNS, tuple(rows)), form, lambda: listing))


def _list(functions: Mapping[str, Callable[..., object]]) -> None:
    """Print each call and, indented below it, the function's docstring."""
    width, indent = terminal_width(), " " * 4
    for called, function in functions.items():
        typer.echo("\n".join(wrapped(called, width, "", indent)))
        typer.echo("\n".join([*paragraphs(inspect.getdoc(function) or "", width, indent), ""]))


def _one_line(function: Callable[..., object]) -> str:
    """The function's docstring on one line."""
    return " ".join((inspect.getdoc(function) or "").split())


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
        "expected": coverage_json(gpu),
    }
