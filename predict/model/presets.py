"""Models by name. Each preset holds the fields of the published `config.json` that determine shape, size and storage.

A preset goes through the same reader as a user's file. `published/` holds them, by vendor.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType

from predict.errors import BadModel
from predict.model.config.changes import NOTHING
from predict.model.config.reader import from_config
from predict.model.published import deepseek, google, meta, mistral, openai, others, qwen
from predict.model.published.preset import Preset
from predict.model.transformer import Model
from predict.suggest import unknown

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        name: preset
        for vendor in (openai, meta, mistral, qwen, google, deepseek, others)
        for name, preset in vendor.PRESETS.items()
    }
)


def find_preset(name: str) -> tuple[str, Preset]:
    """Return the canonical name and the preset of `name`. Case, '-', '_', '.' and spaces do not matter.

    Raises BadModel with the names that are near.
    """
    known = _spellings()
    key = _key(name)
    if key not in known:
        aliases = {alias: proper for proper, preset in PRESETS.items() for alias in preset.aliases}
        said = unknown("model", name, PRESETS, aliases, listed_by="python -m predict models")
        raise BadModel(f"{said}; or give --config config.json")
    return known[key], PRESETS[known[key]]


def find_model(name: str, changes: Mapping[str, object] = NOTHING) -> Model:
    """Return the model of the preset called `name`, with some fields of its configuration changed. Raises BadModel with
    the names that are near."""
    proper_name, preset = find_preset(name)
    return from_config(preset.config, proper_name, changes=changes) if changes else _published(proper_name)


@functools.cache
def _published(name: str) -> Model:
    """A model as it was published: read once, and with it what is listed of its matrices."""
    return from_config(PRESETS[name].config, name)


@functools.cache
def _spellings() -> Mapping[str, str]:
    return {_key(spelling): name for name, preset in PRESETS.items() for spelling in (name, *preset.aliases)}


def _key(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
