"""Hugging Face `config.json` -> Model. Nothing is downloaded.

Field names and rules are those of the `transformers` library, with one difference: `transformers` fills a missing width
or depth from another model of the family, while this reader raises an error that names the field. The exception is
Gemma 3, whose published files leave such fields out.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from predict.errors import BadModel
from predict.model.config.families import READERS
from predict.model.config.fields import Fields
from predict.model.transformer import Model

MAX_CONFIG_BYTES = 10_000_000  # a config.json has a few kilobytes; a file of weights has gigabytes


def read_config(path: Path) -> Model:
    """Read a config.json. Raises BadModel naming the file, and the field if one is wrong."""
    try:
        if path.is_dir():
            raise BadModel(f"{path} is a folder; give the config.json in it")
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise BadModel(f"{path} has more than {MAX_CONFIG_BYTES} bytes, too many for a config.json")
        config = json.loads(text)
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise BadModel(f"{path} is not valid JSON (line {error.lineno}: {error.msg}); is the file complete?") from None
    except (ValueError, RecursionError):  # not text, a number with thousands of digits, or very deep brackets
        raise BadModel(f"{path} is not a readable JSON file") from None
    if not isinstance(config, dict):
        raise BadModel(f"{path} holds no JSON object")
    named = config.get("_name_or_path")
    return from_config(config, named if isinstance(named, str) and named else path.stem, origin=str(path))


def from_config(config: Mapping[str, object], name: str, origin: str | None = None) -> Model:
    """Build the model that a configuration describes. `origin` names the configuration in messages.

    Raises BadModel for an unknown `model_type` and for a field that is missing, has the wrong type or does not divide.
    """
    origin, architecture = origin or name, config.get("model_type")
    if architecture is None:
        raise BadModel(f"{origin}: model_type is missing; known: {', '.join(READERS)}")
    if architecture == "gemma3" and isinstance(text := config.get("text_config"), dict):
        return from_config({**text, "model_type": "gemma3_text"}, name, f"{origin} (text_config)")
    if not isinstance(architecture, str) or architecture not in READERS:
        raise BadModel(f"{origin}: unknown model_type {architecture!r}; known: {', '.join(READERS)}")
    return READERS[architecture](Fields(config, origin, name, architecture))
