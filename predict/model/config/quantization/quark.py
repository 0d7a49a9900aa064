"""AMD Quark: a specification for all modules, others for modules by name, and modules that are excluded."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.formulas.memory import bits_per_weight
from predict.model.config.fields import Fields
from predict.model.config.quantization.blocks import skipped
from predict.model.config.quantization.scheme import (
    Packing,
    Quantization,
    Rule,
    named_modules,
    narrowed,
    section,
    sections,
)
from predict.units import DTYPES, DType

WIDTHS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "fp8_e4m3": ("fp8", 8),
        "fp8_e5m2": ("fp8", 8),
        "fp8": ("fp8", 8),
        "int8": ("int8", 8),
        "uint8": ("int8", 8),
        "fp6_e2m3": ("fp6", 6),
        "fp6_e3m2": ("fp6", 6),
        "fp4": ("fp4", 4),
        "fp4_e2m1": ("fp4", 4),
        "int4": ("int4", 4),
        "uint4": ("int4", 4),
        "int3": ("int3", 3),
        "int2": ("int2", 2),
    }
)


def quark(fields: Fields) -> Quantization:
    """`layer_quant_config` goes before `global_quant_config`; what `exclude` names keeps 16 bits."""
    layers, usual = section(fields, "layer_quant_config"), section(fields, "global_quant_config")
    rules = [skipped(fields, "exclude")]
    for name, one in sections(layers):
        if one.get("weight") is not None:
            rules.append(Rule(_packing(one), named_modules([name], fields.origin)))
    if usual is not None and usual.get("weight") is not None:
        rules.append(Rule(_packing(usual)))
    return Quantization(tuple(rules), head=bool(fields.items("exclude")), kv=_cache(fields))


def _packing(config: Fields) -> Packing | None:
    weight = _last(config, "weight")
    kind, bits = WIDTHS.get(_dtype(weight), ("", 0))
    if weight is None or not kind:
        return None
    group = weight.size_or_none("group_size") if weight.text("qscheme") == "per_group" else None
    by = narrowed(WIDTHS.get(_dtype(_last(config, "input_tensors")), ("", 0))[0])
    if kind.startswith("int"):
        zeros = bits if group and weight.flag("symmetric", default=True) is False else 0
        stored = float(bits_per_weight(bits, group, 16, zeros)) if group else bits
        return Packing(kind + (f" g{group}" if group else ""), stored, by)
    name = {("fp4", 32): "mxfp4", ("fp4", 16): "nvfp4", ("fp8", 32): "mxfp8", ("fp6", 32): "mxfp6"}
    return Packing(name.get((kind, group or 0), kind), float(bits_per_weight(bits, group, 8)) if group else bits, by)


def _last(config: Fields, name: str) -> Fields | None:
    """A specification; of two stages (fp8, then int4), the one that is stored."""
    value = config.get(name)
    if isinstance(value, list):
        inner = Fields({name: value[-1]}, config.origin, config.name, "") if value else None
        return section(inner, name) if inner else None
    return section(config, name)


def _dtype(spec: Fields | None) -> str:
    name = (spec.text("dtype") or "").lower() if spec else ""
    element = (spec.text("mx_element_dtype") or "").lower() if spec else ""
    return element or name.removeprefix("dtype.")


def _cache(fields: Fields) -> DType | None:
    export = section(fields, "export")
    asked = fields.get("kv_cache_quant_config") or (export.items("kv_cache_group") if export else [])
    return DTYPES["fp8"] if asked else None
