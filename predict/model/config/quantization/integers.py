"""Methods that pack integers with a scale per group: GPTQ, AWQ, AutoRound, bitsandbytes, HQQ and their like.

GPTQ of symmetric weights stores zero points that no kernel reads; they are not counted. Neither is the order of its
rows (`g_idx`).
"""

from collections.abc import Iterator, Mapping

from predict.errors import BadModel
from predict.formulas.memory import bits_per_weight
from predict.model.config.fields import Fields
from predict.model.config.module_names import EMBEDDING
from predict.model.config.quantization.blocks import skipped
from predict.model.config.quantization.scheme import (
    Packing,
    Quantization,
    Rule,
    containing,
    named_modules,
    packed,
    section,
    sections,
)

BITS_AND_BYTES_BLOCK = 64  # weights that share a scale (QLoRA, Dettmers et al. 2023)
SCALES_BLOCK = 256  # scales that share a scale with double quantization
HALF = 16  # bits of a scale


def gptq(fields: Fields) -> Quantization:
    """GPTQ. `modules_in_block_to_quantize` names the only ones, `dynamic` (GPTQModel) those that differ."""
    usual, dynamic = _gptq(fields), section(fields, "dynamic")
    rules = list(_dynamic(dynamic, fields)) if dynamic else []
    inside = [name for group in fields.items("modules_in_block_to_quantize") for name in _as_list(group)]
    only = [Rule(usual, named_modules(inside, fields.origin))] if inside else [Rule(usual)]
    return Quantization((*rules, skipped(fields), *only), head=fields.get("lm_head") is True)


def awq(fields: Fields) -> Quantization:
    """AWQ: a zero point of as many bits as a weight. A module is skipped if its name contains what is listed."""
    group = _group(fields, "group_size", "q_group_size", default=128)
    bits = _bits(fields, "bits", "w_bit", default=4)
    zeros = bits if fields.flag("zero_point", default=True) and group else 0
    kept = Rule(None, containing(fields.items("modules_to_not_convert"), fields.origin))
    return Quantization((kept, Rule(packed("int", bits, group, HALF, zeros))))


def auto_round(fields: Fields) -> Quantization:
    """AutoRound: `extra_config` names the modules that differ; those of 16 bits are not quantized."""
    rules, usual = [], _gptq(fields)
    for name, one in sections(section(fields, "extra_config")):
        packing = _gptq(one.with_defaults(_shared(fields)))
        module = named_modules([f"re:{name}" if _is_regex(name) else name], fields.origin)
        rules.append(Rule(None if packing.bits >= HALF else packing, module))
    return Quantization((*rules, skipped(fields), Rule(usual)))


def bits_and_bytes(fields: Fields) -> Quantization:
    """LLM.int8() (Dettmers et al. 2022) narrows activations too; nf4 and fp4 keep an fp32 scale for 64 weights, which
    double quantization stores in 8 bits. The head keeps 16 bits."""
    kept = skipped(fields, "llm_int8_skip_modules")
    if fields.flag("load_in_8bit", default=fields.flag("_load_in_8bit", default=False)):
        return Quantization((kept, Rule(packed("int", 8, by="int8"))))
    double = fields.flag("bnb_4bit_use_double_quant", default=False)
    scales = float(bits_per_weight(8, SCALES_BLOCK, 32)) if double else 32
    kind = fields.text("bnb_4bit_quant_type") or "fp4"
    packing = Packing(kind, float(bits_per_weight(4, BITS_AND_BYTES_BLOCK, scales)))
    return Quantization((kept, Rule(packing)))


def hqq(fields: Fields) -> Quantization:
    """HQQ: a scale and a zero point of 16 bits per group."""
    config = section(fields, "quant_config")
    weights = (section(config, "weight_quant_params") if config else None) or config or fields
    bits, group = _bits(weights, "nbits", "bits", default=4), _group(weights, "group_size", default=64)
    return Quantization((skipped(fields, "skip_modules"), Rule(_affine(bits, group))))


def mlx(fields: Fields) -> Quantization:
    """MLX: a scale and a bias of 16 bits per group, embedding and head too. Modules that differ are fields of their
    own: false, or bits and group of their own."""
    usual, rules = _mlx(fields), []
    for name, value in fields.values.items():
        if value is False:
            rules.append(Rule(None, named_modules([name], fields.origin)))
        elif isinstance(value, Mapping) and (one := section(fields, name)) is not None:
            rules.append(Rule(_mlx(one.with_defaults(_shared(fields))), named_modules([name], fields.origin)))
    named = next((rule for rule in rules if rule.modules.include(None, EMBEDDING, ())), Rule(usual))
    return Quantization((*rules, Rule(usual)), head=True, embedding=named.packing)


def weight_only(fields: Fields) -> Quantization:
    """EETQ, quanto and experts_int8: a name of a format for all weights, and one for activations or none."""
    widths = {"int8": 8, "int4": 4, "int2": 2, "float8": 8}
    name = fields.text("weights") or "int8"
    activations = (fields.text("activations") or "").replace("float8", "fp8")
    if name not in widths:
        raise BadModel(f"{fields.origin}: weights {name!r} is unknown; known: {', '.join(widths)}")
    packing = packed("fp" if name == "float8" else "int", widths[name], by=activations)
    return Quantization((skipped(fields), Rule(packing)))


def experts_int8(fields: Fields) -> Quantization:
    """`experts_int8` of vLLM: the experts alone."""
    return Quantization((skipped(fields), Rule(packed("int", 8), named_modules(["experts"], ""))))


def aqlm(fields: Fields) -> Quantization:
    """AQLM: an index into each codebook for a group of weights. The codebooks are not counted."""
    group = fields.size("in_group_size", 8) * fields.size("out_group_size", 1)
    bits = fields.size("num_codebooks", 1) * fields.size("nbits_per_codebook", 16) / group
    kept = [str(name).removesuffix(".weight") for name in fields.items("linear_weights_not_to_quantize")]
    return Quantization((Rule(None, named_modules(kept, fields.origin)), Rule(Packing(f"aqlm {bits:g} bits", bits))))


def exllama(fields: Fields) -> Quantization:
    """EXL2 and EXL3: a mean number of bits for the layers, another for the head."""
    bits, head = _number(fields, "bits"), _number(fields, "head_bits", 6)
    name = f"{fields.text('quant_method')} {bits:g} bits"
    of_head = Rule(Packing(f"head of {head:g} bits", head), named_modules(["lm_head"], ""))
    return Quantization((of_head, Rule(Packing(name, bits))))


def bitnet(fields: Fields) -> Quantization:
    """BitNet b1.58: four ternary weights in a byte; activations are narrowed to int8."""
    return Quantization((skipped(fields), Rule(packed("ternary ", 2, by="int8"))))


def _gptq(fields: Fields) -> Packing:
    bits, group = _bits(fields, "bits", default=4), _group(fields, "group_size", default=128)
    zeros = bits if group and not fields.flag("sym", default=True) else 0
    fields.use("sym")
    return packed("int", bits, group, HALF, zeros)


def _dynamic(dynamic: Fields, usual: Fields) -> Iterator[Rule]:
    """The rules of GPTQModel: `-:` names modules that stay as they are, `+:` those with other bits or groups."""
    for pattern in dynamic.values:
        name = pattern.removeprefix("-:").removeprefix("+:")
        modules = named_modules([f"re:{name}"], usual.origin)
        one = None if pattern.startswith("-:") else section(dynamic, pattern)
        yield Rule(None if one is None else _gptq(one.with_defaults(_shared(usual))), modules)


def _mlx(fields: Fields) -> Packing:
    bits, group = _bits(fields, "bits", default=4), _group(fields, "group_size", default=64)
    if (mode := fields.text("mode") or "affine") != "affine":
        return Packing(mode, float(bits_per_weight(bits, group, 8)) if group else bits)
    return _affine(bits, group)


def _affine(bits: int, group: int | None) -> Packing:
    return packed("int", bits, group, HALF, HALF if group else 0)


def _shared(fields: Fields) -> dict[str, object]:
    return {name: fields.values[name] for name in ("bits", "group_size", "sym") if name in fields.values}


def _bits(fields: Fields, *names: str, default: int) -> int:
    name = next((name for name in names if fields.get(name) is not None), names[0])
    if (bits := fields.size(name, default)) > 32:
        raise BadModel(f"{fields.origin}: {name}={bits} is more bits than a weight has")
    return bits


def _group(fields: Fields, *names: str, default: int | None = None) -> int | None:
    """Weights that share a scale; None for one scale per output channel (-1 or 0 in files)."""
    name = next((name for name in names if fields.get(name) is not None), names[0])
    return None if fields.get(name) in (-1, 0) else (default if fields.get(name) is None else fields.size(name))


def _number(fields: Fields, name: str, default: float | None = None) -> float:
    value = fields.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 32:
        raise BadModel(f"{fields.origin}: {name} must be a number of bits, not {value!r}")
    return float(value)


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _is_regex(name: str) -> bool:
    return any(sign in name for sign in "*^$\\|(")
