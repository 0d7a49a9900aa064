"""The parts that families share: attention, experts, windows, and a model of layers with RMSNorms."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from predict.errors import BadModel
from predict.model.attention import Attention, LatentAttention
from predict.model.config.fields import Fields
from predict.model.elementwise import RMS_ELEMENTWISE, Elementwise
from predict.model.mlp import Experts, Mlp
from predict.model.reach import Window
from predict.model.transformer import Block, Model, merged


def multi_head(fields: Fields, hidden: str, heads: str, *, bias: bool) -> Attention:
    """Multi-head attention; `hidden` and `heads` are the names of the fields."""
    head_dim = fields.divided(hidden, heads)
    return Attention(fields.size(heads), fields.size(heads), head_dim, qkv_bias=bias, output_bias=bias)


def grouped_attention(
    fields: Fields,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
    mha_if_absent: bool = False,
    head_dim_default: int | None = None,
) -> Attention:
    """Attention by the usual names. Raises BadModel if the heads do not divide."""
    heads = fields.size("num_attention_heads")
    # null means MHA; in some families an absent field does too
    is_mha = fields.has("num_key_value_heads") or mha_if_absent
    kv_heads = fields.size("num_key_value_heads", heads if is_mha else None)
    if heads % kv_heads:
        raise BadModel(
            f"{fields.origin}: num_attention_heads={heads} is not a multiple of num_key_value_heads={kv_heads}"
        )
    head_dim = fields.size_or_none("head_dim") or head_dim_default
    if head_dim is None:
        head_dim = fields.divided("hidden_size", "num_attention_heads")
    return Attention(heads, kv_heads, head_dim, qkv_bias, output_bias, qk_norm)


def routed_experts(fields: Fields, copies_field: str, width: int, shared: Mlp | None = None) -> Experts:
    """Experts of `width`; raises BadModel if a token takes more of them than there are."""
    copies, active = fields.size(copies_field), fields.size("num_experts_per_tok")
    if active > copies:
        raise BadModel(f"{fields.origin}: num_experts_per_tok={active} is more than {copies_field}={copies}")
    return Experts(copies, active, width, shared)


def qwen_windows(fields: Fields) -> Iterator[int | None]:
    """The window of each layer, of Qwen2 and Qwen3: none below max_window_layers."""
    if not fields.flag("use_sliding_window", default=False):
        return itertools.repeat(None)
    window, first = fields.size("sliding_window", 4096), fields.count("max_window_layers")
    return (window if i >= first else None for i in itertools.count())


def rms_model(
    fields: Fields,
    attention: Attention | LatentAttention,
    mlps: Iterable[Mlp | Experts],
    windows: Iterator[int | None] | None = None,
    *,
    norms: int = 2,
    elementwise: Elementwise = RMS_ELEMENTWISE,
    tied: bool = False,
) -> Model:
    """A model with RMSNorms, rotary positions and one attention shape. Equal layers become one block."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    if types := fields.items("layer_types"):
        windows = _typed_windows(fields, types, layers)
    each = []
    for mlp, window, _ in zip(mlps, windows or itertools.repeat(None), range(layers), strict=False):
        mixer = replace(attention, reach=Window(window)) if window else attention
        each.append(Block(1, hidden, mixer, mlp, norms * hidden, elementwise=elementwise))
    return Model(
        fields.name,
        fields.architecture,
        hidden,
        fields.size("vocab_size"),
        merged(each),
        tied=fields.flag("tie_word_embeddings", default=tied),
        final_norm_params=hidden,
        context_limit=fields.size_or_none("max_position_embeddings"),
    )


def _typed_windows(fields: Fields, types: list[object], layers: int) -> Iterator[int | None]:
    if len(types) != layers:
        raise BadModel(f"{fields.origin}: layer_types has {len(types)} entries for num_hidden_layers={layers}")
    if unknown := [kind for kind in types if kind not in ("full_attention", "sliding_attention")]:
        known = "full_attention, sliding_attention"
        raise BadModel(f"{fields.origin}: layer_types: unknown {unknown[0]!r}; known: {known}")
    return iter([fields.size("sliding_window") if kind == "sliding_attention" else None for kind in types])
