"""Makes a `Question` of names and texts, as the command line and the Python call give them.

Each field of `Question` is read by its type. Only the defaults of the prompt length, the context and the training
tokens depend on other fields.
"""

import math
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from predict.answers.question import ASKED, USUAL_SEQ, Question
from predict.errors import BadModel, BadQuantity
from predict.formulas.memory import Optimizer, WeightFormat, find_optimizer, find_weight_format
from predict.gpus import Gpu, resolve
from predict.model.config.changes import NOTHING
from predict.model.config.reader import read_config
from predict.model.presets import find_model, find_preset
from predict.model.published.preset import Preset
from predict.model.transformer import Model
from predict.suggest import no_choice
from predict.units import DType, Kind, find_dtype, kind_of, read_quantity

CHINCHILLA_TOKENS_PER_PARAM = 20  # Hoffmann et al. 2022

SHARES = ("mfu", "mbu", "acceptance")  # fields from 0 to 1

# Type of a field -> function that finds its value by name. Numbers and choices need no function.
FIND: Mapping[object, Callable[[str], object]] = MappingProxyType(
    {Gpu: resolve, Model: find_model, WeightFormat: find_weight_format, DType: find_dtype, Optimizer: find_optimizer}
)


def ask(model: str | Path | Model, asked: Mapping[str, object]) -> Question:
    """The question about `model`: the name of a preset, the path of a config.json, or a `Model`. `asked` holds fields
    of `Question` by name, each a text or a value. Raises BadModel, BadQuantity, and the errors of finding a name."""
    preset, shape = _preset(model), named_model(model)
    fields: dict[str, Any] = {name: read_field(name, value) for name, value in asked.items()}
    fields.setdefault("gpus", layout_gpus(fields))
    if "acceptance" in fields and fields.get("draft") is None:
        raise BadQuantity("accept is the chance that a token of --draft is accepted: give --draft, or leave it out")
    fields.setdefault("seq", fields["context"] if fields.get("context", 0) > 0 else usual_seq(shape))
    fields.setdefault("context", fields["seq"])
    if "tokens" not in fields:
        fields["tokens"], fields["tokens_source"] = _training_tokens(preset, shape)
    return Question(shape, **fields)


def usual_seq(model: Model) -> int:
    """Tokens of a prompt if nobody says how many."""
    return min(USUAL_SEQ, model.context_limit or USUAL_SEQ)


def named_model(model: str | Path | Model, changes: Mapping[str, object] = NOTHING) -> Model:
    """The model that is meant: the name of a preset or the path of a config.json, with some of its fields changed; or a
    `Model`, as it is. Raises BadModel."""
    if isinstance(model, Model):
        return model
    return read_config(Path(model), changes) if _preset(model) is None else find_model(str(model), changes)


def layout_gpus(fields: Mapping[str, object]) -> int:
    """The GPUs that the sizes of a layout among the fields of `Question` make: tp x pp x dp, 1 without any."""
    sizes = [read_field(name, fields[name]) for name in ("tp", "pp", "dp") if fields.get(name) is not None]
    return math.prod(size for size in sizes if isinstance(size, int))


def read_field(name: str, given: object) -> object:
    """The value of a field of `Question`, read if it is a text. Raises BadQuantity and the errors of finding a name."""
    kind, asked = ASKED[name]
    if not isinstance(given, str):
        return given
    if is_number(name):
        return read_quantity(given, asked.option or name, kind_of_number(name))
    (kind,) = (each for each in types(kind) if each is not type(None))
    if kind in FIND:
        return FIND[kind](given)
    assert isinstance(kind, type)
    assert issubclass(kind, StrEnum)
    if given not in list(kind):
        raise BadQuantity(no_choice(asked.option or name, given, kind))
    return kind(given)


def is_number(name: str) -> bool:
    """Whether a field of `Question` holds a number."""
    return not {int, float}.isdisjoint(types(ASKED[name][0]))


def kind_of_number(name: str) -> Kind:
    """What the number of a field counts. Prices have no suffix."""
    if name == "tokens":
        return Kind.AMOUNT
    if name in SHARES:
        return Kind.SHARE
    found = kind_of(name)
    return Kind.PLAIN if found is Kind.SIZE and int not in types(ASKED[name][0]) else found


def types(kind: object) -> tuple[object, ...]:
    """The types of a union. For any other type, the type itself."""
    return typing.get_args(kind) or (kind,)


def _preset(model: str | Path | Model) -> Preset | None:
    """The preset that `model` names; None for a file and a `Model`. A preset goes before a file of its name."""
    if not isinstance(model, str):
        return None
    try:
        return find_preset(model)[1]
    except BadModel:
        if model.endswith(".json") or Path(model).exists():
            return None
        raise


def _training_tokens(preset: Preset | None, shape: Model) -> tuple[float, str]:
    """The number of tokens that the model was trained on, and its source."""
    if preset is None or preset.training_tokens is None:
        return CHINCHILLA_TOKENS_PER_PARAM * shape.params, "20 per parameter, Hoffmann et al. 2022"
    return preset.training_tokens, preset.training_source
