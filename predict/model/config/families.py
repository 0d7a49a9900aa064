"""Which reader reads which `model_type`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from predict.model.config.classic import gpt2, opt
from predict.model.config.dense import gemma, llama, mistral, qwen2, qwen3
from predict.model.config.fields import Fields
from predict.model.config.latent import deepseek
from predict.model.config.mixture import mixtral, qwen3_moe
from predict.model.transformer import Model

READERS: Mapping[str, Callable[[Fields], Model]] = MappingProxyType(
    {
        "gpt2": gpt2,
        "opt": opt,
        "llama": llama,
        "mistral": mistral,
        "mixtral": mixtral,
        "qwen2": qwen2,
        "qwen3": qwen3,
        "qwen3_moe": qwen3_moe,
        "gemma": gemma,
        "gemma2": gemma,
        "gemma3_text": gemma,
        "deepseek_v2": deepseek,
        "deepseek_v3": deepseek,
    }
)
