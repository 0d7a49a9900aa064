"""Layouts of code that is published beside the weights: InternLM, Qwen 1, ChatGLM, DeepSeek-MoE, MiniCPM, DeciLM."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from predict.errors import BadModel
from predict.model.attention import Attention
from predict.model.config.dense import llama, qwen2
from predict.model.config.fields import Fields
from predict.model.config.latent import plain_deepseek
from predict.model.config.layernorm import falcon
from predict.model.config.layers import decoder
from predict.model.config.parts import grouped_attention, rms_model, routed_experts
from predict.model.mlp import Mlp
from predict.model.transformer import Block, Model


def internlm(fields: Fields) -> Model:
    """InternLM and InternLM2: `bias` is about attention only."""
    bias = fields.flag("bias", default=True)
    fields.use("attn_implementation")
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    return rms_model(fields, attention, itertools.repeat(Mlp(fields.size("intermediate_size"), gated=True)))


def baichuan(fields: Fields) -> Model:
    """Baichuan 1 and 2: Llama's layout; the 13B models have ALiBi, and say their context as model_max_length."""
    fields.use("z_loss_weight", "_from_model_config")
    context = fields.size_or_none("max_position_embeddings") or fields.size_or_none("model_max_length")
    return llama(fields.with_defaults({"max_position_embeddings": context} if context else {}))


def exaone(fields: Fields) -> Model:
    """EXAONE 3: Llama's layout."""
    fields.use("embed_dropout")
    return llama(fields)


def mimo(fields: Fields) -> Model:
    """MiMo-7B: Qwen2's layout."""
    fields.agrees("attention_bias", value=True)
    fields.agrees("use_mrope", value=False)
    return qwen2(fields)


def qwen(fields: Fields) -> Model:
    """Qwen (2023): biases on Q, K and V; `intermediate_size` counts gate and up together."""
    heads = fields.size("num_attention_heads")
    head_dim = fields.size_or_none("kv_channels") or fields.divided("hidden_size", "num_attention_heads")
    attention = Attention(heads, heads, head_dim, qkv_bias=True)
    bias = not fields.flag("no_bias", default=True)
    mlp = Mlp(fields.size("intermediate_size") // 2, gated=True, bias=bias)
    fields.use("bf16", "fp16", "fp32", "onnx_safe", "use_cache_quantization", "use_cache_kernel")
    return rms_model(fields, replace(attention, output_bias=bias), itertools.repeat(mlp))


def chatglm(fields: Fields) -> Model:
    """ChatGLM2, ChatGLM3 and GLM-4-9B as first published. Raises BadModel for the first ChatGLM-6B."""
    if fields.has("position_encoding_2d"):
        raise BadModel(f"{fields.origin}: the first ChatGLM-6B is not read; ChatGLM2, ChatGLM3 and GLM-4 are")
    bias = fields.flag("add_bias_linear", default=False)
    heads = fields.size("num_attention_heads")
    kv_heads = fields.size("multi_query_group_num", 1) if fields.flag("multi_query_attention", default=False) else heads
    head_dim = fields.size_or_none("kv_channels") or fields.divided("hidden_size", "num_attention_heads")
    attention = Attention(heads, kv_heads, head_dim, fields.flag("add_qkv_bias", default=False) or bias, bias)
    mlp = Mlp(fields.size("ffn_hidden_size"), gated=True, bias=bias)
    fields.agrees("rmsnorm", value=True)
    fields.agrees("post_layer_norm", value=True)
    fields.agrees("pre_seq_len", value=None)
    fields.use("original_rope", "prefix_projection", "quantization_bit")
    return rms_model(fields, attention, itertools.repeat(mlp))


def deepseek(fields: Fields) -> Model:
    """DeepSeek-LLM as Llama, and DeepSeek-MoE 16B (2024)."""
    return llama(fields) if fields.get("n_routed_experts") is None else plain_deepseek(fields)


def minicpm(fields: Fields) -> Model:
    """MiniCPM 1 and 2: Llama's layout with tied embeddings; experts as wide as the dense MLP if there are any."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    width = fields.size("intermediate_size")
    mlp = routed_experts(fields, "num_experts", width) if fields.count("num_experts", 0) else Mlp(width, gated=True)
    fields.use("num_experts_per_tok")
    return rms_model(fields, attention, itertools.repeat(mlp), tied=True)


def refined_web(fields: Fields) -> Model:
    """Falcon-40B as first published."""
    return falcon(fields.with_defaults({"new_decoder_architecture": True}))


def deci(fields: Fields) -> Model:
    """DeciLM (Llama-Nemotron Super and Ultra): Llama whose layers have other KV heads or widths, or lack a part.

    `block_configs` has an entry for each layer. Raises BadModel for a part that is one matrix or has a window.
    """
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    head_dim = fields.size_or_none("head_dim") or fields.divided("hidden_size", "num_attention_heads")
    bias = fields.flag("attention_bias", default=False)
    entries = fields.items("block_configs")
    if len(entries) != (layers := fields.layers("num_hidden_layers")):
        raise BadModel(f"{fields.origin}: block_configs has {len(entries)} entries for num_hidden_layers={layers}")
    mlp_bias = fields.flag("mlp_bias", default=False)
    blocks = []
    for entry in _entries(fields, entries):
        mixer = _deci_attention(entry, heads, head_dim, bias=bias)
        mlp = _deci_mlp(entry, hidden, bias=mlp_bias)
        blocks.append(Block(1, hidden, mixer, mlp, hidden * ((mixer is not None) + (mlp is not None))))
    fields.use("intermediate_size", "num_key_value_heads")
    return decoder(fields, blocks)


def _entries(fields: Fields, entries: list[object]) -> Iterator[Fields]:
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise BadModel(f"{fields.origin}: block_configs must list JSON objects, not {entry!r}")
        yield Fields(entry, f"{fields.origin} (block_configs, layer {number})", fields.name, fields.architecture)


def _deci_attention(entry: Fields, heads: int, head_dim: int, *, bias: bool) -> Attention | None:
    part = _deci_part(entry, "attention")
    if part is None:
        return None
    group = part.size("n_heads_in_group")
    if heads % group:
        raise BadModel(f"{part.origin}: {heads} heads are not a multiple of n_heads_in_group={group}")
    if part.get("window_length") is not None:
        raise BadModel(f"{part.origin}: window_length is not read")
    return Attention(heads, heads // group, head_dim, bias, bias)


def _deci_mlp(entry: Fields, hidden: int, *, bias: bool) -> Mlp | None:
    """Its width is 2/3 of ffn_mult times the hidden width, rounded up to 256."""
    part = _deci_part(entry, "ffn")
    if part is None:
        return None
    factor = part.get("ffn_mult")
    if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not 0 < factor < 1000:
        raise BadModel(f"{part.origin}: ffn_mult must be a positive number, not {factor!r}")
    return Mlp(-(-int(2 * factor * hidden / 3) // 256) * 256, gated=True, bias=bias)


def _deci_part(entry: Fields, name: str) -> Fields | None:
    part = entry.inside(name)
    if part is None or part.flag("no_op", default=False):
        return None
    if part.flag("replace_with_linear", default=False):
        raise BadModel(f"{part.origin}: a part that is one matrix (replace_with_linear) is not read")
    return part
