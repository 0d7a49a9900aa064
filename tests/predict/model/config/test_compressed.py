"""DeepSeek-V4: its size, its cache, and what is refused."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.passes import index_bytes_per_token, kv_bytes, kv_bytes_beyond_windows, state_bytes, window_bytes

WINDOW, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
DEEPSEEK_V4_FLASH = {
    "model_type": "deepseek_v4",
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],  # and one of the layer that predicts a further token
    "hc_mult": 4,
    "head_dim": 512,
    "hidden_size": 4096,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 512,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_attention_heads": 64,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 43,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "q_lora_rank": 1024,
    "sliding_window": 128,
    "vocab_size": 129280,
}


def test_deepseek_v4_flash_keeps_a_window_and_a_few_entries():
    # DeepSeek publishes 284B and 13B active. 2 layers of windows only, 21 with an entry for 4 tokens, 20 for 128.
    model = from_config(DEEPSEEK_V4_FLASH, "it")
    assert round(model.params / 1e9) == 284
    assert round(model.active_params / 1e9) == 14  # embeddings of 0.5B included
    assert [block.layers for block in model.blocks] == [2, 21, 20]
    assert window_bytes(model) == 43 * 128 * 512 * 2
    assert kv_bytes_beyond_windows(model) == (21 * 512 / 4 + 20 * 512 / 128) * 2
    assert index_bytes_per_token(model) == 21 * 128 / 4 * 2
    # 1000 tokens: 250 entries and keys, and 7.
    entries = 21 * 250 * (512 + 128) + 20 * 7 * 512
    assert kv_bytes(model, 1, 1000) == (43 * 128 * 512 + entries) * 2
    # Waiting: 3 tokens of two projections and their weights and half of the last 4 (512 and 128 wide); 127 tokens.
    sparse = (3 * 4 + 4 * 2) * (512 + 128)
    assert state_bytes(model, 1) == (21 * sparse + 20 * 127 * 2 * 512) * 2


def test_without_ratios_two_heavy_layers_come_first():
    plain = {name: value for name, value in DEEPSEEK_V4_FLASH.items() if name != "compress_ratios"}
    model = from_config(plain, "it")
    assert [block.layers for block in model.blocks] == [23, 20]
    assert model.params == 284_325_869_015  # transformers 5.24 on the meta device
    listed = [WINDOW, *[SPARSE] * 42]
    assert [block.layers for block in from_config(plain | {"layer_types": listed}, "it").blocks] == [1, 42]
    faster = from_config(plain | {"layer_types": listed, "compress_rates": {SPARSE: 8}}, "it")
    assert index_bytes_per_token(faster) == 42 * 128 / 8 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compress_ratios": [4] * 5}, "the kinds of layers are 5 for num_hidden_layers=43"),
        ({"compress_ratios": [16] * 43}, "unknown kind of layer 16; known: sliding_attention"),
        ({"o_groups": 7}, "num_attention_heads=64 is not a multiple of 7"),
        ({"hc_mult": None}, "hc_mult is missing"),
    ],
)
def test_a_bad_field_is_named(change, message):
    with pytest.raises(BadModel, match=message):
        from_config(DEEPSEEK_V4_FLASH | change, "it")
