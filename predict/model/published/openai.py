"""OpenAI: GPT-2, GPT-3, gpt-oss."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.model.published.preset import Preset, shape

GPT_2 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024}
GPT_2_PAPER = "Radford et al. 2019, table 2; openai-community/gpt2*/config.json"
GPT_3_PAPER = "Brown et al. 2020, table 2.1"
# Windows in every second layer, the first included. The experts ship in MXFP4, all else in bf16.
GPT_OSS = {
    "model_type": "gpt_oss",
    "vocab_size": 201088,
    "head_dim": 64,
    "sliding_window": 128,
    "num_experts_per_tok": 4,
    "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096},
    "tie_word_embeddings": False,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    },
}


def _gpt_oss(layers: int, experts: int) -> dict[str, object]:
    types = ["sliding_attention", "full_attention"] * (layers // 2)
    return {**GPT_OSS, **shape(2880, 2880, layers, 64, 8), "num_local_experts": experts, "layer_types": types}


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
        "gpt-oss-20b": Preset(_gpt_oss(24, 32), "gpt-oss model card 2025, table 1; openai/gpt-oss-20b/config.json"),
        "gpt-oss-120b": Preset(_gpt_oss(36, 128), "gpt-oss model card 2025, table 1; openai/gpt-oss-120b/config.json"),
    }
)
