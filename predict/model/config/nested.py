"""Configurations inside a configuration: the decoder of a multimodal model, and what is beside it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from predict.model.config.fields import Fields

TEXT = ("text_config", "language_config", "llm_config", "thinker_config", "language_model_config")
# Fields about the decoder that may stand beside its configuration.
SHARED = (
    "tie_word_embeddings",
    "quantization_config",
    "compression_config",
    "quantization",
    "dtype",
    "torch_dtype",
)
TIED_INSIDE = ("qwen2_vl", "qwen2_5_vl")  # whose older files say only inside that the embeddings are tied
CLASSIFIER = r"(Classification|RewardModel|QuestionAnswering)$"
PARTS = """
aligner audio code2wav embd_layer image img_ _lora projector speech talker token2wav vision visual
"""
# What the classes of `transformers` take for a size that is absent. Files of LLaVA and Pixtral name in `text_config`
# only what differs from these.
CLASS_DEFAULTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "llama": MappingProxyType(
            {
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "vocab_size": 32000,
            }
        ),
        "mistral": MappingProxyType(
            {
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "vocab_size": 32000,
            }
        ),
    }
)


def with_class_defaults(text: Fields) -> tuple[Fields, str | None]:
    """The decoder of a multimodal model with what its file leaves to the class, and a note that names it."""
    absent = {
        name: value for name, value in CLASS_DEFAULTS.get(text.architecture, {}).items() if text.get(name) is None
    }
    if not absent:
        return text, None
    said = ", ".join(f"{name} {value:,}" for name, value in absent.items())
    return text.with_defaults(absent), f"{text.origin} leaves fields to the defaults of {text.architecture}: {said}"


def text_fields(fields: Fields) -> Fields:
    """The fields of the decoder: those inside if there are any, with what the whole says about it; else the same.
    Raises BadModel if the configuration inside is no JSON object."""
    kind = fields.architecture or fields.values.get("model_type")
    whole = kind if isinstance(kind, str) else ""
    inner = next((name for name in TEXT if fields.values.get(name) is not None), None)
    if inner is None:
        return replace(fields, architecture=whole)
    text = fields.inside(inner)
    assert text is not None
    shared = {name: fields.values[name] for name in SHARED if fields.values.get(name) is not None}
    if whole in TIED_INSIDE and text.values.get("tie_word_embeddings") is True:
        shared["tie_word_embeddings"] = True
    fields.use("tie_word_embeddings", "architectures", "auto_map")
    shared["architectures"] = _decoder_classes(fields, text)
    found = replace(text, values={**text.values, **shared}, architecture=text.architecture or whole)
    fields.inner[inner] = found
    return text_fields(found)


def _decoder_classes(whole: Fields, text: Fields) -> list[object]:
    """Classes that tell of the decoder's head: the whole's if it is a classifier, else those inside. A name that ends
    in Model says nothing here: what is around the decoder has the head."""
    outer = [name for name in whole.items("architectures") if re.search(CLASSIFIER, str(name))]
    return outer or [name for name in text.items("architectures") if not str(name).endswith("Model")]


def left_out(fields: Fields) -> Iterator[str]:
    """A note that names the networks beside the decoder, which are not counted."""
    if beside := [*_beside(fields)]:
        yield f"only the text part is counted; left out: {', '.join(beside)}"


def _beside(fields: Fields) -> Iterator[str]:
    for name, value in fields.values.items():
        if name in fields.inner and name in TEXT:
            yield from (f"{name}.{each}" for each in _beside(fields.inner[name]))
        elif (
            isinstance(value, Mapping)
            and value
            and name not in fields.used
            and any(part in name for part in PARTS.split())
        ):
            fields.use(name)
            yield name
