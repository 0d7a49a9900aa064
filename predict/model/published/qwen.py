"""Alibaba: Qwen."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.model.published.preset import Preset, shape

QWEN_25 = {"model_type": "qwen2", "vocab_size": 152064, "max_position_embeddings": 131072}
# The smaller models have a smaller table, which the output reuses up to 3B.
QWEN_25_SMALL = {**QWEN_25, "vocab_size": 151936, "max_position_embeddings": 32768, "tie_word_embeddings": True}
QWEN_3 = {"model_type": "qwen3", "vocab_size": 151936, "head_dim": 128, "max_position_embeddings": 40960}
QWEN_3_SMALL = {**QWEN_3, "tie_word_embeddings": True}
QWEN_3_MOE = {
    **QWEN_3,
    "model_type": "qwen3_moe",
    "num_key_value_heads": 4,
    "num_experts": 128,
    "num_experts_per_tok": 8,
}
# Three layers of gated delta net, then one of attention.
HYBRID = {
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "head_dim": 256,
    "max_position_embeddings": 262144,
    "tie_word_embeddings": False,
}

QWEN_35_MOE = {"model_type": "qwen3_5_moe_text", "vocab_size": 248320, "num_key_value_heads": 2, **HYBRID}

QWEN_25_REPORT = "Qwen2.5 technical report 2024, table 1; Qwen/Qwen2.5-*/config.json"
QWEN_25_TOKENS = "Qwen2.5 technical report 2024, section 3: 18T tokens"
QWEN_3_TOKENS = "Qwen3 technical report 2025, section 3: 36T tokens"


def _qwen_25(config: Mapping[str, object]) -> Preset:
    return Preset(config, QWEN_25_REPORT, (), 18e12, QWEN_25_TOKENS)


def _qwen_3(config: Mapping[str, object], name: str, *aliases: str) -> Preset:
    return Preset(config, f"Qwen/{name}/config.json", aliases, 36e12, QWEN_3_TOKENS)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "qwen2.5-0.5b": _qwen_25({**QWEN_25_SMALL, **shape(896, 4864, 24, 14, 2)}),
        "qwen2.5-1.5b": _qwen_25({**QWEN_25_SMALL, **shape(1536, 8960, 28, 12, 2), "max_position_embeddings": 131072}),
        "qwen2.5-3b": _qwen_25({**QWEN_25_SMALL, **shape(2048, 11008, 36, 16, 2)}),
        "qwen2.5-7b": _qwen_25({**QWEN_25, **shape(3584, 18944, 28, 28, 4)}),
        "qwen2.5-14b": _qwen_25({**QWEN_25, **shape(5120, 13824, 48, 40, 8)}),
        "qwen2.5-32b": _qwen_25({**QWEN_25, **shape(5120, 27648, 64, 40, 8)}),
        "qwen2.5-72b": _qwen_25({**QWEN_25, **shape(8192, 29568, 80, 64, 8)}),
        "qwen3-0.6b": _qwen_3({**QWEN_3_SMALL, **shape(1024, 3072, 28, 16, 8)}, "Qwen3-0.6B"),
        "qwen3-1.7b": _qwen_3({**QWEN_3_SMALL, **shape(2048, 6144, 28, 16, 8)}, "Qwen3-1.7B"),
        "qwen3-4b": _qwen_3({**QWEN_3_SMALL, **shape(2560, 9728, 36, 32, 8)}, "Qwen3-4B"),
        "qwen3-8b": _qwen_3({**QWEN_3, **shape(4096, 12288, 36, 32, 8)}, "Qwen3-8B"),
        "qwen3-14b": _qwen_3({**QWEN_3, **shape(5120, 17408, 40, 40, 8)}, "Qwen3-14B"),
        "qwen3-32b": _qwen_3({**QWEN_3, **shape(5120, 25600, 64, 64, 8)}, "Qwen3-32B"),
        "qwen3-30b-a3b": _qwen_3(
            {**QWEN_3_MOE, **shape(2048, 6144, 48, 32), "moe_intermediate_size": 768}, "Qwen3-30B-A3B", "qwen3-moe"
        ),
        "qwen3-235b-a22b": _qwen_3(
            {**QWEN_3_MOE, **shape(4096, 12288, 94, 64), "moe_intermediate_size": 1536}, "Qwen3-235B-A22B"
        ),
        "qwen3-coder-480b-a35b": Preset(
            {
                **QWEN_3_MOE,
                **shape(6144, 8192, 62, 96, 8),
                "moe_intermediate_size": 2560,
                "num_experts": 160,
                "max_position_embeddings": 262144,
            },
            "Qwen/Qwen3-Coder-480B-A35B-Instruct/config.json",
            ("qwen3-coder",),
            7.5e12,
            "Qwen3-Coder announcement, July 2025: 7.5T tokens",
        ),
        "qwen3-next-80b-a3b": Preset(
            {
                "model_type": "qwen3_next",
                "vocab_size": 151936,
                **HYBRID,
                **shape(2048, 5120, 48, 16, 2),
                "linear_num_value_heads": 32,
                "num_experts": 512,
                "num_experts_per_tok": 10,
                "moe_intermediate_size": 512,
                "shared_expert_intermediate_size": 512,
            },
            "Qwen/Qwen3-Next-80B-A3B-Instruct/config.json, without the MTP layer",
            ("qwen3-next",),
            15e12,
            "Qwen3-Next announcement, September 2025: 15T tokens",
        ),
        "qwen3.5-27b": Preset(
            {
                "model_type": "qwen3_5_text",
                "vocab_size": 248320,
                **HYBRID,
                **shape(5120, 17408, 64, 24, 4),
                "linear_num_value_heads": 48,
            },
            "Qwen/Qwen3.5-27B/config.json, the text decoder without the MTP layer",
        ),
        "qwen3.5-35b-a3b": Preset(
            {
                **QWEN_35_MOE,
                "hidden_size": 2048,
                "num_hidden_layers": 40,
                "num_attention_heads": 16,
                "linear_num_value_heads": 32,
                "num_experts": 256,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 512,
                "shared_expert_intermediate_size": 512,
            },
            "Qwen/Qwen3.5-35B-A3B/config.json, the text decoder without the MTP layer",
        ),
        "qwen3.5-397b-a17b": Preset(
            {
                **QWEN_35_MOE,
                "hidden_size": 4096,
                "num_hidden_layers": 60,
                "num_attention_heads": 32,
                "linear_num_value_heads": 64,
                "num_experts": 512,
                "num_experts_per_tok": 10,
                "moe_intermediate_size": 1024,
                "shared_expert_intermediate_size": 1024,
            },
            "Qwen/Qwen3.5-397B-A17B/config.json, the text decoder without the MTP layer",
        ),
    }
)
