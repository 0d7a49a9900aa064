"""Published models of many families: parameters as transformers 5.24 builds them, and what a bf16 cache takes."""

import pytest

from predict.model.config.reader import from_config
from predict.model.passes import kv_bytes

LONG = 10**6  # tokens: every window is full


def shape(kind, hidden, intermediate, layers, heads, kv_heads, vocab, context, **others):
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        **others,
    }


COMMAND_R7B = shape("cohere2", 4096, 14336, 32, 32, 8, 256000, 132096, sliding_window=4096, sliding_window_pattern=4)
ERNIE_21B = shape(
    "ernie4_5_moe", 2560, 12288, 28, 20, 4, 103424, 131072, moe_intermediate_size=1536, moe_num_experts=64, moe_k=6
)
FALCON_7B = {
    "model_type": "falcon",
    "hidden_size": 4544,
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "vocab_size": 65024,
    "multi_query": True,
    "parallel_attn": True,
    "new_decoder_architecture": False,
}
NEOX_20B = shape("gpt_neox", 6144, 24576, 44, 64, None, 50432, 2048)
GPT_OSS_120B = shape(
    "gpt_oss", 2880, 2880, 36, 64, 8, 201088, 131072, head_dim=64, num_local_experts=128, num_experts_per_tok=4
)
GPT_OSS_120B["layer_types"] = ["sliding_attention", "full_attention"] * 18
GPT_OSS_120B["sliding_window"] = 128
GRANITE_8B = shape("granite", 4096, 12800, 40, 32, 8, 49159, 131072, tie_word_embeddings=True)
KIMI_K2 = shape(
    "kimi_k2",
    7168,
    18432,
    61,
    64,
    64,
    163840,
    131072,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    moe_intermediate_size=2048,
    n_routed_experts=384,
    n_shared_experts=1,
    num_experts_per_tok=8,
    first_k_dense_replace=1,
)
OLMO2_7B = shape("olmo2", 4096, 11008, 32, 32, 32, 100352, 4096)
PHI4_MINI = shape("phi3", 3072, 8192, 32, 24, 8, 200064, 131072, sliding_window=262144, tie_word_embeddings=True)
PHI3_MINI_4K = shape("phi3", 3072, 8192, 32, 32, 32, 32064, 4096, sliding_window=2047)
QWEN15_MOE = shape(
    "qwen2_moe",
    2048,
    5632,
    24,
    16,
    16,
    151936,
    32768,
    moe_intermediate_size=1408,
    shared_expert_intermediate_size=5632,
    num_experts=60,
    num_experts_per_tok=4,
    sliding_window=32768,
    max_window_layers=21,
    use_sliding_window=False,
)
QWEN3_30B = shape(
    "qwen3_moe",
    2048,
    6144,
    48,
    32,
    4,
    151936,
    40960,
    head_dim=128,
    moe_intermediate_size=768,
    num_local_experts=128,  # transformers 5.8 and later write num_experts so
    num_experts_per_tok=8,
)
SMOLLM3_3B = shape("smollm3", 2048, 11008, 36, 16, 4, 128256, 65536)
QWEN25_VL_7B = shape("qwen2_5_vl", 3584, 18944, 28, 28, 4, 152064, 128000, use_sliding_window=False)
QWEN3_VL_8B = shape("qwen3_vl_text", 4096, 12288, 36, 32, 8, 151936, 262144, head_dim=128)
QWEN3_VL_8B = {"model_type": "qwen3_vl", "tie_word_embeddings": False, "text_config": QWEN3_VL_8B}
MISTRAL_SMALL = shape("mistral", 5120, 32768, 40, 32, 8, 131072, 131072, head_dim=128, sliding_window=None)
MISTRAL_SMALL = {"model_type": "mistral3", "text_config": MISTRAL_SMALL}

# Parameters, active parameters; layers whose cache grows without end, bytes that all of them cache of a token; layers
# with a window, and bytes that these hold once they are full: 2 (K and V) x KV heads x head_dim x 2 bytes x layers
# (x window). A latent layer caches 512 + 64 elements of a token.
PUBLISHED = {
    "command-r7b": (COMMAND_R7B, 8_028_033_024, 8_028_033_024, 8, 8 * 4096, 24, 24 * 4096 * 4096),
    "ernie-4.5-21b": (ERNIE_21B, 21_825_437_888, 3_352_150_208, 28, 28 * 2048, 0, 0),
    "falcon-7b": (FALCON_7B, 6_921_720_704, 6_921_720_704, 32, 32 * 256, 0, 0),
    "gpt-neox-20b": (NEOX_20B, 20_554_567_680, 20_554_567_680, 44, 44 * 24576, 0, 0),
    "gpt-oss-120b": (GPT_OSS_120B, 116_829_156_672, 5_711_982_912, 18, 18 * 2048, 18, 18 * 2048 * 128),
    "granite-8b": (GRANITE_8B, 8_170_864_640, 8_170_864_640, 40, 40 * 4096, 0, 0),
    "kimi-k2": (KIMI_K2, 1_026_408_209_408, 32_861_477_888, 61, 61 * 1152, 0, 0),
    "olmo-2-7b": (OLMO2_7B, 7_298_617_344, 7_298_617_344, 32, 32 * 16384, 0, 0),
    "phi-4-mini": (PHI4_MINI, 3_836_021_760, 3_836_021_760, 32, 32 * 4096, 0, 0),  # the window exceeds the context
    "phi-3-mini-4k": (PHI3_MINI_4K, 3_821_079_552, 3_821_079_552, 0, 0, 32, 32 * 12288 * 2047),
    "qwen1.5-moe-a2.7b": (QWEN15_MOE, 14_315_784_192, 2_689_173_504, 24, 24 * 8192, 0, 0),
    "qwen3-30b-a3b": (QWEN3_30B, 30_532_122_624, 3_353_032_704, 48, 48 * 2048, 0, 0),
    "smollm3-3b": (SMOLLM3_3B, 3_075_098_624, 3_075_098_624, 36, 36 * 2048, 0, 0),
    "qwen2.5-vl-7b": (QWEN25_VL_7B, 7_615_616_512, 7_615_616_512, 28, 28 * 2048, 0, 0),
    "qwen3-vl-8b": (QWEN3_VL_8B, 8_190_735_360, 8_190_735_360, 36, 36 * 4096, 0, 0),
    "mistral-small-24b": (MISTRAL_SMALL, 23_572_403_200, 23_572_403_200, 40, 40 * 4096, 0, 0),
}


# What files of transformers 4 and 5 hold besides.
SAVED = {
    "_name_or_path": "someone/model",
    "architectures": ["SomeForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "output_router_logits": False,
    "pad_token_id": None,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.1",
    "use_cache": True,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_fields_of_every_file_are_no_note(name):
    config, params, *_ = PUBLISHED[name]
    model = from_config(SAVED | config, name)
    assert (model.params, model.notes) == (params, ())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_layers_and_cache(name):
    config, params, active, full, token_bytes, windowed, window_bytes = PUBLISHED[name]
    model = from_config(config, name)
    assert (model.params, model.active_params) == (params, active)
    assert sum(block.layers for block in model.blocks if block.window is None) == full
    assert sum(block.layers for block in model.blocks if block.window) == windowed
    more = kv_bytes(model, 1, LONG + 1) - kv_bytes(model, 1, LONG)
    assert more == token_bytes
    assert kv_bytes(model, 1, LONG) - LONG * more == window_bytes
    assert model.notes == ()
