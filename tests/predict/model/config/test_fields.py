"""Which fields count as used, and which names mean the same."""

import pytest

from predict.errors import BadModel
from predict.model.config.fields import Fields
from predict.model.config.reader import from_config

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def fields_of(**values):
    return Fields(values, "it", "it", "llama")


def test_what_is_asked_for_is_used():
    fields = fields_of(hidden_size=64, mystery=3, empty=[], null=None, text="")
    assert list(fields.unused()) == ["hidden_size", "mystery"]
    fields.size("hidden_size")
    assert list(fields.unused()) == ["mystery"]
    fields.use("mystery")
    assert list(fields.unused()) == []


def test_a_false_that_nobody_asked_for_is_told():
    assert list(fields_of(odd_flag=False).unused()) == ["odd_flag"]


def test_any_name_of_a_field_is_read():
    assert fields_of(num_local_experts=8).size("num_experts") == 8
    assert fields_of(num_experts=8).size("num_local_experts") == 8
    assert fields_of(n_embd=12, n_head=4).divided("hidden_size", "num_attention_heads") == 3
    assert fields_of(n_embd=None, d_model=12).size("hidden_size") == 12


def test_the_name_that_is_asked_for_comes_first_and_another_value_is_told():
    fields = fields_of(num_experts=8, num_local_experts=16, n_routed_experts=8)
    assert fields.size("num_experts") == 8
    assert list(fields.unused()) == ["num_local_experts"]


def test_messages_name_the_field_that_is_there():
    with pytest.raises(BadModel, match="it: n_embd must be a positive whole number, not 0"):
        fields_of(n_embd=0).size("hidden_size")
    with pytest.raises(BadModel, match="it: n_embd=10 is not a multiple of n_head=4"):
        fields_of(n_embd=10, n_head=4).divided("hidden_size", "num_attention_heads")


def test_what_is_inside_is_told_with_its_path_and_what_is_written_twice_once():
    fields = fields_of(text_config={"hidden_size": 8, "odd": 1, "twice": 2}, twice=2)
    inner = fields.inside("text_config")
    inner.size("hidden_size")
    assert inner is fields.inside("text_config")
    assert list(fields.unused()) == ["text_config.odd", "text_config.twice"]


def test_a_configuration_inside_must_be_an_object():
    with pytest.raises(BadModel, match="it: text_config must be a JSON object, not 3"):
        fields_of(text_config=3).inside("text_config")
    assert fields_of(text_config=None).inside("text_config") is None


def test_a_model_carries_one_note_with_every_field_that_was_not_used():
    model = from_config(LLAMA | {"mystery_a": 1, "eos_token_id": 2, "attention_dropout": 0.1, "mystery_b": False}, "it")
    assert model.notes == ("fields of the config that were not used: mystery_a, mystery_b",)
    assert from_config(LLAMA, "it").notes == ()
