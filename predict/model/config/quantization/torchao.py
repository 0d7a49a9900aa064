"""torchao: one configuration for all modules, or one for each (`ModuleFqnToConfig`)."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from predict.formulas.memory import bits_per_weight
from predict.model.config.fields import Fields
from predict.model.config.quantization.blocks import skipped
from predict.model.config.quantization.scheme import (
    MXFP8,
    NVFP4,
    Packing,
    Quantization,
    Rule,
    named_modules,
    narrowed,
)

HALF = 16
# Name without "config" and underscores -> bits of a weight, weights that share a scale if the file does not say (None:
# an output channel), whether there is a zero point beside it, and the format of the activations.
FORMATS: Mapping[str, tuple[str, int, int | None, bool, str | None]] = MappingProxyType(
    {
        "int4weightonly": ("int", 4, 128, True, None),
        "int8weightonly": ("int", 8, None, False, None),
        "intxweightonly": ("int", 8, 32, True, None),
        "uintxweightonly": ("int", 4, 64, True, None),
        "int8dynamicactivationint8weight": ("int", 8, None, False, "int8"),
        "int8staticactivationint8weight": ("int", 8, None, False, "int8"),
        "int8dynamicactivationint4weight": ("int", 4, 32, False, "int8"),
        "int8dynamicactivationintxweight": ("int", 8, 32, False, "int8"),
        "int4dynamicactivationint4weight": ("int", 4, None, False, "int4"),
        "float8weightonly": ("fp", 8, None, False, None),
        "float8dynamicactivationfloat8weight": ("fp", 8, None, False, "fp8"),
        "float8staticactivationfloat8weight": ("fp", 8, None, False, "fp8"),
        "float8dynamicactivationint4weight": ("int", 4, 128, False, "fp8"),
    }
)
BLOCKS: Mapping[str, Packing] = MappingProxyType(
    {"nvfp4inference": NVFP4, "nvfp4dynamicactivationnvfp4weight": NVFP4, "mxdynamicactivationmxweight": MXFP8}
)
MODULES = ("module_fqn_to_config", "fqn_to_config")


def torchao(fields: Fields) -> Quantization:
    """`quant_type` as a name (old files) or as an object. The head keeps 16 bits."""
    fields.use("quant_type", "quant_type_kwargs", "untie_embedding_weights")
    kind = fields.get("quant_type")
    by_name = {"_type": kind, "_data": fields.get("quant_type_kwargs")}
    entry = by_name if isinstance(kind, str) else _inner(kind, "default")
    rules, unknown = [], []
    for config, names in _entries(entry):
        packing = _packing(config)
        if config is not None and packing is None:
            unknown.append(f"quant_type {config.get('_type')} is not known: read as 16 bits")
        rules.append(Rule(packing, named_modules(names, fields.origin)) if names else Rule(packing))
    both = fields.flag("include_input_output_embeddings", default=False)
    usual = rules[-1].packing if rules else None
    return Quantization((skipped(fields), *rules), both, usual if both else None, notes=tuple(dict.fromkeys(unknown)))


def _entries(entry: Mapping[str, object]) -> Iterator[tuple[Mapping[str, object] | None, list[str]]]:
    """Each configuration and the modules that it is for; none are named for the usual one, which comes last. The
    configuration is None for modules that keep 16 bits."""
    data = _inner(entry, "_data")
    named = next((_inner(data, name) for name in MODULES if data.get(name)), None)
    if named is None:
        yield entry, []
        return
    for name, config in named.items():
        if name != "_default":
            yield _inner(named, name) if config is not None else None, [name]
    if named.get("_default") is not None:
        yield _inner(named, "_default"), []


def _packing(config: Mapping[str, object] | None) -> Packing | None:
    if config is None:
        return None
    name = str(config.get("_type")).lower().replace("_", "").removesuffix("config")
    if name not in FORMATS:
        return BLOCKS.get(name)
    kind, bits, group, zeros, by = FORMATS[name]
    data = _inner(config, "_data")
    bits = _width(data.get("weight_dtype"), bits)
    granularity = _inner(data, "weight_granularity")
    size = _inner(granularity, "_data").get("group_size") if granularity else data.get("group_size", group)
    group = size if isinstance(size, int) and (granularity or group) else None
    if group is None or group < 1:
        return Packing(f"{kind}{bits}", bits, narrowed(by))
    return Packing(f"{kind}{bits} g{group}", float(bits_per_weight(bits, group, HALF, HALF * zeros)), narrowed(by))


def _width(dtype: object, usual: int) -> int:
    """Bits of a torch dtype, written {"_type": "torch.dtype", "_data": "int4"}."""
    name = str(dtype.get("_data")) if isinstance(dtype, Mapping) else ""
    digits = "".join(sign for sign in name if sign.isdigit())
    return int(digits) if digits else usual


def _inner(value: object, name: str) -> Mapping[str, object]:
    """The object under `name`; the value itself if it has none of that name and is one; else empty."""
    if not isinstance(value, Mapping):
        return {}
    found = value.get(name)
    if isinstance(found, Mapping):
        return found
    return value if name == "default" else {}
