"""The energy of a measured call: joules per token where memory bounds it, per TFLOP where arithmetic does."""

import math

from bench.record import Record
from predict.workloads import Workload

TFLOP = 1e12


def tokens_of(workload: Workload) -> int | None:
    """Tokens that a call works on, by its dimensions; None for an op without tokens, such as a stream.

    A row of a matrix is a token. Decoding makes one token for each sequence; the tokens of a chunk are its queries.
    """
    dims = workload.dims
    for name in ("tokens", "m", "rows"):
        if name in dims:
            return dims[name]
    if "batch" not in dims:
        return None
    return dims["batch"] * dims.get("seq", dims.get("queries", 1))


def joules_per_token(record: Record) -> float:
    """Joules per token of a memory-bound call; NaN for any other call, and if power is unknown."""
    energy_j, tokens = _energy_j(record), tokens_of(record.workload)
    return math.nan if _is_compute_bound(record) or tokens is None else energy_j / tokens


def joules_per_tflop(record: Record) -> float:
    """Joules per 10^12 FLOP of a compute-bound call; NaN for any other call, and if power is unknown."""
    flop = float(record.workload.amounts.flop)
    return _energy_j(record) / (flop / TFLOP) if _is_compute_bound(record) and flop else math.nan


def _energy_j(record: Record) -> float:
    energy_j = record.measurement.energy_j if record.measurement else None
    return math.nan if energy_j is None else energy_j


def _is_compute_bound(record: Record) -> bool:
    bound = record.prediction.bound if record.prediction else None
    return bound is not None and bound.is_compute
