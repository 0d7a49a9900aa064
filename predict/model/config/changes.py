"""A configuration with some of its fields changed: what if this model had fewer KV heads?"""

import json
from collections.abc import Iterable, Iterator, Mapping

from predict.errors import BadModel, BadQuantity
from predict.model.config.fields import OTHER_NAMES
from predict.model.config.nested import TEXT
from predict.suggest import did_you_mean, quoted
from predict.units import Kind, read_quantity

NOTHING: Mapping[str, object] = {}


def read_changes(typed: Iterable[str]) -> dict[str, object]:
    """The values by field of texts such as "num_hidden_layers=16". A value is a number as people write them (8k), else
    JSON, else a text. Raises BadModel for a text without a field or value, and for a field that is given twice."""
    changes: dict[str, object] = {}
    for text in typed:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadModel(f"--set takes field=value, such as num_hidden_layers=16, not {quoted(text)}")
        if name in changes:
            raise BadModel(f"--set gives {name} twice")
        changes[name] = _value(name, value)
    return changes


def changed(config: Mapping[str, object], changes: Mapping[str, object], origin: str) -> Mapping[str, object]:
    """The configuration with the fields changed where it has them, under any of their names; one that it lacks is added
    to its decoder. Raises BadModel for a name that neither it nor another configuration has."""
    for name, value in changes.items():
        if name not in (known := {*_names(config), *OTHER_NAMES}):
            raise BadModel(f"--set {quoted(name)}: {origin} has no such field{did_you_mean(name, known)}".rstrip("; "))
        config = _with(config, name, value)
    return config


def changed_name(name: str, changes: Mapping[str, object]) -> str:
    """The name of a model whose fields were changed: llama-3-8b with num_hidden_layers=16."""
    said = ", ".join(f"{field}={json.dumps(value)}" for field, value in changes.items())
    return f"{name} with {said}" if said else name


def _value(name: str, text: str) -> object:
    try:
        number = read_quantity(text, name, Kind.SIZE)
        return int(number) if float(number).is_integer() else number
    except BadQuantity:
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a text, or brackets that are no value of a field
        return text


def _names(config: Mapping[str, object]) -> Iterator[str]:
    """Names of fields of a configuration and of its decoder's."""
    yield from config
    if (inner := _decoder(config)) is not None:
        yield from _names(inner[1])


def _decoder(config: Mapping[str, object]) -> tuple[str, Mapping[str, object]] | None:
    """The configuration of the decoder inside, with its name."""
    for name in TEXT:
        inner = config.get(name)
        if isinstance(inner, Mapping):
            return name, inner
    return None


def _with(config: Mapping[str, object], name: str, value: object) -> Mapping[str, object]:
    spelled = [each for each in OTHER_NAMES.get(name, (name,)) if each in config]
    if (inner := _decoder(config)) is not None:
        place, decoder = inner
        within = OTHER_NAMES.get(name, (name,))
        if not spelled or any(each in decoder for each in within):  # written twice: what is inside is read
            return {**config, place: _with(decoder, name, value)}
    return {**config, **dict.fromkeys(spelled or [name], value)}
