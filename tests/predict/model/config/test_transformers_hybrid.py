"""Hybrid, sparse, compressed and layer-input families against `transformers` itself, where it is installed.

Small shapes; the models are built on the meta device for their parameters, and on the CPU for torch's FLOP counter.
"""

import pytest

from predict.model.config.reader import from_config
from predict.model.passes import Mask, forward

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
flop_counter = pytest.importorskip("torch.utils.flop_counter")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library about its own defaults

GROUPED = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16}
DECODER = {"hidden_size": 64, "num_hidden_layers": 8, "vocab_size": 96, "max_position_embeddings": 512}
DELTA = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 3,
    "linear_num_value_heads": 6,
}
QWEN = DECODER | GROUPED | DELTA | {"intermediate_size": 72}
QWEN_EXPERTS = {
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_experts_per_tok": 2,
    "num_experts": 5,
}
LATENT = DECODER | {
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 80,
    "moe_intermediate_size": 24,
    "n_routed_experts": 5,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 2,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
    "index_n_heads": 3,
    "index_head_dim": 8,
    "index_topk": 4,
}
GEMMA = (
    DECODER
    | GROUPED
    | {
        "num_hidden_layers": 10,
        "intermediate_size": 80,
        "vocab_size_per_layer_input": 70,
        "hidden_size_per_layer_input": 6,
        "sliding_window": 8,
        "pad_token_id": 0,
    }
)
GEMMA_3N = GEMMA | {"laurel_rank": 5, "altup_num_inputs": 3}
GEMMA_4 = GEMMA | {"global_head_dim": 24}
MAMBA = {"hidden_size": 60, "num_hidden_layers": 3, "head_dim": 15, "state_size": 7, "vocab_size": 96}
NEMOTRON = GROUPED | {
    "hidden_size": 64,
    "vocab_size": 96,
    "intermediate_size": 72,
    "mamba_num_heads": 6,
    "mamba_head_dim": 10,
    "n_groups": 2,
    "ssm_state_size": 7,
    "conv_kernel": 4,
    "n_routed_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "moe_shared_expert_intermediate_size": 36,
}
COMPRESSED = DECODER | {
    "num_hidden_layers": 7,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "q_lora_rank": 24,
    "moe_intermediate_size": 20,
    "n_routed_experts": 5,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "hc_mult": 3,
    "o_groups": 2,
    "o_lora_rank": 10,
    "index_n_heads": 3,
    "index_head_dim": 16,
    "index_topk": 4,
    "sliding_window": 8,
}
MAMBA_1 = {"hidden_size": 48, "num_hidden_layers": 3, "state_size": 5, "vocab_size": 96}
MAMBA_FIELDS = {
    "mamba_n_heads": 6,
    "mamba_n_groups": 2,
    "mamba_d_state": 7,
    "mamba_d_conv": 4,
    "mamba_expand": 3,
}
HYBRID = {
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "intermediate_size": 72,
    "num_experts_per_tok": 2,
}
SLIDING, FULL = "sliding_attention", "full_attention"

CONFIGS = {
    "qwen3_next": QWEN | QWEN_EXPERTS | {"model_type": "qwen3_next"},
    "qwen3_next, some dense": QWEN
    | QWEN_EXPERTS
    | {
        "model_type": "qwen3_next",
        "mlp_only_layers": [1, 3],
        "decoder_sparse_step": 2,
        "attention_bias": True,
        "full_attention_interval": 3,
        "tie_word_embeddings": True,
    },
    "qwen3_5": QWEN | {"model_type": "qwen3_5_text"},
    "qwen3_5, listed": QWEN
    | {"model_type": "qwen3_5_text", "layer_types": ["linear_attention"] * 5 + [FULL] * 3, "tie_word_embeddings": True},
    "qwen3_5_moe": QWEN | QWEN_EXPERTS | {"model_type": "qwen3_5_moe_text"},
    "deepseek_v32": LATENT | {"model_type": "deepseek_v32"},
    "deepseek_v32, biases": LATENT | {"model_type": "deepseek_v32", "attention_bias": True, "first_k_dense_replace": 0},
    "glm_moe_dsa": LATENT | {"model_type": "glm_moe_dsa"},
    "glm_moe_dsa, every third": LATENT | {"model_type": "glm_moe_dsa", "index_topk_freq": 3},
    "glm_moe_dsa, letters": LATENT | {"model_type": "glm_moe_dsa", "index_topk_pattern": "FSSFSF"},
    "glm_moe_dsa, listed": LATENT
    | {
        "model_type": "glm_moe_dsa",
        "indexer_types": ["full", "shared"] * 3,
        "mlp_layer_types": ["dense", "sparse"] * 3,
    },
    "gemma3n": GEMMA_3N | {"model_type": "gemma3n_text", "num_kv_shared_layers": 5},
    "gemma3n, a list of widths": GEMMA_3N
    | {"model_type": "gemma3n_text", "num_kv_shared_layers": 0, "intermediate_size": [80] * 5 + [96] * 5},
    "gemma4": GEMMA_4 | {"model_type": "gemma4_text"},
    "gemma4, experts, K = V": GEMMA_4
    | {
        "model_type": "gemma4_text",
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "enable_moe_block": True,
        "num_experts": 5,
        "top_k_experts": 2,
        "moe_intermediate_size": 12,
        "hidden_size_per_layer_input": 0,
    },
    "gemma4, shared caches": GEMMA_4
    | {
        "model_type": "gemma4_text",
        "num_kv_shared_layers": 4,
        "use_double_wide_mlp": True,
        "layer_types": [*[SLIDING] * 4, FULL] * 2,
    },
    "gemma4, biases": GEMMA
    | {
        "model_type": "gemma4_text",
        "num_kv_shared_layers": 4,
        "attention_bias": True,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 4,
        "layer_types": [SLIDING, FULL, SLIDING, SLIDING, SLIDING] * 2,
    },
    "mamba2": MAMBA | {"model_type": "mamba2", "num_heads": 8, "conv_kernel": 4, "n_groups": 2},
    "mamba2, biases": MAMBA
    | {
        "model_type": "mamba2",
        "num_heads": 12,
        "expand": 3,
        "conv_kernel": 3,
        "n_groups": 1,
        "use_bias": True,
        "use_conv_bias": False,
        "tie_word_embeddings": True,
    },
    "nemotron_h": NEMOTRON | {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-ME"},
    "nemotron_h, biases and a latent": NEMOTRON
    | {
        "model_type": "nemotron_h",
        "hybrid_override_pattern": "M-M*-ME",
        "mlp_bias": True,
        "use_bias": True,
        "use_conv_bias": False,
        "moe_latent_size": 13,
    },
    "nemotron_h, listed": NEMOTRON
    | {"model_type": "nemotron_h", "layers_block_type": ["linear_attention", "mlp", FULL, "moe"]},
    "mamba": MAMBA_1 | {"model_type": "mamba"},
    "mamba, biases": MAMBA_1 | {"model_type": "mamba", "use_bias": True, "use_conv_bias": False, "time_step_rank": 9},
    "falcon_mamba": MAMBA_1 | {"model_type": "falcon_mamba", "expand": 3, "tie_word_embeddings": False},
    "jamba": HYBRID | {"model_type": "jamba", "num_experts": 5, "attn_layer_period": 3, "attn_layer_offset": 1},
    "jamba, no experts": HYBRID
    | {"model_type": "jamba", "num_experts": 1, "mamba_dt_rank": 3, "mamba_proj_bias": True, "mamba_conv_bias": False},
    "bamba": HYBRID
    | MAMBA_FIELDS
    | {"model_type": "bamba", "mamba_n_heads": 12, "attn_layer_indices": [1, 4], "attention_bias": True},
    "granitemoehybrid": HYBRID
    | MAMBA_FIELDS
    | {
        "model_type": "granitemoehybrid",
        "layers_block_type": ["mamba", "attention", "mamba", "mamba", "attention", "mamba"],
        "shared_intermediate_size": 40,
        "num_local_experts": 5,
    },
    "granitemoehybrid, no experts": HYBRID
    | MAMBA_FIELDS
    | {
        "model_type": "granitemoehybrid",
        "layer_types": ["linear_attention", "full_attention"] * 3,
        "shared_intermediate_size": 40,
        "num_local_experts": 0,
        "tie_word_embeddings": True,
    },
    "falcon_h1": HYBRID | MAMBA_FIELDS | {"model_type": "falcon_h1", "mamba_d_ssm": 60, "mlp_bias": True},
    "falcon_h1, norm and biases": HYBRID
    | MAMBA_FIELDS
    | {
        "model_type": "falcon_h1",
        "mamba_d_ssm": None,
        "mamba_rms_norm": True,
        "mamba_proj_bias": True,
        "projectors_bias": True,
    },
    "kimi_linear": LATENT
    | {
        "model_type": "kimi_linear",
        "num_experts": 5,
        "pad_token_id": 0,
        "q_lora_rank": None,
        "linear_attn_config": {
            "num_heads": 3,
            "head_dim": 10,
            "short_conv_kernel_size": 4,
            "full_attn_layers": [4, 6],
            "kda_layers": [1, 2, 3, 5],
        },
    },
    "kimi_linear, flat": LATENT
    | {"model_type": "kimi_linear", "num_experts": 5, "pad_token_id": 0, "linear_num_heads": 3, "linear_head_dim": 10},
    "minimax": HYBRID | {"model_type": "minimax", "num_local_experts": 5, "head_dim": 12},
    "minimax, listed": HYBRID
    | {
        "model_type": "minimax",
        "num_local_experts": 5,
        "layer_types": ["linear_attention"] * 5 + [FULL],
    },
    "lfm2": HYBRID | {"model_type": "lfm2", "full_attn_idxs": [2, 5], "block_multiple_of": 16},
    "lfm2, unadjusted": HYBRID
    | {"model_type": "lfm2", "block_auto_adjust_ff_dim": False, "conv_bias": True, "layer_types": ["conv", FULL] * 3},
    "lfm2_moe": HYBRID
    | {
        "model_type": "lfm2_moe",
        "layer_types": ["conv", FULL] * 3,
        "moe_intermediate_size": 20,
        "num_experts": 6,
    },
    "deepseek_v4": COMPRESSED | {"model_type": "deepseek_v4"},
    "deepseek_v4, by ratios": COMPRESSED
    | {"model_type": "deepseek_v4", "compress_ratios": [0, 0, 4, 128, 4, 128, 4, 0], "mlp_bias": True},
    "deepseek_v4, listed": COMPRESSED
    | {
        "model_type": "deepseek_v4",
        "layer_types": [SLIDING, "heavily_compressed_attention"] * 3 + ["compressed_sparse_attention"],
        "compress_rate_csa": 8,
    },
}
# Parameters with two axes or more that multiply nothing as a matrix.
NO_MATRICES = ("embed_tokens", "embeddings", "conv1d", "conv.conv", "A_log", "position_bias")
BATCH, SEQ = 2, 12


def build(config, device):
    rest = {name: value for name, value in config.items() if name != "model_type"}
    settings = transformers.AutoConfig.for_model(config["model_type"], **rest)
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(settings, attn_implementation="eager")


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_transformers_matrices_and_all(name):
    built, model = build(CONFIGS[name], "meta"), from_config(CONFIGS[name], name)
    assert model.params == sum(each.numel() for each in built.parameters())
    matrices = sum(
        each.numel()
        for part, each in built.named_parameters()
        if each.dim() > 1 and not any(word in part for word in NO_MATRICES) and not part.endswith("bias")
    )
    if model.tied:
        matrices += model.vocab * model.hidden
    ours = [(1, linear) for linear in model.outer_linears()]
    ours += [(block.layers, linear) for block in model.blocks for linear in block.linears]
    assert sum(layers * each.copies * each.inputs * each.outputs for layers, each in ours) == matrices
    # A token goes through everything but the experts that it is not sent to.
    idle = sum(layers * (each.copies - each.active) * (each.inputs + each.bias) * each.outputs for layers, each in ours)
    assert model.active_params == model.params - idle


def counted_flop(config):
    built = build(config, "cpu").eval()
    built.set_experts_implementation("batched_mm")  # counted; a grouped product is not
    with flop_counter.FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.zeros(BATCH, SEQ, dtype=torch.long), use_cache=False)
    return counter.get_total_flops()


# What the library multiplies besides matrices and scores, all tokens together.
ALTUP = BATCH * SEQ * 10 * 2 * (64 * 3 + 64 * 3 * 3)  # router a second time; streams mixed by 3 x 3: 10 layers of 64
INDEX_WEIGHTS = BATCH * SEQ * SEQ * 2 * 3  # the sum over 3 heads, an indexer layer
# Streams mixed by 3 x 3 before attention and MLP of 7 layers; entries that causal queries do not see: 3 for each of 12
# queries less 0 0 0 1 1 1 1 2 2 2 2 3 = 15; index scores that nothing is chosen by (3 entries for the best 4).
MIXED_STREAMS = 7 * BATCH * SEQ * 2 * (2 * 3 * 3 * 64)
UNSEEN_ENTRIES = BATCH * ((36 - 15) * 4 * 8 * 32 + 36 * 2 * 3 * 16)


@pytest.mark.parametrize(
    ("name", "besides"),
    [
        ("gemma4", 0),
        ("gemma4, experts, K = V", 0),
        ("gemma4, shared caches", 0),
        ("gemma4, biases", 0),
        ("gemma3n", ALTUP),
        ("gemma3n, a list of widths", ALTUP),
        ("deepseek_v32", 6 * INDEX_WEIGHTS),
        ("glm_moe_dsa, letters", 3 * INDEX_WEIGHTS),
        ("glm_moe_dsa, listed", 3 * INDEX_WEIGHTS),
        ("deepseek_v4", MIXED_STREAMS + 2 * UNSEEN_ENTRIES),
        ("deepseek_v4, by ratios", MIXED_STREAMS + 3 * UNSEEN_ENTRIES),
    ],
)
def test_flop_are_those_that_torch_counts(name, besides):
    config = CONFIGS[name]
    assert counted_flop(config) - besides == forward(from_config(config, name), BATCH, SEQ, mask=Mask.FULL).flop
