"""Expected times of a server under continuous batching: its two kinds of steps by their calibrated kernels."""

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode_s, expected_mixed_s
from predict.model.server import Server, Steady
from predict.workloads import FloatArray


def expected_load(server: Server, batch: FloatArray) -> Steady:
    """The same steady state as `server.at`, its steps as engines launch them. Decode attends over the mean context.
    Raises MissingCeiling without a calibration, and for a cached prefix, whose attention has none."""
    request, replica = server.request, server.replica
    if request.cached:
        raise MissingCeiling("the attention of a prompt after a cached prefix is not calibrated")
    context, copies, steps = round(float(np.mean(request.contexts))), replica.layout.dp, server.steps(batch)
    decoding = copies * np.round(steps.decoding)
    mixed_s = expected_mixed_s(replica, decoding, context, copies * steps.prompts, request.prompt)
    return Steady(batch, request.generated, steps, mixed_s, expected_decode_s(replica, batch, context))
