"""Latent attention: DeepSeek-V2 and V3, Kimi K2, GLM-4.7-Flash, MiniCPM3."""

import itertools

from predict.errors import BadModel
from predict.model.attention import LatentAttention
from predict.model.config.fields import Fields
from predict.model.config.parts import dense_then_experts, grouped_attention, rms_model
from predict.model.mlp import Mlp
from predict.model.transformer import Model


def deepseek(fields: Fields) -> Model:
    """DeepSeek-V2 and V3, Kimi K2: dense layers first, then experts. DeepSeek-VL2's text may have plain attention."""
    if not fields.flag("use_mla", default=True):
        return plain_deepseek(fields)
    bias = fields.architecture == "deepseek_v2" and fields.flag("mlp_bias", default=False)
    return rms_model(fields, latent_attention(fields), dense_then_experts(fields, bias=bias))


def plain_deepseek(fields: Fields) -> Model:
    """DeepSeek-MoE (2024): Llama's attention; dense layers first, then experts."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    fields.use("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    return rms_model(fields, attention, dense_then_experts(fields))


def glm4_moe_lite(fields: Fields) -> Model:
    """GLM-4.7-Flash: DeepSeek-V3's layout. One dense layer unless the configuration says otherwise."""
    fields = fields.with_defaults({"first_k_dense_replace": 1})
    return rms_model(fields, latent_attention(fields), dense_then_experts(fields))


def mistral4(fields: Fields) -> Model:
    """Mistral 4 (2026): DeepSeek-V3's layout, experts in every layer unless the configuration says otherwise."""
    fields = fields.with_defaults({"first_k_dense_replace": 0, "n_shared_experts": 1})
    return rms_model(fields, latent_attention(fields), dense_then_experts(fields))


def minicpm3(fields: Fields) -> Model:
    """MiniCPM3: latent attention, a dense MLP in every layer."""
    width = fields.size("hidden_size") // fields.size("num_attention_heads")
    attention = latent_attention(fields.with_defaults({"v_head_dim": width}))
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    return rms_model(fields, attention, itertools.repeat(mlp), tied=True)


def latent_attention(fields: Fields) -> LatentAttention:
    """Latent attention by DeepSeek's names. Raises BadModel if it is not said whether Q has a latent."""
    if not fields.has("q_lora_rank"):
        raise BadModel(f"{fields.origin}: q_lora_rank is missing (use null if Q is projected directly)")
    fields.use("num_key_value_heads", "head_dim", "qk_head_dim")  # follow from the others
    return LatentAttention(
        heads=fields.size("num_attention_heads"),
        query_rank=fields.size_or_none("q_lora_rank"),
        kv_rank=fields.size("kv_lora_rank"),
        nope_dim=fields.size("qk_nope_head_dim"),
        rope_dim=fields.size("qk_rope_head_dim"),
        value_dim=fields.size("v_head_dim"),
        bias=fields.flag("attention_bias", default=False),
    )
