"""Mamba layers among layers of attention, or beside it: Jamba, Bamba, Granite 4, Falcon-H1, by the fields mamba_*."""

import math
from collections.abc import Callable
from dataclasses import replace

from predict.errors import BadModel
from predict.model.config.fields import Fields
from predict.model.config.hybrid import state_bits
from predict.model.config.layers import FULL, LINEAR, decoder
from predict.model.config.mamba import CODE, layer_kinds
from predict.model.config.parts import grouped_attention, routed_experts
from predict.model.mixer import Mixer
from predict.model.mlp import Experts, Mlp
from predict.model.side_by_side import SideBySide
from predict.model.state_space import Mamba, Mamba2
from predict.model.transformer import Block, Model

MULTIPLIERS = (  # of Falcon-H1
    "attention_in_multiplier",
    "attention_out_multiplier",
    "key_multiplier",
    "lm_head_multiplier",
    "mlp_expansion_factor",
    "mlp_multipliers",
    "ssm_in_multiplier",
    "ssm_multipliers",
    "ssm_out_multiplier",
)


def jamba(fields: Fields) -> Model:
    """Jamba (AI21 2024): attention in every attn_layer_period-th layer, experts in every expert_layer_period-th."""
    hidden, layers = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    attention = grouped_attention(fields, mha_if_absent=True)
    rank = fields.get("mamba_dt_rank")
    mamba = Mamba(
        fields.size("mamba_expand", 2) * hidden,
        fields.size("mamba_d_state", 16),
        math.ceil(hidden / 16) if rank in (None, "auto") else fields.size("mamba_dt_rank"),
        fields.size("mamba_d_conv", 4),
        fields.flag("mamba_proj_bias", default=False),
        fields.flag("mamba_conv_bias", default=True),
        norms=True,
    )
    fields.use(*CODE)
    width = fields.size("intermediate_size")
    dense, copies = Mlp(width, gated=True), fields.size("num_experts", 16)
    experts = routed_experts(fields, "num_experts", width) if copies > 1 else dense
    attends = _every(fields, "attn", 8, 4)
    mixes = _every(fields, "expert", 2, 1)
    blocks = [
        Block(1, hidden, attention if attends(i) else mamba, experts if mixes(i) else dense, 2 * hidden)
        for i in range(layers)
    ]
    return decoder(fields, blocks)


def bamba(fields: Fields) -> Model:
    """Bamba (IBM 2024): Mamba-2, and attention in the layers of attn_layer_indices."""
    layers, attends = fields.layers("num_hidden_layers"), fields.items("attn_layer_indices")
    fields.use("layers_block_type", "layer_types", "z_loss_coefficient")
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    kinds = [FULL if i in attends else LINEAR for i in range(layers)]
    return _mamba_2_hybrid(fields, kinds, mlp)


def granite_hybrid(fields: Fields) -> Model:
    """Granite 4 (IBM 2025): Mamba-2 and attention, one MLP in every layer, and experts beside it if there are any."""
    kinds = layer_kinds(fields, "layer_types") if fields.items("layer_types") else None
    layers = fields.layers("num_hidden_layers")
    if kinds is not None and len(kinds) != layers:
        raise BadModel(f"{fields.origin}: layer_types has {len(kinds)} entries for num_hidden_layers={layers}")
    mlp: Mlp | Experts = Mlp(fields.size("shared_intermediate_size"), gated=True)
    if fields.count("num_local_experts"):
        assert isinstance(mlp, Mlp)
        mlp = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"), mlp)
    fields.use("intermediate_size", "num_experts_per_tok")
    return _mamba_2_hybrid(fields, kinds or [LINEAR] * layers, mlp)


def falcon_h1(fields: Fields) -> Model:
    """Falcon-H1 (TII 2025): attention and Mamba-2 read the same input in every layer."""
    hidden = fields.size("hidden_size")
    width = fields.size_or_none("mamba_d_ssm") or fields.size("mamba_expand", 2) * hidden
    fields.use("mamba_expand", "mamba_norm_before_gate", "mamba_use_mlp", *MULTIPLIERS)
    mamba = _mamba_2(fields, width, norm=fields.flag("mamba_rms_norm", default=False))
    mamba = replace(mamba, out_bias=fields.flag("projectors_bias", default=False))
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    mixer = SideBySide((_attention(fields), mamba))
    return decoder(fields, [Block(fields.layers("num_hidden_layers"), hidden, mixer, mlp, 2 * hidden)])


def _mamba_2_hybrid(fields: Fields, kinds: list[str], mlp: Mlp | Experts) -> Model:
    """Layers of one MLP that differ in their mixer."""
    hidden = fields.size("hidden_size")
    mixers: dict[str, Mixer] = {}
    if LINEAR in kinds:
        mixers[LINEAR] = _mamba_2(fields, fields.size("mamba_expand", 2) * hidden, norm=True)
    if FULL in kinds:
        mixers[FULL] = _attention(fields)
    if unknown := [kind for kind in kinds if kind not in mixers]:
        raise BadModel(f"{fields.origin}: unknown kind of layer {unknown[0]!r}; known: {FULL}, {LINEAR}")
    return decoder(fields, [Block(1, hidden, mixers[kind], mlp, 2 * hidden) for kind in kinds])


def _attention(fields: Fields) -> Mixer:
    bias = fields.flag("attention_bias", default=False)
    return grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)


def _mamba_2(fields: Fields, width: int, *, norm: bool) -> Mamba2:
    """Mamba-2 of `width` channels. Raises BadModel if the heads do not give them."""
    fields.use(*CODE)
    heads = fields.size("mamba_n_heads", 128)
    auto = fields.get("mamba_d_head") in (None, "auto")
    if width % heads or (not auto and fields.size("mamba_d_head") * heads != width):
        dim = "" if auto else f" of mamba_d_head={fields.size('mamba_d_head')}"
        raise BadModel(f"{fields.origin}: mamba_n_heads={heads}{dim} do not give the {width} channels of Mamba-2")
    return Mamba2(
        heads,
        width // heads,
        fields.size("mamba_n_groups", 1),
        fields.size("mamba_d_state", 256),
        fields.size("mamba_d_conv", 4),
        fields.flag("mamba_proj_bias", default=False),
        fields.flag("mamba_conv_bias", default=True),
        norm,
        state_bits(fields, "mamba_ssm_cache_dtype"),
    )


def _every(fields: Fields, name: str, period: int, first: int) -> Callable[[int], bool]:
    """Whether a layer is one of those of `name`_layer_period, from `name`_layer_offset on."""
    every, offset = fields.size(f"{name}_layer_period", period), fields.count(f"{name}_layer_offset", first)
    if offset >= every:
        raise BadModel(f"{fields.origin}: {name}_layer_offset={offset} is not below {name}_layer_period={every}")
    return lambda layer: layer % every == offset
