"""Meta: OPT, Llama."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.model.published.preset import Preset, shape

LLAMA_2 = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096}
LLAMA_3 = {
    "model_type": "llama",
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}
LLAMA_3_8B = {**LLAMA_3, **shape(4096, 14336, 32, 32)}
LLAMA_3_70B = {**LLAMA_3, **shape(8192, 28672, 80, 64)}
LLAMA_31 = {**LLAMA_3, "max_position_embeddings": 131072}
LLAMA_32 = {**LLAMA_31, "tie_word_embeddings": True}
# Chunks of 8192 tokens in three of four layers; intermediate_size is that of an expert and of the shared one.
LLAMA_4 = {
    "model_type": "llama4_text",
    "vocab_size": 202048,
    **shape(5120, 8192, 48, 40, 8),
    "intermediate_size_mlp": 16384,
    "head_dim": 128,
    "num_experts_per_tok": 1,
    "attention_chunk_size": 8192,
    "no_rope_layer_interval": 4,
    "tie_word_embeddings": False,
}

LLAMA_2_PAPER = "Touvron et al. 2023b; meta-llama/Llama-2-*/config.json"
LLAMA_3_PAPER = "Llama team 2024, table 3; meta-llama/*/config.json"
LLAMA_3_CARD = "Llama 3 model card: over 15T tokens"
LLAMA_32_CARD = "Llama 3.2 model card: up to 9T tokens"
LLAMA_4_CARD = "Llama 4 model card 2025, the text decoder; meta-llama/Llama-4-*/config.json"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "opt-13b": Preset(
            {
                "model_type": "opt",
                "vocab_size": 50272,
                "hidden_size": 5120,
                "ffn_dim": 20480,
                "num_hidden_layers": 40,
                "num_attention_heads": 40,
                "max_position_embeddings": 2048,
            },
            "Zhang et al. 2022, table 1; facebook/opt-13b/config.json",
            (),
            180e9,
            "Zhang et al. 2022, section 2.3",
        ),
        "llama-2-7b": Preset({**LLAMA_2, **shape(4096, 11008, 32, 32)}, LLAMA_2_PAPER, (), 2e12, LLAMA_2_PAPER),
        "llama-2-13b": Preset({**LLAMA_2, **shape(5120, 13824, 40, 40)}, LLAMA_2_PAPER, (), 2e12, LLAMA_2_PAPER),
        "llama-2-70b": Preset({**LLAMA_2, **shape(8192, 28672, 80, 64, 8)}, LLAMA_2_PAPER, (), 2e12, LLAMA_2_PAPER),
        "llama-3-8b": Preset(LLAMA_3_8B, LLAMA_3_PAPER, (), 15e12, LLAMA_3_CARD),
        "llama-3-70b": Preset(LLAMA_3_70B, LLAMA_3_PAPER, (), 15e12, LLAMA_3_CARD),
        "llama-3.1-8b": Preset({**LLAMA_3_8B, **LLAMA_31}, LLAMA_3_PAPER, (), 15e12, LLAMA_3_CARD),
        "llama-3.1-70b": Preset({**LLAMA_3_70B, **LLAMA_31}, LLAMA_3_PAPER, ("llama-3.3-70b",), 15e12, LLAMA_3_CARD),
        "llama-3.1-405b": Preset(
            {**LLAMA_31, **shape(16384, 53248, 126, 128)},
            LLAMA_3_PAPER,
            ("llama-3-405b",),
            15.6e12,
            "Llama team 2024, section 3: 15.6T tokens",
        ),
        "llama-3.2-1b": Preset(
            {**LLAMA_32, **shape(2048, 8192, 16, 32), "head_dim": 64},
            "meta-llama/Llama-3.2-1B/config.json",
            (),
            9e12,
            LLAMA_32_CARD,
        ),
        "llama-3.2-3b": Preset(
            {**LLAMA_32, **shape(3072, 8192, 28, 24), "head_dim": 128},
            "meta-llama/Llama-3.2-3B/config.json",
            (),
            9e12,
            LLAMA_32_CARD,
        ),
        "llama-4-scout": Preset(
            {**LLAMA_4, "num_local_experts": 16, "interleave_moe_layer_step": 1, "max_position_embeddings": 10485760},
            LLAMA_4_CARD,
            ("llama-4-scout-17b-16e",),
            40e12,
            "Llama 4 model card: ~40T tokens",
        ),
        "llama-4-maverick": Preset(
            {**LLAMA_4, "num_local_experts": 128, "interleave_moe_layer_step": 2, "max_position_embeddings": 1048576},
            LLAMA_4_CARD,
            ("llama-4-maverick-17b-128e",),
            22e12,
            "Llama 4 model card: ~22T tokens",
        ),
    }
)
