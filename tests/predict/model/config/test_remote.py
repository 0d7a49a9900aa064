"""Layouts of code beside the weights: parameters as their publishers give them, or by hand."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config


def shape(kind, hidden, intermediate, layers, heads, vocab, **others):
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        **others,
    }


GLM_4_9B = {
    "model_type": "chatglm",
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "num_layers": 40,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "padded_vocab_size": 151552,
    "seq_length": 131072,
    "add_qkv_bias": True,
    "add_bias_linear": False,
    "rmsnorm": True,
}
INTERNLM2_7B = shape("internlm2", 4096, 14336, 32, 32, 92544, num_key_value_heads=8, bias=False)
BAICHUAN2_7B = shape("baichuan", 4096, 11008, 32, 32, 125696, model_max_length=4096)
QWEN_7B = shape("qwen", 4096, 22016, 32, 32, 151936, kv_channels=128, no_bias=True, seq_length=8192)
DEEPSEEK_MOE_16B = shape(
    "deepseek",
    2048,
    10944,
    28,
    16,
    102400,
    num_key_value_heads=16,
    moe_intermediate_size=1408,
    n_routed_experts=64,
    n_shared_experts=2,
    num_experts_per_tok=6,
    first_k_dense_replace=1,
)
MINICPM_2B = shape("minicpm", 2304, 5760, 40, 36, 122753, num_key_value_heads=36)
EXAONE_35_8B = shape("exaone", 4096, 14336, 32, 32, 102400, num_key_value_heads=8)
MIMO_7B = shape("mimo", 4096, 11008, 36, 32, 151680, num_key_value_heads=8, head_dim=128, attention_bias=True)
DBRX = {
    "model_type": "dbrx",
    "d_model": 6144,
    "n_heads": 48,
    "n_layers": 40,
    "vocab_size": 100352,
    "max_seq_len": 32768,
    "attn_config": {"kv_n_heads": 8, "clip_qkv": 8, "rope_theta": 500000},
    "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
}


@pytest.mark.parametrize(
    ("config", "params"),
    [
        # Sizes of the published files.
        (INTERNLM2_7B, 7_737_708_544),
        (BAICHUAN2_7B, 7_505_973_248),
        (QWEN_7B, 7_721_324_544),
        (GLM_4_9B, 9_399_951_360),
        (DEEPSEEK_MOE_16B, 16_375_728_128),
        (MINICPM_2B, 2_724_880_896),
        (EXAONE_35_8B, 7_818_448_896),
        (DBRX, 131_596_523_520),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_parameters_are_those_of_the_published_files(config, params):
    model = from_config(config, "it")
    assert (model.params, model.notes) == (params, ())


def test_a_text_without_latent_attention_is_deepseek_moes():
    text = DEEPSEEK_MOE_16B | {"model_type": "deepseek_v2", "use_mla": False, "kv_lora_rank": None, "v_head_dim": 0}
    model = from_config({"model_type": "deepseek_vl_v2", "language_config": text}, "it")
    assert (model.params, model.notes) == (16_375_728_128, ())


def test_mimo_is_qwen2s_layout():
    assert from_config(MIMO_7B, "it").params == from_config(MIMO_7B | {"model_type": "qwen2"}, "it").params
    assert from_config(MIMO_7B, "it").notes == ()


def test_falcon_as_first_published():
    falcon = {"vocab_size": 65024, "parallel_attn": True, "alibi": False, "bias": False}
    small = {"model_type": "RefinedWebModel", "hidden_size": 4544, "n_layer": 32, "n_head": 71, "multi_query": True}
    large = {"model_type": "RefinedWeb", "hidden_size": 8192, "n_layer": 60, "n_head": 128, "n_head_kv": 8}
    assert from_config(falcon | small, "it").params == 6_921_720_704
    assert from_config(falcon | large, "it").params == 41_303_293_952


def deci(*blocks):
    return shape("nemotron-nas", 512, None, len(blocks), 8, 100, block_configs=[*blocks], num_key_value_heads=None)


FULL = {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 2.625}}
NO_ATTENTION = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}}
NO_MLP = {"attention": {"n_heads_in_group": 8}, "ffn": {"no_op": True}}


def test_layers_of_decilm_differ_and_may_lack_a_part():
    # Heads of 64. Layer 0: Q and out 512 x 512, K and V 512 x 128; 2 x 2.625 x 512 / 3 = 896 is rounded up to 1024.
    # Layer 1: an MLP of 2 x 512 / 3 = 341, so 512. Layer 2: attention with one KV head. A norm before each part.
    full = 2 * 512 * 512 + 2 * 512 * 128 + 3 * 512 * 1024 + 2 * 512
    mlp_only = 3 * 512 * 512 + 512
    attention_only = 2 * 512 * 512 + 2 * 512 * 64 + 512
    model = from_config(deci(FULL, NO_ATTENTION, NO_MLP, FULL), "it")
    assert model.params == 2 * full + mlp_only + attention_only + 2 * 512 * 100 + 512
    assert [(block.layers, block.numbers) for block in model.blocks] == [(2, (0, 3)), (1, (1,)), (1, (2,))]
    assert model.notes == ()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (deci(FULL) | {"num_hidden_layers": 2}, "block_configs has 1 entries for num_hidden_layers=2"),
        (deci(FULL | {"attention": {"n_heads_in_group": 3}}), "8 heads are not a multiple of n_heads_in_group=3"),
        (deci(FULL | {"ffn": {"replace_with_linear": True}}), "(replace_with_linear) is not read"),
        (deci(FULL | {"ffn": {"ffn_mult": "2"}}), "ffn_mult must be a positive number, not '2'"),
        (deci(3), "block_configs must list JSON objects, not 3"),
        (GLM_4_9B | {"position_encoding_2d": True}, "the first ChatGLM-6B is not read"),
        (DBRX | {"ffn_config": None}, "ffn_config is missing"),
    ],
)
def test_what_is_not_read_is_refused(config, message):
    with pytest.raises(BadModel) as refused:
        from_config(config, "it")
    assert message in str(refused.value)
    assert str(refused.value).startswith("it")
