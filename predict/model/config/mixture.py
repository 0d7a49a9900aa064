"""Mixtures of experts with grouped attention: Mixtral, Qwen, gpt-oss, GLM, MiniMax, ERNIE, Llama 4, Granite, Phi."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from predict.errors import BadModel
from predict.model.attention import Attention
from predict.model.config.fields import Fields
from predict.model.config.parts import (
    dense_then_experts,
    exaone_windows,
    grouped_attention,
    hunyuan_attention,
    qwen_mlps,
    rms_model,
    routed_experts,
    with_wide_norms,
)
from predict.model.elementwise import LAYER, LAYER_WITHOUT_BIAS, RMS_FP32, Elementwise
from predict.model.mlp import Mlp
from predict.model.transformer import Model


def mixtral(fields: Fields) -> Model:
    """Mixtral (Jiang et al. 2024): every layer has experts."""
    experts = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"))
    windows = itertools.repeat(fields.size_or_none("sliding_window"))
    return rms_model(fields, grouped_attention(fields), itertools.repeat(experts), windows)


def qwen3_moe(fields: Fields) -> Model:
    """Qwen3 with experts in some layers or in all."""
    fields.agrees("use_qk_norm", value=True)
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True)
    experts = routed_experts(fields, "num_experts", fields.size("moe_intermediate_size"))
    fields.use("sliding_window", "max_window_layers")
    slides = fields.flag("use_sliding_window", default=False)
    windows = itertools.repeat(fields.size_or_none("sliding_window") if slides else None)
    return rms_model(fields, attention, qwen_mlps(fields, experts), windows)


def gpt_oss(fields: Fields) -> Model:
    """gpt-oss (2025): a sink for each head, biases everywhere, also in router and experts; a window in every other
    layer."""
    bias = fields.flag("attention_bias", default=True)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, head_dim_default=64)
    attention = replace(attention, extra_params=attention.heads)
    experts = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"))
    experts = replace(experts, bias=True, router_bias=True)
    fields.use("initial_context_length", "experts_per_token")
    window = fields.size_or_none("sliding_window") if fields.has("sliding_window") else 128
    windows = itertools.cycle((window, None))
    elementwise = Elementwise(RMS_FP32)
    return rms_model(fields, attention, itertools.repeat(experts), windows, elementwise=elementwise)


def qwen2_moe(fields: Fields) -> Model:
    """Qwen1.5-MoE and Qwen2-MoE: a gate weighs the shared expert."""
    attention = grouped_attention(fields, qkv_bias=fields.flag("qkv_bias", default=True))
    shared = Mlp(fields.size("shared_expert_intermediate_size"), gated=True)
    experts = routed_experts(fields, "num_experts", fields.size("moe_intermediate_size"), shared)
    experts = replace(experts, shared_gate=True)
    windows: Iterator[int | None] = itertools.repeat(None)
    fields.use("sliding_window", "max_window_layers")
    if fields.flag("use_sliding_window", default=False):
        window, first_full = fields.size("sliding_window", 4096), fields.count("max_window_layers", 28)
        windows = (window if i % 2 == 0 and i < first_full else None for i in itertools.count())
    return rms_model(fields, attention, qwen_mlps(fields, experts), windows)


def glm4_moe(fields: Fields) -> Model:
    """GLM-4.5 to 4.7, and dots.llm1: dense layers first, then experts and shared experts."""
    is_dots, with_vision = fields.architecture == "dots1", fields.architecture.startswith("glm4v")
    bias = fields.flag("attention_bias", default=with_vision)
    qk_norm = is_dots or (fields.flag("use_qk_norm", default=False) and not with_vision)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias and is_dots, qk_norm=qk_norm)
    windows = _dots_windows(fields) if is_dots else None
    return rms_model(fields, attention, dense_then_experts(fields), windows)


def _dots_windows(fields: Fields) -> Iterator[int | None]:
    """The window of each layer of dots.llm1: none below max_window_layers."""
    window = fields.size_or_none("sliding_window") if fields.has("sliding_window") else 4096
    first = fields.count("max_window_layers", 62)
    return (window if i >= first else None for i in itertools.count())


def minimax_m2(fields: Fields) -> Model:
    """MiniMax-M2 (2025): the norms on Q and K are as wide as all heads together."""
    attention = with_wide_norms(grouped_attention(fields, head_dim_default=128))
    fields.agrees("use_qk_norm", value=True)
    fields.agrees("attn_type_list", value=[1] * fields.layers("num_hidden_layers"))
    fields.agrees("shared_intermediate_size", value=0)
    fields.use("qk_norm_type", "shared_moe_mode", "mlp_intermediate_size")
    experts = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"))
    return rms_model(fields, attention, itertools.repeat(experts))


def ernie4_5_moe(fields: Fields) -> Model:
    """ERNIE 4.5 with experts: dense layers first; the router has a correction for each expert."""
    bias = fields.flag("use_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    dense = Mlp(fields.size("intermediate_size"), gated=True, bias=bias)
    width, count = fields.size("moe_intermediate_size"), fields.count("moe_num_shared_experts", 2)
    shared = Mlp(count * width, gated=True, bias=bias) if count else None
    experts = routed_experts(fields, "moe_num_experts", width, shared)
    experts = replace(experts, extra_params=experts.copies)
    layers, every = fields.layers("num_hidden_layers"), fields.size("moe_layer_interval", 1)
    first, last = fields.count("moe_layer_start_index", 1), fields.get("moe_layer_end_index")
    last = last if isinstance(last, int) and last >= 0 else layers - 1
    mlps = (experts if (i + 1) % every == 0 and first <= i <= last else dense for i in range(layers))
    return rms_model(fields, attention, mlps, tied=True, head_bias=bias)


def llama4(fields: Fields) -> Model:
    """Llama 4 (2025): a shared expert beside the routed ones, in every layer or every other; three of four layers
    attend within their chunk. Its norms on Q and K have no weights."""
    bias = fields.flag("attention_bias", default=False)
    fields.use("use_qk_norm", "for_llm_compressor")
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, head_dim_default=128)
    width = fields.size("intermediate_size")
    experts = routed_experts(fields, "num_local_experts", width, Mlp(width, gated=True), active_default=1)
    dense = Mlp(fields.size("intermediate_size_mlp"), gated=True)
    layers, every = fields.layers("num_hidden_layers"), fields.size("interleave_moe_layer_step", 1)
    chosen = fields.items("moe_layers") or [*range(every - 1, layers, every)]
    mlps = (experts if i in chosen else dense for i in range(layers))
    defaults = {"layer_types": _llama4_layers(fields, layers), "attention_chunk_size": 8192}
    return rms_model(fields.with_defaults(defaults), attention, mlps)


def _llama4_layers(fields: Fields, layers: int) -> list[str]:
    """Layers with rotary positions attend within their chunk."""
    if fields.has("attention_chunk_size") and fields.get("attention_chunk_size") is None:
        return ["full_attention"] * layers
    every = fields.size("no_rope_layer_interval", 4)
    rotary = fields.items("no_rope_layers") or [(i + 1) % every != 0 for i in range(layers)]
    return ["chunked_attention" if rotates else "full_attention" for rotates in rotary]


def granitemoe(fields: Fields) -> Model:
    """Granite 3 with experts: Mixtral's layout."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    experts = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"))
    return rms_model(fields, attention, itertools.repeat(experts))


def phimoe(fields: Fields) -> Model:
    """Phi-3.5-MoE: LayerNorms, and a bias of the vocabulary if it says so."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias)
    experts = routed_experts(fields, "num_local_experts", fields.size("intermediate_size"))
    windows = itertools.repeat(fields.size_or_none("sliding_window"))
    head_bias, norms = fields.flag("lm_head_bias", default=False), Elementwise(LAYER)
    return rms_model(fields, attention, itertools.repeat(experts), windows, elementwise=norms, head_bias=head_bias)


def olmoe(fields: Fields) -> Model:
    """OLMoE: the norms on Q and K are as wide as all heads together."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    experts = routed_experts(fields, "num_experts", fields.size("intermediate_size"))
    return rms_model(fields, with_wide_norms(attention), itertools.repeat(experts))


def hunyuan_moe(fields: Fields) -> Model:
    """Hunyuan-A13B: a shared expert as wide as the routed ones. Widths and counts may be lists, one entry a layer."""
    width, layers = _same_in_all(fields, "moe_intermediate_size") or fields.size("intermediate_size"), fields
    for name in ("moe_topk", "num_shared_expert", "num_experts"):
        if (each := _same_in_all(fields, name)) is not None:
            layers = replace(layers, values={**layers.values, name: each})
    shared = layers.count("num_shared_expert", 1)
    fields.agrees("use_mixed_mlp_moe", value=True)
    fields.agrees("moe_layer_num_skipped", value=0)
    fields.use(
        "moe_drop_tokens",
        "moe_random_routing_dropped_token",
        "capacity_factor",
        "unified_router",
        "group_limited_greedy",
    )
    fields.use("moe_intermediate_size", "intermediate_size", "norm_topk_prob", "num_media_embeds")
    experts = routed_experts(layers, "num_experts", width, Mlp(shared * width, gated=True) if shared else None)
    return rms_model(fields, hunyuan_attention(fields), itertools.repeat(experts))


def _same_in_all(fields: Fields, name: str) -> int | None:
    """The one value of a field that may be a list with an entry for each layer; None if absent or no whole number.
    Raises BadModel if the entries differ."""
    value = fields.get(name)
    if isinstance(value, list):
        if len({repr(each) for each in value}) > 1:
            raise BadModel(f"{fields.origin}: {name} differs from layer to layer, which is not read")
        value = value[0] if value else None
    return value if type(value) is int else None


def exaone_moe(fields: Fields) -> Model:
    """K-EXAONE: EXAONE 4's attention, dense layers first, then experts."""
    fields = fields.with_defaults({"first_k_dense_replace": 1, "num_shared_experts": 1})
    attention = grouped_attention(fields, qk_norm=True, mha_if_absent=True)
    return rms_model(fields, attention, dense_then_experts(fields), exaone_windows(fields))


def afmoe(fields: Fields) -> Model:
    """Trinity (Arcee): gated attention with norms on Q and K, four norms a layer, a correction for each expert."""
    attention = grouped_attention(fields, qk_norm=True, mha_if_absent=True, head_dim_default=128)
    attention = replace(attention, gated=True)
    width, shared = fields.size("moe_intermediate_size"), fields.count("num_shared_experts", 2)
    experts = routed_experts(fields, "num_experts", width, Mlp(shared * width, gated=True) if shared else None)
    experts, first = replace(experts, extra_params=experts.copies), fields.count("num_dense_layers", 1)
    dense = Mlp(fields.size("intermediate_size"), gated=True)
    every, window = fields.size("global_attn_every_n_layers", 4), fields.size("sliding_window", 1024)
    windows = (window if (i + 1) % every else None for i in itertools.count())
    fields.use("mup_enabled", "n_group", "topk_group", "route_norm", "score_func")
    mlps = (dense if i < first else experts for i in itertools.count())
    return rms_model(fields, attention, mlps, windows, norms=4)


def solar_open(fields: Fields) -> Model:
    """Solar Open: experts and a shared one in every layer."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, head_dim_default=128)
    fields.agrees("use_qk_norm", value=False)
    fields = fields.with_defaults({"first_k_dense_replace": 0, "intermediate_size": 1})
    return rms_model(fields, attention, dense_then_experts(fields))


def dbrx(fields: Fields) -> Model:
    """DBRX (Databricks 2024): LayerNorms without biases."""
    attention, ffn = fields.inside("attn_config"), fields.inside("ffn_config")
    if attention is None or ffn is None:
        raise BadModel(f"{fields.origin}: {'attn_config' if attention is None else 'ffn_config'} is missing")
    heads = fields.size("n_heads")
    grouped = Attention(heads, attention.size("kv_n_heads"), fields.divided("d_model", "n_heads"))
    experts = routed_experts(ffn, "moe_num_experts", ffn.size("ffn_hidden_size"))
    ffn.use("hidden_size", "model_type")
    elementwise = Elementwise(LAYER_WITHOUT_BIAS)
    return rms_model(fields, grouped, itertools.repeat(experts), elementwise=elementwise)
