"""DeepSeek, and Moonshot's Kimi, which has the same layout."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.model.published.preset import Preset, fp8_blocks, shape

LATENT = {
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
}
DEEPSEEK = {
    "vocab_size": 129280,
    **shape(7168, 18432, 61, 128, 128),
    **LATENT,
    "n_routed_experts": 256,
    "n_group": 8,
    "topk_group": 4,
    "first_k_dense_replace": 3,
    "max_position_embeddings": 163840,
    "quantization_config": fp8_blocks(),
}
KIMI = {
    "model_type": "kimi_k2",
    "vocab_size": 163840,
    **shape(7168, 18432, 61, 64, 64),
    **LATENT,
    "n_routed_experts": 384,
    "first_k_dense_replace": 1,
}
# Kimi K2 Thinking: the routed experts in int4, a scale of 16 bits for 32 weights.
INT4_EXPERTS = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True},
        }
    },
    "ignore": [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
    ],
}
KIMI_REPORT = "Kimi K2 report 2025, section 2: 15.5T tokens"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "deepseek-v3": Preset(
            {"model_type": "deepseek_v3", **DEEPSEEK},
            "DeepSeek-V3 report 2024, section 4.2; deepseek-ai/DeepSeek-V3/config.json, without the MTP layer",
            ("deepseek-r1", "deepseek-v3.1"),
            14.8e12,
            "DeepSeek-V3 report 2024, section 4: 14.8T tokens",
        ),
        "deepseek-v3.2": Preset(
            {
                "model_type": "deepseek_v32",
                **DEEPSEEK,
                "index_n_heads": 64,
                "index_head_dim": 128,
                "index_topk": 2048,
            },
            "deepseek-ai/DeepSeek-V3.2/config.json, without the MTP layer",
        ),
        "kimi-k2": Preset(
            {**KIMI, "max_position_embeddings": 131072, "quantization_config": fp8_blocks()},
            "Kimi K2 report 2025, table 2; moonshotai/Kimi-K2-Instruct/config.json",
            ("kimi-k2-instruct",),
            15.5e12,
            KIMI_REPORT,
        ),
        "kimi-k2-thinking": Preset(
            {**KIMI, "max_position_embeddings": 262144, "quantization_config": INT4_EXPERTS},
            "moonshotai/Kimi-K2-Thinking/config.json; Kimi-K2.5 has the same decoder",
            ("kimi-k2.5",),
            15.5e12,
            KIMI_REPORT,
        ),
    }
)
