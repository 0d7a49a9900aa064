"""Latent attention and experts: DeepSeek-V2, DeepSeek-V3."""

import itertools

from predict.errors import BadModel
from predict.model.attention import LatentAttention
from predict.model.config.fields import Fields
from predict.model.config.parts import rms_model, routed_experts
from predict.model.mlp import Mlp
from predict.model.transformer import Model


def deepseek(fields: Fields) -> Model:
    """DeepSeek-V2 and V3: dense layers first, then experts."""
    if not fields.has("q_lora_rank"):
        raise BadModel(f"{fields.origin}: q_lora_rank is missing (use null if Q is projected directly)")
    attention = LatentAttention(
        heads=fields.size("num_attention_heads"),
        query_rank=fields.size_or_none("q_lora_rank"),
        kv_rank=fields.size("kv_lora_rank"),
        nope_dim=fields.size("qk_nope_head_dim"),
        rope_dim=fields.size("qk_rope_head_dim"),
        value_dim=fields.size("v_head_dim"),
        bias=fields.flag("attention_bias", default=False),
    )
    bias = fields.architecture == "deepseek_v2" and fields.flag("mlp_bias", default=False)
    dense = Mlp(fields.size("intermediate_size"), gated=True, bias=bias)
    width, shared = fields.size("moe_intermediate_size"), fields.count("n_shared_experts")
    together = Mlp(shared * width, gated=True, bias=bias) if shared else None
    experts = routed_experts(fields, "n_routed_experts", width, together)
    first = fields.count("first_k_dense_replace")
    mlps = (dense if i < first else experts for i in itertools.count())
    return rms_model(fields, attention, mlps)
