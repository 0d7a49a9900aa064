"""Methods with a format of 8 or 4 bits in blocks and no choice of bits: fp8, MXFP8, MXFP4, NVFP4 of `transformers`."""

from predict.model.config.fields import Fields
from predict.model.config.quantization.scheme import (
    FP8,
    FP8_BLOCK,
    MXFP4,
    MXFP8,
    NVFP4,
    Packing,
    Quantization,
    Rule,
    named_modules,
)
from predict.units import DTYPES

SKIPPED = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
EXPERTS = named_modules(["experts"], "")


def fp8(fields: Fields) -> Quantization:
    """`fp8` of DeepSeek-V3 and `transformers` (blocks of 128 x 128), and that of vLLM (one scale per tensor). Weights
    and activations are multiplied in fp8. DeepSeek-V4 has experts in MXFP4 (`expert_dtype`), or by ModelOpt in NVFP4;
    what that ignores stays in fp8."""
    weights = FP8_BLOCK if fields.items("weight_block_size") else FP8
    fields.use("activation_scheme", "fmt", "scale_fmt")
    experts = [Rule(MXFP4, EXPERTS)] if fields.text("expert_dtype") == "fp4" else []
    kv = DTYPES["fp8"] if fields.get("kv_cache_scheme") is not None else None
    if fields.text("moe_quant_algo") == "NVFP4":
        fields.use("config_groups", "group_size", "ignore", "quant_algo", "quantized_layers")
        return Quantization((Rule(NVFP4, EXPERTS), Rule(weights)), kv=kv)
    return Quantization((skipped(fields), *experts, Rule(weights)), kv=kv)


def fbgemm_fp8(fields: Fields) -> Quantization:
    """`fbgemm_fp8` of Llama-3.1-405B: one scale per output channel and per token."""
    fields.use("activation_scale_ub")
    return Quantization((skipped(fields), Rule(FP8)))


def mxfp4(fields: Fields) -> Quantization:
    """`mxfp4` of gpt-oss: the experts alone. Activations keep 16 bits."""
    return Quantization((skipped(fields), Rule(MXFP4, EXPERTS)))


def mxfp8(fields: Fields) -> Quantization:
    """MXFP8: blocks of 32 with a scale of 8 bits."""
    return Quantization((skipped(fields), Rule(MXFP8)))


def nvfp4(fields: Fields) -> Quantization:
    """NVFP4 for weights and activations: blocks of 16 with a scale of 8 bits."""
    return Quantization((skipped(fields), Rule(NVFP4)))


def fp_quant(fields: Fields) -> Quantization:
    """FP-Quant: weights and activations in NVFP4 or MXFP4."""
    is_mx = fields.text("forward_dtype") == "mxfp4"
    return Quantization((skipped(fields), Rule(Packing("mxfp4", MXFP4.bits, DTYPES["fp4"]) if is_mx else NVFP4)))


def skipped(fields: Fields, *names: str) -> Rule:
    """The modules that keep 16 bits, by the fields that list them."""
    found = [module for name in (*SKIPPED, *names) for module in fields.items(name)]
    return Rule(None, named_modules(found, fields.origin))
