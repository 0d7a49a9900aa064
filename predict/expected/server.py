"""Expected times of a server under continuous batching: its two kinds of steps by their calibrated kernels."""

from dataclasses import dataclass

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode, expected_mixed
from predict.formulas import continuous
from predict.model.server import Server


@dataclass(frozen=True, slots=True)
class ExpectedLoad:
    """Expected times with a number of running requests."""

    ttft_s: float
    tpot_s: float
    requests_per_s: float


def expected_load(server: Server, batch: int) -> ExpectedLoad:
    """The same steady state as `server.at`, its steps as engines launch them. Decode attends over the mean context.
    Raises MissingCeiling without a calibration, and for a cached prefix, whose attention has none."""
    request = server.request
    if request.cached:
        raise MissingCeiling("the attention of a prompt after a cached prefix is not calibrated")
    context = round(float(np.mean(request.contexts)))
    steps = float(continuous.mixed_steps(batch, request.new, request.generated, request.chunk))
    decoding = round(batch - float(continuous.prompts_per_mixed_step(steps)))
    mixed_s = expected_mixed(server.replica, decoding, context, 1 / steps, request.prompt).time_s
    decode_s = expected_decode(server.replica, batch, context).time_s
    period = continuous.period_s(steps, mixed_s, continuous.decode_steps(batch, request.generated, steps), decode_s)
    ttft = continuous.ttft_s(steps, mixed_s)
    tpot = continuous.tpot_s(batch, request.generated, period, ttft)
    return ExpectedLoad(float(ttft), float(tpot), 1 / float(period))
