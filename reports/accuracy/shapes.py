"""The shapes of measured tables: each with its size class, its napkin and what bounds it, and its fastest kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from predict.errors import MissingCeiling
from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Machine
from predict.gpus import GPUS, Gpu
from predict.units import DTYPES, DType, Formats, binary_bytes, find_dtype
from predict.workloads import FloatArray
from reports.accuracy.columns import DIMS_OF_OP
from reports.run.frame import groups_of

# Rows with equal values in these columns get their napkin in one call.
_MACHINE = ("op", "gpu", "dtype", "weight_dtype", "kv_dtype")

# What bounds a shape, by its napkin.
COMPUTE, MEMORY, LINK, LAUNCH = "compute", "memory", "link", "launch"


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of an op, in classes."""

    title: str  # what is sized
    ends: tuple[int, ...]  # the largest size of each class; one more class, without an end, follows
    is_bytes: bool = False

    def class_of(self, sizes: FloatArray) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        """The index of each size's class."""
        return np.searchsorted(np.array(self.ends), sizes, side="left")

    def text(self, place: int) -> str:
        """A class as text: 17-64, over 4096 or to 64 KiB."""
        if place == len(self.ends):
            return f"over {self.number_text(self.ends[-1])}"
        if self.is_bytes:
            return f"to {self.number_text(self.ends[place])}"
        return f"{self.ends[place - 1] + 1 if place else 1}-{self.ends[place]}"

    def number_text(self, size: int) -> str:
        """A size as text: 4096 or 64 KiB."""
        return binary_bytes(size) if self.is_bytes else str(size)


_BYTES = (2**16, 2**20, 2**24, 2**28, 2**32)
_MESSAGE = Scale("message", (2**14, 2**18, 2**22, 2**26), is_bytes=True)
SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "matmul": Scale("rows m", (16, 64, 256, 1024, 4096)),
        "moe_layer": Scale("tokens of all GPUs", (16, 64, 256, 1024, 4096)),
        "attention_prefill": Scale("tokens", (256, 1024, 4096, 16384, 65536)),
        "attention_decode": Scale("KV cache read", _BYTES, is_bytes=True),
        "attention_mla": Scale("latents read", _BYTES, is_bytes=True),
        "attention_mla_prefill": Scale("tokens", (256, 1024, 4096, 16384, 65536)),
        **dict.fromkeys(COLLECTIVES, _MESSAGE),
    }
)
_MOVED = Scale("bytes moved", _BYTES, is_bytes=True)  # of every other op


def scale_of(op: str) -> Scale:
    """How an op's shapes are sized: by what its lessons count, else by the bytes that it moves."""
    return SCALES.get(op, _MOVED)


def in_order(ops: "pd.Series[str]") -> list[str]:
    """The ops in the order of `SCALES`, then all others by name."""
    found = set(ops)
    return [*(op for op in SCALES if op in found), *sorted(found.difference(SCALES))]


def merge_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each shape, table and kernel, in order of first appearance: repeats become their median."""
    keys = [name for name in frame.columns if name != "time_s"]
    return frame.groupby(keys, observed=True, dropna=False, sort=False)["time_s"].median().reset_index()


def shapes_of(frame: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, int]]:
    """The shapes of rows as `MeasuredTables.frame` has them, with a column `side`; and rows without a napkin by reason.

    One row for each op, format, shape and side, by the fastest kernel there. Columns: side, op, format, place (the
    index of the size class), shape (m16-n4096-k4096), time_s, napkin_s (NaN without a roof), bound (`COMPUTE`,
    `MEMORY` or `LINK`; None without a roof).
    """
    frame = merge_repeats(frame)
    bounds, missing = napkin_s(frame)
    frame = frame.assign(napkin_s=bounds, bound=_bounded_by(frame), format=_format_text(frame))
    frame.loc[frame["napkin_s"].isna(), "bound"] = None
    parts = [_fastest(op, rows) for op in SCALES if not (rows := frame[frame["op"] == op]).empty]
    return pd.concat(parts, ignore_index=True), missing


def napkin_s(frame: pd.DataFrame) -> tuple[FloatArray, Mapping[str, int]]:
    """The napkin of each row of `MeasuredTables.frame` by its GPU's datasheet, NaN where that lacks a roof; and the
    number of rows without one, by reason.

    matmul: max(2 m n k / peak, ((m k + m n) a + k n w) / DRAM bandwidth). Attention: 4 heads head_dim FLOP for each
    query and each key within its window; Q and O move in 16 bits, the keys and values of these pairs in v bytes.
    Latent attention and experts: `napkin_s` in `predict.expected.latent` and `.experts`. A collective: W S / bandwidth
    of a link in one direction, with W = (n-1)/n; all_reduce has twice that, or 1 + 1/n where a switch may reduce. a, w
    and v are the bytes of an element in computation (this format decides the peak), in the weights and in the cache.
    """
    bounds = np.full(len(frame), np.nan)
    missing: dict[str, int] = {}
    for (op, gpu, *formats), places in _machines(frame):
        try:
            bounds[places] = _bound_s(op, _dims(op, frame.iloc[places]), GPUS[gpu], [*map(find_dtype, formats)])
        except MissingCeiling as error:
            reason = f"{gpu}: {str(error).partition(' (')[0]}"
            missing[reason] = missing.get(reason, 0) + len(places)
    return bounds, missing


def _bounded_by(frame: pd.DataFrame) -> "pd.Series[Any]":
    """What bounds each row; None where the GPU lacks a roof."""
    found = np.full(len(frame), None, dtype=object)
    for (op, gpu, *formats), places in _machines(frame):
        if op in COLLECTIVES:
            found[places] = LINK
            continue
        dims = _dims(op, frame.iloc[places])
        try:
            compute_s = _bound_s(op, dims, GPUS[gpu], [*map(find_dtype, formats)], only=COMPUTE)
            memory_s = _bound_s(op, dims, GPUS[gpu], [*map(find_dtype, formats)], only=MEMORY)
        except MissingCeiling:
            continue
        found[places] = np.where(compute_s >= memory_s, COMPUTE, MEMORY)
    return pd.Series(found, index=frame.index, dtype=object)


def _machines(frame: pd.DataFrame) -> list[tuple[tuple[Any, ...], "np.ndarray[tuple[int], np.dtype[np.intp]]"]]:
    """The combinations of `_MACHINE`, and the places of the rows of each."""
    machines = frame[list(_MACHINE)].astype(object).reset_index(drop=True)
    machines["kv_dtype"] = machines["kv_dtype"].fillna(machines["dtype"])
    return [(key, group.index.to_numpy()) for key, group in groups_of(machines, _MACHINE)]


def _dims(op: str, rows: pd.DataFrame) -> dict[str, FloatArray]:
    return {name: _floats(rows, name) for name in (*DIMS_OF_OP[op], "window")}


def _bound_s(op: str, dims: Mapping[str, FloatArray], gpu: Gpu, formats: Sequence[DType], only: str = "") -> FloatArray:
    """Least time of rows of one op on one GPU in one set of formats, by both roofs or `only` by one of them.
    `formats` are those of computation, weights and cache. Raises MissingCeiling."""
    dtype, weight, kv = formats
    # A collective multiplies nothing, so any format's peak will do.
    machine = Machine.of(gpu, DTYPES["bf16"] if op in COLLECTIVES else dtype)
    if only == COMPUTE:
        machine = replace(machine, bytes_per_s=np.inf)
    elif only == MEMORY:
        machine = replace(machine, flop_per_s=np.inf)
    return TIME_MODELS[op].napkin_s(dims, machine, Formats.of(dtype, weight, kv))


def _format_text(frame: pd.DataFrame) -> "pd.Series[str]":
    """The format of each row; it names the format of weights or cache too where that differs: bf16, fp8 KV."""
    text, dtype, weight, kv = (frame[name].astype(object) for name in ("format", "dtype", "weight_dtype", "kv_dtype"))
    # The name of a special kernel, such as int8_wo, already tells the format of its weights.
    text = text.where((text != dtype) | (weight == dtype), text + ", " + weight + " weights")
    return text.where(kv.isna() | (kv == dtype), text + ", " + kv + " KV")


def _fastest(op: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The fastest row of each shape of an op, by side and format."""
    dims = [*DIMS_OF_OP[op], "window"]
    rows = frame.sort_values("time_s", kind="stable").drop_duplicates(["side", "format", *dims])
    found = rows[["side", "op", "format"]].astype(object)
    return found.assign(
        place=scale_of(op).class_of(sizes(op, rows)),
        shape=shape_text(rows, dims),
        time_s=rows["time_s"],
        napkin_s=rows["napkin_s"],
        bound=rows["bound"],
    )


def shape_text(rows: pd.DataFrame, dims: list[str]) -> "pd.Series[str]":
    """The dimensions of each row as a workload's id writes them: m16-n4096-k4096; no window, no text."""
    text = pd.Series("", index=rows.index, dtype=object)
    for name in dims:
        texts = {
            value: ""
            if name == "window" and value == 0
            else f"-{name}{value:g}"
            if value % 1
            else f"-{name}{value:.0f}"
            for value in rows[name].unique()
        }
        text = text + rows[name].map(texts)
    return text.str.removeprefix("-")


def sizes(op: str, rows: pd.DataFrame) -> FloatArray:
    """The size of each row, as `scale_of` defines it for the op."""
    if op not in SCALES:
        return _floats(rows, "bytes")
    if op in COLLECTIVES:
        return _floats(rows, "message_bytes")
    if op == "matmul":
        return _floats(rows, "m")
    if op == "moe_layer":
        return _floats(rows, "tokens")
    if op in ("attention_prefill", "attention_mla_prefill"):
        return _floats(rows, "batch") * _floats(rows, "seq")
    keys = _within(_floats(rows, "context"), _floats(rows, "window"))
    if op == "attention_mla":
        per_key = _floats(rows, "latent") + _floats(rows, "rope")
    else:
        per_key = 2 * _floats(rows, "kv_heads") * _floats(rows, "head_dim")
    elements = _floats(rows, "batch") * keys * per_key
    element_bytes = rows["kv_dtype"].map(lambda name: find_dtype(name).bytes).to_numpy(dtype=np.float64)
    return np.asarray(elements * element_bytes)


def _within(keys: FloatArray, window: FloatArray) -> FloatArray:
    """The most keys that a query attends to; a window of 0 means no window."""
    return np.asarray(np.where(window > 0, np.minimum(keys, window), keys))


def _floats(rows: pd.DataFrame, name: str) -> FloatArray:
    return np.asarray(rows[name], dtype=np.float64)
