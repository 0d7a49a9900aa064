"""Mistral AI: Mistral, Mixtral."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.model.published.preset import Preset, shape

MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32000,
    **shape(4096, 14336, 32, 32, 8),
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
}
# Later models have no windows.
MISTRAL = {
    "model_type": "mistral",
    "head_dim": 128,
    "sliding_window": None,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "mistral-7b": Preset(MISTRAL_7B, "Jiang et al. 2023, table 1; mistralai/Mistral-7B-v0.1/config.json"),
        "mixtral-8x7b": Preset(
            {
                **MISTRAL_7B,
                "model_type": "mixtral",
                "sliding_window": None,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
            },
            "Jiang et al. 2024, table 1; mistralai/Mixtral-8x7B-v0.1/config.json",
        ),
        "mixtral-8x22b": Preset(
            {
                "model_type": "mixtral",
                "vocab_size": 32000,
                **shape(6144, 16384, 56, 48, 8),
                "max_position_embeddings": 65536,
                "sliding_window": None,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
            },
            "mistralai/Mixtral-8x22B-v0.1/config.json",
        ),
        "mistral-nemo-12b": Preset(
            {**MISTRAL, "vocab_size": 131072, **shape(5120, 14336, 40, 32, 8)},
            "mistralai/Mistral-Nemo-Base-2407/config.json",
            ("mistral-nemo",),
        ),
        "mistral-large-123b": Preset(
            {**MISTRAL, "vocab_size": 32768, **shape(12288, 28672, 88, 96, 8)},
            "mistralai/Mistral-Large-Instruct-2407/config.json",
            ("mistral-large-2",),
        ),
        "mistral-small-3.1-24b": Preset(
            {**MISTRAL, "vocab_size": 131072, **shape(5120, 32768, 40, 32, 8)},
            "mistralai/Mistral-Small-3.1-24B-Base-2503/config.json, the text decoder",
            ("mistral-small-3.2-24b", "mistral-small-24b", "mistral-small"),
        ),
    }
)
