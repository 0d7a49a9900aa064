"""Gated delta net in most layers, gated full attention in the rest: Qwen3-Next, Qwen3.5."""

from dataclasses import replace

from predict.errors import BadModel
from predict.model.config.fields import Fields
from predict.model.config.layers import FULL, LINEAR, decoder, layer_types
from predict.model.config.parts import grouped_attention, routed_experts
from predict.model.elementwise import RMS_FP32, Elementwise
from predict.model.linear_attention import GatedDeltaNet
from predict.model.mlp import Experts, Mlp
from predict.model.transformer import Block, Model

STATE_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


def qwen3_next(fields: Fields) -> Model:
    """Qwen3-Next: experts in all layers, or in every `decoder_sparse_step`-th."""
    only_dense, step = fields.items("mlp_only_layers"), fields.size("decoder_sparse_step", 1)
    layers = range(fields.layers("num_hidden_layers"))
    fields.use("intermediate_size")  # of layers without experts
    is_dense = [i in only_dense or (i + 1) % step != 0 for i in layers]
    dense = Mlp(fields.size("intermediate_size"), gated=True) if any(is_dense) else None
    experts = _experts(fields)
    return _hybrid(fields, [dense if each else experts for each in is_dense])


def qwen3_5(fields: Fields) -> Model:
    """Qwen3.5: an MLP in every layer."""
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return _hybrid(fields, [mlp] * fields.layers("num_hidden_layers"))


def qwen3_5_moe(fields: Fields) -> Model:
    """Qwen3.5 with experts in every layer."""
    fields.use("intermediate_size", "mlp_only_layers", "decoder_sparse_step")
    return _hybrid(fields, [_experts(fields)] * fields.layers("num_hidden_layers"))


def state_bits(fields: Fields, name: str) -> int | None:
    """Bits of a recurrent state by a field that names a format; None if the field is null or absent. Raises BadModel
    for another format."""
    named = fields.text(name)
    if named is None:
        return None
    if named not in STATE_BITS:
        raise BadModel(f"{fields.origin}: {name} must be one of {', '.join(STATE_BITS)}, not {named!r}")
    return STATE_BITS[named]


def _hybrid(fields: Fields, mlps: list[Mlp | Experts | None]) -> Model:
    hidden, layers = fields.size("hidden_size"), len(mlps)
    types, interval = layer_types(fields, (FULL, LINEAR)), fields.size("full_attention_interval", 4)
    if types is None:
        types = [LINEAR if (i + 1) % interval else FULL for i in range(layers)]
    bias = fields.flag("attention_bias", default=False)
    fields.use("attn_output_gate")  # the code has the gate whatever the field says
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True, head_dim_default=256)
    mixers = {FULL: replace(attention, gated=True), LINEAR: _delta_net(fields)}
    blocks = [
        Block(1, hidden, mixers[kind], mlp, 2 * hidden, elementwise=Elementwise(RMS_FP32))
        for kind, mlp in zip(types, mlps, strict=True)
    ]
    return decoder(fields, blocks)


def _delta_net(fields: Fields) -> GatedDeltaNet:
    return GatedDeltaNet(
        key_heads=fields.size("linear_num_key_heads"),
        value_heads=fields.size("linear_num_value_heads"),
        key_dim=fields.size("linear_key_head_dim"),
        value_dim=fields.size("linear_value_head_dim"),
        kernel=fields.size("linear_conv_kernel_dim"),
        state_bits=state_bits(fields, "mamba_ssm_dtype"),
    )


def _experts(fields: Fields) -> Experts:
    shared = Mlp(fields.size("shared_expert_intermediate_size"), gated=True)
    experts = routed_experts(fields, "num_experts", fields.size("moe_intermediate_size"), shared)
    return replace(experts, shared_gate=True)
