"""Jamba, Bamba, Granite 4 and Falcon-H1: a published size, the kinds of layers, and what is refused."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.passes import kv_bytes_per_token, state_bytes

JAMBA = {
    "model_type": "jamba",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 65536,
}
BAMBA = {
    "model_type": "bamba",
    "attn_layer_indices": [1, 4],
    "hidden_size": 64,
    "intermediate_size": 72,
    "mamba_d_state": 7,
    "mamba_n_heads": 8,
    "num_attention_heads": 8,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "vocab_size": 96,
}
GRANITE = BAMBA | {"model_type": "granitemoehybrid", "shared_intermediate_size": 40, "num_local_experts": 0}
FALCON_H1 = BAMBA | {"model_type": "falcon_h1", "mamba_d_ssm": 48}


def test_jamba_has_its_size():
    # AI21 publishes 52B and 12B active. Layers 4, 12, 20 and 28 attend; every second has experts.
    model = from_config(JAMBA, "it")
    assert (model.params, model.active_params) == (51_570_323_328, 12_110_311_296)
    assert kv_bytes_per_token(model) == 4 * 2 * 8 * 128 * 2
    assert state_bytes(model, 1) == 28 * (8192 * 16 + 8192 * 3) * 2
    assert sum(block.layers for block in model.blocks if "experts" in block.mlp.text) == 16


def test_bamba_attends_where_its_list_says():
    model = from_config(BAMBA, "it")
    assert kv_bytes_per_token(model) == 2 * 2 * 2 * 8 * 2
    # 4 layers of 128 channels x 7; convolution over 128 + 2*7 channels.
    assert state_bytes(model, 1) == 4 * (128 * 7 + 142 * 3) * 2
    assert model.notes == ()


def test_granites_layers_are_listed_by_either_name():
    kinds = ["mamba", "attention", "mamba"] * 2
    named = [{"mamba": "linear_attention", "attention": "full_attention"}[kind] for kind in kinds]
    blocks = [from_config(GRANITE | {"layer_types": types}, "it").blocks for types in (kinds, named)]
    assert blocks[0] == blocks[1]
    assert [block.layers for block in blocks[0]] == [4, 2]
    every = from_config({name: value for name, value in GRANITE.items() if name != "attn_layer_indices"}, "it")
    assert [(block.layers, block.mixer.text.split(",")[0]) for block in every.blocks] == [(6, "Mamba-2")]


def test_falcon_h1_has_attention_beside_mamba_in_every_layer():
    (block,) = from_config(FALCON_H1, "it").blocks
    assert block.mixer.text == "GQA, 8 heads of 8, 2 KV heads beside Mamba-2, 8 heads of 6 x 7"
    assert block.mixer.kv_elements_per_token == 2 * 2 * 8


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (JAMBA, {"attn_layer_offset": 9}, "attn_layer_offset=9 is not below attn_layer_period=8"),
        (JAMBA, {"expert_layer_period": 0}, "expert_layer_period must be a positive whole number"),
        (BAMBA, {"mamba_n_heads": 7}, "mamba_n_heads=7 do not give the 128 channels of Mamba-2"),
        (BAMBA, {"mamba_d_head": 5}, "mamba_n_heads=8 of mamba_d_head=5 do not give the 128 channels"),
        (GRANITE, {"layer_types": ["mamba"]}, "layer_types has 1 entries for num_hidden_layers=6"),
        (GRANITE, {"layer_types": ["mamba"] * 5 + ["moe"]}, "unknown kind of layer 'moe'; known: full_attention"),
        (GRANITE, {"layer_types": ["mamba"] * 5 + ["rnn"]}, "unknown kind of layer 'rnn'"),
    ],
)
def test_a_bad_field_is_named(config, change, message):
    with pytest.raises(BadModel, match=message):
        from_config(config | change, "it")
