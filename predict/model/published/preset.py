"""A published model, and how its fields are written down."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """A published model."""

    config: Mapping[str, object]  # fields of its config.json that determine shape, size and storage
    source: str  # of the configuration
    aliases: tuple[str, ...] = ()
    training_tokens: float | None = None  # None if not published
    training_source: str = ""  # of training_tokens


def shape(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int | None = None) -> dict[str, object]:
    """The fields of width and depth. Leave out `kv_heads` if the family's fields set it or every head has its own."""
    sizes = {"hidden_size": hidden, "intermediate_size": intermediate}
    counts = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return {name: size for name, size in {**sizes, **counts}.items() if size is not None}


def fp8_blocks(*kept: str) -> dict[str, object]:
    """The `quantization_config` of checkpoints in fp8 with a scale for 128 x 128 weights; `kept` are in 16 bits."""
    config: dict[str, object] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    return {**config, "modules_to_not_convert": list(kept)} if kept else config
