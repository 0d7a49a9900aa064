"""What a JSON file is if it is no configuration of a decoder, and what to give instead."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.errors import BadModel
from predict.model.config.fields import Fields

# A field that only this kind of file has -> what the file is. Looked for only where `model_type` is missing.
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "weight_map": "the index of a checkpoint's files",
        "__metadata__": "the header of a safetensors file",
        "added_tokens_decoder": "a tokenizer_config.json",
        "tokenizer_class": "a tokenizer_config.json",
        "added_tokens": "a tokenizer.json",
        "merges": "a tokenizer.json",
        "peft_type": "an adapter_config.json; the size is that of its base model",
        "image_processor_type": "a preprocessor_config.json",
        "feature_extractor_type": "a preprocessor_config.json",
        "processor_class": "a preprocessor_config.json",
        "do_sample": "a generation_config.json",
        "_from_model_config": "a generation_config.json",
        "max_new_tokens": "a generation_config.json",
        "_class_name": "the configuration of a diffusion model",
        "producer": "a hf_quant_config.json",
        "rope_ntk_alpha": "a config.json in the original format of the weights",
        "log_history": "a trainer_state.json",
        "quant_method": "a quantization configuration",
        "bits": "a quantization configuration",
        "multiple_of": "a params.json in the original format of the weights",
        "n_kv_heads": "a params.json in the original format of the weights",
        "chat_template": "a chat template",
        "general.architecture": "the metadata of a GGUF file",
    }
)
GENERATION = frozenset({"bos_token_id", "eos_token_id", "pad_token_id", "temperature", "top_k", "top_p"})
ENCODERS = """
albert bert camembert convbert deberta deberta-v2 distilbert electra ernie esm eurobert modernbert mpnet neobert new
nomic_bert roberta xlm-roberta xlm-roberta-xl
"""
ENCODER_DECODERS = """
bart blenderbot encoder-decoder florence2 led longt5 m2m_100 marian mbart moonshine mt5 nllb-moe pegasus plbart
prophetnet seamless_m4t speech_to_text switch_transformers t5 t5gemma umt5 vision-encoder-decoder whisper
"""
NO_TEXT = """
beit clip clip_vision_model convnext deit dinov2 dinov3_vit hubert sam sam2 siglip siglip2 siglip_vision_model swin
vit vivit wav2vec2 wavlm
"""
ENCODES = ("is_encoder_decoder", "add_cross_attention")


def refuse_foreign(fields: Fields) -> None:
    """Raise BadModel, saying what the file is, if it configures no decoder."""
    kind = fields.get("model_type")
    if kind is None:
        what = next((what for field, what in KINDS.items() if field in fields.values), None)
        if what is None and fields.values.keys() & GENERATION and not fields.has("hidden_size"):
            what = "a generation_config.json"
        if what is not None:
            raise BadModel(f"{fields.origin} is {what}; give the config.json of the model, which names a model_type")
    elif kind in ENCODERS.split():
        raise BadModel(f"{fields.origin}: {kind} is an encoder; only models that generate text token by token are read")
    elif kind in ENCODER_DECODERS.split() or any(fields.flag(name, default=False) for name in ENCODES):
        raise BadModel(f"{fields.origin}: {kind} is an encoder with a decoder; only models of a decoder alone are read")
    elif kind in NO_TEXT.split():
        raise BadModel(f"{fields.origin}: {kind} generates no text; only models that generate text are read")
