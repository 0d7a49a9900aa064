"""compressed-tensors (llm-compressor): groups of modules, each with a format for weights and one for activations."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from predict.errors import BadModel
from predict.formulas.memory import bits_per_weight
from predict.model.config.fields import Fields
from predict.model.config.quantization.blocks import skipped
from predict.model.config.quantization.scheme import (
    FP8,
    FP8_BLOCK,
    NVFP4,
    Packing,
    Quantization,
    Rule,
    named_modules,
    narrowed,
    section,
)
from predict.units import DTYPES, DType

WORD = 32  # bits that values are packed into
HALF = 16
# A group may be the name of a preset scheme instead: {"FP8": ["Linear"]}.
PRESETS: Mapping[str, Packing] = MappingProxyType(
    {
        "FP8": FP8,
        "FP8_DYNAMIC": FP8,
        "FP8_BLOCK": FP8_BLOCK,
        "W8A8": Packing("int8", 8, DTYPES["int8"]),
        "INT8": Packing("int8", 8, DTYPES["int8"]),
        "W8A16": Packing("int8", 8),
        "W4A16": Packing("int4 g128", float(bits_per_weight(4, 128, HALF))),
        "NVFP4": NVFP4,
        "NVFP4A16": replace(NVFP4, multiplied=None),
    }
)
SPARSE_MASK_BITS = 1  # a bit for each weight says whether it is stored


def compressed_tensors(fields: Fields) -> Quantization:
    """Every `config_groups` of a compressed-tensors file. Groups that name modules go before groups that name a class,
    as vLLM and compressed-tensors look them up. The head is a Linear like others unless it is ignored."""
    named, classes, embedding = [], [], None
    for packing, targets in _groups(fields):
        names = [target for target in targets if not _is_class(target)]
        kinds = [str(target) for target in targets if _is_class(target)]
        if names:
            named.append(Rule(packing, named_modules(names, fields.origin)))
        if "Embedding" in kinds:
            embedding = packing
        if any("expert" in kind.lower() or "moe" in kind.lower() for kind in kinds):
            classes.append(Rule(packing, named_modules(["experts"], "")))
        elif kinds != ["Embedding"] and kinds:
            classes.append(Rule(packing))
    fields.use("format", "quantization_status", "global_compression_ratio", "version")
    notes = ("config_groups names no weights that are narrowed",) if not named and not classes else ()
    head = any(rule.packing for rule in classes)
    return Quantization((skipped(fields), *named, *classes), head, embedding, cache_format(fields), notes)


def cache_format(fields: Fields) -> DType | None:
    """The format of the KV cache that `kv_cache_scheme` asks for, or None."""
    scheme = fields.get("kv_cache_scheme")
    return _activations(scheme) if isinstance(scheme, Mapping) else None


def _groups(fields: Fields) -> Iterator[tuple[Packing | None, list[object]]]:
    """The packing of each group, and its targets. A checkpoint that is only sparse has one group of all."""
    mask, groups = _sparse(fields), section(fields, "config_groups")
    for name in groups.values if groups else ():
        assert groups is not None
        if isinstance(targets := groups.get(name), list):
            if name not in PRESETS:
                raise BadModel(f"{fields.origin}: config_groups: {name!r} is no known scheme: {', '.join(PRESETS)}")
            yield _thinned(PRESETS[name], mask), targets
        elif (group := section(groups, name)) is not None and (weights := section(group, "weights")) is not None:
            stored = group.text("format") or fields.text("format") or ""
            packing = _packing(weights, stored, group.get("input_activations"))
            yield packing and _thinned(packing, mask), group.items("targets") or ["Linear"]
    if not groups and mask is not None:
        yield _thinned(Packing("bf16", HALF), mask), ["Linear"]


def _packing(weights: Fields, stored: str, activations: object) -> Packing | None:
    """How the weights of a group are packed; None if they are only rounded and stored in 16 bits (`dense`)."""
    bits, group = weights.size("num_bits", 8), weights.get("group_size")
    group = group if isinstance(group, int) and group > 0 else None
    if stored == "dense":
        return None
    by = _activations(activations)
    if weights.text("type") == "float":
        return _float(bits, group, block=weights.text("strategy") == "block", by=by)
    packs = stored in ("pack-quantized", "marlin-24") or not stored
    held = WORD / (WORD // bits) if packs and bits <= HALF else max(bits, 8)
    zeros = 0 if weights.flag("symmetric", default=True) else held
    total = float(bits_per_weight(held, group, HALF, zeros)) if group else float(held)
    if stored == "marlin-24":  # two of four weights, and the places of these two in 2 bits each
        total = total / 2 + SPARSE_MASK_BITS
    return Packing(f"int{bits}" + (f" g{group}" if group else ""), total, by)


def _float(bits: int, group: int | None, *, block: bool, by: DType | None) -> Packing:
    if bits <= 4:
        name, group = ("mxfp4", 32) if group == 32 else ("nvfp4", group or 16)
        return Packing(name, float(bits_per_weight(bits, group, 8)), by)
    if block:
        return replace(FP8_BLOCK, multiplied=by)
    if group:
        return Packing("mxfp8" if group == 32 else f"fp{bits} g{group}", float(bits_per_weight(bits, group, 8)), by)
    return Packing(f"fp{bits}", bits, by)


def _activations(scheme: object) -> DType | None:
    """The format of a scheme for activations or for the cache; None for 16 bits."""
    if not isinstance(scheme, Mapping):
        return None
    kind = "fp" if scheme.get("type") == "float" else "int"
    return narrowed(f"{kind}{scheme.get('num_bits')}")


def _sparse(fields: Fields) -> float | None:
    """The share of weights that is stored, if zeros are left out; else None."""
    config = section(fields, "sparsity_config")
    if config is None or not (config.text("format") or "dense").startswith("sparse"):
        return None
    share = config.get("global_sparsity")
    config.use(*config.values)
    return 0.5 if config.text("sparsity_structure") == "2:4" or not isinstance(share, float) else 1 - share


def _thinned(packing: Packing, stored_share: float | None) -> Packing:
    if stored_share is None:
        return packing
    return replace(packing, name=f"{packing.name} sparse", bits=packing.bits * stored_share + SPARSE_MASK_BITS)


def _is_class(target: object) -> bool:
    return isinstance(target, str) and target[:1].isupper() and "." not in target
