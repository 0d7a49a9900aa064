"""Hugging Face `config.json` -> Model. Nothing is downloaded.

Field names and rules are those of the `transformers` library, with one difference: `transformers` fills a missing width
or depth from another model of the family, while this reader raises an error that names the field. The exceptions are
Gemma 3 and decoders of Llama or Mistral inside a multimodal model, whose published files leave such fields out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from predict.errors import BadModel
from predict.json_file import read_json
from predict.model.attention import Attention
from predict.model.config.changes import NOTHING, changed, changed_name
from predict.model.config.extra_layers import left_out_layers
from predict.model.config.families import find_reader
from predict.model.config.fields import Fields
from predict.model.config.foreign import refuse_foreign
from predict.model.config.head import with_head
from predict.model.config.nested import left_out, text_fields, with_class_defaults
from predict.model.config.positions import with_context_limit
from predict.model.config.rotary import with_rotary
from predict.model.config.storing import with_storage
from predict.model.config.vision import vision_params
from predict.model.mixer import ALL
from predict.model.transformer import Model, merged

# Files beside config.json that say how older checkpoints are quantized: by ModelOpt, AutoGPTQ and AutoAWQ.
QUANTIZED_APART = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
MAX_CONFIG_BYTES = 10_000_000  # a config.json has a few kilobytes; a file of weights has gigabytes


def read_config(path: Path, changes: Mapping[str, object] = NOTHING) -> Model:
    """Read a config.json, or that of a folder, with some of its fields changed. Raises BadModel naming the file, and
    the field if one is wrong."""
    folder = path if _is_folder(path) else None
    if folder is not None:
        path = folder / "config.json"
        if not path.exists():
            raise BadModel(f"{folder} has no config.json; give the folder of a Hugging Face model, or its config.json")
    config = _load(path)
    if path.name == "config.json" and "quantization_config" not in config:
        beside = (path.with_name(name) for name in QUANTIZED_APART)
        config = next(({**config, "quantization_config": _load(each)} for each in beside if each.is_file()), config)
    stem = folder.resolve().name if folder is not None else path.stem
    return from_config(config, config_name(config, stem), str(path), changes)


def config_name(config: Mapping[str, object], stem: str) -> str:
    """The name that a configuration gives its model; `stem` if it gives none."""
    named = config.get("_name_or_path")
    return named if isinstance(named, str) and named else stem


def from_config(
    config: Mapping[str, object], name: str, origin: str | None = None, changes: Mapping[str, object] = NOTHING
) -> Model:
    """Build the model that a configuration with the `changes` describes. `origin` names the configuration in messages.

    Raises BadModel for an unknown `model_type`, for a field that is missing, has the wrong type or does not divide, and
    for a change of a field that no configuration has.
    """
    config, name = changed(config, changes, origin or name), changed_name(name, changes)
    fields = Fields(config, origin or name, name, "")
    refuse_foreign(fields)
    text, filled = text_fields(fields), None
    if text.values is not fields.values:
        text, filled = with_class_defaults(text)
    reader, note = find_reader(text)
    model = with_rotary(with_context_limit(reader(text), text), text)
    model = _without_idle_windows(model)
    model = with_storage(with_head(model, text), text)
    beside = vision_params(fields, model.hidden)
    notes = [said for said in (note, filled) if said is not None]
    notes += [*left_out_layers(model, text), *left_out(fields), *_unused(fields)]
    return replace(model, vision_params=beside, notes=(*model.notes, *notes))


def _without_idle_windows(model: Model) -> Model:
    """The model without the windows that no sequence fills, because they are not shorter than the longest one."""
    limit = model.context_limit
    if limit is None or not any(block.window and block.window >= limit for block in model.blocks):
        return model
    blocks = (
        replace(block, mixer=replace(block.mixer, reach=ALL))
        if isinstance(block.mixer, Attention) and block.window and block.window >= limit
        else block
        for block in model.blocks
    )
    return replace(model, blocks=merged(blocks))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long: opening the file says so
        return False


def _load(path: Path) -> Mapping[str, object]:
    config = read_json(path, "a config.json", max_bytes=MAX_CONFIG_BYTES, error=BadModel)
    if not isinstance(config, dict):
        raise BadModel(f"{path} holds no JSON object; give the config.json of a model")
    return config


def _unused(fields: Fields) -> Iterator[str]:
    if names := list(fields.unused()):
        yield f"fields of the config that were not used: {', '.join(names)}"
