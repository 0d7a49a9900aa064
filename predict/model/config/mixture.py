"""Mixtures of experts with grouped attention: Mixtral, Qwen3-MoE."""

import itertools

from predict.model.config.fields import Fields
from predict.model.config.parts import grouped_attention, rms_model, routed_experts
from predict.model.mlp import Mlp
from predict.model.transformer import Model


def mixtral(fields: Fields) -> Model:
    """Mixtral (Jiang et al. 2024): every layer has experts."""
    experts = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"))
    windows = itertools.repeat(fields.size_or_none("sliding_window"))
    return rms_model(fields, grouped_attention(fields), itertools.repeat(experts), windows)


def qwen3_moe(fields: Fields) -> Model:
    """Qwen3 with experts in some layers or in all."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True)
    dense = Mlp(fields.size("intermediate_size"), gated=True)
    experts = routed_experts(fields, "num_experts", fields.size("moe_intermediate_size"))
    only_dense, step = fields.items("mlp_only_layers"), fields.size("decoder_sparse_step", 1)
    mlps = (dense if i in only_dense or (i + 1) % step else experts for i in range(fields.layers("num_hidden_layers")))
    windows = itertools.repeat(
        fields.size_or_none("sliding_window") if fields.flag("use_sliding_window", default=False) else None
    )
    return rms_model(fields, attention, mlps, windows)
