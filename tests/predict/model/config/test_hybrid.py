"""Qwen3-Next and Qwen3.5: published sizes, the state of a sequence, and what is refused."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.linear import Component
from predict.model.passes import decode_step, forward, kv_bytes_per_token, state_bytes

FULL, LINEAR = "full_attention", "linear_attention"
DELTA = {
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
}
QWEN3_NEXT_80B = DELTA | {
    "model_type": "qwen3_next",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "intermediate_size": 5120,
    "linear_num_value_heads": 32,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts_per_tok": 10,
    "num_experts": 512,
}
QWEN3_5_27B = {
    "model_type": "qwen3_5",
    "text_config": DELTA
    | {
        "model_type": "qwen3_5_text",
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "layer_types": ([LINEAR] * 3 + [FULL]) * 16,
        "linear_num_value_heads": 48,
        "mamba_ssm_dtype": "float32",
        "num_attention_heads": 24,
        "num_hidden_layers": 64,
        "num_key_value_heads": 4,
        "vocab_size": 248320,
    },
    "tie_word_embeddings": False,
}
QWEN3_5_35B = {
    "model_type": "qwen3_5_moe",
    "text_config": DELTA
    | {
        "model_type": "qwen3_5_moe_text",
        "full_attention_interval": 4,
        "hidden_size": 2048,
        "linear_num_value_heads": 32,
        "mamba_ssm_dtype": "float32",
        "moe_intermediate_size": 512,
        "num_attention_heads": 16,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "shared_expert_intermediate_size": 512,
        "vocab_size": 248320,
    },
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    ("config", "params", "active", "full", "linear", "kv"),
    [
        # transformers 5.24 on the meta device. KV: full layers x 2 x KV heads x 256 elements x 2 bytes.
        (QWEN3_NEXT_80B, 79_674_391_296, 3_874_929_408, 12, 36, 12 * 2 * 2 * 256 * 2),
        (QWEN3_5_27B, 26_895_998_464, 26_895_998_464, 16, 48, 65_536),
        (QWEN3_5_35B, 34_660_610_688, 3_454_988_928, 10, 30, 20_480),
    ],
    ids=["80b", "27b", "35b"],
)
def test_published_models_have_their_size(config, params, active, full, linear, kv):
    model = from_config(config, "it")
    assert (model.params, model.active_params) == (params, active)
    assert sum(block.layers for block in model.blocks if block.mixer.kv_elements_per_token) == full
    assert model.layers - full == linear
    assert kv_bytes_per_token(model) == kv
    assert "intermediate_size" not in "".join(model.notes)


def test_a_sequence_keeps_a_state_in_the_format_that_the_file_names():
    # 48 layers of 48 heads x 128 x 128 in fp32, and 3 inputs of 2*16*128 + 48*128 channels in bf16.
    assert state_bytes(from_config(QWEN3_5_27B, "it"), 3) == 3 * 48 * (48 * 128 * 128 * 4 + 3 * (4096 + 6144) * 2)
    # 36 layers of 32 heads; no format is named, so that of activations.
    assert state_bytes(from_config(QWEN3_NEXT_80B, "it"), 1) == 36 * (32 * 128 * 128 + 3 * (4096 + 4096)) * 2


def test_a_decode_step_reads_and_writes_the_states_once():
    model = from_config(QWEN3_5_27B, "it")
    # KV: 1000 tokens read, one written. States: all read, all written.
    step = decode_step(model, 2, 1000)
    assert step.cache_bytes == 2 * 1001 * 65_536 + 2 * state_bytes(model, 2)
    prompt = forward(model, 2, 1000)
    assert prompt.cache_bytes == 2 * 1000 * 65_536 + state_bytes(model, 2)
    # A convolution of 4 over 10,240 channels, and 6 FLOP per element of the state.
    assert step.component_flop(Component.RECURRENCE) == 2 * 48 * (2 * 4 * 10_240 + 6 * 48 * 128 * 128)
    assert prompt.component_flop(Component.RECURRENCE) == 1000 * step.component_flop(Component.RECURRENCE)


def test_the_page_lists_the_kinds_of_layers():
    assert from_config(QWEN3_5_27B, "it").text == (
        "26.9B parameters: 64 layers of 5120; 48 x gated delta net, 48 heads of 128 x 128; "
        "16 x GQA, 24 heads of 256, 4 KV heads; gated MLP of 17408"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear_num_key_heads": None}, "linear_num_key_heads is missing"),
        ({"layer_types": [FULL] * 3}, "layer_types has 3 entries for num_hidden_layers=48"),
        ({"layer_types": [FULL] * 47 + ["mamba"]}, "unknown 'mamba'; known: full_attention, linear_attention"),
        ({"mamba_ssm_dtype": "int3"}, "mamba_ssm_dtype must be one of float32, float16, bfloat16, not 'int3'"),
        ({"mamba_ssm_dtype": 7}, "mamba_ssm_dtype must be a text, not 7"),
        ({"num_experts_per_tok": 600}, "num_experts_per_tok=600 is more than num_experts=512"),
        ({"full_attention_interval": 0}, "full_attention_interval must be a positive whole number"),
    ],
)
def test_a_bad_field_is_named(change, message):
    with pytest.raises(BadModel, match=message):
        from_config(QWEN3_NEXT_80B | change, "it")
