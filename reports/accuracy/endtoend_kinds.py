"""What is predicted for each kind of measurement of a whole model, in the units of the points."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from predict.answers.measured import (
    Foretold,
    in_flight_tokens_per_s,
    static_latency_s,
    static_tokens_per_s,
    tpot_s,
    ttft_s,
)
from predict.answers.question import Question
from predict.answers.sections.training import days, train_step_s
from predict.answers.sections.training_memory import held_in_training
from predict.answers.times import expected_step
from predict.errors import BadQuantity
from predict.formulas import memory
from predict.units import GB, GIB
from reports.accuracy.endtoend_points import Point

LENGTHS = re.compile(r"(\d[\d,]*) in\b\D{0,12}?(\d[\d,]*) out\b")  # "1024 in 2048 out", "233 in, 221 out"
# How workloads say that clients measured them through a server.
SERVED = re.compile(r"\b(concurrency|concurrent|QPS|req(uests)?/s)\b", re.IGNORECASE)
HOURS_OF_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Kind:
    """A quantity that people measure."""

    foretell: Callable[[Question, Point], Foretold]
    units: Mapping[str, Callable[[Question], float]]  # unit -> what one of it is in the unit that `foretell` returns
    is_rate: bool = False  # more is faster
    is_size: bool = False  # a memory size, which has no expected time: the prediction itself is judged


def _lengths(q: Question, point: Point) -> tuple[int, int]:
    """Tokens in and out of a request: as the workload says, else the prompt, and twice what the mean context adds."""
    if found := LENGTHS.search(point.workload):
        isl, osl = (int(text.replace(",", "")) for text in found.groups())
        return isl, osl
    return q.seq, 2 * max(q.context - q.seq, 1)


def _is_served(point: Point) -> bool:
    return SERVED.search(point.workload) is not None


def _in_flight(q: Question, point: Point) -> Foretold:
    isl, osl = _lengths(q, point)
    if osl < 2:
        raise BadQuantity("requests that make one token do not decode: they have no in-flight throughput")
    return in_flight_tokens_per_s(q, isl, osl)


def _trained(q: Question, amount: Callable[[float], float]) -> Foretold:
    """What `amount` makes of the time of a training step."""
    found = expected_step(q)
    bound = amount(train_step_s(q))
    return Foretold(bound, None, found) if isinstance(found, str) else Foretold(bound, amount(found.time_s))


def _weights(q: Question) -> Foretold:
    replica = q.roomiest_replica()
    return _size(float(replica.weight_bytes) / replica.gpus)


def _cached_tokens(q: Question) -> Foretold:
    replica = q.roomiest_replica()
    return _size(float(memory.kv_capacity_tokens(float(replica.free_bytes), float(replica.token_bytes))))


def _size(size: float) -> Foretold:
    return Foretold(size, size)


def _one(q: Question) -> float:  # noqa: ARG001
    return 1.0


_SECONDS = {"s": _one, "ms": lambda q: 1e-3}  # noqa: ARG005
_TOKENS_PER_S = {"tokens/s": _one, "tokens/s/GPU": lambda q: float(q.gpus)}
_BYTES = {"GiB": lambda q: float(GIB), "GB": lambda q: float(GB)}  # noqa: ARG005
_GPU_HOURS = {"h": _one, "GPU-hours": _one}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "tpot": Kind(lambda q, point: tpot_s(q, served=_is_served(point)), _SECONDS),
        "ttft": Kind(lambda q, point: ttft_s(q, served=_is_served(point)), _SECONDS),
        "static_latency": Kind(lambda q, point: static_latency_s(q, *_lengths(q, point)), _SECONDS),
        "static_tps": Kind(lambda q, point: static_tokens_per_s(q, *_lengths(q, point)), _TOKENS_PER_S, is_rate=True),
        "inflight_tps": Kind(_in_flight, _TOKENS_PER_S, is_rate=True),
        "train_tps": Kind(
            lambda q, point: _trained(q, lambda step_s: q.batch * q.seq / step_s),  # noqa: ARG005
            _TOKENS_PER_S,
            is_rate=True,
        ),
        "train_step": Kind(lambda q, point: _trained(q, lambda step_s: step_s), _SECONDS),  # noqa: ARG005
        "gpu_hours": Kind(
            lambda q, point: _trained(q, lambda step_s: days(q, step_s) * HOURS_OF_A_DAY * q.gpus),  # noqa: ARG005
            _GPU_HOURS,
        ),
        "train_mem": Kind(
            lambda q, point: _size(float(held_in_training(q).total_bytes)),  # noqa: ARG005
            _BYTES,
            is_size=True,
        ),
        "weights_gib": Kind(lambda q, point: _weights(q), _BYTES, is_size=True),  # noqa: ARG005
        "kv_tokens": Kind(lambda q, point: _cached_tokens(q), {"tokens": _one}, is_size=True),  # noqa: ARG005
    }
)
