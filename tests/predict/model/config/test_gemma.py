"""Gemma 3n and Gemma 4: published sizes, shared caches, and what is refused."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.passes import (
    Logits,
    decode_step,
    forward,
    kv_bytes,
    kv_bytes_beyond_windows,
    kv_bytes_per_token,
    window_bytes,
)

FULL, SLIDING = "full_attention", "sliding_attention"
GEMMA_3N_E4B = {
    "model_type": "gemma3n_text",
    "altup_num_inputs": 4,
    "head_dim": 256,
    "hidden_size": 2048,
    "hidden_size_per_layer_input": 256,
    "intermediate_size": 16384,
    "laurel_rank": 64,
    "num_attention_heads": 8,
    "num_hidden_layers": 35,
    "num_key_value_heads": 2,
    "num_kv_shared_layers": 15,
    "sliding_window": 512,
    "vocab_size": 262400,
    "vocab_size_per_layer_input": 262144,
}
GEMMA_4_26B = {
    "model_type": "gemma4_text",
    "attention_k_eq_v": True,
    "enable_moe_block": True,
    "global_head_dim": 512,
    "head_dim": 256,
    "hidden_size": 2816,
    "hidden_size_per_layer_input": 0,
    "intermediate_size": 2112,
    "layer_types": [*[SLIDING] * 5, FULL] * 5,
    "moe_intermediate_size": 704,
    "num_attention_heads": 16,
    "num_experts": 128,
    "num_global_key_value_heads": 2,
    "num_hidden_layers": 30,
    "num_key_value_heads": 8,
    "num_kv_shared_layers": 0,
    "sliding_window": 1024,
    "top_k_experts": 8,
    "vocab_size": 262144,
}


def test_gemma_4_26b_has_its_size():
    # transformers 5.24 on the meta device. 5 full layers: 2 KV heads of 512, key and value kept; 25 windows of 1024
    # tokens: 8 KV heads of 256.
    model = from_config({"model_type": "gemma4", "text_config": GEMMA_4_26B, "tie_word_embeddings": True}, "it")
    assert (model.params, model.active_params) == (25_233_141_760, 3_822_530_560)
    assert [(block.layers, block.window) for block in model.blocks] == [(25, 1024), (5, None)]
    assert kv_bytes_beyond_windows(model) == 5 * 2 * 2 * 512 * 2 == 20_480
    assert window_bytes(model) == 25 * 2 * 8 * 256 * 2 * 1024 == 209_715_200
    assert kv_bytes(model, 1, 100_000) == 100_000 * 20_480 + 209_715_200
    assert kv_bytes_per_token(model) == 20_480 + 209_715_200 // 1024


def test_gemma_3n_e4b_has_its_size():
    # transformers 5.24 on the meta device: 6.84B, of which 35 x 256 x 262,144 = 2.35B are the layers' embeddings.
    model = from_config(GEMMA_3N_E4B, "it")
    assert model.params == 6_835_235_568
    assert model.position_params == 35 * 256 * 262_144
    # 20 layers have a cache; 4 of them are full.
    assert kv_bytes_per_token(model) == 20 * 2 * 2 * 256 * 2
    assert kv_bytes_beyond_windows(model) == 4 * 2 * 2 * 256 * 2
    assert "15 x GQA, 8 heads of 256, 2 KV heads, the cache of an earlier layer" in model.text
    assert "window of 512 in 28 layers" in model.text


def test_only_the_last_position_goes_through_layers_without_a_cache_of_their_own():
    # A prompt of 100 tokens whose last position is projected: 20 layers take 100 tokens, 15 take 1.
    model = from_config(GEMMA_3N_E4B, "it")
    every, last = forward(model, 2, 100), forward(model, 2, 100, logits=Logits.LAST)
    mlp = 3 * 2048 * 16384
    parts = [part for part in last.parts if part.name == "mlp.up"]
    assert sum(part.flop for part in parts) == 2 * 2 * (20 * 100 + 15 * 1) * mlp // 3
    assert last.cache_bytes == every.cache_bytes
    assert last.weight_bytes == every.weight_bytes
    # A decode step has one position anyway, and the shared cache is read once.
    assert decode_step(model, 2, 100) == forward(model, 2, 1, cached=100, logits=Logits.LAST)
    assert decode_step(model, 2, 100).cache_bytes == 2 * 101 * 40_960


def test_the_last_layer_of_gemma_4_is_always_full():
    # transformers forces it. 10 layers, every sixth full: 1 and the last.
    shape = GEMMA_4_26B | {"num_hidden_layers": 10, "layer_types": None}
    model = from_config(shape, "it")
    assert [(block.layers, block.window) for block in model.blocks] == [(8, 1024), (2, None)]


def test_shapes_of_full_layers_are_read_as_newer_files_write_them():
    saved = {name: value for name, value in GEMMA_4_26B.items() if name != "global_head_dim"}
    del saved["num_global_key_value_heads"]
    full = [i for i, kind in enumerate(GEMMA_4_26B["layer_types"]) if kind == FULL]
    saved["per_layer_config"] = {str(i): {"head_dim": 512, "num_key_value_heads": 2} for i in full}
    model = from_config(saved, "it")
    assert model.params == 25_233_141_760
    assert kv_bytes_beyond_windows(model) == 20_480
    assert model.notes == ()


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (GEMMA_3N_E4B, {"num_kv_shared_layers": 32}, "num_kv_shared_layers=32 leaves a kind of layer without a cache"),
        (GEMMA_3N_E4B, {"num_kv_shared_layers": 40}, "num_kv_shared_layers=40 leaves a kind of layer without a cache"),
        (GEMMA_3N_E4B, {"intermediate_size": [5]}, "intermediate_size must be 35 positive whole numbers, or one"),
        (GEMMA_3N_E4B, {"intermediate_size": ["5"] * 35}, "intermediate_size must be 35 positive whole numbers"),
        (GEMMA_4_26B, {"num_global_key_value_heads": 3}, "num_attention_heads=16 is not a multiple of .*=3"),
        (GEMMA_4_26B, {"moe_intermediate_size": None}, "moe_intermediate_size is missing"),
    ],
)
def test_a_bad_field_is_named(config, change, message):
    with pytest.raises(BadModel, match=message):
        from_config(config | change, "it")
