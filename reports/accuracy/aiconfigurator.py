"""Reads aiconfigurator's tables (.parquet, .csv, .txt). Their columns tell what they hold: matmuls, prefill or decode
attention, the experts of a MoE layer, or collectives. They give times in milliseconds and `message_size` in elements.

A table of experts has sizes of whole experts and of all of them, and the tokens of all GPUs that share them; its times
are those of the busiest GPU.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from predict.errors import BadRecord
from predict.workloads import FloatArray
from reports.accuracy.columns import (
    ATTENTION,
    COLLECTIVE,
    DIMS,
    DIMS_OF_OP,
    EXPERTS,
    OPS,
    STORED_BYTES,
    by_spelling,
    column,
    first_reason,
    numbers,
)
from reports.accuracy.gates import matrices

_COMMON = ("device", "op_name", "latency")
_ATTENTION_COLUMNS = (*ATTENTION.values(), "isl", "step", "attn_dtype")
# Each kind of table: its first column identifies the kind, the other columns are required too.
_EXPERTS_COLUMNS = (*(name for name in EXPERTS.values() if name not in ("skew", "matrices")), "distribution")
_KINDS: tuple[tuple[str, ...], ...] = (
    ("gemm_dtype", *DIMS_OF_OP["matmul"].values(), *_COMMON),
    ("mla_dtype", "kv_cache_dtype", "batch_size", "num_heads", "isl", "step", *_COMMON),
    ("kv_cache_dtype", *_ATTENTION_COLUMNS, *_COMMON),
    ("moe_dtype", *_EXPERTS_COLUMNS, *_COMMON),
    ("nccl_dtype", *COLLECTIVE.values(), *_COMMON),
    ("allreduce_dtype", *COLLECTIVE.values(), *_COMMON),
)
UNNAMED = "unnamed"
# The collector's calls of a matmul take so many sets of weights in turn, of which a large L2 keeps small ones. Those of
# attention come back to one cache (`warm`).
WEIGHT_SETS = 6
PROMPTS = ("attention_prefill", "attention_mla_prefill")
STEPS = ("attention_decode", "attention_mla")
# Tables of latent attention are of DeepSeek's shape, and have no columns for it.
_DEEPSEEK = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 128}
_DTYPE_COLUMNS = ("gemm_dtype", "mla_dtype", "attn_dtype", "moe_dtype", "nccl_dtype", "allreduce_dtype")
_EVEN = ("balanced", "uniform")  # how rows fall on experts; else "power_law_1.2": by a law with this exponent
_POWER_LAW = "power_law_"


def read_table(path: Path) -> pd.DataFrame:
    """The rows of an aiconfigurator table."""
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:  # the errors of pandas and pyarrow derive from these
        raise BadRecord(f"{path}: not a table ({str(error).splitlines()[0]})") from None
    kind = next((kind for kind in _KINDS if kind[0] in table), None)
    if kind is None:
        raise BadRecord(
            f"{path}: unknown kind of table: no column {' or '.join(kind[0] for kind in _KINDS)}; it has"
            f" {', '.join(map(str, table))}"
        )
    if missing := [name for name in kind if name not in table]:
        raise BadRecord(f"{path}: missing column {', '.join(missing)}")
    if "mla_dtype" in table:
        table = table.assign(**{name: width for name, width in _DEEPSEEK.items() if name not in table})
    dtype = table[next(name for name in _DTYPE_COLUMNS if name in table)]
    if "moe_dtype" in table:
        table = _with_experts(table)
    op = table["op_name"].map(OPS)
    sizes = {name: _table_dimension(name, table, op) for name in DIMS}
    sizes["message_bytes"] *= dtype.map(by_spelling(dtype, STORED_BYTES)).to_numpy(dtype=float)
    sizes["context"] += column(table, "isl", 0)  # the new token attends to itself and to `step` cached ones
    return pd.DataFrame(
        {
            "op": table["op_name"],
            "device": table["device"],
            "dtype": dtype,
            "weight_dtype": dtype,
            "kv_dtype": table.get("kv_cache_dtype", np.nan),
            "kernel_source": _kernels(table),
            **sizes,
            "window": np.fmax(column(table, "window_size", 0), 0),  # a negative window means none, like 0
            "weight_sets": np.where(op == "matmul", WEIGHT_SETS, 0),
            "warm": np.where(op.isin(("attention_prefill", "attention_decode")), 1, 0),
            "time_s": pd.to_numeric(table["latency"], errors="coerce").to_numpy(dtype=float) * 1e-3,
            "reason": first_reason(
                {
                    "the prompt continues a cached one": op.isin(PROMPTS) & (column(table, "step", 0) != 0),
                    "more than one token a step": op.isin(STEPS) & (column(table, "isl", 1) != 1),
                    "beam search": column(table, "beam_width", 1) != 1,
                    "the distribution of tokens is none of balanced, uniform, power_law_1.2": (op == "moe_layer")
                    & ~np.isfinite(column(table, "skew", 0)),
                },
                len(table),
            ),
        }
    )


def _with_experts(table: pd.DataFrame) -> pd.DataFrame:
    """A table of experts with the columns `skew`, NaN for a distribution that is not known, and `matrices`."""
    law = table["distribution"].astype(str)
    exponent = pd.to_numeric(law.where(law.str.startswith(_POWER_LAW)).str.removeprefix(_POWER_LAW), errors="coerce")
    skew = exponent.where(exponent > 0).mask(law.isin(_EVEN), 0.0)
    read = {ours: numbers(table[theirs]) for ours, theirs in EXPERTS.items() if theirs in table}
    kernel = _kernels(table).astype(str) + table["moe_dtype"].astype(str)
    layers = pd.DataFrame(
        {**read, "skew": skew.to_numpy(), "kernel": kernel.to_numpy(), "time_s": numbers(table["latency"])}
    )
    return table.assign(skew=skew, matrices=matrices(layers))


def _kernels(table: pd.DataFrame) -> "pd.Series[str]":
    """The kernel of each row, with its backend where one kernel has several: eager and graph calls differ."""
    if "kernel_source" not in table:
        return pd.Series(UNNAMED, index=table.index)
    kernels = table["kernel_source"].fillna(UNNAMED)
    if "backend" not in table or table.groupby(kernels)["backend"].nunique().max() <= 1:
        return kernels
    return kernels + ", " + table["backend"].fillna(UNNAMED)


def _table_dimension(name: str, table: pd.DataFrame, op: "pd.Series[str]") -> FloatArray:
    """One of `DIMS`; NaN in rows whose op lacks it."""
    values = np.full(len(table), np.nan)
    for each, dims in DIMS_OF_OP.items():
        column = dims.get(name)
        if column in table:
            values = np.where(op == each, numbers(table[column]), values)
    return values
