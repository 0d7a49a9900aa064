"""Which reader reads which `model_type`, and what to do with a type that is not known."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from predict.errors import BadModel
from predict.model.config import (
    classic,
    compressed,
    dense,
    gemma,
    hybrid,
    latent,
    layernorm,
    mamba,
    mamba_hybrids,
    mixture,
    other_hybrids,
    remote,
    sparse,
)
from predict.model.config.fields import Fields
from predict.model.transformer import Model
from predict.suggest import did_you_mean, nearest, quoted

Reader = Callable[[Fields], Model]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "gpt2": classic.gpt2,
        "opt": classic.opt,
        "bloom": layernorm.bloom,
        "cohere": layernorm.cohere,
        "cohere2": layernorm.cohere2,
        "falcon": layernorm.falcon,
        "gpt_bigcode": layernorm.gpt_bigcode,
        "gpt_neox": layernorm.gpt_neox,
        "gptj": layernorm.gptj,
        "mpt": layernorm.mpt,
        "nemotron": layernorm.nemotron,
        "phi": layernorm.phi,
        "stablelm": layernorm.stablelm,
        "starcoder2": layernorm.starcoder2,
        "llama": dense.llama,
        "mistral": dense.mistral,
        "qwen2": dense.qwen2,
        "qwen3": dense.qwen3,
        "gemma": dense.gemma,
        "gemma2": dense.gemma,
        "gemma3_text": dense.gemma,
        "ernie4_5": dense.ernie4_5,
        "exaone4": dense.exaone4,
        "glm": dense.glm,
        "glm4": dense.glm,
        "granite": dense.llama,
        "olmo2": dense.olmo2,
        "olmo3": dense.olmo2,
        "phi3": dense.phi3,
        "seed_oss": dense.seed_oss,
        "smollm3": dense.smollm3,
        "arcee": dense.arcee,
        "helium": dense.helium,
        "hunyuan_v1_dense": dense.hunyuan,
        "internlm3": dense.internlm3,
        "ministral": dense.ministral,
        "ministral3": dense.ministral,
        "mixtral": mixture.mixtral,
        "qwen2_moe": mixture.qwen2_moe,
        "qwen3_moe": mixture.qwen3_moe,
        "dots1": mixture.glm4_moe,
        "ernie4_5_moe": mixture.ernie4_5_moe,
        "glm4_moe": mixture.glm4_moe,
        "gpt_oss": mixture.gpt_oss,
        "granitemoe": mixture.granitemoe,
        "llama4_text": mixture.llama4,
        "minimax_m2": mixture.minimax_m2,
        "phimoe": mixture.phimoe,
        "afmoe": mixture.afmoe,
        "dbrx": mixture.dbrx,
        "exaone_moe": mixture.exaone_moe,
        "hunyuan_v1_moe": mixture.hunyuan_moe,
        "olmoe": mixture.olmoe,
        "solar_open": mixture.solar_open,
        "deepseek_v2": latent.deepseek,
        "deepseek_v3": latent.deepseek,
        "glm4_moe_lite": latent.glm4_moe_lite,
        "kimi_k2": latent.deepseek,
        "minicpm3": latent.minicpm3,
        "mistral4": latent.mistral4,
        "deepseek_v32": sparse.deepseek_sparse,
        "glm_moe_dsa": sparse.deepseek_sparse,
        "deepseek_v4": compressed.deepseek_v4,
        "gemma3n_text": gemma.gemma3n,
        "gemma4_text": gemma.gemma4,
        "mamba2": mamba.mamba2,
        "nemotron_h": mamba.nemotron_h,
        "mamba": mamba.mamba,
        "falcon_mamba": mamba.mamba,
        "jamba": mamba_hybrids.jamba,
        "bamba": mamba_hybrids.bamba,
        "granitemoehybrid": mamba_hybrids.granite_hybrid,
        "falcon_h1": mamba_hybrids.falcon_h1,
        "kimi_linear": other_hybrids.kimi_linear,
        "minimax": other_hybrids.minimax,
        "lfm2": other_hybrids.lfm2,
        "lfm2_moe": other_hybrids.lfm2_moe,
        "qwen3_next": hybrid.qwen3_next,
        "qwen3_5_text": hybrid.qwen3_5,
        "qwen3_5_moe_text": hybrid.qwen3_5_moe,
        "aquila": dense.llama,
        "baichuan": remote.baichuan,
        "chatglm": remote.chatglm,
        "deepseek": remote.deepseek,
        "exaone": remote.exaone,
        "internlm": remote.internlm,
        "internlm2": remote.internlm,
        "mimo": remote.mimo,
        "minicpm": remote.minicpm,
        "nemotron-nas": remote.deci,
        "qwen": remote.qwen,
        "RefinedWeb": remote.refined_web,
        "RefinedWebModel": layernorm.falcon,
        "xverse": dense.llama,
        "Yi": dense.llama,
    }
)
# `model_type` of a multimodal model -> that of its decoder where the configuration names none.
DECODERS: Mapping[str, str] = MappingProxyType(
    {
        "gemma3": "gemma3_text",
        "gemma3n": "gemma3n_text",
        "gemma4": "gemma4_text",
        "kimi_k25": "deepseek_v3",
        "glm4v": "glm4",
        "glm4v_text": "glm4",
        "glm4v_moe": "glm4_moe",
        "glm4v_moe_text": "glm4_moe",
        "llama4": "llama4_text",
        "llava": "llama",
        "llava_next": "llama",
        "llava_onevision": "qwen2",
        "mistral3": "mistral",
        "phi3_v": "phi3",
        "phi4mm": "phi3",
        "qwen2_vl": "qwen2",
        "qwen2_vl_text": "qwen2",
        "qwen2_5_omni_text": "qwen2",
        "qwen2_5_vl": "qwen2",
        "qwen2_5_vl_text": "qwen2",
        "qwen3_5": "qwen3_5_text",
        "qwen3_5_moe": "qwen3_5_moe_text",
        "qwen3_omni_moe_text": "qwen3_moe",
        "qwen3_vl": "qwen3",
        "qwen3_vl_text": "qwen3",
        "qwen3_vl_moe": "qwen3_moe",
        "qwen3_vl_moe_text": "qwen3_moe",
    }
)
# Classes whose name is not that of their type.
CLASSES: Mapping[str, str] = MappingProxyType(
    {"hunyuandensev1": "hunyuan_v1_dense", "hunyuanmoev1": "hunyuan_v1_moe", "decilm": "nemotron-nas", "rw": "falcon"}
)
KNOWN = (*READERS, *(name for name in DECODERS if not name.endswith("_text")))
LISTED = "`python -m predict models --types` lists what is known"
CLASS_ENDS = r"(For\w+|LMHeadModel|DoubleHeadsModel|PreTrainedModel|Model|Config)$"


def find_reader(fields: Fields) -> tuple[Reader, str | None]:
    """The reader of a decoder's configuration; a note if its type is not known but that of its classes is.
    Raises BadModel with the nearest known type."""
    fields.use("model_type", "architectures", "auto_map")
    kind = fields.values.get("model_type", fields.architecture or None)
    if reader := _reader(kind):
        return reader, _foreign_code(fields, kind)
    if kind is None and fields.get("ssm_cfg") is not None:
        return mamba.of_the_authors, None
    named = next((name for name in _classes(fields) if _type_of(name)), None)
    known = _type_of(named or "")
    if named and (reader := _reader(known)):
        said = "model_type is missing" if kind is None else f"model_type {kind!r} is not known"
        return reader, f"{said}: read as {known}, the type of its {named}"
    if kind is None:
        raise BadModel(f"{fields.origin}: model_type is missing; {LISTED}")
    hint = _nearest([str(kind), *_classes(fields)])
    raise BadModel(f"{fields.origin}: unknown model_type {quoted(str(kind))}{hint}{LISTED}")


def _foreign_code(fields: Fields, kind: object) -> str | None:
    """A note if the configuration comes with code of its own, whose class is not known."""
    listed = fields.values.get("architectures")
    if not fields.values.get("auto_map") or not isinstance(listed, list) or not listed:
        return None
    return None if _type_of(str(listed[0])) else f"read as {kind}, but the code of its {listed[0]} is not known"


def _reader(kind: object) -> Reader | None:
    """The reader of a type, or of the decoder of a multimodal type."""
    return READERS.get(DECODERS.get(kind, kind)) if isinstance(kind, str) else None


def _classes(fields: Fields) -> list[str]:
    """Class names of the model's code: those of `architectures`, and of `auto_map` (module.Class)."""
    listed, mapped = fields.values.get("architectures"), fields.values.get("auto_map")
    names = [*listed] if isinstance(listed, list) else []
    names += [*mapped.values()] if isinstance(mapped, Mapping) else []
    return [name.rpartition(".")[2] for name in names if isinstance(name, str)]


def _type_of(class_name: str) -> str | None:
    """The known type of a class: DeepseekV3ForCausalLM gives deepseek_v3."""
    key = _key(re.sub(CLASS_ENDS, "", class_name))
    return CLASSES.get(key) or {_key(name): name for name in KNOWN}.get(key)


def _nearest(names: list[str]) -> str:
    """What `did_you_mean` says of the first of these types and classes that a known type is near."""
    bare = [re.sub(CLASS_ENDS, "", name) for name in names]
    return did_you_mean(next((name for name in bare if nearest(name, KNOWN)), ""), KNOWN)


def _key(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
