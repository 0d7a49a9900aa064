"""A decode step over the batch: each resource alone, the bound, and what is expected, as arrays."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from predict.answers.question import Question
from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode_s
from predict.model.replica import Replica
from predict.workloads import FloatArray
from reports.explore.state import Asked

LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Steps:
    """Times in seconds, one for each batch, in the layout that is fastest for it."""

    batches: tuple[int, ...]
    bound_s: FloatArray
    compute_s: FloatArray
    memory_s: FloatArray
    link_s: FloatArray
    expected_s: FloatArray | None  # None: nothing is calibrated
    reason: str = ""  # why


@functools.lru_cache(maxsize=32)
def steps_of(asked: Asked, *others: float | None) -> Steps:
    """Those of a question over the usual batches, and at `others` that are known."""
    return decode_steps(asked.question, usual_batches(*others))


def usual_batches(*others: float | None) -> list[int]:
    """Powers of two up to `LARGEST`, and `others` that are known."""
    powers = [2**power for power in range(LARGEST.bit_length())]
    return sorted({*powers, *(int(each) for each in others if each and 1 <= each <= 2 * LARGEST)})


def decode_steps(q: Question, batches: Sequence[int]) -> Steps:
    """The steps of these batches at the question's context. Raises the errors of `Question.replicas`."""
    sizes = np.array(batches, dtype=np.float64)
    columns = np.full((5, sizes.size), np.nan)
    reason = ""
    for replica, places in _by_replica(q, batches):
        step = replica.decode(sizes[places], q.context)
        parts = (step.napkin_s, step.compute_s, step.dram_s, step.link_s)
        columns[:4, places] = [np.broadcast_to(part, len(places)) for part in parts]
        try:
            columns[4, places] = expected_decode_s(replica, sizes[places], q.context)
        except MissingCeiling as error:
            reason = str(error)
    bound_s, compute_s, memory_s, link_s, expected_s = columns
    return Steps(tuple(batches), bound_s, compute_s, memory_s, link_s, None if reason else expected_s, reason)


def _by_replica(q: Question, batches: Sequence[int]) -> Iterator[tuple[Replica, list[int]]]:
    """The replicas that are fastest for some of the batches, each with their places."""
    chosen = [q.replica(batch) for batch in batches]
    for replica in dict.fromkeys(id(each) for each in chosen):
        places = [place for place, each in enumerate(chosen) if id(each) == replica]
        yield chosen[places[0]], places
