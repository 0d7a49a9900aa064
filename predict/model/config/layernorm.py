"""Decoders with LayerNorms: GPT-NeoX, Falcon, MPT, BLOOM, GPT-J, StarCoder, Phi, Cohere, Nemotron, StableLM."""

import itertools
from dataclasses import replace

from predict.model.attention import Attention
from predict.model.config.fields import Fields
from predict.model.config.parts import every_nth_full, grouped_attention, multi_head, rms_model, with_wide_norms
from predict.model.elementwise import LAYER, LAYER_FP32, LAYER_WITHOUT_BIAS, Elementwise
from predict.model.mlp import Mlp
from predict.model.transformer import Model

LAYER_NORMS = Elementwise(LAYER)
PARALLEL = Elementwise(LAYER, parallel=True)
COHERE = Elementwise(LAYER_FP32, parallel=True)


def gpt_neox(fields: Fields) -> Model:
    """GPT-NeoX (Black et al. 2022) and Pythia."""
    bias = fields.flag("attention_bias", default=True)
    elementwise = PARALLEL if fields.flag("use_parallel_residual", default=True) else LAYER_NORMS  # two norms in both
    attention = multi_head(fields, "hidden_size", "num_attention_heads", bias=bias)
    mlp = Mlp(fields.size("intermediate_size"), gated=False, bias=True)
    return rms_model(fields, attention, itertools.repeat(mlp), elementwise=elementwise)


def gptj(fields: Fields) -> Model:
    """GPT-J (Wang and Komatsuzaki 2021): attention and MLP share a norm; the vocabulary has a bias."""
    attention = multi_head(fields, "n_embd", "n_head", bias=False)
    mlp = Mlp(fields.size("n_inner", 4 * fields.size("n_embd")), gated=False, bias=True)
    return rms_model(fields, attention, itertools.repeat(mlp), norms=1, elementwise=PARALLEL, head_bias=True)


def gpt_bigcode(fields: Fields) -> Model:
    """SantaCoder and StarCoder (Li et al. 2023): GPT-2 with one KV head."""
    attention = multi_head(fields, "n_embd", "n_head", bias=True)
    if fields.flag("multi_query", default=True):
        attention = replace(attention, kv_heads=1)
    hidden, positions = fields.size("n_embd"), fields.size("n_positions")
    mlp = Mlp(fields.size("n_inner", 4 * hidden), gated=False, bias=True)
    model = rms_model(fields, attention, itertools.repeat(mlp), elementwise=LAYER_NORMS, tied=True)
    return replace(model, position_params=positions * hidden)


def falcon(fields: Fields) -> Model:
    """Falcon (Almazrouei et al. 2023): one KV head in the first 7B, some in those of the new decoder architecture."""
    hidden, bias = fields.size("hidden_size"), fields.flag("bias", default=False)
    attention = multi_head(fields, "hidden_size", "num_attention_heads", bias=bias)
    new = fields.flag("new_decoder_architecture", default=False)
    one, heads = fields.flag("multi_query", default=True), fields.size("num_kv_heads", attention.heads)
    if new or one:
        attention = replace(attention, kv_heads=heads if new else 1)
    norms = 2 if fields.count("num_ln_in_parallel_attn", 2 if new else 1) == 2 else 1
    elementwise = PARALLEL
    if not fields.flag("parallel_attn", default=True):
        norms, elementwise = 2, LAYER_NORMS
    mlp = Mlp(fields.size("ffn_hidden_size", 4 * hidden), gated=False, bias=bias)
    fields = fields.with_defaults({"max_position_embeddings": 2048})  # published files leave it out
    return rms_model(fields, attention, itertools.repeat(mlp), norms=norms, elementwise=elementwise, tied=True)


def mpt(fields: Fields) -> Model:
    """MPT (MosaicML 2023): no biases, not even in the norms; positions by ALiBi."""
    fields.agrees("no_bias", value=True)
    fields.agrees("expansion_ratio", value=4)
    fields.use("learned_pos_emb")
    if inner := fields.inside("attn_config"):
        inner.agrees("attn_type", value="multihead_attention")
        inner.agrees("qk_ln", value=False)
        inner.agrees("sliding_window_size", value=-1)
        inner.use("rope", "rope_impl", "rope_dail_config", "rope_hf_config")
    attention = multi_head(fields, "d_model", "n_heads", bias=False)
    mlp = Mlp(4 * fields.size("d_model"), gated=False)
    return rms_model(fields, attention, itertools.repeat(mlp), elementwise=Elementwise(LAYER_WITHOUT_BIAS), tied=True)


def bloom(fields: Fields) -> Model:
    """BLOOM (2022): a norm after the embedding; positions by ALiBi."""
    hidden = fields.size("hidden_size")
    attention = multi_head(fields, "hidden_size", "num_attention_heads", bias=True)
    mlp = Mlp(4 * hidden, gated=False, bias=True)
    return rms_model(fields, attention, itertools.repeat(mlp), elementwise=LAYER_NORMS, outer_norms=2, tied=True)


def starcoder2(fields: Fields) -> Model:
    """StarCoder2 (Lozhkov et al. 2024): GPT-2's MLP with grouped attention and a window."""
    bias = fields.flag("use_bias", default=True)
    fields.agrees("mlp_type", value="default")
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias)
    mlp = Mlp(fields.size("intermediate_size"), gated=False, bias=bias)
    windows = itertools.repeat(fields.size_or_none("sliding_window"))
    return rms_model(fields, attention, itertools.repeat(mlp), windows, elementwise=LAYER_NORMS, tied=True)


def phi(fields: Fields) -> Model:
    """Phi-1, Phi-1.5 and Phi-2: attention and MLP share a norm; the vocabulary has a bias."""
    attention = grouped_attention(fields, qkv_bias=True, output_bias=True, mha_if_absent=True)
    if fields.flag("qk_layernorm", default=False):
        attention = replace(attention, extra_params=4 * attention.head_dim)  # weight and bias, of Q and of K
    mlp = Mlp(fields.size("intermediate_size"), gated=False, bias=True)
    return rms_model(fields, attention, itertools.repeat(mlp), norms=1, elementwise=PARALLEL, head_bias=True)


def cohere(fields: Fields) -> Model:
    """Command R and R+: attention and MLP share a norm without a bias; R+ has norms on Q and K, each head's its own."""
    model_length = fields.size_or_none("model_max_length")  # Command R's files have the trained length there
    if model_length:
        fields = replace(fields, values={**fields.values, "max_position_embeddings": model_length})
    attention = _cohere_attention(fields)
    if fields.flag("use_qk_norm", default=False):
        attention = with_wide_norms(attention)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return rms_model(fields, attention, itertools.repeat(mlp), norms=1, elementwise=COHERE, tied=True)


def cohere2(fields: Fields) -> Model:
    """Command R7B and Command A: windows in most layers."""
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    for name in ("use_gated_activation", "use_parallel_block", "use_embedding_sharing"):
        fields.agrees(name, value=True)
    fields.agrees("use_qk_norm", value=False)
    fields.use("order_of_interleaved_layers", "use_parallel_embedding", "cache_implementation")
    windows = every_nth_full(fields, 4, 4096)
    return rms_model(
        fields, _cohere_attention(fields), itertools.repeat(mlp), windows, norms=1, elementwise=COHERE, tied=True
    )


def _cohere_attention(fields: Fields) -> Attention:
    bias = fields.flag("attention_bias", default=False)
    return grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)


def nemotron(fields: Fields) -> Model:
    """Nemotron-4 and Minitron: an MLP without a gate."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    mlp = Mlp(fields.size("intermediate_size"), gated=False, bias=fields.flag("mlp_bias", default=False))
    return rms_model(fields, attention, itertools.repeat(mlp), elementwise=LAYER_NORMS)


def stablelm(fields: Fields) -> Model:
    """StableLM 2: norms on Q and K, if any, are each head's own; parallel layers have one norm."""
    attention = grouped_attention(fields, qkv_bias=fields.flag("use_qkv_bias", default=False), mha_if_absent=True)
    if fields.flag("qk_layernorm", default=False):
        attention = with_wide_norms(attention)
    parallel = fields.flag("use_parallel_residual", default=False)
    norms, elementwise = (1, PARALLEL) if parallel else (2, LAYER_NORMS)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return rms_model(fields, attention, itertools.repeat(mlp), norms=norms, elementwise=elementwise)
