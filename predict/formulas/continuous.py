"""Continuous batching with chunked prefill, in steady state: steps, TTFT, TPOT and throughput.

A server keeps `batch` requests running. Each reads a prompt of `prompt` tokens and makes `generated` tokens, the first
of them in prefill. When one ends, the next begins, so that the requests are spread evenly over their lives. A decode
step makes one token for every request. A mixed step makes one for every request that has read its prompt, and also
reads up to `chunk` prompt tokens; it reads the weights once for both. As long as there are enough steps, a mixed step
holds tokens of one prompt; beyond that all steps are mixed, and each holds more. No other order takes less time if the
time of a step is convex in its tokens, as it is in a roofline.

There is no queue: a request begins at once, and the TTFT is the time of the steps that read its prompt. TPOT is
(latency - TTFT) / (generated - 1), as in the benchmarks of vLLM and SGLang. Arguments are scalars or arrays. Sources:
Yu et al. 2022 (Orca); Agrawal et al. 2024 (Sarathi-Serve); NVIDIA's aiconfigurator counts the same two kinds of steps.
"""

import numpy as np

from predict import checks
from predict.errors import BadQuantity
from predict.workloads import Count, Number


def chunks(prompt: Count, chunk: Count) -> Count:
    """Steps that read a prompt: ceil(prompt/chunk)."""
    checks.whole(prompt=prompt, chunk=chunk)
    return -(-prompt // chunk)


def largest_batch(prompt: Count, generated: Count, chunk: Count) -> Number:
    """Largest batch that `chunk` prompt tokens per step keep running: generated*chunk/prompt requests, not rounded.
    A prompt longer than a chunk takes the one running slot itself: 1 + (generated-1)*chunk/prompt. More requests would
    only wait for their prompts to be read."""
    checks.whole(prompt=prompt, generated=generated, chunk=chunk)
    share = chunk / prompt
    limit: Number = np.where(np.less(share, 1), 1 + (generated - 1) * share, generated * share)
    return limit if np.ndim(limit) else float(limit)


def mixed_steps(batch: Number, prompt: Count, generated: Count, chunk: Count) -> Number:
    """Mixed steps per request that ends: ceil(prompt/chunk) while decode steps are left, (generated-1)/(batch-1) if all
    steps are mixed, generated/batch if each holds several prompts. Raises BadQuantity for a batch over
    `largest_batch`, or a single generated token, which needs no decoding."""
    checks.positive(batch=batch)
    if np.any(np.less(generated, 2)):
        raise BadQuantity("generated must be at least 2: prefill makes the first token, decode the others")
    limit = largest_batch(prompt, generated, chunk)
    if np.any(np.greater(batch, limit)):
        raise BadQuantity(
            f"chunk={np.min(chunk):g} prompt tokens per step keep no batch over {np.min(limit):g} running"
        )
    per_prompt = chunks(prompt, chunk)
    one_prompt = (generated - 1) / np.maximum(batch - 1, (generated - 1) / per_prompt)
    steps: Number = np.minimum(per_prompt, np.where(np.less_equal(batch, generated), one_prompt, generated / batch))
    return steps if np.ndim(steps) else float(steps)


def prompts_per_mixed_step(mixed_steps: Number) -> Number:
    """Requests of which a mixed step reads the prompt: 1, or 1/mixed_steps if a step holds several whole prompts."""
    checks.positive(mixed_steps=mixed_steps)
    return np.maximum(1.0, 1 / mixed_steps)


def decode_steps(batch: Number, generated: Count, mixed_steps: Number) -> Number:
    """Steps without prompt tokens per request that ends. A request decodes generated-1 tokens; each mixed step makes
    batch - prompts_per_mixed_step of them, each other step `batch`."""
    checks.positive(batch=batch)
    checks.whole(generated=generated)
    in_mixed = mixed_steps * (batch - prompts_per_mixed_step(mixed_steps))
    return np.maximum(0.0, (generated - 1 - in_mixed) / batch)  # rounding may leave less than 0


def period_s(mixed_steps: Number, mixed_s: Number, decode_steps: Number, decode_s: Number) -> Number:
    """Time between two requests that end: mixed_steps*mixed_s + decode_steps*decode_s seconds. The server makes
    generated/period tokens per second."""
    checks.not_negative(mixed_steps=mixed_steps, mixed_s=mixed_s, decode_steps=decode_steps, decode_s=decode_s)
    return mixed_steps * mixed_s + decode_steps * decode_s


def ttft_s(mixed_steps: Number, mixed_s: Number) -> Number:
    """Time to the first token: the mixed steps that read the prompt, at least one, each of `mixed_s` seconds."""
    checks.positive(mixed_steps=mixed_steps, mixed_s=mixed_s)
    return np.maximum(1.0, mixed_steps) * mixed_s


def tpot_s(batch: Number, generated: Count, period_s: Number, ttft_s: Number) -> Number:
    """Mean time between two tokens of a request, other requests' prompts included: (batch*period - ttft) /
    (generated-1) seconds. A request takes batch*period in all (Little 1961)."""
    checks.positive(batch=batch, period_s=period_s, ttft_s=ttft_s)
    return (batch * period_s - ttft_s) / (generated - 1)
