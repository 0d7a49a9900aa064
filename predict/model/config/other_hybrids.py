"""Other layers than softmax attention in most places: Kimi Linear, MiniMax-Text-01, LFM2."""

from predict.errors import BadModel
from predict.model.config.fields import Fields
from predict.model.config.latent import latent_attention
from predict.model.config.layers import FULL, LINEAR, decoder, layer_types
from predict.model.config.parts import dense_then_experts, grouped_attention, routed_experts
from predict.model.linear_attention import KimiDelta, Lightning
from predict.model.mixer import Mixer
from predict.model.mlp import Experts, Mlp
from predict.model.short_conv import GatedConv
from predict.model.transformer import Block, Model

CONV = "conv"
MULTIPLE_OF = 256  # block_multiple_of of LFM2
CODE = (  # fields of LFM2 that change nothing that is counted
    "block_dim",
    "block_mlp_init_scale",
    "block_norm_eps",
    "block_out_init_scale",
    "block_use_swiglu",
    "block_use_xavier_init",
    "conv_dim",
    "conv_dim_out",
    "conv_use_xavier_init",
    "use_pos_enc",
)


def kimi_linear(fields: Fields) -> Model:
    """Kimi Linear (Moonshot 2025): Kimi delta attention, and latent attention in every fourth layer; experts after the
    first layer."""
    fields = fields.with_defaults({"q_lora_rank": None, "first_k_dense_replace": 1})
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    inner = fields.inside("linear_attn_config")
    heads, dim, kernel = (
        (inner.size("num_heads"), inner.size("head_dim"), inner.size("short_conv_kernel_size", 4))
        if inner
        else (fields.size("linear_num_heads"), fields.size("linear_head_dim"), fields.size("linear_conv_kernel_dim", 4))
    )
    fields.use("moe_layer_freq", "model_max_length", "mla_use_nope")
    mixers: dict[str, Mixer] = {FULL: latent_attention(fields), LINEAR: KimiDelta(heads, dim, kernel)}
    types = layer_types(fields, (FULL, LINEAR)) or _kimi_types(fields, inner, layers)
    parts = zip(types, dense_then_experts(fields), strict=False)
    return decoder(fields, [Block(1, hidden, mixers[kind], mlp, 2 * hidden) for kind, mlp in parts])


def _kimi_types(fields: Fields, inner: Fields | None, layers: int) -> list[str]:
    """The kind of each layer by the lists of `linear_attn_config`, which count from 1; else every fourth is full."""
    if inner is None or not inner.items("full_attn_layers"):
        return [FULL if i and i % 4 == 0 else LINEAR for i in range(layers)]
    full, linear = inner.items("full_attn_layers"), inner.items("kda_layers")
    if {str(each) for each in (*full, *linear)} != {str(i + 1) for i in range(layers)}:
        raise BadModel(f"{fields.origin}: full_attn_layers and kda_layers must list the layers from 1 to {layers}")
    return [FULL if i + 1 in full else LINEAR for i in range(layers)]


def minimax(fields: Fields) -> Model:
    """MiniMax-Text-01 (2025): lightning attention, and softmax attention in some layers; experts in all."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    attention = grouped_attention(fields, mha_if_absent=True)
    fields.use("block_size", "attn_type_list", "shared_intermediate_size")
    mixers: dict[str, Mixer] = {FULL: attention, LINEAR: Lightning(attention.heads, attention.head_dim)}
    types = layer_types(fields, (FULL, LINEAR)) or _minimax_types(fields, layers)
    experts = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"))
    return decoder(fields, [Block(1, hidden, mixers[kind], experts, 2 * hidden) for kind in types])


def _minimax_types(fields: Fields, layers: int) -> list[str]:
    """Older files list 1 for softmax and 0 for lightning attention; without a list they alternate."""
    if not (listed := fields.items("attn_type_list")):
        return [LINEAR if i % 2 else FULL for i in range(layers)]
    if len(listed) != layers or any(kind not in (0, 1) for kind in listed):
        raise BadModel(f"{fields.origin}: attn_type_list must be {layers} of 0 or 1")
    return [FULL if kind else LINEAR for kind in listed]


def lfm2(fields: Fields) -> Model:
    """LFM2 (Liquid AI 2025): gated convolutions, and attention in some layers."""
    width = fields.size("block_ff_dim" if fields.has("block_ff_dim") else "intermediate_size")
    fields.use("block_ff_dim", "intermediate_size")
    mlp = Mlp(_adjusted(fields, width), gated=True)
    return _convolutions(fields, [mlp] * fields.layers("num_hidden_layers"))


def lfm2_moe(fields: Fields) -> Model:
    """LFM2 with experts after the first num_dense_layers."""
    layers, dense = fields.layers("num_hidden_layers"), fields.count("num_dense_layers", 2)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    experts = routed_experts(fields, "num_experts", fields.size("moe_intermediate_size"))
    fields.use("use_expert_bias")
    return _convolutions(fields, [mlp if i < dense else experts for i in range(layers)])


def _adjusted(fields: Fields, width: int) -> int:
    """Two thirds of the width, times a factor, rounded up to a multiple, where the file says so."""
    multiple = fields.size("block_multiple_of", MULTIPLE_OF)
    factor = fields.get("block_ffn_dim_multiplier")
    factor = 1.0 if factor is None else factor
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < 100:
        raise BadModel(f"{fields.origin}: block_ffn_dim_multiplier must be a positive number, not {factor!r}")
    if not fields.flag("block_auto_adjust_ff_dim", default=True):
        return width
    return -(-int(factor * int(2 * width / 3)) // multiple) * multiple


def _convolutions(fields: Fields, mlps: list[Mlp] | list[Mlp | Experts]) -> Model:
    hidden, layers = fields.size("hidden_size"), len(mlps)
    types, full = layer_types(fields, (FULL, CONV)), fields.items("full_attn_idxs")
    fields.use("full_attn_idxs", *CODE)
    if types is None:
        types = [FULL if i in full or not full else CONV for i in range(layers)]
    conv = GatedConv(hidden, fields.size("conv_L_cache", 3), fields.flag("conv_bias", default=False))
    mixers: dict[str, Mixer] = {FULL: grouped_attention(fields, qk_norm=True), CONV: conv}
    tied = fields.flag("tie_embedding", default=True)
    blocks = [Block(1, hidden, mixers[kind], mlp, 2 * hidden) for kind, mlp in zip(types, mlps, strict=True)]
    return decoder(fields, blocks, tied=tied)
