"""Kimi Linear, MiniMax-Text-01 and LFM2: published sizes, kinds of layers, and what is refused."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.passes import kv_bytes_per_token, state_bytes

FULL, LINEAR = "full_attention", "linear_attention"
ATTENDING = [4, 8, 12, 16, 20, 24, 27]
KIMI = {
    "model_type": "kimi_linear",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "kv_lora_rank": 512,
    "linear_attn_config": {
        "full_attn_layers": ATTENDING,
        "head_dim": 128,
        "kda_layers": [i for i in range(1, 28) if i not in ATTENDING],
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    },
    "moe_intermediate_size": 1024,
    "num_attention_heads": 32,
    "num_experts": 256,
    "num_experts_per_token": 8,
    "num_hidden_layers": 27,
    "num_key_value_heads": 32,
    "num_shared_experts": 1,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 163840,
}
MINIMAX = {
    "model_type": "minimax",
    "head_dim": 128,
    "hidden_size": 6144,
    "intermediate_size": 9216,
    "layer_types": [*[LINEAR] * 7, FULL] * 10,
    "num_attention_heads": 64,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "vocab_size": 200064,
}
LFM2 = {
    "model_type": "lfm2",
    "block_auto_adjust_ff_dim": True,
    "block_ff_dim": 12288,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 256,
    "conv_L_cache": 3,
    "full_attn_idxs": [2, 5],
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 6,
    "num_key_value_heads": 8,
    "vocab_size": 65536,
}


def test_kimi_linear_has_its_size():
    # Moonshot publishes 48B and 3B active. 7 layers of latents, 20 with a state.
    model = from_config(KIMI, "it")
    assert (model.params, model.active_params) == (49_122_675_072, 3_484_453_248)
    assert kv_bytes_per_token(model) == 7 * 576 * 2
    assert state_bytes(model, 1) == 20 * (32 * 128 * 128 + 3 * 3 * 4096) * 2
    assert model.notes == ()
    flat = {name: value for name, value in KIMI.items() if name != "linear_attn_config"}
    flat |= {"linear_num_heads": 32, "linear_head_dim": 128, "layer_types": [FULL] * 7 + [LINEAR] * 20}
    assert from_config(flat, "it").params == model.params


def test_minimax_text_01_has_its_size():
    # MiniMax publishes 456B, and 45.9B active without the two embeddings of 200,064 x 6144.
    model = from_config(MINIMAX, "it")
    assert model.params == 456_089_655_296
    assert round((model.active_params - 2 * 200_064 * 6144) / 1e9, 1) == 45.9
    assert kv_bytes_per_token(model) == 10 * 2 * 8 * 128 * 2
    assert state_bytes(model, 1) == 70 * 64 * 128 * 128 * 2
    older = {name: value for name, value in MINIMAX.items() if name != "layer_types"}
    assert from_config(older | {"attn_type_list": [*[0] * 7, 1] * 10}, "it").blocks == model.blocks
    assert [block.layers for block in from_config(older, "it").blocks] == [40, 40]


def test_lfm2_widens_its_mlp_as_its_code_does():
    # int(2/3 x 12288) = 8192, a multiple of 256; x 1.3 = 10649.6, up to 42 x 256 = 10752.
    model = from_config(LFM2, "it")
    assert model.blocks[0].mlp.intermediate == 8192
    assert from_config(LFM2 | {"block_ffn_dim_multiplier": 1.3}, "it").blocks[0].mlp.intermediate == 10752
    assert from_config(LFM2 | {"block_auto_adjust_ff_dim": False}, "it").blocks[0].mlp.intermediate == 12288
    assert [(block.layers, block.mixer.kv_elements_per_token) for block in model.blocks] == [(4, 0), (2, 2 * 8 * 64)]
    assert state_bytes(model, 1) == 4 * 2 * 2048 * 2
    assert model.tied
    assert model.notes == ()


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (KIMI, {"linear_attn_config": {"num_heads": 3}}, "head_dim is missing"),
        (
            KIMI,
            {"linear_attn_config": KIMI["linear_attn_config"] | {"kda_layers": [1]}},
            "full_attn_layers and kda_layers must list the layers from 1 to 27",
        ),
        (MINIMAX, {"layer_types": None, "attn_type_list": [2] * 80}, "attn_type_list must be 80 of 0 or 1"),
        (LFM2, {"block_ffn_dim_multiplier": "1"}, "block_ffn_dim_multiplier must be a positive number, not '1'"),
        (LFM2, {"block_ffn_dim_multiplier": -1}, "block_ffn_dim_multiplier must be a positive number, not -1"),
        (LFM2, {"layer_types": ["conv"] * 5 + ["x"]}, "layer_types: unknown 'x'; known: full_attention, conv"),
    ],
)
def test_a_bad_field_is_named(config, change, message):
    with pytest.raises(BadModel, match=message):
        from_config(config | change, "it")
