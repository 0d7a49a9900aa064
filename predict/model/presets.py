"""Models by name. Each preset holds the fields of the published `config.json` that determine shape and size.

A preset goes through the same reader as a user's file.
"""

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from predict.errors import BadModel
from predict.model.config.reader import from_config
from predict.model.transformer import Model


@dataclass(frozen=True, slots=True)
class Preset:
    """A published model."""

    config: Mapping[str, object]
    source: str  # of the configuration
    aliases: tuple[str, ...] = ()
    training_tokens: float | None = None  # None if not published
    training_source: str = ""  # of training_tokens


def _shape(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int | None = None) -> dict[str, object]:
    """The fields of width and depth. Leave out `kv_heads` if the family's fields set it or every head has its own."""
    sizes = {"hidden_size": hidden, "intermediate_size": intermediate}
    counts = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return {name: size for name, size in {**sizes, **counts}.items() if size is not None}


GPT_2 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024}
LLAMA_2 = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096}
LLAMA_3 = {
    "model_type": "llama",
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}
LLAMA_3_8B = {**LLAMA_3, **_shape(4096, 14336, 32, 32)}
LLAMA_3_70B = {**LLAMA_3, **_shape(8192, 28672, 80, 64)}
MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32000,
    **_shape(4096, 14336, 32, 32, 8),
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
}
QWEN_25 = {"model_type": "qwen2", "vocab_size": 152064, "max_position_embeddings": 131072}
QWEN_3 = {"model_type": "qwen3", "vocab_size": 151936, "head_dim": 128, "max_position_embeddings": 40960}
QWEN_3_MOE = {
    **QWEN_3,
    "model_type": "qwen3_moe",
    "num_key_value_heads": 4,
    "num_experts": 128,
    "num_experts_per_tok": 8,
}
GEMMA = {"model_type": "gemma", "vocab_size": 256000, "head_dim": 256, "max_position_embeddings": 8192}
GEMMA_2 = {"model_type": "gemma2", "vocab_size": 256000, "max_position_embeddings": 8192, "sliding_window": 4096}
GEMMA_3 = {
    "model_type": "gemma3_text",
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "sliding_window": 1024,
    "sliding_window_pattern": 6,
}

GPT_2_PAPER = "Radford et al. 2019, table 2; openai-community/gpt2*/config.json"
GPT_3_PAPER = "Brown et al. 2020, table 2.1"
LLAMA_2_PAPER = "Touvron et al. 2023b; meta-llama/Llama-2-*/config.json"
LLAMA_3_PAPER = "Llama team 2024, table 3; meta-llama/*/config.json"
LLAMA_3_CARD = "Llama 3 model card: over 15T tokens"
QWEN_25_PAPER = "Qwen2.5 technical report 2024, section 3: 18T tokens"
QWEN_3_PAPER = "Qwen3 technical report 2025, section 3: 36T tokens"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "gpt-2-small": Preset(
            {**GPT_2, "n_embd": 768, "n_layer": 12, "n_head": 12}, GPT_2_PAPER, ("gpt-2", "gpt-2-124m")
        ),
        "gpt-2-medium": Preset({**GPT_2, "n_embd": 1024, "n_layer": 24, "n_head": 16}, GPT_2_PAPER),
        "gpt-2-large": Preset({**GPT_2, "n_embd": 1280, "n_layer": 36, "n_head": 20}, GPT_2_PAPER),
        "gpt-2-xl": Preset({**GPT_2, "n_embd": 1600, "n_layer": 48, "n_head": 25}, GPT_2_PAPER),
        "gpt-3-175b": Preset(
            {**GPT_2, "n_positions": 2048, "n_embd": 12288, "n_layer": 96, "n_head": 96},
            GPT_3_PAPER,
            ("gpt-3",),
            300e9,
            GPT_3_PAPER,
        ),
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
        "llama-2-7b": Preset({**LLAMA_2, **_shape(4096, 11008, 32, 32)}, LLAMA_2_PAPER, (), 2e12, LLAMA_2_PAPER),
        "llama-2-13b": Preset({**LLAMA_2, **_shape(5120, 13824, 40, 40)}, LLAMA_2_PAPER, (), 2e12, LLAMA_2_PAPER),
        "llama-2-70b": Preset({**LLAMA_2, **_shape(8192, 28672, 80, 64, 8)}, LLAMA_2_PAPER, (), 2e12, LLAMA_2_PAPER),
        "llama-3-8b": Preset(LLAMA_3_8B, LLAMA_3_PAPER, (), 15e12, LLAMA_3_CARD),
        "llama-3-70b": Preset(LLAMA_3_70B, LLAMA_3_PAPER, (), 15e12, LLAMA_3_CARD),
        "llama-3.1-8b": Preset(
            {**LLAMA_3_8B, "max_position_embeddings": 131072}, LLAMA_3_PAPER, (), 15e12, LLAMA_3_CARD
        ),
        "llama-3.1-70b": Preset(
            {**LLAMA_3_70B, "max_position_embeddings": 131072}, LLAMA_3_PAPER, ("llama-3.3-70b",), 15e12, LLAMA_3_CARD
        ),
        "llama-3.1-405b": Preset(
            {**LLAMA_3, **_shape(16384, 53248, 126, 128), "max_position_embeddings": 131072},
            LLAMA_3_PAPER,
            ("llama-3-405b",),
            15.6e12,
            "Llama team 2024, section 3: 15.6T tokens",
        ),
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
        "qwen2.5-7b": Preset(
            {**QWEN_25, **_shape(3584, 18944, 28, 28, 4)},
            "Qwen2.5 technical report 2024, table 1; Qwen/Qwen2.5-7B/config.json",
            (),
            18e12,
            QWEN_25_PAPER,
        ),
        "qwen2.5-72b": Preset(
            {**QWEN_25, **_shape(8192, 29568, 80, 64, 8)},
            "Qwen2.5 technical report 2024, table 1; Qwen/Qwen2.5-72B/config.json",
            (),
            18e12,
            QWEN_25_PAPER,
        ),
        "qwen3-0.6b": Preset(
            {**QWEN_3, **_shape(1024, 3072, 28, 16, 8), "tie_word_embeddings": True},
            "Qwen/Qwen3-0.6B/config.json",
            (),
            36e12,
            QWEN_3_PAPER,
        ),
        "qwen3-8b": Preset(
            {**QWEN_3, **_shape(4096, 12288, 36, 32, 8)}, "Qwen/Qwen3-8B/config.json", (), 36e12, QWEN_3_PAPER
        ),
        "qwen3-14b": Preset(
            {**QWEN_3, **_shape(5120, 17408, 40, 40, 8)}, "Qwen/Qwen3-14B/config.json", (), 36e12, QWEN_3_PAPER
        ),
        "qwen3-32b": Preset(
            {**QWEN_3, **_shape(5120, 25600, 64, 64, 8)}, "Qwen/Qwen3-32B/config.json", (), 36e12, QWEN_3_PAPER
        ),
        "qwen3-30b-a3b": Preset(
            {**QWEN_3_MOE, **_shape(2048, 6144, 48, 32), "moe_intermediate_size": 768},
            "Qwen/Qwen3-30B-A3B/config.json",
            ("qwen3-moe",),
            36e12,
            QWEN_3_PAPER,
        ),
        "qwen3-235b-a22b": Preset(
            {**QWEN_3_MOE, **_shape(4096, 12288, 94, 64), "moe_intermediate_size": 1536},
            "Qwen/Qwen3-235B-A22B/config.json",
            (),
            36e12,
            QWEN_3_PAPER,
        ),
        "gemma-2b": Preset(
            {**GEMMA, **_shape(2048, 16384, 18, 8, 1)},
            "Gemma team 2024, table 1; google/gemma-2b/config.json",
            (),
            3e12,
            "Gemma model card: 3T tokens (the report says 2T)",
        ),
        "gemma-7b": Preset(
            {**GEMMA, **_shape(3072, 24576, 28, 16, 16)},
            "Gemma team 2024, table 1; google/gemma-7b/config.json",
            ("gemma",),
            6e12,
            "Gemma team 2024, section 3",
        ),
        "gemma-2-9b": Preset(
            {**GEMMA_2, "head_dim": 256, **_shape(3584, 14336, 42, 16, 8)},
            "Gemma 2 report 2024, table 1; google/gemma-2-9b/config.json",
            (),
            8e12,
            "Gemma 2 report 2024, section 3.1",
        ),
        "gemma-2-27b": Preset(
            {**GEMMA_2, "head_dim": 128, **_shape(4608, 36864, 46, 32, 16)},
            "Gemma 2 report 2024, table 1; google/gemma-2-27b/config.json",
            (),
            13e12,
            "Gemma 2 report 2024, section 3.1",
        ),
        "gemma-3-27b": Preset(
            {**GEMMA_3, "head_dim": 128, **_shape(5376, 21504, 62, 32, 16)},
            "Gemma 3 report 2025, table 1, the text decoder; google/gemma-3-27b-it/config.json",
            (),
            14e12,
            "Gemma 3 report 2025, section 2.2",
        ),
        "deepseek-v3": Preset(
            {
                "model_type": "deepseek_v3",
                "vocab_size": 129280,
                **_shape(7168, 18432, 61, 128, 128),
                "moe_intermediate_size": 2048,
                "q_lora_rank": 1536,
                "kv_lora_rank": 512,
                "qk_nope_head_dim": 128,
                "qk_rope_head_dim": 64,
                "v_head_dim": 128,
                "n_routed_experts": 256,
                "n_shared_experts": 1,
                "num_experts_per_tok": 8,
                "first_k_dense_replace": 3,
                "max_position_embeddings": 163840,
            },
            "DeepSeek-V3 report 2024, section 4.2; deepseek-ai/DeepSeek-V3/config.json, without the MTP layer",
            ("deepseek-r1",),
            14.8e12,
            "DeepSeek-V3 report 2024, section 4: 14.8T tokens",
        ),
    }
)


def find_preset(name: str) -> tuple[str, Preset]:
    """Return the canonical name and the preset of `name`. Case, '-', '_', '.' and spaces do not matter.

    Raises BadModel with the closest name and the list of all names.
    """
    known = _spellings()
    key = _key(name)
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {known[close[0]]}? " if close else ""
        raise BadModel(f"unknown model {name!r}; {hint}known: {', '.join(PRESETS)}; or give --config config.json")
    return known[key], PRESETS[known[key]]


def find_model(name: str) -> Model:
    """Return the model of the preset called `name`; raises BadModel listing the known ones."""
    proper_name, preset = find_preset(name)
    return from_config(preset.config, proper_name)


@functools.cache
def _spellings() -> Mapping[str, str]:
    return {_key(spelling): name for name, preset in PRESETS.items() for spelling in (name, *preset.aliases)}


def _key(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
