"""Which reader reads which quantization method."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from predict.model.config.fields import Fields
from predict.model.config.quantization import integers
from predict.model.config.quantization.blocks import fbgemm_fp8, fp8, fp_quant, mxfp4, mxfp8, nvfp4
from predict.model.config.quantization.compressed_tensors import compressed_tensors
from predict.model.config.quantization.modelopt import modelopt
from predict.model.config.quantization.quark import quark
from predict.model.config.quantization.scheme import Quantization
from predict.model.config.quantization.torchao import torchao

FIELDS = ("quantization_config", "compression_config", "quantization")
# Name of a method, in lower case and with hyphens, -> its reader.
METHODS: Mapping[str, Callable[[Fields], Quantization]] = MappingProxyType(
    {
        "fp8": fp8,
        "fbgemm-fp8": fbgemm_fp8,
        "mxfp4": mxfp4,
        "gpt-oss-mxfp4": mxfp4,
        "mxfp8": mxfp8,
        "nvfp4": nvfp4,
        "fouroversix": nvfp4,
        "fp-quant": fp_quant,
        "compressed-tensors": compressed_tensors,
        "modelopt": modelopt,
        "modelopt-fp8": modelopt,
        "modelopt-fp4": modelopt,
        "modelopt-mixed": modelopt,
        "petit-nvfp4": modelopt,
        "quark": quark,
        "torchao": torchao,
        "gptq": integers.gptq,
        "gptqmodel": integers.gptq,
        "gptq-marlin": integers.gptq,
        "marlin": integers.gptq,
        "awq": integers.awq,
        "awq-marlin": integers.awq,
        "auto-round": integers.auto_round,
        "intel/auto-round": integers.auto_round,
        "inc": integers.auto_round,
        "bitsandbytes": integers.bits_and_bytes,
        "hqq": integers.hqq,
        "mlx": integers.mlx,
        "metal": integers.mlx,
        "quanto": integers.weight_only,
        "eetq": integers.weight_only,
        "experts-int8": integers.experts_int8,
        "aqlm": integers.aqlm,
        "exl2": integers.exllama,
        "exl3": integers.exllama,
        "bitnet": integers.bitnet,
    }
)
# A field that only files of this method have, for files that do not name it.
TELLING: Mapping[str, str] = MappingProxyType(
    {
        "quant_algo": "modelopt",
        "producer": "modelopt",
        "config_groups": "compressed-tensors",
        "sparsity_config": "compressed-tensors",
        "load_in_4bit": "bitsandbytes",
        "load_in_8bit": "bitsandbytes",
        "global_quant_config": "quark",
        "quant_type": "torchao",
        "desc_act": "gptq",
        "zero_point": "awq",
        "bits": "mlx",
    }
)


def find_quantization(fields: Fields) -> Quantization | None:
    """What the configuration says of its quantization, None if nothing. An unknown method is read as 16 bits, with a
    note. Raises BadModel naming a field that is wrong."""
    for name in FIELDS:
        if (config := fields.inside(name)) is not None and config.values:
            return _read(config, name)
    return None


def _read(config: Fields, name: str) -> Quantization:
    said = config.text("quant_method")
    told = said or next((TELLING[field] for field in TELLING if field in config.values), "")
    method = told.lower().replace("_", "-")
    config.use(*config.values)
    if method in METHODS:
        return METHODS[method](config)
    called = repr(said) if said else "without a quant_method"
    return Quantization((), notes=(f"{name} {called} is not known: its weights are read as 16 bits",))
