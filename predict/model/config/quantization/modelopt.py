"""NVIDIA ModelOpt: one algorithm for all modules but those excluded, or one for each module (MIXED_PRECISION)."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from predict.formulas.memory import bits_per_weight
from predict.model.config.fields import Fields
from predict.model.config.quantization.blocks import SKIPPED, skipped
from predict.model.config.quantization.compressed_tensors import cache_format, compressed_tensors
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
    section,
    sections,
)
from predict.units import DTYPES, DType

_INT4 = Packing("int4 g128", float(bits_per_weight(4, 128, 16)))
_INT8 = Packing("int8", 8)
ALGORITHMS: Mapping[str, Packing] = MappingProxyType(
    {
        "FP8": FP8,
        "FP8_PER_CHANNEL_PER_TOKEN": FP8,
        "FP8_PB_WO": FP8_BLOCK,
        "FP8_BLOCK_SCALES": FP8_BLOCK,
        "NVFP4": NVFP4,
        "NVFP4_AWQ": NVFP4,
        "NVFP4_SVDQUANT": NVFP4,
        "W4A16_NVFP4": replace(NVFP4, multiplied=None),
        "W4A8_NVFP4_FP8": replace(NVFP4, multiplied=DTYPES["fp8"]),
        "MXFP4": MXFP4,
        "W4A16_MXFP4": MXFP4,
        "W4A8_MXFP4_FP8": replace(MXFP4, multiplied=DTYPES["fp8"]),
        "MXFP8": MXFP8,
        "W4A16": _INT4,
        "W4A16_AWQ": _INT4,
        "INT4_AWQ": _INT4,
        "W4A8_AWQ": replace(_INT4, multiplied=DTYPES["fp8"]),
        "W8A16": _INT8,
        "INT8": _INT8,
        "W8A8_SQ_PER_CHANNEL": replace(_INT8, multiplied=DTYPES["int8"]),
    }
)
CACHES: Mapping[str, DType] = MappingProxyType({"FP8": DTYPES["fp8"], "INT8": DTYPES["int8"], "NVFP4": DTYPES["fp4"]})


def modelopt(fields: Fields) -> Quantization:
    """The file's algorithm. What it excludes keeps 16 bits; the head too where it excludes nothing by name."""
    fields.use("producer")
    if (inner := section(fields, "quantization")) is not None:  # as in hf_quant_config.json
        return modelopt(inner)
    algorithm = (fields.text("quant_algo") or "").upper()
    kv = CACHES.get((fields.text("kv_cache_quant_algo") or "").upper()) or cache_format(fields)
    if algorithm == "MIXED_PRECISION":
        return Quantization((skipped(fields), *_mixed(fields)), kv=kv)
    if algorithm not in ALGORITHMS and fields.get("config_groups") is not None:
        return replace(compressed_tensors(fields), kv=kv)
    fields.use("config_groups", "weights", "input_activations")
    head = any(fields.items(name) for name in SKIPPED)
    return Quantization((skipped(fields), *_rules(algorithm, fields)), head=head, kv=kv, notes=_unknown(algorithm))


def _mixed(fields: Fields) -> list[Rule]:
    names: dict[str, list[str]] = {}
    for name, one in sections(section(fields, "quantized_layers")):
        names.setdefault((one.text("quant_algo") or "").upper(), []).append(name)
    return [
        Rule(ALGORITHMS[algorithm], named_modules(modules, fields.origin))
        for algorithm, modules in names.items()
        if algorithm in ALGORITHMS
    ]


def _rules(algorithm: str, fields: Fields) -> list[Rule]:
    found = ALGORITHMS.get(algorithm)
    group = fields.size_or_none("group_size")
    if found is not None and group and found.name.startswith("int4"):
        found = replace(found, name=f"int4 g{group}", bits=float(bits_per_weight(4, group, 16)))
    return [] if found is None else [Rule(found)]


def _unknown(algorithm: str) -> tuple[str, ...]:
    return () if algorithm in ALGORITHMS else (f"quant_algo {algorithm or 'missing'} is not known: read as 16 bits",)
