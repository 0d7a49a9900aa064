"""Mamba-2 and Nemotron-H: published sizes, states, and what is refused."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.passes import decode_step, kv_bytes, kv_bytes_per_token, state_bytes

MAMBA2_2_7B = {
    "model_type": "mamba2",
    "conv_kernel": 4,
    "expand": 2,
    "head_dim": 64,
    "hidden_size": 2560,
    "n_groups": 1,
    "num_heads": 80,
    "num_hidden_layers": 64,
    "state_size": 128,
    "tie_word_embeddings": True,
    "vocab_size": 50288,
}
NEMOTRON_3_NANO = {
    "model_type": "nemotron_h",
    "conv_kernel": 4,
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_groups": 8,
    "n_routed_experts": 128,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
    "vocab_size": 131072,
}


def test_the_width_of_mamba_is_its_intermediate_size_where_the_file_has_one():
    # Falcon-Mamba-7B says expand 16, and means 8192. A layer: in 4096 x 16384, convolution (4 + 1) x 8192,
    # x 8192 x 288, step (256 + 1) x 8192, A 16 x 8192, D 8192, out 8192 x 4096, norm 4096; embedding and head of 65024.
    falcon = {"model_type": "falcon_mamba", "hidden_size": 4096, "num_hidden_layers": 64, "vocab_size": 65024}
    falcon |= {"expand": 16, "intermediate_size": 8192, "time_step_rank": 256, "tie_word_embeddings": False}
    layer = 4096 * 16384 + 8192 * (5 + 288 + 257 + 16 + 1 + 4096) + 4096
    assert from_config(falcon, "it").params == 64 * layer + 2 * 65024 * 4096 + 4096 == 7_272_665_088


def test_what_only_orders_the_code_of_mamba_2_is_not_told():
    published = MAMBA2_2_7B | {"norm_before_gate": True, "rms_norm": True, "chunk_size": 256}
    assert from_config(published, "it").notes == ()
    assert from_config(published | {"rms_norm": False}, "it").notes == (
        "fields of the config that were not used: rms_norm",
    )


def test_mamba_2_caches_nothing_that_grows():
    # transformers 5.24 on the meta device: 2.70B. 64 layers of 80 heads x 64 x 128, and 3 inputs of 80*64 + 2*128.
    model = from_config(MAMBA2_2_7B, "it")
    assert model.params == 2_702_599_680
    assert (kv_bytes_per_token(model), kv_bytes(model, 5, 10_000)) == (0, 0)
    assert state_bytes(model, 5) == 5 * 64 * (80 * 64 * 128 + 3 * (5120 + 256)) * 2
    assert decode_step(model, 5, 10).cache_bytes == decode_step(model, 5, 1000).cache_bytes == 2 * state_bytes(model, 5)
    assert (model.layers, model.window, model.heads) == (64, None, 80)
    assert model.text == "2.70B parameters: 64 layers of 2560; Mamba-2, 80 heads of 64 x 128"


def test_the_authors_own_files_are_read():
    # state-spaces/mamba2-2.7b and mamba-2.8b: the vocabulary of 50,277 is padded to a multiple of 16 and of 8.
    published = {
        "d_model": 2560,
        "n_layer": 64,
        "vocab_size": 50277,
        "ssm_cfg": {"layer": "Mamba2"},
        "attn_layer_idx": [],
        "attn_cfg": {},
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 16,
        "tie_embeddings": True,
    }
    model = from_config(published, "it")
    assert model.params == from_config(MAMBA2_2_7B, "it").params
    assert (model.architecture, model.vocab, model.notes) == ("mamba2", 50288, ())
    older = from_config(published | {"ssm_cfg": {}, "pad_vocab_size_multiple": 8}, "it")
    as_mamba = {"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "vocab_size": 50280}
    assert older.params == from_config(as_mamba, "it").params == 2_768_345_600
    with pytest.raises(BadModel, match="attention and MLPs in the Mamba authors' format are not supported"):
        from_config(published | {"attn_layer_idx": [9]}, "it")
    with pytest.raises(BadModel, match="headdim=7 does not divide the 5120 channels"):
        from_config(published | {"ssm_cfg": {"layer": "Mamba2", "headdim": 7}}, "it")


def test_nemotron_3_nano_has_its_size():
    # NVIDIA publishes 31.6B and 3.6B active. 23 Mamba-2 layers, 23 of experts, 6 of attention.
    model = from_config(NEMOTRON_3_NANO, "it")
    assert (model.params, model.active_params, model.layers) == (31_577_937_344, 3_580_073_408, 52)
    assert kv_bytes_per_token(model) == 6 * 2 * 2 * 128 * 2
    # States are fp32 where the file says nothing, as in the code; 3 inputs of 64*64 + 2*8*128 channels in bf16.
    assert state_bytes(model, 1) == 23 * (64 * 64 * 128 * 4 + 3 * (4096 + 2048) * 2)
    half = from_config(NEMOTRON_3_NANO | {"mamba_ssm_cache_dtype": "bfloat16"}, "it")
    assert state_bytes(half, 1) == 23 * (64 * 64 * 128 + 3 * (4096 + 2048)) * 2
    assert model.heads == 32
    assert [(block.layers, block.mixer is None, block.mlp is None) for block in model.blocks] == [
        (23, False, True),
        (23, True, False),
        (6, False, True),
    ]


def test_older_and_newer_names_of_layers_mean_the_same():
    pattern = from_config(NEMOTRON_3_NANO | {"hybrid_override_pattern": "ME*", "num_hidden_layers": 3}, "it")
    for kinds in (["mamba", "moe", "attention"], ["linear_attention", "moe", "full_attention"]):
        listed = NEMOTRON_3_NANO | {"hybrid_override_pattern": None, "layers_block_type": kinds}
        assert from_config(listed, "it").blocks == pattern.blocks


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (MAMBA2_2_7B, {"expand": 3}, "expand x hidden_size=7680 is not num_heads x head_dim=5120"),
        (MAMBA2_2_7B, {"state_size": None}, "state_size is missing"),
        (NEMOTRON_3_NANO, {"hybrid_override_pattern": None}, "hybrid_override_pattern or layers_block_type is missing"),
        (NEMOTRON_3_NANO, {"hybrid_override_pattern": "MX"}, "unknown kind of layer 'X'; known: M, *"),
        (NEMOTRON_3_NANO, {"mamba_num_heads": 0}, "mamba_num_heads must be a positive whole number, not 0"),
    ],
)
def test_a_bad_field_is_named(config, change, message):
    with pytest.raises(BadModel, match=message.replace("*", r"\*")):
        from_config(config | change, "it")
