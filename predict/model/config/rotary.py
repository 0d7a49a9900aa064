"""How much of each head has rotary positions: all of it in most models, a part in some, none beside learned positions
or ALiBi, and none in some layers of models that mix windows with full attention. It decides nothing but the kernel that
rotates. The rules are those of each family's code in `transformers`, or beside the weights.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from predict.model.attention import Attention
from predict.model.config.fields import Fields
from predict.model.mixer import Mixer
from predict.model.side_by_side import SideBySide
from predict.model.transformer import Block, Model, merged

# Learned positions, ALiBi, or none at all.
WITHOUT = frozenset({"gpt2", "opt", "bloom", "mpt", "gpt_bigcode", "jamba", "nemotron_h"})
# The share of a head where the file does not say another.
SHARES: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("gpt_neox", "stablelm", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), 0.25),
        **dict.fromkeys(("phi", "nemotron", "glm", "glm4", "glm4_moe", "chatglm", "bamba"), 0.5),
    }
)
SHARE_FIELDS = ("partial_rotary_factor", "rotary_pct", "rope_pct")
ONLY_IN_WINDOWS = frozenset({"cohere2", "exaone4", "exaone_moe", "afmoe"})  # layers that see everything have none
IN_LISTED_LAYERS = frozenset({"llama4_text", "smollm3"})  # no_rope_layers: 1 has them, 0 has none


def with_rotary(model: Model, fields: Fields) -> Model:
    """The model whose attention knows the share of its heads that is rotated."""
    share, without = _share(model, fields), _layers_without(model, fields)
    only_windows = model.architecture in ONLY_IN_WINDOWS and any(block.window for block in model.blocks)
    if without:
        each = (_rotated(layer, 0.0 if number in without else share) for number, layer in _layers(model.blocks))
        return replace(model, blocks=merged(each))
    blocks = (_rotated(block, 0.0 if only_windows and block.window is None else share) for block in model.blocks)
    return replace(model, blocks=tuple(blocks))


def _layers(blocks: Iterable[Block]) -> Iterator[tuple[int, Block]]:
    """Every layer with its number."""
    first = 0
    for block in blocks:
        for number in block.numbers or range(first, first + block.layers):
            yield number, replace(block, layers=1, numbers=(number,))
        first += block.layers


def _rotated(block: Block, share: float) -> Block:
    return replace(block, mixer=block.mixer and _rotated_mixer(block.mixer, share))


def _rotated_mixer(mixer: Mixer, share: float) -> Mixer:
    if isinstance(mixer, SideBySide):
        return replace(mixer, mixers=tuple(_rotated_mixer(each, share) for each in mixer.mixers))
    return replace(mixer, rotary=share) if isinstance(mixer, Attention) else mixer


def _share(model: Model, fields: Fields) -> float:
    """The share of a head in layers that have rotary positions."""
    kind = model.architecture
    by_alibi = fields.get("alibi") is True or (kind == "baichuan" and model.hidden > 4096)
    if kind in WITHOUT or by_alibi or (kind == "granitemoehybrid" and fields.get("position_embedding_type") != "rope"):
        return 0.0
    nested = fields.get("rope_parameters")
    inside = nested.get("partial_rotary_factor") if isinstance(nested, Mapping) else None
    for value in (*(fields.get(name) for name in SHARE_FIELDS), inside):
        if isinstance(value, int | float) and 0 <= value <= 1:
            return float(value)
    dim, heads = fields.get("rotary_dim"), [mixer for mixer in model.mixers if isinstance(mixer, Attention)]
    if isinstance(dim, int) and heads and 0 < dim <= heads[0].head_dim:
        return dim / heads[0].head_dim
    return SHARES.get(kind, 1.0)


def _layers_without(model: Model, fields: Fields) -> frozenset[int]:
    """Numbers of layers that the file excepts, one by one or by an interval."""
    if model.architecture not in IN_LISTED_LAYERS:
        return frozenset()
    listed, every = fields.items("no_rope_layers"), fields.count("no_rope_layer_interval", 4)
    if listed:
        return frozenset(number for number, has in enumerate(listed) if not has)
    return frozenset(number for number in range(model.layers) if every and (number + 1) % every == 0)
