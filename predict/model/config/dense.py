"""Decoders with RMSNorms, rotary positions and a gated MLP: Llama, Mistral, Qwen, Gemma."""

import itertools
from collections.abc import Iterator
from types import MappingProxyType

from predict.model.config.fields import Fields
from predict.model.config.parts import grouped_attention, qwen_windows, rms_model
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
