"""Decoders with RMSNorms, rotary positions and a gated MLP: Llama and its descendants."""

import itertools
from collections.abc import Iterator
from types import MappingProxyType

from predict.model.config.fields import Fields
from predict.model.config.parts import (
    every_nth_full,
    exaone_windows,
    grouped_attention,
    hunyuan_attention,
    qwen_windows,
    rms_model,
    with_wide_norms,
)
from predict.model.elementwise import RMS_FP32, Elementwise
from predict.model.mlp import Mlp
from predict.model.transformer import Model

GEMMA_3_DEFAULTS = MappingProxyType(
    {"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131072}
)


def llama(fields: Fields) -> Model:
    """Llama (Touvron et al. 2023), and the models that share its layout."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    return rms_model(fields, attention, itertools.repeat(mlp))


def mistral(fields: Fields) -> Model:
    """Mistral (Jiang et al. 2023): every layer has the window."""
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    window = fields.size_or_none("sliding_window") if fields.has("sliding_window") else 4096
    return rms_model(fields, grouped_attention(fields), itertools.repeat(mlp), itertools.repeat(window))


def qwen2(fields: Fields) -> Model:
    """Qwen2 and Qwen2.5: biases on Q, K and V."""
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    attention = grouped_attention(fields, qkv_bias=True)
    return rms_model(fields, attention, itertools.repeat(mlp), qwen_windows(fields))


def qwen3(fields: Fields) -> Model:
    """Qwen3: norms on Q and K."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm=True, head_dim_default=128)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return rms_model(fields, attention, itertools.repeat(mlp), qwen_windows(fields))


def gemma(fields: Fields) -> Model:
    """Gemma 1, 2 and 3 (text). Gemma 2 and 3 have four norms a layer, and windows in most layers."""
    generation = {"gemma": 1, "gemma2": 2}.get(fields.architecture, 3)
    if generation == 3:
        fields = fields.with_defaults(GEMMA_3_DEFAULTS)
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(
        fields, qkv_bias=bias, output_bias=bias, qk_norm=generation == 3, head_dim_default=256
    )
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    windows: Iterator[int | None] = itertools.repeat(None)
    if generation > 1:
        period = 2 if generation == 2 else fields.size("sliding_window_pattern", 6)  # every period-th sees all
        window = fields.size("sliding_window", 4096)
        windows = (window if (i + 1) % period else None for i in itertools.count())
    norms, norm = 2 if generation == 1 else 4, Elementwise(RMS_FP32)
    return rms_model(fields, attention, itertools.repeat(mlp), windows, norms=norms, elementwise=norm, tied=True)


def smollm3(fields: Fields) -> Model:
    """SmolLM3: Llama, with windows in the layers without rotary positions if it uses any."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias)
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    windows: Iterator[int | None] = itertools.repeat(None)
    window = fields.size_or_none("sliding_window") if fields.flag("use_sliding_window", default=False) else None
    if window:
        rotary, every = fields.items("no_rope_layers"), fields.size("no_rope_layer_interval", 4)
        has_rotary = (bool(each) for each in rotary) if rotary else ((i + 1) % every != 0 for i in itertools.count())
        windows = (None if rotates else window for rotates in has_rotary)
    return rms_model(fields, attention, itertools.repeat(mlp), windows, tied=True)


def phi3(fields: Fields) -> Model:
    """Phi-3, Phi-3.5 and Phi-4: every layer has the window, which is often longer than the context."""
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    attention = grouped_attention(fields, mha_if_absent=True)
    windows = itertools.repeat(fields.size_or_none("sliding_window"))
    fields.use("original_max_position_embeddings")  # before the rotary positions were stretched
    return rms_model(fields, attention, itertools.repeat(mlp), windows)


def olmo2(fields: Fields) -> Model:
    """OLMo 2 and OLMo 3: the norms on Q and K are as wide as all heads together. OLMo 3 has windows in most layers."""
    bias = fields.flag("attention_bias", default=False)
    attention = with_wide_norms(grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True))
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    windows = every_nth_full(fields, 4, 4096) if fields.architecture == "olmo3" else None
    return rms_model(fields, attention, itertools.repeat(mlp), windows, elementwise=Elementwise(RMS_FP32))


def seed_oss(fields: Fields) -> Model:
    """Seed-OSS: biases on Q, K and V, and on the output if it says so."""
    attention = grouped_attention(
        fields,
        qkv_bias=fields.flag("attention_bias", default=True),
        output_bias=fields.flag("attention_out_bias", default=False),
        head_dim_default=128,
    )
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    return rms_model(fields, attention, itertools.repeat(mlp))


def exaone4(fields: Fields) -> Model:
    """EXAONE 4: norms on Q and K."""
    attention = grouped_attention(fields, qk_norm=True, mha_if_absent=True)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return rms_model(fields, attention, itertools.repeat(mlp), exaone_windows(fields))


def ernie4_5(fields: Fields) -> Model:
    """ERNIE 4.5 without experts."""
    bias = fields.flag("use_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True, head_dim_default=128)
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=bias)
    return rms_model(fields, attention, itertools.repeat(mlp), tied=True)


def glm(fields: Fields) -> Model:
    """GLM-4 (2024, two norms a layer), GLM-4-0414 and the text of GLM-4.1V (2025, four): biases on Q, K and V."""
    head_dim = None if fields.architecture.startswith("glm4v") else 128
    bias = fields.flag("attention_bias", default=True)
    attention = grouped_attention(fields, qkv_bias=bias, head_dim_default=head_dim)
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return rms_model(fields, attention, itertools.repeat(mlp), norms=2 if fields.architecture == "glm" else 4)


def arcee(fields: Fields) -> Model:
    """AFM: Llama with an MLP without a gate."""
    bias = fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True)
    mlp = Mlp(fields.size("intermediate_size"), gated=False, bias=fields.flag("mlp_bias", default=False))
    return rms_model(fields, attention, itertools.repeat(mlp), elementwise=Elementwise(relu=True))


def helium(fields: Fields) -> Model:
    """Helium: biases on Q, K and V, and in the MLP, if it says so."""
    attention = grouped_attention(fields, qkv_bias=fields.flag("attention_bias", default=False), mha_if_absent=True)
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=fields.flag("mlp_bias", default=False))
    return rms_model(fields, attention, itertools.repeat(mlp))


def hunyuan(fields: Fields) -> Model:
    """Hunyuan (dense): norms on Q and K, one weight per element of a head."""
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    return rms_model(fields, hunyuan_attention(fields), itertools.repeat(mlp))


def ministral(fields: Fields) -> Model:
    """Ministral 1 and 3: Mistral, with a window only if there is one."""
    third = fields.architecture == "ministral3"
    window = fields.size_or_none("sliding_window") if third or fields.has("sliding_window") else 4096
    fields = fields.with_defaults({"head_dim": 128} if third else {})
    mlp = Mlp(fields.size("intermediate_size"), gated=True)
    windows = itertools.repeat(window)
    return rms_model(fields, grouped_attention(fields), itertools.repeat(mlp), windows)


def internlm3(fields: Fields) -> Model:
    """InternLM3: Llama; `qkv_bias` and `bias` are the biases of attention and of the MLP."""
    bias = fields.flag("attention_bias", default=fields.flag("qkv_bias", default=False))
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, mha_if_absent=True, head_dim_default=128)
    mlp_bias = fields.flag("mlp_bias", default=fields.flag("bias", default=False))
    mlp = Mlp(fields.size("intermediate_size"), gated=True, bias=mlp_bias)
    return rms_model(fields, attention, itertools.repeat(mlp))
