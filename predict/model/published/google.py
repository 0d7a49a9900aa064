"""Google: Gemma."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.model.published.preset import Preset, shape

GEMMA = {"model_type": "gemma", "vocab_size": 256000, "head_dim": 256, "max_position_embeddings": 8192}
GEMMA_2 = {"model_type": "gemma2", "vocab_size": 256000, "max_position_embeddings": 8192, "sliding_window": 4096}
GEMMA_3 = {
    "model_type": "gemma3_text",
    "vocab_size": 262208,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 1024,
    "sliding_window_pattern": 6,
}
# Keys are values too in layers that see all, every sixth.
GEMMA_4 = {
    "model_type": "gemma4_text",
    "vocab_size": 262144,
    "hidden_size_per_layer_input": 0,
    "head_dim": 256,
    "global_head_dim": 512,
    "attention_k_eq_v": True,
    "sliding_window": 1024,
    "max_position_embeddings": 262144,
    "tie_word_embeddings": True,
}
GEMMA_3_REPORT = "Gemma 3 report 2025, section 2.2"


def _every_sixth_full(layers: int) -> list[str]:
    return (["sliding_attention"] * 5 + ["full_attention"]) * (layers // 6)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "gemma-2b": Preset(
            {**GEMMA, **shape(2048, 16384, 18, 8, 1)},
            "Gemma team 2024, table 1; google/gemma-2b/config.json",
            (),
            3e12,
            "Gemma model card: 3T tokens (the report says 2T)",
        ),
        "gemma-7b": Preset(
            {**GEMMA, **shape(3072, 24576, 28, 16, 16)},
            "Gemma team 2024, table 1; google/gemma-7b/config.json",
            ("gemma",),
            6e12,
            "Gemma team 2024, section 3",
        ),
        "gemma-2-9b": Preset(
            {**GEMMA_2, "head_dim": 256, **shape(3584, 14336, 42, 16, 8)},
            "Gemma 2 report 2024, table 1; google/gemma-2-9b/config.json",
            (),
            8e12,
            "Gemma 2 report 2024, section 3.1",
        ),
        "gemma-2-27b": Preset(
            {**GEMMA_2, "head_dim": 128, **shape(4608, 36864, 46, 32, 16)},
            "Gemma 2 report 2024, table 1; google/gemma-2-27b/config.json",
            (),
            13e12,
            "Gemma 2 report 2024, section 3.1",
        ),
        "gemma-3-1b": Preset(
            {
                **GEMMA_3,
                **shape(1152, 6912, 26, 4, 1),
                "vocab_size": 262144,
                "max_position_embeddings": 32768,
                "sliding_window": 512,
            },
            "google/gemma-3-1b-it/config.json",
            (),
            2e12,
            GEMMA_3_REPORT,
        ),
        "gemma-3-4b": Preset(
            {**GEMMA_3, **shape(2560, 10240, 34, 8, 4)},
            "Gemma 3 report 2025, table 1, the text decoder; google/gemma-3-4b-it/config.json",
            (),
            4e12,
            GEMMA_3_REPORT,
        ),
        "gemma-3-12b": Preset(
            {**GEMMA_3, **shape(3840, 15360, 48, 16, 8)},
            "Gemma 3 report 2025, table 1, the text decoder; google/gemma-3-12b-it/config.json",
            (),
            12e12,
            GEMMA_3_REPORT,
        ),
        "gemma-3-27b": Preset(
            {**GEMMA_3, "head_dim": 128, **shape(5376, 21504, 62, 32, 16)},
            "Gemma 3 report 2025, table 1, the text decoder; google/gemma-3-27b-it/config.json",
            (),
            14e12,
            GEMMA_3_REPORT,
        ),
        "gemma-4-31b": Preset(
            {
                **GEMMA_4,
                **shape(5376, 21504, 60, 32, 16),
                "num_global_key_value_heads": 4,
                "layer_types": _every_sixth_full(60),
            },
            "google/gemma-4-31B-it/config.json, the text decoder",
        ),
        "gemma-4-26b-a4b": Preset(
            {
                **GEMMA_4,
                **shape(2816, 2112, 30, 16, 8),
                "num_global_key_value_heads": 2,
                "layer_types": _every_sixth_full(30),
                "enable_moe_block": True,
                "num_experts": 128,
                "top_k_experts": 8,
                "moe_intermediate_size": 704,
            },
            "google/gemma-4-26B-A4B-it/config.json, the text decoder",
        ),
    }
)
