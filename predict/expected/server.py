"""Expected times of a server under continuous batching: its two kinds of steps by their calibrated kernels."""

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode, expected_mixed
from predict.model.server import Server, Steady


def expected_load(server: Server, batch: int) -> Steady:
    """The same steady state as `server.at`, its steps as engines launch them. Decode attends over the mean context.
    Raises MissingCeiling without a calibration, and for a cached prefix, whose attention has none."""
    request = server.request
    if request.cached:
        raise MissingCeiling("the attention of a prompt after a cached prefix is not calibrated")
    context, batches = round(float(np.mean(request.contexts))), np.array([float(batch)])
    steps, copies = server.steps(batches), server.replica.layout.dp
    decoding = copies * round(float(steps.decoding[0]))
    prompts = copies * float(steps.prompts[0])
    mixed_s = expected_mixed(server.replica, decoding, context, prompts, request.prompt).time_s
    decode_s = expected_decode(server.replica, batch, context).time_s
    return Steady(batches, request.generated, steps, np.array([mixed_s]), np.array([decode_s]))
