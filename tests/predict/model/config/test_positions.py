"""The context limit under every kind of scaled rotary positions, by published files of each kind."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 100,
}
YARN_4 = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192, "low_freq_factor": 1.0}
LONG = {"type": "longrope", "short_factor": [1.0], "long_factor": [1.1]}
DEFAULT = {"rope_type": "default", "rope_theta": 1e4}


def limit(positions, scaling, field="rope_scaling", **more):
    return from_config({**LLAMA, "max_position_embeddings": positions, field: scaling, **more}, "m").context_limit


@pytest.mark.parametrize(
    ("model", "positions", "scaling", "expected"),
    [
        ("Qwen2.5 with YaRN, original length", 32768, YARN_4, 131072),
        ("Qwen3 with YaRN, 40960 of which 8192 are for the answer", 40960, YARN_4, 131072),
        ("Qwen2.5 with YaRN, extended length", 131072, YARN_4, 131072),
        ("DeepSeek-V3", 163840, {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840),
        ("gpt-oss", 131072, {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}, 131072),
        ("YaRN without the original length", 8192, {"type": "yarn", "factor": 2.0}, 16384),
        ("Llama-3.1", 131072, LLAMA_3, 131072),
        ("Phi-3-128k, Phi-4-mini", 131072, LONG, 131072),
        ("Phi-3-128k, old name", 131072, {**LONG, "type": "su"}, 131072),
        ("Vicuna-16k", 4096, {"type": "linear", "factor": 4.0}, 16384),
        ("InternLM2", 32768, {"type": "dynamic", "factor": 2.0}, 65536),
        ("Hunyuan: alpha, no factor", 32768, {"type": "dynamic", "alpha": 1000.0}, 32768),
        ("Qwen2.5-VL", 128000, {"type": "mrope", "mrope_section": [16, 24, 24]}, 128000),
        ("not scaled", 8192, None, 8192),
    ],
)
def test_the_limit_is_scaled_as_the_kind_of_scaling_says(model, positions, scaling, expected):
    assert limit(positions, scaling) == expected, model


def test_transformers_5_says_it_in_rope_parameters_and_by_type_of_layer():
    assert limit(32768, {**YARN_4, "rope_type": "yarn", "rope_theta": 1e6}, "rope_parameters") == 131072
    by_type = {"sliding_attention": DEFAULT, "full_attention": {**YARN_4, "rope_type": "yarn"}}
    assert limit(32768, by_type, "rope_parameters") == 131072


def test_gemma_3_counts_the_extended_length_though_its_scaling_is_linear():
    fields = {**LLAMA, "model_type": "gemma3_text", "head_dim": 16, "max_position_embeddings": 131072}
    assert from_config({**fields, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, "m").context_limit == 131072


def test_command_r_supports_more_than_its_positions_were_trained_on():
    assert limit(8192, None, model_max_length=131072) == 131072


def test_an_unknown_scaling_is_named_and_changes_nothing():
    model = from_config(
        {**LLAMA, "max_position_embeddings": 8192, "rope_scaling": {"type": "spiral", "factor": 4}}, "m"
    )
    assert model.context_limit == 8192
    assert model.notes == ("rope scaling 'spiral' is not known: the context limit is that of max_position_embeddings",)


@pytest.mark.parametrize("factor", [0, -1, "4", True, 1e300])
def test_a_factor_must_be_a_positive_number(factor):
    with pytest.raises(BadModel, match="factor of the rope scaling must be a positive number"):
        limit(8192, {"type": "linear", "factor": factor})


@pytest.mark.parametrize("value", ["yarn", [1]])
def test_a_scaling_that_is_no_object_is_refused(value):
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "vocab_size": 100, "rope_scaling": value}
    with pytest.raises(BadModel, match="it: rope_scaling must be a JSON object, not "):
        from_config(config, "it")
