"""What people measure of a whole model, one function a quantity: its bound, and what is expected.

Times are in seconds, rates in tokens made per second by all GPUs of the replica together. `served` says that clients
measured it through a server, not the engine itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from predict.answers.question import Question
from predict.answers.times import decode_times, prefill_times
from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode
from predict.expected.server import expected_full_load_s
from predict.expected.whole_model import REQUEST_S, REREAD, SERVED_S, SUSTAINED, server_step_s
from predict.model.replica import Replica
from predict.model.server import Request


@dataclass(frozen=True, slots=True)
class Foretold:
    """A quantity in SI units. No time is less than its bound, and no rate is more."""

    bound: float
    expected: float | None
    reason: str = ""  # why `expected` is None


def tpot_s(q: Question, *, served: bool = False) -> Foretold:
    """Time of a decode step of the question's batch."""
    step = decode_times(q)
    if step.expected_s is None or not served:
        return Foretold(step.bound_s, step.expected_s, step.reason)
    return Foretold(step.bound_s, float(server_step_s(step.expected_s, q.batch)))


def ttft_s(q: Question, *, served: bool = False) -> Foretold:
    """Time to the first token of a prompt by itself."""
    prompt = prefill_times(q, 1)
    if prompt.expected_s is None:
        return Foretold(prompt.bound_s, None, prompt.reason)
    if not served:
        return Foretold(prompt.bound_s, prompt.first_token_s)
    return Foretold(prompt.bound_s, prompt.expected_s / SUSTAINED + REQUEST_S + SERVED_S)


def static_latency_s(q: Question, isl: int, osl: int) -> Foretold:
    """Time of the question's batch from prompts of `isl` tokens to the last of `osl` tokens, all of them together. A
    step's bound is convex in its context, so that of the mean context is no more than the mean."""
    context = isl + osl // 2
    prompts = prefill_times(replace(q, seq=isl, context=isl))
    steps = decode_times(replace(q, seq=isl, context=context))
    bound_s = prompts.bound_s + (osl - 1) * steps.bound_s
    if prompts.expected_s is None or steps.expected_s is None:
        return Foretold(bound_s, None, prompts.reason or steps.reason)
    step_s = expected_decode(steps.replica, q.batch, context, reread=REREAD).time_s
    return Foretold(bound_s, prompts.expected_s + (osl - 1) * step_s)


def static_tokens_per_s(q: Question, isl: int, osl: int) -> Foretold:
    """Tokens that the batch makes per second of `static_latency_s`."""
    found, tokens = static_latency_s(q, isl, osl), q.batch * osl
    return Foretold(tokens / found.bound, None if found.expected is None else tokens / found.expected, found.reason)


def in_flight_tokens_per_s(q: Question, isl: int, osl: int) -> Foretold:
    """Tokens per second of a server that always has requests with a prompt of `isl` tokens and `osl` tokens to make:
    the best of the layouts that come into question. The bound is that of the question's batch. Expected is the rate of
    as many of them as memory holds at full length, which engines reserve to evict none."""
    request = Request(q.model, isl, osl, isl, q.prefix, q.formats)
    made = osl / (osl - 1)  # tokens of a request in a step: those decoded, and the first of each prompt that ends
    bound = max(q.batch * made / _bound_step_s(replica, request, q.batch) for replica in q.replicas)

    def rate(replica: Replica) -> float:
        running = max(1, min(q.batch, int(replica.max_batch(isl + osl))))
        return running * made / expected_full_load_s(replica, request, running)

    try:
        return Foretold(bound, max(_known(rate, q.replicas)))
    except MissingCeiling as error:
        return Foretold(bound, None, str(error))


def _bound_step_s(replica: Replica, request: Request, running: int) -> float:
    """Least time of a step that decodes for so many, and reads as much of prompts as lets one begin for each end."""
    batch, prompts = np.array([float(running)]), np.array([running / (request.generated - 1)])
    work = request.step(batch, prompts)
    return float(np.ravel(replica.time(work, request.tokens(batch, prompts)).napkin_s)[0])


def _known(rate: Callable[[Replica], float], replicas: tuple[Replica, ...]) -> Iterator[float]:
    """The rates of the replicas that have one. Raises MissingCeiling if none has."""
    reasons = []
    for replica in replicas:
        try:
            yield rate(replica)
        except MissingCeiling as error:
            reasons.append(error)
    if len(reasons) == len(replicas):
        raise reasons[0]
