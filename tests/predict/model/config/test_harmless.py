"""Fields that change nothing, and fields that must never be taken for such."""

import pytest

from predict.model.config.harmless import GROUPS, is_harmless


@pytest.mark.parametrize("name", ["eos_token_id", "attention_dropout", "rope_theta", "initializer_range", "use_cache"])
def test_harmless(name):
    assert is_harmless(name)


@pytest.mark.parametrize(
    "name",
    ["hidden_size", "quantization_config", "torch_dtype", "rope_scaling", "num_experts", "sliding_window", "lora_rank"],
)
def test_not_harmless(name):
    assert not is_harmless(name)


def test_no_name_is_listed_twice():
    names = [name for group in GROUPS for name in group.split()]
    assert len(names) == len(set(names))


def test_a_part_that_a_field_says_is_not_there_is_harmless():
    for absent in (False, 0):
        assert is_harmless("mlp_bias", absent)
        assert is_harmless("shared_expert_intermediate_size", absent)
        assert not is_harmless("odd_flag", absent)
    assert not is_harmless("mlp_bias", True)
    assert not is_harmless("shared_expert_intermediate_size", 512)
