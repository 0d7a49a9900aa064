"""Gemma 3n and Gemma 4 (text): embeddings for each layer, layers that share a cache, global layers of another shape."""

from collections.abc import Mapping
from dataclasses import replace

from predict.errors import BadModel
from predict.model.attention import Attention
from predict.model.config.fields import Fields
from predict.model.config.layers import FULL, SLIDING, decoder, layer_types
from predict.model.config.parts import grouped_attention, routed_experts
from predict.model.elementwise import RMS_FP32, Elementwise
from predict.model.linear import Component, Linear, Split
from predict.model.mixer import ALL
from predict.model.mlp import Experts, Mlp
from predict.model.reach import Window
from predict.model.transformer import Block, Model

ELEMENTWISE = Elementwise(RMS_FP32)


def gemma3n(fields: Fields) -> Model:
    """Gemma 3n: AltUp (Baykal et al. 2023) keeps several residual streams, LAuReL (Menghani et al. 2024) adds a
    low-rank path to every layer."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    streams, rank = fields.size("altup_num_inputs", 4), fields.size("laurel_rank", 64)
    fields.use(
        "activation_sparsity_pattern",
        "altup_active_idx",
        "altup_coef_clip",
        "altup_correct_scale",
        "altup_lr_multiplier",
    )
    each_layer = _LayerInputs(fields)
    extra = (
        *each_layer.linears(hidden),
        _residual("laurel.down", hidden, rank),
        _residual("laurel.up", rank, hidden),
        _residual("altup.router", hidden, streams),
        _residual("altup.predict", streams, streams**2),
        _residual("altup.correct", streams, streams),
    )
    # Norms: four of the layer, one each of LAuReL, AltUp's router and the layer's input; AltUp's scale.
    blocks = [
        Block(1, hidden, mixer, Mlp(width, gated=True), 8 * hidden, extra, elementwise=ELEMENTWISE)
        for mixer, width in zip(_shared_mixers(fields, _kinds(fields, 5)), _widths(fields, layers), strict=True)
    ]
    model = decoder(
        fields,
        blocks,
        tied=True,
        position_params=each_layer.table_params(layers),
        extra=(*each_layer.outer_linears(hidden, layers), *[_residual("altup.in", hidden, hidden)] * (streams - 1)),
        extra_params=each_layer.width,
    )
    head = (
        *[_residual("altup.out", hidden, hidden)] * (streams - 1),
        Linear("vocab", Component.VOCAB, hidden, model.vocab),
    )
    return replace(model, head=head)


def gemma4(fields: Fields) -> Model:
    """Gemma 4: global layers have heads of another size, and there keys may be the values too."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    each_layer = _LayerInputs(fields)
    mixers = _shared_mixers(fields, _gemma4_kinds(fields))
    wide = 2 if fields.flag("use_double_wide_mlp", default=False) else 1
    plain = _mlp(fields, 1)
    shared = _mlp(fields, wide)
    norms = 4 + (1 if each_layer.width else 0) + (3 if isinstance(plain, Experts) else 0)
    extra = tuple(each_layer.linears(hidden))
    blocks = [
        Block(1, hidden, mixer, shared if mixer.shares_cache else plain, norms * hidden, extra, elementwise=ELEMENTWISE)
        for mixer in mixers
    ]
    return decoder(
        fields,
        blocks,
        tied=True,
        position_params=each_layer.table_params(layers),
        extra=tuple(each_layer.outer_linears(hidden, layers)),
        extra_params=each_layer.width,
    )


class _LayerInputs:
    """An embedding of every token for every layer, and what leads it into the layer; nothing if its width is 0."""

    def __init__(self, fields: Fields) -> None:
        self.width = fields.count("hidden_size_per_layer_input", 256)
        self._vocab = fields.size("vocab_size_per_layer_input", 262144)

    def table_params(self, layers: int) -> int:
        """Parameters that are looked up."""
        return self._vocab * layers * self.width

    def linears(self, hidden: int) -> list[Linear]:
        """The matrices of one layer."""
        if not self.width:
            return []
        return [_residual("layer_input.gate", hidden, self.width), _residual("layer_input.out", self.width, hidden)]

    def outer_linears(self, hidden: int, layers: int) -> list[Linear]:
        """The matrix that makes the second half of all layers' inputs from the embedding."""
        return [_residual("layer_input.in", hidden, layers * self.width)] if self.width else []


def _residual(name: str, inputs: int, outputs: int) -> Linear:
    return Linear(name, Component.RESIDUAL, inputs, outputs, split=Split.NONE)


def _kinds(fields: Fields, period: int) -> list[tuple[str, Attention]]:
    """The kind of each layer and its attention: every `period`-th is global unless `layer_types` says otherwise."""
    types = layer_types(fields, (FULL, SLIDING))
    if types is None:
        layers = fields.layers("num_hidden_layers")
        types = [SLIDING if (i + 1) % period else FULL for i in range(layers)]
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True, head_dim_default=256)
    windowed = replace(attention, reach=Window(fields.size("sliding_window", 512)))
    return [(kind, windowed if kind == SLIDING else attention) for kind in types]


def _gemma4_kinds(fields: Fields) -> list[tuple[str, Attention]]:
    """As `_kinds`; the last layer is always global, and global layers have their own heads."""
    kinds = _kinds(fields, 6)
    attention = next((mixer for kind, mixer in kinds if kind == FULL), replace(kinds[-1][1], reach=ALL))
    keys_are_values = fields.flag("attention_k_eq_v", default=False)
    kv_heads = fields.size_or_none("num_global_key_value_heads") if keys_are_values else None
    head_dim = fields.size("global_head_dim", 512)
    if (written := fields.inside("per_layer_config")) is not None:  # as newer versions of the library save it
        own = next((each for each in written.values.values() if isinstance(each, Mapping)), {})
        of_layer = Fields(own, f"{fields.origin} (per_layer_config)", fields.name, fields.architecture)
        head_dim = of_layer.size("head_dim", attention.head_dim)
        kv_heads = of_layer.size_or_none("num_key_value_heads")
        written.use(*written.values)
    fields.use("num_global_key_value_heads", "global_head_dim")
    wide = replace(attention, head_dim=head_dim, kv_heads=kv_heads or attention.kv_heads, values=not keys_are_values)
    if wide.heads % wide.kv_heads:
        message = f"num_attention_heads={wide.heads} is not a multiple of num_global_key_value_heads={wide.kv_heads}"
        raise BadModel(f"{fields.origin}: {message}")
    kinds[-1] = (FULL, wide)
    return [(kind, wide if kind == FULL else mixer) for kind, mixer in kinds]


def _shared_mixers(fields: Fields, kinds: list[tuple[str, Attention]]) -> list[Attention]:
    """The last `num_kv_shared_layers` read the cache of the last layer of their kind before them. Raises BadModel if
    there is none."""
    first = len(kinds) - fields.count("num_kv_shared_layers", 0)
    own = {kind for kind, _ in kinds[: max(first, 0)]}
    if first < len(kinds) and any(kind not in own for kind, _ in kinds):
        message = f"num_kv_shared_layers={len(kinds) - first} leaves a kind of layer without a cache"
        raise BadModel(f"{fields.origin}: {message}")
    return [mixer if i < first else replace(mixer, shares_cache=True) for i, (_, mixer) in enumerate(kinds)]


def _widths(fields: Fields, layers: int) -> list[int]:
    """`intermediate_size`: one for all layers, or a list."""
    if not isinstance(fields.get("intermediate_size"), list):
        return [fields.size("intermediate_size")] * layers
    widths = fields.items("intermediate_size")
    if len(widths) != layers or not all(type(width) is int and width > 0 for width in widths):
        raise BadModel(f"{fields.origin}: intermediate_size must be {layers} positive whole numbers, or one")
    return [width for width in widths if isinstance(width, int)]


def _mlp(fields: Fields, wide: int) -> Mlp | Experts:
    """The MLP, and the experts beside it if there are any. Their router scales its input and every expert's weight."""
    mlp = Mlp(wide * fields.size("intermediate_size"), gated=True)
    if not fields.flag("enable_moe_block", default=False):
        fields.use("num_experts", "top_k_experts", "moe_intermediate_size")
        return mlp
    experts = routed_experts(fields, "num_experts", fields.size("moe_intermediate_size"), mlp)
    return replace(experts, extra_params=fields.size("hidden_size") + experts.copies)
