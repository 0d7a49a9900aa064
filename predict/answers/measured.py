"""What people measure of a whole model, one function a quantity: its bound, and what is expected.

Times are in seconds, rates in tokens made per second by all GPUs of the replica together.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from predict.answers.question import Question
from predict.answers.times import Timed, decode_times, prefill_times
from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_mixed_s
from predict.model.replica import Replica
from predict.model.server import Request


@dataclass(frozen=True, slots=True)
class Foretold:
    """A quantity in SI units. No time is less than its bound, and no rate is more."""

    bound: float
    expected: float | None
    reason: str = ""  # why `expected` is None


def tpot_s(q: Question) -> Foretold:
    """Time of a decode step of the question's batch."""
    return _of_pass(decode_times(q))


def ttft_s(q: Question) -> Foretold:
    """Time to the first token of a prompt by itself."""
    return _of_pass(prefill_times(q, 1))


def static_latency_s(q: Question, isl: int, osl: int) -> Foretold:
    """Time of the question's batch from prompts of `isl` tokens to the last of `osl` tokens, all of them together. A
    step's bound is convex in its context, so that of the mean context is no more than the mean."""
    prompts = prefill_times(replace(q, seq=isl, context=isl))
    steps = decode_times(replace(q, seq=isl, context=isl + osl // 2))
    bound_s = prompts.bound_s + (osl - 1) * steps.bound_s
    if prompts.expected_s is None or steps.expected_s is None:
        return Foretold(bound_s, None, prompts.reason or steps.reason)
    return Foretold(bound_s, prompts.expected_s + (osl - 1) * steps.expected_s)


def static_tokens_per_s(q: Question, isl: int, osl: int) -> Foretold:
    """Tokens that the batch makes per second of `static_latency_s`."""
    found, tokens = static_latency_s(q, isl, osl), q.batch * osl
    return Foretold(tokens / found.bound, None if found.expected is None else tokens / found.expected, found.reason)


def in_flight_tokens_per_s(q: Question, isl: int, osl: int) -> Foretold:
    """Tokens per second of a server that keeps the question's batch running, each request with a prompt of `isl` tokens
    and `osl` tokens to make: the best of the layouts that come into question."""
    request = Request(q.model, isl, osl, isl, q.prefix, q.formats)
    tokens = q.batch * osl / (osl - 1)  # of a step: those decoded, and the first of each prompt that ends in it
    prompts = np.array([q.batch / (osl - 1)])

    def bound_s(replica: Replica) -> float:
        batch = np.array([float(q.batch)])
        work = request.step(batch, prompts)
        return float(np.ravel(replica.time(work, request.tokens(batch, prompts)).napkin_s)[0])

    def expected_s(replica: Replica) -> float:
        context = round(float(np.mean(request.contexts)))
        return float(expected_mixed_s(replica, np.array([float(q.batch)]), context, prompts, isl)[0])

    bound = tokens / min(map(bound_s, q.replicas))
    try:
        return Foretold(bound, tokens / _least(expected_s, q.replicas))
    except MissingCeiling as error:
        return Foretold(bound, None, str(error))


def _of_pass(times: Timed) -> Foretold:
    return Foretold(times.bound_s, times.expected_s, times.reason)


def _least(time_s: Callable[[Replica], float], replicas: tuple[Replica, ...]) -> float:
    """The least time of the replicas that have one. Raises MissingCeiling if none has."""
    found, reasons = [], []
    for replica in replicas:
        try:
            found.append(time_s(replica))
        except MissingCeiling as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return min(found)
