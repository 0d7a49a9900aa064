"""The formats that engines name in their logs, as this project calls them."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.answers.search import PRODUCTS
from predict.formulas.memory import WEIGHT_FORMATS
from predict.gpus import Gpu
from predict.model.transformer import Model
from predict.resources import matmul_unit

WEIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "fp8": "fp8",
        "w8a8_fp8": "fp8",
        "modelopt": "fp8",
        "modelopt_fp8": "fp8",
        "fp8_per_channel_per_token": "fp8",
        "fp8_block_scales": "fp8-block",
        "nvfp4": "nvfp4",
        "modelopt_fp4": "nvfp4",
        "mxfp4": "mxfp4",
        "w4a16_mxfp4": "mxfp4",
        "w8a8_int8": "int8",
        "w8a16": "int8",
        "awq": "int4-zero",
        "awq_marlin": "int4-zero",
        "w4a16_awq": "int4",
        "gptq": "int4",
        "gptq_marlin": "int4",
    }
)
WEIGHTS_ONLY = frozenset({"w8a16"})  # multiplied in 16 bits
CACHES: Mapping[str, str] = MappingProxyType(
    {"fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "int8": "int8", "nvfp4": "fp4", "fp4_e2m1": "fp4"}
)


def formats_of(weights: str | None, kv: str | None, model: Model, gpu: Gpu) -> tuple[dict[str, str], list[str]]:
    """The fields of `Question` that a log's formats ask for, and notes. A model that ships in the format is left as it
    ships."""
    fields: dict[str, str] = {}
    notes: list[str] = []
    name = (weights or "").lower()
    if name in WEIGHTS and not _ships(model, WEIGHTS[name]):
        fields["weights"] = WEIGHTS[name]
        products = PRODUCTS.get(WEIGHTS[name])
        if products is not None and name not in WEIGHTS_ONLY and matmul_unit(products) in gpu.roofs:
            fields["compute"] = products.name
        notes.append(f"weights are {WEIGHTS[name]}, because the log says {weights}")
    elif name and name not in WEIGHTS:
        notes.append(
            f"the log's format {weights!r} is not known here: give --weights if it is not {model.storage.name}"
        )
    if (cache := (kv or "").lower()) in CACHES:
        fields["kv"] = CACHES[cache]
        notes.append(f"the KV cache is {CACHES[cache]}, because the log says {kv}")
    return fields, notes


def _ships(model: Model, weights: str) -> bool:
    """Whether a checkpoint is stored in that format, or a finer kind of it."""
    assert weights in WEIGHT_FORMATS
    return weights.partition("-")[0] in model.storage.name.lower()
