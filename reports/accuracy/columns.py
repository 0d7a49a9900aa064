"""The columns of measured tables: ops with their dimensions, spellings of formats, and how values become numbers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from predict.units import find_dtype
from predict.workloads import FloatArray

Mask = npt.NDArray[np.bool_]
T = TypeVar("T")

ATTENTION = {"batch": "batch_size", "heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
LATENT = {
    "batch": "batch_size", "heads": "num_heads", "latent": "kv_lora_rank", "rope": "qk_rope_head_dim",
}  # fmt: skip
COLLECTIVE = {"gpus": "num_gpus", "message_bytes": "message_size"}
# `skew` and `matrices` are made of other columns.
EXPERTS = {
    "tokens": "num_tokens",
    "hidden": "hidden_size",
    "intermediate": "inter_size",
    "active": "topk",
    "experts": "num_experts",
    "tp": "moe_tp_size",
    "ep": "moe_ep_size",
    "skew": "skew",
    "matrices": "matrices",
}

# Our op -> our dimension -> aiconfigurator's column.
DIMS_OF_OP: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "matmul": {"m": "m", "n": "n", "k": "k"},
        "attention_prefill": {**ATTENTION, "seq": "isl"},
        "attention_decode": {**ATTENTION, "context": "step"},
        "attention_mla": {**LATENT, "context": "step"},
        "attention_mla_prefill": {**LATENT, "head_dim": "v_head_dim", "seq": "isl"},
        "moe_layer": EXPERTS,
        "all_reduce": COLLECTIVE,
        "all_gather": COLLECTIVE,
        "reduce_scatter": COLLECTIVE,
        "all_to_all": COLLECTIVE,
    }
)
DIMS: tuple[str, ...] = tuple(dict.fromkeys(name for dims in DIMS_OF_OP.values() for name in dims))
FRACTIONS = ("skew",)  # dimensions that may be fractions, or 0

# An op's name in a file -> our op.
OPS: Mapping[str, str] = MappingProxyType(
    {
        **{op: op for op in DIMS_OF_OP},
        "gemm": "matmul",
        "context_attention": "attention_prefill",
        "generation_attention": "attention_decode",
        **dict.fromkeys(("generation_mla", "mla_generation"), "attention_mla"),
        **dict.fromkeys(("context_mla", "mla_context"), "attention_mla_prefill"),
        "alltoall": "all_to_all",
        "moe": "moe_layer",
    }
)

TEXTS = ("op", "device", "dtype", "weight_dtype", "kv_dtype", "kernel_source")

# A format's spelling in a file -> our name.
_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("fp64", "float64"), "fp64"),
        **dict.fromkeys(("fp32", "float32", "float"), "fp32"),
        "tf32": "tf32",
        **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
        **dict.fromkeys(("fp16", "float16", "half"), "fp16"),
        **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "float8_e4m3fn", "float8_e5m2"), "fp8"),
        "int8": "int8",
        **dict.fromkeys(("fp4", "nvfp4"), "fp4"),
        "int4": "int4",
    }
)
# A name that means a special kernel -> the format it multiplies in, the format of its stored weights.
_VARIANTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("fp8_static", "fp8_ootb", "fp8_block", "mxfp8"), ("fp8", "fp8")),
        "sq": ("int8", "int8"),  # SmoothQuant: int8 on both sides
        **dict.fromkeys(("int8_wo", "w8a16"), ("bf16", "int8")),  # weights only
        **dict.fromkeys(("int4_wo", "w4a16", "w4a16_awq", "w4a16_gptq"), ("bf16", "int4")),
        "w4a16_mxfp4": ("bf16", "fp4"),
        **dict.fromkeys(("w4a8", "w4afp8", "w4a8_awq"), ("fp8", "int4")),
        **dict.fromkeys(("w4a8_mxfp4", "w4a8_mxfp4_fp8", "w4a8_mxfp4_mxfp8"), ("fp8", "fp4")),
        **dict.fromkeys(("mxfp4", "w4a4_mxfp4"), ("fp4", "fp4")),
    }
)
COMPUTED = {**_SPELLINGS, **{text: computed for text, (computed, _) in _VARIANTS.items()}}
STORED = {**_SPELLINGS, **{text: stored for text, (_, stored) in _VARIANTS.items()}}
# Formats whose scales tell them apart from our formats of as many bits keep their names.
FORMATS = {**_SPELLINGS, "nvfp4": "nvfp4", **{text: text for text in _VARIANTS}}
STORED_BYTES = {text: find_dtype(stored).bytes for text, stored in STORED.items()}


def first_reason(tests: "Mapping[str, Mask | pd.Series[bool]]", rows: int) -> npt.NDArray[np.object_]:
    """The first test that each row meets; "" where it meets none."""
    reasons = np.full(rows, "", dtype=object)
    for reason in reversed(list(tests)):
        reasons[np.asarray(tests[reason])] = reason
    return reasons


def column(table: pd.DataFrame, name: str, default: float) -> FloatArray:
    """A column as numbers; `default` where the table or a row lacks it."""
    return numbers(table[name].fillna(default)) if name in table else np.full(len(table), float(default))


def numbers(values: "pd.Series[Any]") -> FloatArray:
    """The values as numbers; NaN for anything else."""
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def by_spelling(values: "pd.Series[Any]", names: Mapping[str, T]) -> dict[str, T]:
    """`names` by the spellings of `values`: upper case and torch's prefix do not matter ("BF16", "torch.bfloat16")."""
    keys = {str(text): str(text).lower().removeprefix("torch.") for text in values.dropna().unique()}
    return {text: names[key] for text, key in keys.items() if key in names}
