"""The longest sequence that a model supports, with what its rotary positions are scaled by.

What the scaling does to `max_position_embeddings` depends on its kind, and follows vLLM (`_get_and_verify_max_len`):

- yarn: the limit is the original length times the factor. DeepSeek-V3 and gpt-oss write that product into
  max_position_embeddings; Qwen writes the original length or the product there.
- llama3, longrope, su: max_position_embeddings is the extended length already; so is Gemma 3's, which is linear.
- linear, dynamic: max_position_embeddings is the original length.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from predict.errors import BadModel
from predict.model.config.fields import Fields
from predict.model.transformer import Model

FIELDS = ("rope_parameters", "rope_scaling")
MULTIPLIED = frozenset({"linear", "dynamic"})
EXTENDED = frozenset({"llama3", "longrope", "su", "default", "mrope", "proportional", "none"})


def with_context_limit(model: Model, fields: Fields) -> Model:
    """The model with its context limit scaled, and a note for a kind of scaling that is not known. Raises BadModel for
    a factor or a length that is not a positive number."""
    limit, notes = model.context_limit, []
    stated = fields.size_or_none("model_max_length")  # Cohere: beside the length that positions were trained on
    fields.use("original_max_position_embeddings")
    found = dict(_scalings(fields))
    for kind, scaling in found.items():
        factor = _number(scaling, "factor", fields)
        if "yarn" in kind:
            original = _number(scaling, "original_max_position_embeddings", fields) or model.context_limit
            limit = round(original * factor) if original and factor else limit
        elif kind in MULTIPLIED and "gemma3" not in model.architecture and model.context_limit and factor:
            limit = round(model.context_limit * factor)
        elif kind not in EXTENDED and kind not in MULTIPLIED:
            notes.append(f"rope scaling {kind!r} is not known: the context limit is that of max_position_embeddings")
    return replace(model, context_limit=stated or limit, notes=(*model.notes, *notes))


def _scalings(fields: Fields) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each kind of scaling, in lower case, and its fields. Newer files hold one object for each type of layers."""
    for name in FIELDS:
        value = fields.get(name)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise BadModel(f"{fields.origin}: {name} must be a JSON object, not {value!r}")
        inner = [each for each in value.values() if isinstance(each, Mapping)]
        for scaling in [value, *inner]:
            kind = scaling.get("rope_type", scaling.get("type"))
            if isinstance(kind, str):
                yield kind.lower(), scaling


def _number(scaling: Mapping[str, object], name: str, fields: Fields) -> float | None:
    value = scaling.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise BadModel(f"{fields.origin}: {name} of the rope scaling must be a positive number, not {value!r}")
    return float(value)
