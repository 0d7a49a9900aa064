"""DeepSeek-V3.2 and GLM-5: published sizes, index keys, and what is refused."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.passes import decode_step, index_bytes_per_token, kv_bytes, kv_bytes_per_token
from predict.units import DTYPES, Formats

DEEPSEEK_V32 = {
    "model_type": "deepseek_v32",
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
GLM_5 = DEEPSEEK_V32 | {
    "model_type": "glm_moe_dsa",
    "hidden_size": 6144,
    "index_n_heads": 32,
    "intermediate_size": 12288,
    "num_attention_heads": 64,
    "num_hidden_layers": 78,
    "q_lora_rank": 2048,
    "qk_nope_head_dim": 192,
    "v_head_dim": 256,
    "vocab_size": 154880,
}


@pytest.mark.parametrize(
    ("config", "params", "active", "layers"),
    [
        (DEEPSEEK_V32, 671_877_929_216, 38_403_807_488, 61),  # transformers 5.24 on the meta device
        (GLM_5, 743_911_199_232, 41_784_709_632, 78),
    ],
    ids=["v3.2", "glm-5"],
)
def test_published_models_have_their_size(config, params, active, layers):
    model = from_config(config, "it")
    assert (model.params, model.active_params, model.layers) == (params, active, layers)
    assert kv_bytes_per_token(model) == layers * (512 + 64) * 2
    assert index_bytes_per_token(model) == layers * 128 * 2
    assert kv_bytes(model, 3, 1000) == 3 * 1000 * layers * (512 + 64 + 128) * 2


def test_a_step_reads_the_best_latents_and_all_index_keys_in_8_bits():
    model = from_config(DEEPSEEK_V32, "it")
    # 2047 latents of 576 and the query's own, which is written; 99,999 keys of 128. In bf16 and 8 bits.
    assert decode_step(model, 1, 99_999).cache_bytes == 61 * ((2047 + 1) * 576 * 2 + 100_000 * 128)
    fp8 = Formats(8, 8, DTYPES["fp8"])
    assert decode_step(model, 1, 99_999, formats=fp8).cache_bytes == 61 * (2048 * 576 + 100_000 * 128)
    # With no more tokens than are chosen nothing is ranked; the new key is written.
    assert decode_step(model, 1, 2047).cache_bytes == 61 * (2048 * 576 * 2 + 128)


def test_layers_that_share_an_indexer_keep_no_keys():
    # Every third layer after the first two: 0, 1, 4, 7, ..., 76; 27 of 78.
    shared = from_config(GLM_5 | {"index_topk_freq": 3}, "it")
    assert index_bytes_per_token(shared) == 27 * 128 * 2
    listed = ["full", *["shared"] * 77]
    assert index_bytes_per_token(from_config(GLM_5 | {"indexer_types": listed}, "it")) == 128 * 2
    letters = from_config(GLM_5 | {"index_topk_pattern": "FS" * 39}, "it")
    assert index_bytes_per_token(letters) == 39 * 128 * 2
    assert kv_bytes_per_token(letters) == 78 * 576 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index_topk": None}, "index_topk is missing"),
        ({"q_lora_rank": None}, "q_lora_rank is missing: the indexer's queries come from Q's latent"),
        ({"index_topk_pattern": "SF" * 39}, "indexer_types must be 78 of full or shared, the first full"),
        ({"index_topk_pattern": "FX" * 39}, "indexer_types must be 78 of full or shared"),
        ({"index_topk_pattern": [{}]}, "indexer_types must be 78 of full or shared"),
        ({"index_topk_pattern": 7}, "indexer_types must be 78 of full or shared"),
        ({"indexer_types": ["full"]}, "indexer_types must be 78 of full or shared"),
    ],
)
def test_a_bad_field_is_named(change, message):
    with pytest.raises(BadModel, match=message):
        from_config(GLM_5 | change, "it")
