"""Expected times of a server under continuous batching: its two kinds of steps by their kernels and its host's work."""

import numpy as np

from predict.expected.model_pass import expected_decode_s, expected_mixed_s
from predict.expected.whole_model import server_step_s
from predict.model.replica import Replica
from predict.model.server import Request, Server, Steady
from predict.workloads import FloatArray


def expected_load(server: Server, batch: FloatArray) -> Steady:
    """The same steady state as `server.at`, its steps as engines launch them. Decode attends over the mean context.
    Raises MissingCeiling where nothing like a kernel was measured."""
    request, replica = server.request, server.replica
    context, copies, steps = _mean_context(request), replica.layout.dp, server.steps(batch)
    decoding = copies * np.round(steps.decoding)
    prompts = copies * steps.prompts
    mixed_s = expected_mixed_s(replica, decoding, context, prompts, request.prompt, request.cached)
    decode_s = expected_decode_s(replica, batch, context)
    return Steady(
        batch,
        request.generated,
        steps,
        np.asarray(server_step_s(mixed_s, decoding)),
        np.asarray(server_step_s(decode_s, batch)),
    )


def expected_full_load_s(replica: Replica, request: Request, running: float) -> float:
    """Time of a step of a server that is never short of requests: a token for each of `running`, and as much of the
    prompts as lets one request begin for each that ends. Raises MissingCeiling."""
    decoding, prompts = np.array([running]), np.array([running / (request.generated - 1)])
    kernels_s = expected_mixed_s(replica, decoding, _mean_context(request), prompts, request.prompt, request.cached)
    return float(np.ravel(server_step_s(kernels_s, decoding))[0])


def _mean_context(request: Request) -> int:
    return round(float(np.mean(request.contexts)))
