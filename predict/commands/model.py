"""`python -m predict model`: estimates a whole model, as a page or as flat JSON.

The options are the fields of `Question`. Only the defaults of the prompt length, the context and the training tokens
depend on other options.
"""

import inspect
import json
import shutil
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from predict.answers.answer import answer
from predict.answers.batching import batch_rows
from predict.answers.page import page
from predict.answers.question import ASKED, USUAL_SEQ, Question, in_json
from predict.errors import BadModel, BadQuantity
from predict.formulas.memory import Optimizer, WeightFormat, find_optimizer, find_weight_format
from predict.gpus import Gpu, resolve
from predict.model.config.reader import read_config
from predict.model.presets import find_model, find_preset
from predict.model.transformer import Model
from predict.units import DType, Kind, find_dtype, kind_of, read_quantity

EXAMPLES = """Examples:

python -m predict model llama-3-70b --gpu h100 --gpus 2 --batch 8 --seq 8192

python -m predict model --config path/to/config.json --gpu h200 --weights int4 --kv fp8 --context 4096 --json
"""
PAGE_WIDTH = 100
CHINCHILLA_TOKENS_PER_PARAM = 20  # Hoffmann et al. 2022

_METAVARS: Mapping[Kind, str] = MappingProxyType(
    {Kind.SIZE: "N", Kind.AMOUNT: "N", Kind.BYTES: "BYTES", Kind.SECONDS: "SECONDS", Kind.PLAIN: "X"}
)

# Type of a field -> function that finds its value by name. Numbers and choices need no function.
FIND: Mapping[object, Callable[[str], object]] = MappingProxyType(
    {Gpu: resolve, Model: find_model, WeightFormat: find_weight_format, DType: find_dtype, Optimizer: find_optimizer}
)


def model(
    preset: Annotated[str | None, typer.Argument(help="A model of `python -m predict models`.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="A Hugging Face config.json instead of a preset.")] = None,
    show_arithmetic: Annotated[bool, typer.Option("--explain", help="Print the arithmetic, line by line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print flat JSON, in SI units.")] = False,
    **typed: str | None,
) -> None:
    """Estimate a whole model: FLOP, memory, prefill, decode, training and money. Each line shows its formula."""
    question = _question(preset, config, typed)
    found = answer(question)
    if as_json:
        lines = {line.key: line.value for section in found.sections for line in section.lines}
        flat = {**question.assumptions(), **lines, "notes": found.notes}
        typer.echo(json.dumps(flat, indent=2, allow_nan=False))
        return
    width = min(shutil.get_terminal_size((PAGE_WIDTH, 0)).columns, PAGE_WIDTH) if sys.stdout.isatty() else PAGE_WIDTH
    typer.echo(page(question, found, batch_rows(question), explain=show_arithmetic, width=width))


def _options() -> Iterator[inspect.Parameter]:
    """An option for each field of `Question` that has a help text."""
    defaults = {field.name: field.default for field in fields(Question)}
    for name, (kind, asked) in ASKED.items():
        if asked.help:
            default = None if asked.optional else ... if defaults[name] is MISSING else in_json(defaults[name])
            metavar = _METAVARS[_kind(name)] if _is_number(kind) else None
            option = typer.Option(default, f"--{asked.option or name}", help=asked.help, metavar=metavar)
            annotation = str if default is not None else str | None
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def _is_number(kind: object) -> bool:
    return not {int, float}.isdisjoint(_types(kind))


def _kind(name: str) -> Kind:
    """What the number of a field counts. Shares and prices have no suffix."""
    if name == "tokens":
        return Kind.AMOUNT
    found = kind_of(name)
    return Kind.PLAIN if found is Kind.SIZE and int not in _types(ASKED[name][0]) else found


def _types(kind: object) -> tuple[object, ...]:
    """The types of a union. For any other type, the type itself."""
    return typing.get_args(kind) or (kind,)


def _with_options(command: Callable[..., None]) -> None:
    """Replace `**typed` of `command` by the options of `Question`, placed after --config."""
    *first, explain, as_json, _ = inspect.signature(command).parameters.values()
    vars(command)["__signature__"] = inspect.Signature([*first, *_options(), explain, as_json])


_with_options(model)


def _question(preset: str | None, config: Path | None, typed: Mapping[str, str | None]) -> Question:
    """The question that a command line asks. Raises BadModel, BadQuantity, and the errors of finding a name."""
    shape = _find_model(preset, config)
    asked: dict[str, Any] = {name: _read(name, value) for name, value in typed.items() if value is not None}
    usual = min(USUAL_SEQ, shape.context_limit or USUAL_SEQ)
    asked.setdefault("seq", asked["context"] if asked.get("context", 0) > 0 else usual)
    asked.setdefault("context", asked["seq"])
    if "tokens" not in asked:
        asked["tokens"], asked["tokens_source"] = _training_tokens(preset, shape)
    return Question(shape, **asked)


def _read(name: str, typed: str) -> object:
    """Convert the typed text to the value of a field of `Question`."""
    kind, asked = ASKED[name]
    if _is_number(kind):
        return read_quantity(typed, asked.option or name, _kind(name))
    (kind,) = (each for each in _types(kind) if each is not type(None))
    if kind in FIND:
        return FIND[kind](typed)
    assert isinstance(kind, type)
    assert issubclass(kind, StrEnum)
    if typed not in list(kind):
        raise BadQuantity(f"{asked.option or name} must be one of {', '.join(kind)}, not {typed!r}")
    return kind(typed)


def _find_model(preset: str | None, config: Path | None) -> Model:
    if (preset is None) == (config is None):
        raise BadModel("give either the name of a preset (see `python -m predict models`) or --config config.json")
    return read_config(config) if config is not None else find_model(preset or "")


def _training_tokens(preset: str | None, shape: Model) -> tuple[float, str]:
    """The number of tokens that the model was trained on, and its source."""
    known = None if preset is None else find_preset(preset)[1]
    if known is None or known.training_tokens is None:
        return CHINCHILLA_TOKENS_PER_PARAM * shape.params, "20 per parameter, Hoffmann et al. 2022"
    return known.training_tokens, known.training_source
